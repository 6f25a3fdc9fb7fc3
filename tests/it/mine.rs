//! Mistakes on the training scenes, most wrong first, and nothing of any other scene.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use marscan::config::load;
use marscan::table::read_rows;
use marscan::train::list::{DataSet, Part};
use marscan::train::mining::MinedRow;

use crate::files::{bytes, fail, marscan, succeed, tiff};

const SIDE: usize = 300;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Level ground with bright squares: one on the mask's impact at (150, 150), the others on nothing.
fn scene(folder: &Path, name: &str, squares: &[(usize, usize, usize)]) {
    let (mut pixels, mut mask) = (vec![100; SIDE * SIDE], vec![0; SIDE * SIDE]);
    for &(row, col, side) in squares.iter().chain(&[(150, 150, 8)]) {
        for k in 0..side * side {
            pixels[(row + k / side) * SIDE + col + k % side] = 250;
        }
    }
    for k in 0..64 {
        mask[(150 + k / 8) * SIDE + 150 + k % 8] = 1;
    }
    tiff(&folder.join(format!("{name}.tif")), SIDE, &pixels);
    tiff(&folder.join(format!("{name}_gt.tif")), SIDE, &mask);
}

/// Six scenes, each with squares of 6 and 10 px far apart, and their data set.
struct Drawn {
    folder: tempfile::TempDir,
    out: PathBuf,
    data: DataSet,
}

const NAMES: [&str; 6] =
    ["D01_000001_1885_XI", "D01_000001_1885_XN", "D01_000002_1885_XI", "scene_3", "scene_4", "scene_5"];

fn drawn() -> Drawn {
    let folder = tempfile::tempdir().unwrap();
    let scenes = folder.path().join("scenes");
    fs::create_dir_all(&scenes).unwrap();
    for (k, name) in NAMES.iter().enumerate() {
        scene(&scenes, name, &[(20, 20 + k, 6), (230, 40, 10)]);
    }
    let out = folder.path().join("data");
    let args = ["prepare", "--root", text(&scenes), "--out", text(&out), "--crop", "64"];
    succeed(&[&args[..], &["--scene-pattern", "{id}.tif", "--mask-pattern", "{id}_gt.tif"]].concat());
    let data = DataSet::open(&out).unwrap();
    Drawn { folder, out, data }
}

const BRIGHT: [&str; 4] = ["--settings", "threshold", "--bright-min", "200"];

fn mine(drawn: &Drawn, more: &[&str]) -> Vec<MinedRow> {
    let out = drawn.folder.path().join("mined");
    succeed(&[&["mine", "--data", text(&drawn.out), "--out", text(&out)], more].concat());
    read_rows(&out.join("mined.csv")).unwrap()
}

#[test]
fn a_scan_of_the_training_scenes_gives_their_mistakes_most_wrong_first() {
    let drawn = drawn();
    let out = drawn.folder.path().join("mined");
    let args = ["mine", "--data", text(&drawn.out), "--out", text(&out)];
    let printed = succeed(&[&args[..], &BRIGHT].concat());
    let rows: Vec<MinedRow> = read_rows(&out.join("mined.csv")).unwrap();
    let scenes: BTreeSet<&str> =
        drawn.data.scenes(Part::Train).iter().map(|pair| pair.name.as_str()).collect();
    let count = scenes.len();
    assert!(printed.contains(&format!("{count} candidates on an impact")), "{printed}");
    assert_eq!(rows.len(), 2 * count);
    assert_eq!(rows.iter().map(|row| row.scene.as_str()).collect::<BTreeSet<_>>(), scenes);
    // A square of bright pixels, each of probability 1, is an error of its area.
    let (worst, lesser) = rows.split_at(count);
    assert!(worst.iter().all(|row| (row.error, row.area_px) == (100.0, 100)), "{worst:?}");
    assert!(lesser.iter().all(|row| (row.error, row.area_px) == (36.0, 36)), "{lesser:?}");
    for (k, row) in rows.iter().enumerate() {
        assert_eq!(row.rank, k as u64 + 1);
        assert_eq!((row.source.as_str(), row.threshold, row.side_px), ("scan", Some(0.5), 64));
        let (row0, col0, side) = (row.row0_px as f64, row.col0_px as f64, 64.0);
        assert!((row0..row0 + side).contains(&row.row_px) && (col0..col0 + side).contains(&row.col_px));
    }
    assert_eq!(mine(&drawn, &[&BRIGHT[..], &["--at-most", "3"]].concat()), rows[..3]);
    // However the scene is cut in bands and windows.
    let narrow = ["--window", "50", "--band-rows", "7"];
    assert_eq!(mine(&drawn, &[&BRIGHT[..], &narrow].concat()), rows);
}

