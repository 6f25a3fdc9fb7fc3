//! Exit codes and messages.

use crate::files::{fail, marscan, succeed, tiff};

#[test]
fn wrong_settings_are_exit_2_with_the_keys_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let good = std::fs::read_to_string("configs/unet1.toml").unwrap();
    let cases = [
        (good.replace("window_px = 1024", "window_px = 1026"), "scan.window_px = 1026"),
        (good.replace("min_area_px", "min_aera_px"), "min_aera_px"),
        (good.replace("batch = 2\n", ""), "batch"),
        (good.replace("dropout = 0.2", "dropout = \"much\""), "dropout"),
        (good.replace("loss = \"bce-jaccard\"", "loss = \"hinge\""), "hinge"),
        (good.replace("optimiser = \"nadam\"", "optimiser = \"lion\""), "lion"),
        (good.replace("l2 = 0.0", "l2 = -1.0"), "train.l2 = -1"),
        (good.replace("plateau_factor = 0.5", "plateau_factor = 2.0"), "train.plateau_factor = 2"),
        (good.replace("validation_crops = 512", "validation_crops = 0"), "train.validation_crops = 0"),
        (good.replace("stop_after_epochs = 0\n", ""), "stop_after_epochs"),
    ];
    for (text, named) in cases {
        std::fs::write(&path, text).unwrap();
        let (code, message) = fail(&["settings", "--settings", path.to_str().unwrap()]);
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(named), "{named}: {message}");
    }
    assert_eq!(fail(&["settings", "--settings", "unet9"]).0, 2);
    assert_eq!(fail(&["scan"]).0, 2);
}

#[test]
fn printed_settings_are_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let printed = succeed(&["settings", "--settings", "unet3", "--window", "784", "--min-area", "7"]);
    std::fs::write(&path, &printed).unwrap();
    assert_eq!(succeed(&["settings", "--settings", path.to_str().unwrap()]), printed);
}

#[test]
fn a_broken_scene_among_good_ones_is_exit_3_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiff(&folder.join("good.tif"), 80, &[100; 80 * 90]);
    std::fs::write(folder.join("broken.tif"), b"II*\0 and no more").unwrap();
    std::fs::write(folder.join("scenes.csv"), "file_name,height,width\nbroken,90,80\ngood,90,80\n").unwrap();
    let (list, out) = (folder.join("scenes.csv"), folder.join("out"));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    let output = marscan(&["scan", "--scenes", list, "--out", out, "--settings", "threshold"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("failed: broken"));
    assert_eq!(marscan(&["merge", out]).status.code(), Some(3));
    let (code, message) = fail(&[
        "scan",
        "--scenes",
        list,
        "--out",
        out,
        "--settings",
        "threshold",
        "--shards",
        "4",
        "--shard",
        "4",
    ]);
    assert_eq!(code, 2, "{message}");
    let (code, message) = fail(&["scan", "--scenes", list, "--out", out, "--device", "gpu:99"]);
    assert_eq!(code, 2, "{message}");
}

#[test]
fn every_subcommand_has_help_with_an_example() {
    let names = [
        "demo", "synth", "info", "plan", "scan", "merge", "review", "eval", "prepare", "train", "mine",
        "judge", "speedup", "devices", "settings",
    ];
    for name in names {
        let help = succeed(&[name, "--help"]);
        assert!(help.contains("Example") && help.contains(&format!("marscan {name}")), "{name}: {help}");
    }
}

#[test]
fn devices_lists_the_cpu_and_auto_never_takes_software_vulkan() {
    let list = succeed(&["devices"]);
    assert!(list.lines().any(|line| line.starts_with("cpu ")), "{list}");
    assert!(!list.lines().any(|line| line.contains("software Vulkan") && line.contains("<- auto")), "{list}");
}

#[test]
fn a_reader_that_went_away_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_marscan"));
    let output = command.arg("settings").stdout(writer).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_answer_that_does_not_fit_the_disk_is_an_error() {
    for command in ["settings", "devices"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut marscan = std::process::Command::new(env!("CARGO_BIN_EXE_marscan"));
        let output = marscan.arg(command).stdout(full).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{why}");
        assert!(why.contains("cannot write to standard output: No space left"), "{why}");
    }
}

#[test]
fn valid_pixels_are_counted_where_asked_and_the_plan_deals_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let whole: Vec<u8> = vec![90; 1000 * 60];
    // A tenth of its columns are picture.
    let border: Vec<u8> = (0..1000 * 60).map(|k| if k % 60 < 6 { 90 } else { 0 }).collect();
    tiff(&folder.path().join("a.tif"), 60, &whole);
    tiff(&folder.path().join("b.tif"), 60, &border);
    let list = folder.path().join("scenes.csv");
    let list = list.to_str().unwrap();
    let first_shard = || {
        let plan = succeed(&["plan", "--scenes", list, "--shards", "2", "--settings", "threshold"]);
        plan.lines().find(|line| line.trim_start().starts_with("0 ")).unwrap().to_owned()
    };
    succeed(&["info", place, "--scenes", list]);
    assert!(first_shard().ends_with("a 0..1000"), "{}", first_shard());
    let said = succeed(&["info", place, "--scenes", list, "--count-valid"]);
    assert!(said.contains("100.0 % of its pixels") && said.contains("10.0 % of its pixels"), "{said}");
    let text = std::fs::read_to_string(list).unwrap();
    assert!(text.contains("a.tif,60000,") && text.contains("b.tif,6000,"), "{text}");
    assert!(first_shard().ends_with("a 0..550"), "{}", first_shard());
}

#[test]
fn an_image_replaced_since_it_was_scanned_is_scanned_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = |part: &str| folder.path().join(part).to_str().unwrap().to_owned();
    let image = |grey| tiff(&folder.path().join("images/a.tif"), 60, &vec![grey; 100 * 60]);
    let info = || {
        let args =
            ["info", &place("images"), "--scenes", &place("tonight.csv"), "--except", &place("nights")];
        let output = marscan(&args);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let scan = |night: &str| {
        let (code, said) = info();
        assert_eq!(code, Some(0), "{said}");
        let night = place(night);
        succeed(&["scan", "--scenes", &place("tonight.csv"), "--settings", "threshold", "--out", &night]);
        succeed(&["merge", &night]);
        assert_eq!(info().0, Some(4), "{}", info().1);
        said
    };
    std::fs::create_dir_all(folder.path().join("images")).unwrap();
    std::fs::create_dir_all(folder.path().join("nights")).unwrap();
    image(90);
    assert!(!scan("nights/1").contains("another image"));
    image(91);
    assert!(scan("nights/2").contains("a.tif\n  another image of this name was scanned before"));
    // One that cannot be read now was scanned all the same, and is named.
    std::fs::write(folder.path().join("images/a.tif"), "no TIFF").unwrap();
    let (code, said) = info();
    assert!(
        code == Some(4) && said.contains("a.tif\n  was scanned before, and cannot be read now: "),
        "{said}"
    );
    // A list that does not say what the images were goes by names.
    std::fs::write(folder.path().join("nights/scenes.csv"), "file_name,height,width\na,100,60\n").unwrap();
    image(92);
    assert_eq!(info().0, Some(4));
}
