//! Training data: which crops are shown, and what an earlier network mistook for an impact is shown again.

use std::path::Path;

use marscan::config::load;
use marscan::job::StopRequest;
use marscan::train::crops::TrainingScene;
use marscan::train::mistakes::{Candidate, Candidates};
use marscan::train::sampler::Sampler;
use marscan::train::source::{CropSource, open};
use marscan::train::{Pair, TrainJob};
use marscan::unet::Weights;

use crate::files::{bytes, fail, succeed, tiff};
use crate::training::{Ground, tiny};

const COLS: usize = 300;

/// Level ground with one bright pixel at (50, 60) and, in the mask, one impact around (200, 200).
fn scene(folder: &Path) -> TrainingScene {
    let mut pixels = vec![100; COLS * COLS];
    pixels[50 * COLS + 60] = 200;
    let inside = |k: usize| (k / COLS).abs_diff(200).max((k % COLS).abs_diff(200)) < 5;
    let mask: Vec<u8> = (0..COLS * COLS).map(|k| u8::from(inside(k))).collect();
    let (image, mask_path) = (folder.join("s.tif"), folder.join("s_gt.tif"));
    tiff(&image, COLS, &pixels);
    tiff(&mask_path, COLS, &mask);
    TrainingScene::open(&image, &mask_path, load("unet1").unwrap().input).unwrap()
}

fn candidate(row_px: f64, col_px: f64) -> Candidate {
    Candidate { scene: "s".into(), row_px, col_px, ..Candidate::default() }
}

#[test]
fn mistakes_are_drawn_again_and_right_candidates_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(folder.path());
    assert_eq!(scene.add_candidates(&[candidate(50.0, 60.0), candidate(201.3, 199.0)]), 1);
    let mut train = load("unet1").unwrap().train;
    (train.crop_px, train.impact_share, train.hard_share) = (32, 0.25, 1.0);
    let batch = Sampler::new(vec![scene], &train).unwrap().batch(0, 40).unwrap();
    let crops = batch.pixels.chunks(32 * 32).zip(batch.mask.chunks(32 * 32));
    let (with_impact, without): (Vec<_>, Vec<_>) = crops.partition(|(_, mask)| mask.iter().any(|&m| m != 0));
    assert_eq!((with_impact.len(), without.len()), (10, 30));
    for (pixels, _) in without {
        let ground = pixels.iter().filter(|v| **v != 0).min().unwrap();
        assert!(pixels.iter().any(|v| v > ground), "a crop without the mistake");
    }
}

#[test]
fn the_share_of_impacts_is_kept_over_batches_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut train = load("unet1").unwrap().train;
    (train.crop_px, train.impact_share, train.augment) = (32, 0.3, false);
    let sampler = Sampler::new(vec![scene(folder.path())], &train).unwrap();
    for count in [1, 2, 4] {
        let batches = (0..40 / count as u64).map(|number| sampler.batch(number, count).unwrap());
        let masks: Vec<u8> = batches.flat_map(|batch| batch.mask).collect();
        let with = masks.chunks(32 * 32).filter(|mask| mask.contains(&255)).count();
        assert_eq!(with, 12, "batches of {count}");
    }
}

#[test]
fn validation_crops_are_shown_as_they_are_whatever_training_does() {
    let folder = tempfile::tempdir().unwrap();
    drop(scene(folder.path()));
    let [image, other, mask] = ["s.tif", "t.tif", "s_gt.tif"].map(|name| folder.path().join(name));
    let mut bytes = std::fs::read(&image).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&other, bytes).unwrap();
    let pair = |image: &Path| Pair {
        name: image.file_stem().unwrap().to_str().unwrap().into(),
        image: image.to_owned(),
        mask: mask.clone(),
    };
    let shown = |augment: bool| {
        let mut settings = load("unet1").unwrap();
        settings.train.augment = augment;
        let job = TrainJob {
            settings,
            scenes: vec![pair(&image)],
            validation: vec![pair(&other)],
            data: None,
            validation_seed: 1,
            from: None,
            candidates: Candidates::default(),
            images: None,
            until_validation_loss: None,
            out: folder.path().join("out"),
            command: Vec::new(),
        };
        let data = open(&job, &StopRequest::default()).unwrap();
        [data.train, data.validation].map(|crops| crops.batch(0, 4).unwrap().pixels)
    };
    let [[trained, validated], [plain, wanted]] = [true, false].map(shown);
    assert!(validated == wanted && trained != plain);
}

#[test]
fn hard_negatives_that_cannot_be_meant_are_refused_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let synth = ["synth", "--rows", "300", "--cols", "300", "--impacts", "3"];
    for seed in ["1", "2"] {
        succeed(&[&synth[..], &["--seed", seed, "--out", place]].concat());
    }
    let list = folder.path().join("scenes.csv");
    succeed(&["info", place, "--scenes", list.to_str().unwrap()]);
    let found = folder.path().join("found.csv");
    let [list, found] = [&list, &found].map(|path| path.to_str().unwrap());
    let out = folder.path().join("out");
    let train = ["train", "--scenes", list, "--hard-negatives", found, "--device", "cpu", "--out"];
    for (text, why) in [
        ("scene,row_px,col_px\nelsewhere,10,10\n", "elsewhere, which is no training scene"),
        ("scene,row,col\nelsewhere,10,10\n", "no column row_px, col_px"),
        ("scene,row_px,col_px\nelsewhere,10,here\n", "line: 2"),
        ("", "no column scene, row_px, col_px"),
    ] {
        std::fs::write(found, text).unwrap();
        let (code, message) = fail(&[&train[..], &[out.to_str().unwrap()]].concat());
        assert!(code == 2 && message.contains(why) && message.contains(found), "{code}: {message}");
    }
    let ignored =
        [["--settings", "unet1.0", "train.hard_share"], ["--impact-share", "1", "train.impact_share"]];
    for [flag, value, key] in ignored {
        let (code, message) = fail(&[&train[..], &[out.to_str().unwrap(), flag, value]].concat());
        assert!(code == 2 && message.contains(key), "{code}: {message}");
    }
}

#[test]
fn a_network_that_is_no_longer_finite_is_an_error_and_no_weights() {
    let (ground, mut settings) = (Ground::new(), tiny());
    settings.train.epochs = 1;
    ground.train(&settings, "first", &[]);
    let widths = &settings.network.widths;
    let weights = Weights::parse(widths, &bytes(ground.path("first/best.safetensors"))).unwrap();
    let (mut parameters, statistics) = weights.to_flat();
    // The loss stays finite: what the first layer gives is normalised, but its variance is beyond f32.
    parameters[..18].fill(1e25);
    let huge = ground.path("huge.safetensors");
    Weights::from_flat(widths, &parameters, &statistics).save(&huge).unwrap();
    let mut args = ground.args(&settings, "second");
    args.extend(["--from".to_owned(), huge.to_str().unwrap().to_owned()]);
    let (code, message) = fail(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(code == 1 && message.contains("not finite: lower [train] learning_rate"), "{code}: {message}");
    assert!(!ground.path("second/best.safetensors").exists());
}