#[test]
fn an_error_leaves_out_what_the_mask_calls_impact() {
    let drawn = drawn();
    let name = drawn.data.scenes(Part::Train)[0].name.clone();
    // Beside the impact, which is in the crop of both, and the smaller one in that of the larger too.
    scene(&drawn.folder.path().join("scenes"), &name, &[(150, 164, 5), (150, 130, 3)]);
    let rows = mine(&drawn, &[&BRIGHT[..], &["--min-area", "9"]].concat());
    let found: Vec<&MinedRow> = rows.iter().filter(|row| row.scene == name).collect();
    let errors: Vec<f64> = found.iter().map(|row| row.error).collect();
    assert_eq!(errors, [25.0 + 9.0, 9.0], "{found:?}");
    assert!(found.iter().all(|row| {
        let inside = |corner: i64| (corner..corner + 56).contains(&150);
        inside(row.row0_px) && inside(row.col0_px)
    }));
}

#[test]
fn the_model_and_its_settings_stand_in_every_line() {
    let drawn = drawn();
    // Fresh impacts that the masks do not have, on each training scene.
    let place = drawn.folder.path().join("fresh");
    let flags =
        ["synth", "--rows", "300", "--cols", "300", "--impacts", "6", "--out", text(&place), "--name", "s"];
    succeed(&flags);
    for pair in drawn.data.scenes(Part::Train) {
        fs::copy(place.join("s.tif"), &pair.image).unwrap();
    }
    let rows = mine(&drawn, &["--device", "cpu", "--probability", "0.2", "--min-score", "0.25"]);
    let model = blake3::hash(&bytes("configs/unet1.safetensors")).to_hex().to_string();
    assert!(!rows.is_empty());
    for row in &rows {
        assert_eq!((row.model.as_str(), row.threshold, row.min_score), (&*model, Some(0.2), Some(0.25)));
    }
    assert!(rows.windows(2).all(|pair| pair[0].error >= pair[1].error));
}

#[test]
fn validation_and_test_scenes_are_refused_however_they_are_given() {
    let drawn = drawn();
    let out = drawn.folder.path().join("mined");
    let refused = |args: &[&str], scene: &str| {
        let fixed = ["mine", "--out", text(&out)];
        let scan: &[&str] = if args.contains(&"--catalogue") { &[] } else { &BRIGHT };
        let (code, message) = fail(&[&fixed[..], args, scan].concat());
        assert!(code == 2 && message.contains(scene) && message.contains("training"), "{code}: {message}");
        assert!(!out.exists());
    };
    let data = text(&drawn.out);
    for part in [Part::Validation, Part::Test] {
        let scene = &drawn.data.scenes(part)[0];
        // The list itself, without a word of the data set.
        let list = drawn.out.join(part.file());
        refused(&["--scenes", text(&list)], &scene.name);
        // The same file under another name, in a list elsewhere.
        let renamed = drawn.folder.path().join("renamed.csv");
        let (image, mask) = (text(&scene.image), text(&scene.mask));
        let line = |name: &str| format!("file_name,height,width,path,mask\n{name},300,300,{image},{mask}\n");
        fs::write(&renamed, line("harmless")).unwrap();
        refused(&["--data", data, "--scenes", text(&renamed)], "harmless");
        // A line of a catalogue, with verdicts and without.
        let catalogue = drawn.folder.path().join("catalogue.csv");
        fs::write(&catalogue, catalogue_text(&[(7, &scene.name, 20.0, 20.0, 9)])).unwrap();
        let verdicts = drawn.folder.path().join("verdicts.csv");
        fs::write(&verdicts, "id,verdict\n7,reject\n").unwrap();
        refused(&["--data", data, "--catalogue", text(&catalogue)], &scene.name);
        refused(
            &["--data", data, "--catalogue", text(&catalogue), "--verdicts", text(&verdicts)],
            &scene.name,
        );
    }
    // Another scene of an observation that is held out.
    let held_out = |name: &&&str| drawn.data.held_out(name).is_some();
    let name = NAMES.iter().find(held_out).unwrap();
    let other = drawn.folder.path().join("other.csv");
    let image = drawn.folder.path().join(format!("scenes/{}.tif", drawn.data.scenes(Part::Train)[0].name));
    let mask = image.with_file_name("scene_3_gt.tif");
    let sibling = format!("elsewhere/{name}");
    let line = format!("{sibling},300,300,{},{}\n", text(&image), text(&mask));
    fs::write(&other, format!("file_name,height,width,path,mask\n{line}")).unwrap();
    refused(&["--data", data, "--scenes", text(&other)], &sibling);
    // Neither a data set nor a list: nobody could tell.
    assert_eq!(fail(&["mine", "--out", text(&out)]).0, 2);
}

