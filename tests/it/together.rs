//! `train` on several devices and over several ranks: the weights of one device with the whole batch.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use marscan::config::{ScheduleKind, Settings};
use marscan::train::Epoch;
use safetensors::SafeTensors;

use crate::files::{bytes, fail};
use crate::processes::until;
use crate::training::{Ground, assert_same_end, long, rows, tiny};

/// `mpirun` of the program; `None`, and says so, without MPI.
fn mpirun(ranks: usize) -> Option<Command> {
    mpirun_with(ranks, &[])
}

/// Whether several ranks can be tried; says so where they cannot.
pub fn has_mpi() -> bool {
    if !cfg!(feature = "mpi") {
        println!("not run: built without the feature `mpi`");
        return false;
    }
    if Command::new("mpirun").arg("--version").output().is_err() {
        println!("not run: mpirun is not installed (apt-get install openmpi-bin)");
        return false;
    }
    true
}

/// The same with further options.
fn mpirun_with(ranks: usize, options: &[&str]) -> Option<Command> {
    if !has_mpi() {
        return None;
    }
    let mut command = Command::new("mpirun");
    command
        .args(options)
        .args(["--oversubscribe", "-np", &ranks.to_string()])
        .arg(env!("CARGO_BIN_EXE_marscan"));
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(name, "1");
    }
    Some(command)
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Trains over `ranks`; whether that could be tried.
fn over_ranks(ground: &Ground, settings: &Settings, out: &str, ranks: usize, flags: &[&str]) -> bool {
    let Some(mut command) = mpirun(ranks) else { return false };
    let output = command.args(ground.args(settings, out)).args(flags).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    true
}

/// The largest difference between the weights and statistics of two files.
fn difference(a: &Path, b: &Path) -> f32 {
    let [a, b] = [a, b].map(bytes);
    let [a, b] = [&a, &b].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let float = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
    let mut most = 0.0f32;
    for (name, view) in a.tensors() {
        let other = b.tensor(&name).unwrap();
        for (a, b) in view.data().chunks(4).zip(other.data().chunks(4)) {
            most = most.max((float(a) - float(b)).abs());
        }
    }
    most
}

/// That a run of `ranks` which was stopped and went on ended as `whole` did: several within rounding.
pub fn assert_same_weights(out: &Path, whole: &Path, ranks: usize) {
    for name in ["best.safetensors", "last.safetensors"] {
        let off = difference(&out.join(name), &whole.join(name));
        println!("{ranks} ranks, {name}: largest difference of a weight after 600 steps {off:.1e}");
        assert!(off <= if ranks == 1 { 0.0 } else { 1e-4 }, "{}: {off}", out.join(name).display());
    }
}

/// Twenty steps of eight crops, with dropout and crops turned and brightened.
fn twenty_steps() -> Settings {
    let mut settings = tiny();
    (settings.network.widths, settings.train.batch) = (vec![4, 8, 16], 8);
    (settings.train.epoch_crops, settings.train.epochs, settings.train.learning_rate) = (80, 2, 0.001);
    settings
}

#[test]
fn devices_and_ranks_end_with_the_weights_of_one() {
    let (ground, settings) = (Ground::new(), twenty_steps());
    ground.train(&settings, "one", &[]);
    let weights = |out: &str| ground.path(out).join("last.safetensors");
    let mut runs = vec![("cpu:4", true)];
    ground.train(&settings, "cpu:4", &["--devices", "cpu:4"]);
    runs.push(("ranks 4", over_ranks(&ground, &settings, "ranks 4", 4, &[])));
    // Three do not divide eight: shares of 2, 3 and 3 crops.
    runs.push(("ranks 3", over_ranks(&ground, &settings, "ranks 3", 3, &["--devices", "cpu:2,cpu:4"])));
    for (out, _) in runs.into_iter().filter(|(_, ran)| *ran) {
        let off = difference(&weights("one"), &weights(out));
        println!("{out}: largest difference of a weight after 20 steps {off:.1e}");
        assert!(off <= 1e-5, "{out}: {off}");
        for (epoch, wanted) in ground.history(out).iter().zip(ground.history("one")) {
            assert!((epoch.validation_loss - wanted.validation_loss).abs() < 1e-5, "{out}");
            assert!((epoch.train_loss - wanted.train_loss).abs() < 1e-6, "{out}");
        }
    }
}

#[test]
fn local_statistics_are_another_training() {
    let (ground, mut settings) = (Ground::new(), twenty_steps());
    ground.train(&settings, "whole", &["--devices", "cpu:4"]);
    settings.train.local_statistics = true;
    ground.train(&settings, "local", &["--devices", "cpu:4"]);
    let [whole, local] = ["whole", "local"].map(|out| ground.path(out).join("last.safetensors"));
    assert!(difference(&whole, &local) > 1e-3);
}

