//! `train`: what stops it, what it goes on from, when it ends, and what it leaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use marscan::config::{OptimiserKind, ScheduleKind, Settings, load};
use marscan::train::{Epoch, Summary};
use safetensors::SafeTensors;

use crate::devices::software;
use crate::files::{bytes, fail, marscan_command, succeed};

/// Three small scenes with their masks, and settings of a network that trains in milliseconds.
pub struct Ground {
    folder: tempfile::TempDir,
    device: &'static str,
}

impl Ground {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        for seed in ["1", "2", "3"] {
            let size = ["--rows", "200", "--cols", "200", "--impacts", "4"];
            succeed(&[&["synth", "--out", place, "--seed", seed], &size[..]].concat());
        }
        let list = folder.path().join("scenes.csv");
        succeed(&["info", place, "--scenes", list.to_str().unwrap()]);
        Self { folder, device: "cpu" }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of a run of `settings` into the folder `out`.
    pub fn args(&self, settings: &Settings, out: &str) -> Vec<String> {
        let file = self.path(&format!("{}.toml", out.replace('/', "-")));
        std::fs::write(&file, toml::to_string(settings).unwrap()).unwrap();
        let (list, out) = (self.path("scenes.csv"), self.path(out));
        let [file, list, out] = [&file, &list, &out].map(|path| path.to_str().unwrap());
        ["train", "--device", self.device, "--scenes", list, "--settings", file, "--out", out]
            .map(str::to_owned)
            .to_vec()
    }

    pub fn train(&self, settings: &Settings, out: &str, flags: &[&str]) -> String {
        let args = self.args(settings, out);
        succeed(&args.iter().map(String::as_str).chain(flags.iter().copied()).collect::<Vec<_>>())
    }

    /// A data set of their crops and a file with the settings of [`long`], as a scheduler's script wants them, and in
    /// `whole` what a run that nobody stops makes of them.
    pub fn prepare(&self) -> [String; 2] {
        let paths = ["scenes.csv", "data", "long.toml", "whole"].map(|name| self.path(name));
        let [list, data, settings, whole] = paths.each_ref().map(|path| path.to_str().unwrap());
        succeed(&["prepare", "--scenes", list, "--out", data, "--crop", "16", "--split", "1:1:1"]);
        std::fs::write(settings, toml::to_string(&long()).unwrap()).unwrap();
        succeed(&["train", "--data", data, "--settings", settings, "--out", whole, "--devices", "cpu"]);
        [data, settings].map(str::to_owned)
    }

    pub fn history(&self, out: &str) -> Vec<Epoch> {
        rows(&self.path(out).join("history.csv"))
    }

    pub fn summary(&self, out: &str) -> Summary {
        Summary::load(&self.path(out).join("summary.json")).unwrap()
    }
}

pub fn rows<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

/// Two levels, five steps an epoch.
pub fn tiny() -> Settings {
    let mut settings = load("unet1").unwrap();
    settings.name = "tiny".into();
    (settings.network.widths, settings.network.dropout) = (vec![2, 4], 0.2);
    let train = &mut settings.train;
    (train.crop_px, train.batch, train.epoch_crops, train.epochs) = (16, 4, 20, 3);
    (train.validation_crops, train.warm_up_steps, train.learning_rate) = (20, 0, 0.01);
    settings
}

/// The tensors of a weights file, without its provenance, which names the folder.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = bytes(path);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

/// Steps taken before a checkpoint was written.
fn steps(checkpoint: &[u8]) -> i64 {
    let (_, head) = SafeTensors::read_metadata(checkpoint).unwrap();
    let head: toml::Table = head.metadata().as_ref().unwrap()["checkpoint"].parse().unwrap();
    head["steps"].as_integer().unwrap()
}