/// A catalogue of id, scene, row, column and area.
fn catalogue_text(lines: &[(u64, &str, f64, f64, u64)]) -> String {
    let header = "id,scene,row_px,col_px,lat_deg,lon_deg,diameter_m,diameter_px,area_px,score,peak,row0_px,\
                  col0_px,row1_px,col1_px\n";
    let line = |(id, scene, row, col, area): &(u64, &str, f64, f64, u64)| {
        let diameter = 2.0 * (*area as f64 / std::f64::consts::PI).sqrt();
        format!("{id},{scene},{row},{col},,,,{diameter},{area},0.9,1,0,0,1,1\n")
    };
    header.to_owned() + &lines.iter().map(line).collect::<String>()
}

#[test]
fn a_humans_rejects_become_hard_negatives_and_nothing_else_does() {
    let drawn = drawn();
    let scene = drawn.data.scenes(Part::Train)[0].name.as_str();
    let catalogue = drawn.folder.path().join("catalogue.csv");
    let lines = [
        (3, scene, 23.0, 23.0, 36),
        (4, scene, 235.0, 45.0, 100),
        (5, scene, 80.0, 80.0, 50),
        (6, scene, 153.0, 153.0, 60),
        (7, scene, 90.0, 200.0, 40),
    ];
    fs::write(&catalogue, catalogue_text(&lines)).unwrap();
    let verdicts = drawn.folder.path().join("verdicts.csv");
    let given = "seen,id,verdict,reviewer,time,comment\n1,3,reject,Ann,t3,old\n2,4, Reject ,Ann,t4,\"old, too\"\n\
                 3,5,accept,Ann,t5,\n4,6,reject,,,\n5,7,unsure,,,\n";
    fs::write(&verdicts, given).unwrap();
    let args = ["--catalogue", text(&catalogue), "--verdicts", text(&verdicts)];
    let rows = mine(&drawn, &args);
    let found: Vec<(u64, u64, &str)> = rows.iter().map(|row| (row.rank, row.id, &*row.source)).collect();
    // The larger one first; number 6 lies on the impact.
    assert_eq!(found, [(1, 4, "verdict"), (2, 3, "verdict")]);
    assert!((rows[0].error - 81.0).abs() < 1e-9 && rows[0].model.is_empty());
    assert_eq!((rows[0].reviewer.as_str(), rows[0].time.as_str()), ("Ann", "t4"));
    let confirmed = fs::read_to_string(drawn.folder.path().join("mined/confirmed.csv")).unwrap();
    let cells: Vec<Vec<&str>> = confirmed.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(cells[0][16..], ["id", "reviewer", "time", "in_mask"]);
    assert_eq!(cells.len(), 2, "{confirmed}");
    assert_eq!((cells[1][12], &cells[1][16..]), ("confirmed", &["5", "Ann", "t5", "false"][..]));
    // It is no hard negative.
    let (list, run) = (drawn.folder.path().join("mined/confirmed.csv"), drawn.folder.path().join("run"));
    let train =
        ["train", "--data", text(&drawn.out), "--out", text(&run), "--device", "cpu", "--hard-negatives"];
    let (code, message) = fail(&[&train[..], &[text(&list)]].concat());
    assert!(code == 2 && message.contains("mined.csv, not confirmed.csv"), "{code}: {message}");
    let all = mine(&drawn, &args[..2]);
    assert_eq!(all.iter().map(|row| row.id).collect::<Vec<_>>(), [4, 5, 7, 3]);
    let out = drawn.folder.path().join("mined");
    let fixed = ["mine", "--data", text(&drawn.out), "--out", text(&out)];
    let cases = [
        ("id,verdict\n3,no\n", "must be reject, accept or unsure"),
        ("id,verdict\n99,reject\n", "99, which is not in the catalogue"),
        ("id,verdict\n3,reject\n3,accept\n", "both reject and accept"),
    ];
    for (given, why) in cases {
        fs::write(&verdicts, given).unwrap();
        let (code, message) = fail(&[&fixed[..], &args].concat());
        assert!(code == 2 && message.contains(why), "{code}: {message}");
    }
}