#[test]
fn every_rank_has_its_line_of_times_and_only_the_first_one_speaks() {
    let (ground, mut settings) = (Ground::new(), twenty_steps());
    settings.train.schedule = ScheduleKind::Constant;
    let Some(mut command) = mpirun(3) else { return };
    let output = command.args(ground.args(&settings, "out")).arg("--scale-with-ranks").output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.matches("training tiny on 3 ranks").count() == 1, "{said}");
    let timing: Vec<BTreeMap<String, String>> = rows(&ground.path("out/timing.csv"));
    let ranks: Vec<(&str, &str)> = timing.iter().map(|r| (r["epoch"].as_str(), r["rank"].as_str())).collect();
    assert_eq!(ranks, [("1", "0"), ("1", "1"), ("1", "2"), ("2", "0"), ("2", "1"), ("2", "2")]);
    // Eight crops a rank, so three steps an epoch.
    assert!(timing.iter().all(|row| row["images"] == "24" && row["communicate_s"] != "0.0"), "{timing:?}");
    let history: Vec<Epoch> = ground.history("out");
    assert_eq!((history[0].images, history[0].steps), (72, 3));
    assert!((history[0].learning_rate - 0.003).abs() < 1e-9, "{}", history[0].learning_rate);
}

/// The process of `rank` among those that train into `out`.
fn process_of(rank: usize, out: &Path) -> Option<u32> {
    let (wanted, out) = (format!("OMPI_COMM_WORLD_RANK={rank}"), out.to_str().unwrap());
    let holds = |path: std::path::PathBuf, part: &str| {
        std::fs::read(path).is_ok_and(|bytes| bytes.split(|b| *b == 0).any(|word| word == part.as_bytes()))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found = processes.filter(|process| {
        holds(process.path().join("environ"), &wanted) && holds(process.path().join("cmdline"), out)
    });
    found.find_map(|process| process.file_name().to_str()?.parse().ok())
}

/// Trains over three ranks into `out`, sends `signal` to rank 1 alone once there is a new checkpoint, and gives what was
/// said until the end. The launcher does not end the others itself, as `srun` does not.
fn signal_to_rank_1(ground: &Ground, settings: &Settings, out: &str, signal: &str) -> String {
    let folder = ground.path(out);
    let checkpoint = || std::fs::read(folder.join("checkpoint.safetensors")).ok();
    let before = checkpoint();
    let mut command = mpirun_with(3, &["--enable-recovery"]).unwrap();
    command.args(ground.args(settings, out)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until(60, "a checkpoint", || checkpoint() != before);
    let process = process_of(1, &folder).expect("rank 1 is running");
    assert!(crate::processes::signal(&process.to_string(), signal));
    text(&child.wait_with_output().unwrap())
}

#[test]
fn a_rank_that_is_stopped_stops_the_others_and_one_that_is_killed_ends_them() {
    let (ground, settings) = (Ground::new(), long());
    if !over_ranks(&ground, &settings, "whole", 3, &[]) {
        return;
    }
    let said = signal_to_rank_1(&ground, &settings, "ended", "TERM");
    assert!(said.contains("stopped by SIGTERM: the same command goes on"), "{said}");
    assert_eq!(ground.summary("ended").stopped_by.as_deref(), Some("SIGTERM"));
    let said = signal_to_rank_1(&ground, &settings, "ended", "KILL");
    assert!(
        said.contains("error: rank 1 of 3 on ") && said.contains("is gone, rank 0 ends with it"),
        "{said}"
    );
    assert!(said.contains("rank 2 ends with it") && !said.contains("rank 0 of 3"), "{said}");
    assert_eq!(ground.summary("ended").stopped_by.as_deref(), Some("SIGTERM"), "no summary of a killed run");
    assert!(over_ranks(&ground, &settings, "ended", 3, &[]));
    assert_same_end(&ground, "ended", "whole");
}

#[test]
fn what_devices_and_precisions_cannot_be_is_said_before_any_work() {
    let (ground, settings) = (Ground::new(), tiny());
    let refused = |flags: &[&str]| {
        let args = ground.args(&settings, "refused");
        fail(&args.iter().map(String::as_str).chain(flags.iter().copied()).collect::<Vec<_>>())
    };
    let cases: [(&[&str], &str); 5] = [
        (&["--precision", "f16"], "train.precision = f16: the CPU trains in f32"),
        (&["--precision", "f8"], "must be f32, f16 or bf16"),
        (&["--devices", "cpu:5"], "train.batch = 4: must be at least 1 for each device"),
        (&["--devices", "0000:99:00.0"], "gpu:0000:99:00.0: not on this machine"),
        (&["--devices", "cpu:0"], "1 to 1024 replicas"),
    ];
    for (flags, named) in cases {
        let (code, message) = refused(flags);
        assert!(code == 2 && message.contains(named), "{flags:?}: {code} {message}");
    }
    assert!(!ground.path("refused/history.csv").exists());
}
