//! `judge` and `speedup`: the study's tables and pictures.

use std::collections::BTreeMap;

use crate::files::{bytes, fail, succeed, tiff};
use crate::training::{Ground, rows, tiny};

type Row = BTreeMap<String, String>;

fn number(row: &Row, name: &str) -> f64 {
    row[name].parse().unwrap()
}

fn png_size(bytes: &[u8]) -> (u32, u32) {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    reader.info().size()
}

#[test]
fn networks_are_judged_on_the_same_crops_beside_predicting_nothing() {
    let ground = Ground::new();
    let (list, data, out) = (ground.path("scenes.csv"), ground.path("data"), ground.path("judged"));
    let [list, data, out] = [&list, &data, &out].map(|path| path.to_str().unwrap());
    let cut = ["--split", "1:1:1", "--crop", "32", "--per-impact", "3"];
    succeed(&[&["prepare", "--scenes", list, "--out", data], &cut[..]].concat());
    let weights = "unet1=configs/unet1.safetensors";
    let judge = ["judge", "--data", data, "--out", out, "--device", "cpu", "--network", weights];
    let said = succeed(&[&judge[..], &["--network", weights]].concat());
    let mut table: Vec<Row> = rows(&ground.path("judged/networks.csv"));
    let names = table.iter_mut().map(|row| row.remove("network").unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["unet1 (1)", "unet1 (2)"], "{said}");
    assert!(said.contains("unet1 (2)") && table[1]["weights"] == "configs/unet1.safetensors", "{said}");
    assert_eq!(table[0], table[1], "the same network on the same crops");
    let crops: Vec<Row> = rows(&ground.path("data/crops.csv"));
    let crops: Vec<&Row> = crops.iter().filter(|row| row["part"] == "test").collect();
    let sum = |name: &str| crops.iter().map(|row| number(row, name)).sum::<f64>();
    let share = 100.0 * sum("impact_px") / sum("valid_px");
    assert!(share > 0.0 && (number(&table[0], "nothing_mse_percent") - share).abs() < 1e-9, "{share}");
    assert_eq!(number(&table[0], "crops") as usize, crops.len());
    let [precision, recall, f1] =
        ["precision", "recall", "f1"].map(|name| number(&table[0], &format!("pixel_{name}")));
    assert!((f1 - 2.0 * precision * recall / (precision + recall)).abs() < 1e-9);
    let (cols, height) = png_size(&bytes(ground.path("judged/networks.png")));
    assert!(cols > 84 + 2 * 134 && height == 24 + 4 * 134, "{cols} x {height}: image, mask and two networks");
    let (code, message) = fail(&[&judge[..], &["--part", "all"]].concat());
    assert!(code == 2 && message.contains("--part all"), "{message}");
    let wrong = ["judge", "--data", data, "--out", out, "--network", "unet2=configs/unet1.safetensors"];
    assert!(fail(&wrong).1.contains("configs/unet1.safetensors"));
}

#[test]
fn a_speed_up_is_of_the_repeats_of_the_same_work() {
    let (ground, mut settings) = (Ground::new(), tiny());
    settings.train.batch = 8;
    for devices in ["cpu:1", "cpu:2"] {
        ground.train(&settings, devices, &["--images", "40", "--repeats", "2", "--devices", devices]);
    }
    ground.train(&settings, "other", &["--images", "48"]);
    let place = |name: &str| ground.path(name).to_str().unwrap().to_owned();
    let (one, two, out) =
        (format!("1={}", place("cpu:1")), format!("2={}", place("cpu:2")), place("speedup"));
    let said = succeed(&["speedup", &one, &two, "--workers", "replicas", "--out", &out]);
    assert!(said.contains("replicas") && said.contains('±'), "{said}");
    let table: Vec<Row> = rows(&ground.path("speedup/speedup.csv"));
    let repeats: Vec<Row> = rows(&ground.path("cpu:2/repeats.csv"));
    let mean = repeats.iter().find(|row| row["repeat"] == "mean").unwrap();
    assert!((number(&table[1], "images_per_s") / number(mean, "images_per_s") - 1.0).abs() < 1e-9);
    let ratio = number(&table[0], "seconds") / number(&table[1], "seconds");
    assert!((number(&table[1], "speedup") / ratio - 1.0).abs() < 1e-9);
    assert!((number(&table[1], "efficiency") / (ratio / 2.0) - 1.0).abs() < 1e-9);
    assert_eq!((table[0]["device"].as_str(), table[1]["device"].as_str()), ("cpu", "2 x cpu"));
    assert_eq!(png_size(&bytes(ground.path("speedup/speedup.png"))), (1440, 900));
    let other = format!("2={}", place("other"));
    let (code, message) = fail(&["speedup", &one, &other, "--out", &out]);
    assert!(code == 2 && message.contains("48 images"), "{message}");
    assert_eq!(fail(&["speedup", "one", "--out", &out]).0, 2);
}

#[test]
fn scans_are_compared_by_their_logs_and_only_with_the_same_work() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    tiff(&folder.path().join("s.tif"), 512, &vec![90; 512 * 512]);
    std::fs::write(place("scenes.csv"), "file_name,height,width\ns,512,512\n").unwrap();
    let list = place("scenes.csv");
    let scan = |name: &str, flags: &[&str]| {
        let out = place(name);
        let common = ["scan", "--scenes", &list, "--settings", "threshold", "--window", "64", "--out", &out];
        succeed(&[&common[..], flags].concat());
    };
    // One process scans its shards one after the other: one task.
    scan("one/repeat-0", &["--shards", "2"]);
    scan("one/repeat-1", &["--shards", "4"]);
    scan("other", &["--dark-max", "9"]);
    let (one, other, out) =
        (format!("1={}", place("one")), format!("2={}", place("other")), place("speedup"));
    let said = succeed(&["speedup", &one, "--out", &out]);
    assert!(said.contains("strong scaling") && said.contains("tasks") && said.contains("infer"), "{said}");
    let table: Vec<Row> = rows(&folder.path().join("speedup/speedup.csv"));
    assert_eq!((table[0]["repeats"].as_str(), table[0]["pixels"].as_str()), ("2", "262144"));
    assert!(number(&table[0], "seconds") > 0.0 && number(&table[0], "shards_at_once") == 1.0, "{table:?}");
    let shares: f64 = table[0]
        .iter()
        .filter(|cell| cell.0.starts_with("share_"))
        .map(|cell| cell.1.parse::<f64>().unwrap())
        .sum();
    assert!((shares - 1.0).abs() < 1e-9, "{table:?}");
    let (code, message) = fail(&["speedup", &one, &other, "--out", &out]);
    assert!(code == 2 && message.contains("settings"), "{message}");
    assert!(message.contains(&place("one/repeat-0")) && message.contains(&place("other")), "{message}");
}