#[test]
fn a_catalogue_is_taken_as_it_is_and_flags_of_a_scan_are_refused() {
    let drawn = drawn();
    let catalogue = drawn.folder.path().join("catalogue.csv");
    fs::write(&catalogue, catalogue_text(&[])).unwrap();
    let out = drawn.folder.path().join("mined");
    let fixed = ["mine", "--data", text(&drawn.out), "--out", text(&out), "--catalogue", text(&catalogue)];
    for flag in ["--min-score", "--min-area", "--weights", "--device", "--probability", "--segmenter"] {
        let (code, message) = fail(&[&fixed[..], &[flag, "1"]].concat());
        assert!(code == 2 && message.contains(flag) && message.contains("--catalogue"), "{code}: {message}");
    }
    succeed(&[&fixed[..], &["--settings", "unet2"]].concat());
}

#[test]
fn a_broken_scene_costs_itself_and_is_named() {
    let drawn = drawn();
    let broken = &drawn.data.scenes(Part::Train)[0];
    fs::write(&broken.image, b"II*\0 and no more").unwrap();
    let out = drawn.folder.path().join("mined");
    let args = ["mine", "--data", text(&drawn.out), "--out", text(&out)];
    let output = marscan(&[&args[..], &BRIGHT].concat());
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&broken.name));
    let rows: Vec<MinedRow> = read_rows(&out.join("mined.csv")).unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.scene != broken.name));
}

#[test]
fn training_takes_mined_crops_and_catalogues_and_writes_down_where_they_come_from() {
    let drawn = drawn();
    let rows = mine(&drawn, &BRIGHT);
    let mut settings = load("unet1").unwrap();
    settings.network.widths = vec![2, 4];
    let train = &mut settings.train;
    (train.batch, train.epoch_crops, train.epochs) = (4, 4, 1);
    let file = drawn.folder.path().join("tiny.toml");
    fs::write(&file, toml::to_string(&settings).unwrap()).unwrap();
    let scene = drawn.data.scenes(Part::Train)[0].name.as_str();
    let catalogue = drawn.folder.path().join("catalogue.csv");
    let lines = [(1, scene, 23.0, 23.0, 36), (2, scene, 153.0, 153.0, 60)];
    fs::write(&catalogue, catalogue_text(&lines)).unwrap();
    let mined = drawn.folder.path().join("mined/mined.csv");
    let given = |hard: &Path, out: &str| -> BTreeMap<String, String> {
        let out = drawn.folder.path().join(out);
        let fixed = ["train", "--data", text(&drawn.out), "--settings", text(&file), "--device", "cpu"];
        succeed(&[&fixed[..], &["--hard-negatives", text(hard), "--out", text(&out)]].concat());
        let weights = bytes(out.join("last.safetensors"));
        let (_, head) = safetensors::SafeTensors::read_metadata(&weights).unwrap();
        head.metadata().clone().unwrap().into_iter().collect()
    };
    let metadata = given(&mined, "first");
    let hard: serde_json::Value = serde_json::from_str(&metadata["hard_negatives"]).unwrap();
    assert_eq!((hard["given"].as_u64(), hard["on_impacts"].as_u64()), (Some(rows.len() as u64), Some(0)));
    assert_eq!(hard["thresholds"], serde_json::json!(["0.5"]));
    assert_eq!(hard["sources"], serde_json::json!(["scan"]));
    assert_eq!(hard["scenes"][scene].as_u64(), Some(2));
    let data: serde_json::Value = serde_json::from_str(&metadata["data"]).unwrap();
    assert_eq!(data["ids"]["crops.csv"].as_str(), drawn.data.spec.ids.get("crops.csv").map(String::as_str));
    let hard: serde_json::Value =
        serde_json::from_str(&given(&catalogue, "second")["hard_negatives"]).unwrap();
    assert_eq!((hard["given"].as_u64(), hard["on_impacts"].as_u64()), (Some(2), Some(1)));
    // And never of a scene that is held out.
    let held_out = drawn.data.scenes(Part::Test)[0].name.as_str();
    fs::write(&catalogue, catalogue_text(&[(1, held_out, 23.0, 23.0, 36)])).unwrap();
    let third = drawn.folder.path().join("third");
    let fixed = ["train", "--data", text(&drawn.out), "--settings", text(&file), "--device", "cpu"];
    let (code, message) =
        fail(&[&fixed[..], &["--hard-negatives", text(&catalogue), "--out", text(&third)]].concat());
    assert!(code == 2 && message.contains(held_out), "{code}: {message}");
}
