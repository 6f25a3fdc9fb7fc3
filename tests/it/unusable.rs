//! Scenes that nothing can be learnt from: said before any step, with what to do about it.

use std::path::Path;

use crate::files::{fail, marscan, tiff};
use crate::prepare::{FLAT, scene};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Scenes `s0`, `s1` and so on of 200 px, each with a disc of that radius in its mask, or none.
fn scenes(folder: &Path, radii: &[Option<usize>]) {
    for (k, radius) in radii.iter().enumerate() {
        let discs: &[_] = if radius.is_some() { &[(100, 110)] } else { &[] };
        let (pixels, mask) = scene(200, discs, radius.unwrap_or(0));
        tiff(&folder.join(format!("s{k}.tif")), 200, &pixels);
        tiff(&folder.join(format!("s{k}_gt.tif")), 200, &mask);
    }
}

#[test]
fn a_ring_that_leaves_no_impact_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    scenes(folder.path(), &[Some(8), Some(7), Some(6)]);
    let [plain, ringed, run] = ["plain", "ringed", "run"].map(|name| folder.path().join(name));
    let prepare = |out: &Path, ring: &str| {
        let fixed =
            ["prepare", "--root", text(folder.path()), "--crop", "64", "--ring", ring, "--out", text(out)];
        marscan(&[&fixed[..], &FLAT].concat())
    };
    let refused = prepare(&ringed, "9");
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("--ring 9 leaves no pixel of any impact"), "{message}");
    assert_eq!((refused.status.code(), ringed.join("data.json").exists()), (Some(2), false));
    assert!(prepare(&ringed, "5").status.success() && prepare(&plain, "0").status.success());
    let [train, validation] = ["train", "validation"].map(|part| plain.join(format!("scenes_{part}.csv")));
    let fixed = ["train", "--scenes", text(&train), "--validation", text(&validation), "--device", "cpu"];
    let (code, message) = fail(&[&fixed[..], &["--out", text(&run), "--ring", "9"]].concat());
    assert!(code == 2 && message.contains("train.ring_px = 9 (--ring)"), "{code}: {message}");
}

#[test]
fn scenes_without_impacts_are_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    scenes(folder.path(), &[Some(8), None]);
    let [data, run] = ["data", "run"].map(|name| folder.path().join(name));
    let prepare = |more: &[&str]| {
        let fixed = ["prepare", "--root", text(folder.path()), "--crop", "64", "--out", text(&data)];
        let output = marscan(&[&fixed[..], &FLAT, more].concat());
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let seeds = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let seed = seeds.into_iter().find(|seed| {
        let said = prepare(&["--split", "1:1:0", "--seed", seed]);
        assert!(said.contains("its scenes have no impact") && said.contains("--split"), "{said}");
        said.contains("no crops for validation")
    });
    assert!(seed.is_some(), "it is never the other scene");
    let (code, message) = fail(&["train", "--data", text(&data), "--out", text(&run), "--device", "cpu"]);
    assert!(code == 2 && message.contains("scenes_validation.csv has no scene with"), "{code}: {message}");
    let [train, validation] = ["train", "validation"].map(|part| data.join(format!("scenes_{part}.csv")));
    let by_scenes = |scenes: &Path, validation: &Path| {
        let fixed = ["train", "--out", text(&run), "--device", "cpu"];
        fail(&[&fixed[..], &["--scenes", text(scenes), "--validation", text(validation)]].concat())
    };
    let (code, message) = by_scenes(&train, &validation);
    assert!(
        code == 2
            && message.contains("no mask of s1 has an impact to validate on: name others with --validation"),
        "{code}: {message}"
    );
    let (code, message) = by_scenes(&validation, &train);
    assert!(
        code == 2 && message.contains("no mask of s1 has an impact to train on: name others with --scenes"),
        "{code}: {message}"
    );
    assert!(prepare(&["--split", "1:0:0"]).contains("no crops for validation"), "it has no scenes");
}

#[test]
fn an_image_is_not_trained_on_and_validated_on_under_two_names() {
    let folder = tempfile::tempdir().unwrap();
    scenes(folder.path(), &[Some(8)]);
    let run = folder.path().join("run");
    let lists = ["a", "b"].map(|name| {
        let list = folder.path().join(format!("{name}.csv"));
        let line = format!("{name},200,200,s0.tif,s0_gt.tif\n");
        std::fs::write(&list, format!("file_name,height,width,path,mask\n{line}")).unwrap();
        list
    });
    let fixed = ["train", "--out", text(&run), "--device", "cpu"];
    let (code, message) =
        fail(&[&fixed[..], &["--scenes", text(&lists[0]), "--validation", text(&lists[1])]].concat());
    assert!(code == 2 && message.contains("b is the image of a, which is trained on"), "{code}: {message}");
}