/// Starts a run and waits until it has written a checkpoint other than the one that was there.
fn start(ground: &Ground, settings: &Settings, out: &str) -> Child {
    let place = ground.path(out).join("checkpoint.safetensors");
    let before = std::fs::read(&place).ok();
    let child = marscan_command()
        .args(ground.args(settings, out))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while std::fs::read(&place).ok() == before {
        assert!(began.elapsed() < Duration::from_mins(1), "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// 150 steps an epoch and a checkpoint every tenth of a second.
pub fn long() -> Settings {
    let mut settings = tiny();
    let train = &mut settings.train;
    (train.epoch_crops, train.epochs, train.checkpoint_minutes) = (600, 4, 0.1 / 60.0);
    (train.schedule, train.l2) = (ScheduleKind::Plateau, 1e-4);
    settings
}

pub fn assert_same_end(ground: &Ground, out: &str, wanted: &str) {
    for name in ["last.safetensors", "best.safetensors"] {
        let [found, wanted] = [out, wanted].map(|out| tensors(&ground.path(out).join(name)));
        assert!(found == wanted, "{out}: other {name}");
    }
    let timeless = |out: &str| -> Vec<Epoch> {
        let epochs = ground.history(out).into_iter();
        epochs.map(|epoch| Epoch { seconds: 0.0, images_per_s: 0.0, ..epoch }).collect()
    };
    assert_eq!(timeless(out), timeless(wanted), "{out}");
}

#[test]
fn the_same_command_gives_the_same_bytes() {
    let ground = Ground::new();
    let weights = || {
        ground.train(&tiny(), "out", &[]);
        let files = ["best.safetensors", "last.safetensors"].map(|name| bytes(ground.path("out").join(name)));
        std::fs::remove_dir_all(ground.path("out")).unwrap();
        files
    };
    assert!(weights() == weights());
}

#[test]
fn a_second_run_in_the_folder_waits_for_the_first() {
    let (ground, settings) = (Ground::new(), long());
    ground.train(&settings, "whole", &[]);
    let first = start(&ground, &settings, "shared");
    let second = marscan_command().args(ground.args(&settings, "shared")).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        second.status.success() && said.contains(&format!("waits for process {} on", first.id())),
        "{said}"
    );
    assert!(first.wait_with_output().unwrap().status.success());
    assert_same_end(&ground, "shared", "whole");
}

#[test]
fn a_run_that_was_killed_ends_as_one_that_never_was() {
    let (ground, settings) = (Ground::new(), long());
    ground.train(&settings, "whole", &[]);
    let mut child = start(&ground, &settings, "killed");
    child.kill().unwrap();
    child.wait().unwrap();
    let at = steps(&bytes(ground.path("killed/checkpoint.safetensors")));
    assert!(at > 0 && at < 600, "not killed on its way: {at} steps");
    assert!(!ground.path("killed/summary.json").exists());
    ground.train(&settings, "killed", &[]);
    assert_same_end(&ground, "killed", "whole");
    // Killed between the weights and the checkpoint: the epoch in hand is done again.
    let checkpoint = ground.path("whole/checkpoint.safetensors");
    let mut child = start(&ground, &settings, "late");
    child.kill().unwrap();
    child.wait().unwrap();
    for name in ["history.csv", "timing.csv", "best.safetensors", "last.safetensors"] {
        std::fs::copy(ground.path("whole").join(name), ground.path("late").join(name)).unwrap();
    }
    assert!(
        steps(&bytes(&checkpoint)) == 600 && steps(&bytes(ground.path("late/checkpoint.safetensors"))) < 600
    );
    ground.train(&settings, "late", &[]);
    assert_same_end(&ground, "late", "whole");
    let timing: Vec<BTreeMap<String, String>> = rows(&ground.path("late/timing.csv"));
    assert_eq!(timing.iter().map(|row| row["epoch"].as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
}

#[test]
fn a_run_that_was_stopped_by_signals_ends_as_one_that_never_was() {
    let (ground, settings) = (Ground::new(), long());
    ground.train(&settings, "whole", &[]);
    let mut reached = vec![0];
    for signal in ["TERM", "INT", "USR1", "USR2"] {
        let child = start(&ground, &settings, "stopped");
        let asked = Instant::now();
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{signal}: {message}");
        assert!(message.contains(&format!("stopped by SIG{signal}")), "{message}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{signal}: {:?}", asked.elapsed());
        let summary = ground.summary("stopped");
        assert_eq!(summary.stopped_by, Some(format!("SIG{signal}")));
        assert!(summary.images_per_s > 0.0, "{summary:?}");
        reached.push(steps(&bytes(ground.path("stopped/checkpoint.safetensors"))));
    }
    assert!(reached.is_sorted_by(|a, b| a < b) && reached[4] < 600, "{reached:?}");
    assert!(reached.iter().any(|steps| steps % 150 != 0), "never within an epoch: {reached:?}");
    let said = ground.train(&settings, "stopped", &[]);
    assert!(said.contains("4 epochs done"), "{said}");
    assert_same_end(&ground, "stopped", "whole");
    // And a run at its end has nothing to do.
    let before = bytes(ground.path("stopped/checkpoint.safetensors"));
    assert!(ground.train(&settings, "stopped", &[]).contains("4 epochs done"));
    assert_eq!(bytes(ground.path("stopped/checkpoint.safetensors")), before);
}

#[test]
fn a_run_on_a_gpu_that_was_stopped_ends_as_one_that_never_was() {
    if software().is_none() {
        return;
    }
    let (ground, mut settings) = (Ground { device: "software", ..Ground::new() }, long());
    settings.train.epochs = 2;
    ground.train(&settings, "whole", &[]);
    let child = start(&ground, &settings, "stopped");
    let kill = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
    let at = steps(&bytes(ground.path("stopped/checkpoint.safetensors")));
    assert!(at > 0 && at < 300 && at != 150, "not stopped within an epoch: {at} steps");
    let losses: Vec<f64> = ground.history("whole").iter().map(|epoch| epoch.train_loss).collect();
    assert!(losses[1] < losses[0], "nothing was learnt: {losses:?}");
    ground.train(&settings, "stopped", &[]);
    assert_same_end(&ground, "stopped", "whole");
}

#[test]
fn early_stopping_and_the_plateau_follow_the_validation_loss() {
    let ground = Ground::new();
    let mut settings = tiny();
    let train = &mut settings.train;
    (train.epochs, train.stop_after_epochs) = (200, 3);
    (train.schedule, train.plateau_epochs, train.lowest_learning_rate) = (ScheduleKind::Plateau, 1, 0.003);
    (train.learning_rate, train.optimiser) = (0.02, OptimiserKind::Adam);
    let said = ground.train(&settings, "out", &[]);
    assert!(said.contains("no better validation loss for 3 epochs"), "{said}");
    let history = ground.history("out");
    let best = history.iter().find(|epoch| epoch.best).unwrap().epoch;
    assert!(history.len() as u64 == best + 3 && best < 197, "{} epochs, best {best}", history.len());
    let (mut rate, mut lowest) = (0.02f64, f32::INFINITY);
    for epoch in &history {
        assert_eq!(epoch.learning_rate, rate, "epoch {}", epoch.epoch);
        if epoch.validation_loss < lowest {
            lowest = epoch.validation_loss;
        } else {
            rate = (rate / 2.0).max(0.003);
        }
    }
    assert!(rate < 0.02);
}

#[test]
fn training_ends_at_a_validation_loss_and_says_when_it_was_reached() {
    let ground = Ground::new();
    let mut settings = tiny();
    settings.train.epochs = 6;
    ground.train(&settings, "whole", &[]);
    let whole = ground.history("whole");
    let goal = whole[..4].iter().map(|epoch| epoch.validation_loss).fold(f32::INFINITY, f32::min);
    let first = whole.iter().find(|epoch| epoch.validation_loss <= goal).unwrap();
    let flags = ["--until-val-loss", &goal.to_string()];
    let said = ground.train(&settings, "until", &flags);
    assert!(said.contains(&format!("validation loss {goal} reached after")), "{said}");
    let summary = ground.summary("until");
    assert_eq!((summary.epochs, summary.reached_images), (first.epoch, Some(first.images)));
    assert_eq!(summary.reached_s, ground.history("until").last().map(|epoch| epoch.seconds));
    let figures = |said: &str| said.lines().rev().take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(figures(&ground.train(&settings, "until", &flags)), figures(&said), "said once more");
    // The goal changes no step: without it, the same run goes on to its end.
    ground.train(&settings, "until", &[]);
    assert_same_end(&ground, "until", "whole");
    assert!(ground.train(&settings, "never", &["--until-val-loss", "1e-9"]).contains("was not reached"));
    let args = ground.args(&settings, "wrong");
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--until-val-loss", "-1"]).collect();
    assert_eq!(fail(&args).0, 2);
}

#[test]
fn a_number_of_images_is_rounded_up_to_steps_and_every_epoch_has_its_times() {
    let ground = Ground::new();
    let said = ground.train(&tiny(), "out", &["--images", "30"]);
    assert!(said.contains("32 images seen: 32 images in ") && said.contains("peak memory"), "{said}");
    let timing: Vec<BTreeMap<String, String>> = rows(&ground.path("out/timing.csv"));
    let history = ground.history("out");
    assert_eq!(timing.iter().map(|row| row["images"].as_str()).collect::<Vec<_>>(), ["20", "12"]);
    let mut spent = 0.0;
    for (row, epoch) in timing.iter().zip(&history) {
        assert_eq!((row["rank"].as_str(), row["epoch"].as_str()), ("0", epoch.epoch.to_string().as_str()));
        let number = |name: &str| row[name].parse::<f64>().unwrap();
        let stages = ["read_s", "forward_s", "backward_s", "communicate_s", "step_s"].map(number);
        let trained: f64 = stages.iter().sum();
        assert!(number("backward_s") > 0.0 && number("validate_s") > 0.0 && stages[4] > 0.0, "{row:?}");
        assert!((number("images") / trained / number("images_per_s") - 1.0).abs() < 1e-9, "{row:?}");
        spent += trained + number("validate_s");
        assert!(epoch.seconds >= spent, "more than there was: {spent} of {}", epoch.seconds);
        assert!(!row["device"].is_empty());
    }
    let summary = ground.summary("out");
    assert!(summary.peak_resident_bytes > 1 << 20 && summary.peak_private_bytes > 1 << 20);
    assert!(summary.peak_private_bytes <= summary.peak_resident_bytes);
}

#[test]
fn repeats_have_seeds_of_their_own_and_a_mean_and_a_deviation() {
    let (ground, settings) = (Ground::new(), tiny());
    ground.train(&settings, "alone", &["--images", "40"]);
    ground.train(&settings, "out", &["--images", "40", "--repeats", "3"]);
    let last = |out: &str| tensors(&ground.path(out).join("last.safetensors"));
    assert!(last("out/repeat-0") == last("alone"), "the first repeat is the run itself");
    assert!(last("out/repeat-1") != last("out/repeat-0"));
    let table: Vec<BTreeMap<String, String>> = rows(&ground.path("out/repeats.csv"));
    let column = |name: &str| table.iter().map(|row| row[name].as_str()).collect::<Vec<_>>();
    assert_eq!(column("repeat"), ["0", "1", "2", "mean", "deviation"]);
    assert_eq!(column("seed"), ["1", "2", "3", "", ""]);
    let losses: Vec<f64> = column("validation_loss").iter().map(|text| text.parse().unwrap()).collect();
    let mean = losses[..3].iter().sum::<f64>() / 3.0;
    let variance = losses[..3].iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / 2.0;
    assert!((losses[3] - mean).abs() < 1e-12 && (losses[4] - variance.sqrt()).abs() < 1e-12);
    assert!(variance > 0.0);
    assert_eq!(column("images"), ["40.0", "40.0", "40.0", "40.0", "0.0"]);
    assert_eq!(column("reached_s"), [""; 5]);
}

#[test]
fn the_penalty_is_in_the_training_loss_and_beside_it_is_the_loss_without() {
    let ground = Ground::new();
    let mut settings = tiny();
    (settings.train.l2, settings.train.epochs) = (0.01, 2);
    ground.train(&settings, "out", &[]);
    for epoch in ground.history("out") {
        // 2 * 2 outputs' worth of squares and more, times 0.01: see He's initial weights.
        let penalty = epoch.train_loss - epoch.train_loss_without_penalty;
        assert!(penalty > 0.1 && penalty < 2.0, "{penalty}");
    }
    settings.train.l2 = 0.0;
    ground.train(&settings, "plain", &[]);
    let plain = ground.history("plain");
    assert!(plain.iter().all(|epoch| epoch.train_loss == epoch.train_loss_without_penalty));
    assert_ne!(plain[1].validation_loss, ground.history("out")[1].validation_loss);
}

#[test]
fn the_curves_are_an_svg_and_a_png() {
    let ground = Ground::new();
    let mut settings = tiny();
    settings.name = "less < more & \"so on\"".into();
    ground.train(&settings, "out", &[]);
    let svg = String::from_utf8(bytes(ground.path("out/curves.svg"))).unwrap();
    well_formed(&svg);
    assert!(svg.starts_with("<svg ") && svg.contains("epoch") && svg.contains("validation"), "{svg}");
    let png = png::Decoder::new(std::io::Cursor::new(bytes(ground.path("out/curves.png"))));
    let mut reader = png.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let dark = pixels.chunks(3).filter(|rgb| rgb.iter().all(|&v| v < 100)).count();
    assert!(dark > 1000 && dark < pixels.len() / 30, "{dark} dark pixels: no text, or nothing else");
}

/// Every tag is closed in its turn, and no bare `&` stands in the text.
fn well_formed(xml: &str) {
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').unwrap();
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "a tag within a tag: {tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed out of turn");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    for (at, _) in xml.match_indices('&') {
        let entity = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#"];
        assert!(entity.iter().any(|entity| xml[at..].starts_with(entity)), "a bare &: {}", &xml[at..at + 20]);
    }
}
