//! Data sets: the same bytes twice, no observation in two parts, crops as their strategy says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use marscan::config::{Settings, load};
use marscan::geo::name::observation;
use marscan::job::StopRequest;
use marscan::raster::MappedScene;
use marscan::table::read_rows;
use marscan::train::list::{CropRow, DataSet, Kind, Part};
use marscan::train::mistakes::Candidates;
use marscan::train::prepared::{PartCrops, PreparedSampler, open_store};
use marscan::train::source::CropSource;
use marscan::unet::CropBatch;

use crate::files::{bytes, fail, marscan, succeed, tiff};

/// Names of scenes, the first two and the next two of one observation each.
pub const NAMES: [&str; 8] = [
    "D01_000001_1885_XI_08N342W",
    "D01_000001_1885_XN_09N342W",
    "D01_000002_1885_XI_08N342W",
    "D01_000002_1885_XN_09N342W",
    "D01_000003_1885_XI_08N342W",
    "ESP_000003_1885_RED",
    "scene_000_001",
    "scene_000_002",
];

/// Grey ground with a black left border, and a mask of discs of `radius` px.
pub fn scene(side: usize, discs: &[(usize, usize)], radius: usize) -> (Vec<u8>, Vec<u8>) {
    let inside = |row: usize, col: usize| {
        discs.iter().any(|(r, c)| row.abs_diff(*r).pow(2) + col.abs_diff(*c).pow(2) <= radius * radius)
    };
    let place = |k: usize| (k / side, k % side);
    let ground =
        |(row, col): (usize, usize)| if col < 20 { 0 } else { 60 + ((row * 7 + col * 3) % 90) as u8 };
    let mask = |(row, col): (usize, usize)| if inside(row, col) { 255 } else { 0 };
    let all = 0..side * side;
    (all.clone().map(place).map(ground).collect(), all.map(place).map(mask).collect())
}

/// The study's tree: [`NAMES`] in two folders, a scene without mask, and a mask without scene.
fn tree(root: &Path) {
    for (k, name) in NAMES.iter().enumerate() {
        let folder = format!("f{}", k % 2);
        let [scenes, masks] = ["IMPACTS", "IMPACTS_GT"].map(|kind| root.join(kind).join(&folder));
        fs::create_dir_all(&scenes).unwrap();
        fs::create_dir_all(&masks).unwrap();
        let discs = [(90 + 10 * k, 150), (200, 210 + k), (250, 60)];
        let (pixels, mask) = scene(300, &discs[..2 + k % 2], 6 + k % 3);
        tiff(&scenes.join(format!("{name}.geo.tif")), 300, &pixels);
        tiff(&masks.join(format!("{name}_gt.tif")), 300, &mask);
    }
    tiff(&root.join("IMPACTS/f0/lonely.geo.tif"), 30, &[9; 900]);
    tiff(&root.join("IMPACTS_GT/f1/orphan_gt.tif"), 30, &[0; 900]);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Prepares `root`, in the study's layout, into `out`.
fn prepare(root: &Path, out: &Path, more: &[&str]) -> String {
    let fixed = ["prepare", "--root", text(root), "--out", text(out)];
    succeed(&[&fixed[..], more].concat())
}

/// A tree and a data set of it.
fn prepared(more: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    tree(&folder.path().join("root"));
    let out = folder.path().join("data");
    prepare(&folder.path().join("root"), &out, &[&["--crop", "64"], more].concat());
    (folder, out)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), bytes(entry.path()))).collect()
}

#[test]
fn the_same_command_gives_the_same_bytes_and_another_seed_does_not() {
    let (folder, first) = prepared(&["--store", "--stats", "--ring", "2"]);
    let again = folder.path().join("again");
    let root = folder.path().join("root");
    let flags = ["--crop", "64", "--store", "--stats", "--ring", "2"];
    prepare(&root, &again, &flags);
    let wanted = files(&first);
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let lists = ["scenes_test.csv", "scenes_train.csv", "scenes_validation.csv", "stats.csv"];
    assert_eq!(names, [&["crops.bin", "crops.csv", "data.json"][..], &lists].concat());
    assert!(files(&again) == wanted);
    prepare(&root, &again, &flags);
    assert!(files(&again) == wanted, "over an earlier data set");
    prepare(&root, &again, &[&flags[..], &["--seed", "2"]].concat());
    assert_ne!(files(&again)["crops.csv"], wanted["crops.csv"]);
    let printed = prepare(&root, &again, &["--crop", "64"]);
    assert!(printed.contains("removed the crops.bin") && !again.join("crops.bin").exists());
}

#[test]
fn no_observation_is_in_two_parts_and_what_has_no_partner_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    tree(&root);
    let mut first = BTreeSet::new();
    for seed in ["1", "2", "3", "4", "5"] {
        let out = folder.path().join(seed);
        let printed = prepare(&root, &out, &["--crop", "64", "--seed", seed]);
        assert!(printed.contains("lonely.geo.tif has no mask"), "{printed}");
        assert!(printed.contains("orphan_gt.tif has no scene"), "{printed}");
        let data = DataSet::open(&out).unwrap();
        let mut part_of: BTreeMap<&str, Part> = BTreeMap::new();
        let mut names = Vec::new();
        for part in Part::ALL {
            assert!(!data.scenes(part).is_empty(), "{part} is empty");
            for pair in data.scenes(part) {
                names.push(pair.name.as_str());
                assert_eq!(*part_of.entry(observation(&pair.name)).or_insert(part), part, "{}", pair.name);
                assert!(pair.image.exists() && pair.mask.exists());
            }
        }
        names.sort_unstable();
        assert_eq!(names, NAMES);
        for crop in &data.crops {
            assert_eq!(part_of[observation(&crop.scene)], crop.part, "{crop:?}");
        }
        first.insert(data.scenes(Part::Train)[0].name.clone());
    }
    assert!(first.len() > 1, "every seed gave the same split");
}

#[test]
fn a_mask_of_another_size_is_left_out_with_both_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    tree(&root);
    tiff(&root.join("IMPACTS_GT/f0/scene_000_001_gt.tif"), 299, &vec![0; 299 * 300]);
    let out = folder.path().join("data");
    let args = ["prepare", "--root", text(&root), "--out", text(&out), "--crop", "64"];
    let output = marscan(&args);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{printed}");
    for part in ["scene_000_001.geo.tif has 300 rows and 300 columns", "scene_000_001_gt.tif has 300 and 299"]
    {
        assert!(printed.contains(part), "{printed}");
    }
    let data = DataSet::open(&out).unwrap();
    let scenes: usize = Part::ALL.iter().map(|part| data.scenes(*part).len()).sum();
    assert_eq!(scenes, NAMES.len() - 1);
}

#[test]
fn the_table_counts_what_the_scenes_hold() {
    let (_folder, out) = prepared(&["--stats"]);
    let mut rows: Vec<BTreeMap<String, String>> = read_rows(&out.join("stats.csv")).unwrap();
    let total = rows.pop().unwrap();
    assert_eq!((rows.len(), total["scene"].as_str()), (NAMES.len(), "all"));
    // Of 300 columns, 20 are black; even scenes have two impacts, odd ones three.
    assert!(rows.iter().all(|row| row["valid_px"] == "84000" && row["mpx"] == "0.09"));
    assert_eq!(total["impacts"], "20");
    let disc = |radius: i64| {
        let span = -radius..=radius;
        span.clone()
            .flat_map(|r| span.clone().map(move |c| r * r + c * c))
            .filter(|d| *d <= radius * radius)
            .count()
    };
    let row = rows.iter().find(|row| row["scene"] == NAMES[0]).unwrap();
    assert_eq!(row["impact_px"], (2 * disc(6)).to_string());
    let share: f64 = row["impact_share"].parse().unwrap();
    assert!((share - 2.0 * disc(6) as f64 / 90_000.0).abs() < 1e-9);
}

/// Three large scenes with one impact each, side by side in one folder.
fn large(folder: &Path, side: usize, middle: usize) {
    for k in 0..3 {
        let (pixels, mask) = scene(side, &[(middle, middle + 5 * k)], 10);
        tiff(&folder.join(format!("s{k}.tif")), side, &pixels);
        tiff(&folder.join(format!("s{k}_gt.tif")), side, &mask);
    }
}

pub const FLAT: [&str; 4] = ["--scene-pattern", "{id}.tif", "--mask-pattern", "{id}_gt.tif"];

#[test]
fn the_grid_has_one_crop_in_64_with_an_impact_at_its_edge() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path(), 1200, 600);
    let out = folder.path().join("data");
    prepare(folder.path(), &out, &[&FLAT[..], &["--strategy", "grid-1024"]].concat());
    let data = DataSet::open(&out).unwrap();
    assert_eq!(data.crops.len(), 3 * 64);
    let with: Vec<&CropRow> = data.crops.iter().filter(|crop| crop.impact_px > 0).collect();
    assert_eq!(with.len(), 3);
    for crop in with {
        assert_eq!((crop.row0_px, crop.kind), (590, Kind::Impact));
    }
    for scene in ["s0", "s1", "s2"] {
        let rows: Vec<&CropRow> = data.crops.iter().filter(|crop| crop.scene == scene).collect();
        let (first, last) = (rows[0], rows[63]);
        assert_eq!((last.row0_px - first.row0_px, last.col0_px - first.col0_px), (7 * 128, 7 * 128));
    }
}

#[test]
fn half_of_the_balanced_crops_have_an_impact_and_all_are_of_the_grid() {
    let (folder, out) = prepared(&["--strategy", "balanced"]);
    let data = DataSet::open(&out).unwrap();
    let grid = folder.path().join("grid");
    prepare(&folder.path().join("root"), &grid, &["--crop", "64", "--strategy", "grid-1024"]);
    let grid = DataSet::open(&grid).unwrap();
    let place = |crop: &CropRow| (crop.scene.clone(), crop.row0_px, crop.col0_px);
    let known: BTreeSet<_> = grid.crops.iter().map(place).collect();
    assert!(data.crops.iter().all(|crop| known.contains(&place(crop))));
    for part in Part::ALL {
        let crops = data.crops_of(part);
        let with = crops.iter().filter(|crop| crop.impact_px > 0).count();
        assert!(with > 0 && 2 * with == crops.len(), "{part}: {with} of {}", crops.len());
        // The split is the scenes' own, whatever the crops.
        let names =
            |data: &DataSet| data.scenes(part).iter().map(|pair| pair.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&data), names(&grid));
    }
}

#[test]
fn random_crops_have_the_impact_anywhere_and_borders_among_the_others() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path(), 500, 250);
    let out = folder.path().join("data");
    prepare(folder.path(), &out, &[&FLAT[..], &["--strategy", "random", "--per-impact", "300"]].concat());
    let data = DataSet::open(&out).unwrap();
    assert_eq!(data.crops.len(), 3 * 600);
    let with = data.crops.iter().filter(|crop| crop.impact_px > 0);
    let mut rows = [0; 4];
    let mut cols = [0; 4];
    for crop in with {
        let middle = 250 + 5 * crop.scene[1..].parse::<i64>().unwrap();
        rows[((250 - crop.row0_px) / 32) as usize] += 1;
        cols[((middle - crop.col0_px) / 32) as usize] += 1;
    }
    // 900 crops in four bins: 225 each, give or take four standard deviations.
    assert_eq!(rows.iter().sum::<i32>(), 900);
    assert!(rows.iter().chain(&cols).all(|n| (170..280).contains(n)), "{rows:?} {cols:?}");
    let count = |kind| data.crops.iter().filter(|crop| crop.kind == kind).count();
    assert!(count(Kind::Border) > 100 && count(Kind::Ground) > 100);
    let places: BTreeSet<_> = data.crops.iter().map(|c| (&c.scene, c.row0_px, c.col0_px)).collect();
    assert!(places.len() > 1700, "{} different crops", places.len());
}

fn part(data: &DataSet, part: Part) -> PartCrops {
    PartCrops::open(data, part, open_store(data).unwrap(), &Candidates::default(), &StopRequest::default())
        .unwrap()
}

fn crop(crops: &PartCrops, k: usize) -> CropBatch {
    let mut batch = crops.empty_batch();
    crops.append(k, &mut batch).unwrap();
    batch
}

#[test]
fn the_store_holds_what_the_scenes_hold_pixel_by_pixel() {
    let (_folder, out) = prepared(&["--store", "--ring", "3"]);
    let data = DataSet::open(&out).unwrap();
    let stored = Part::ALL.map(|which| part(&data, which));
    fs::remove_file(out.join("crops.bin")).unwrap();
    for (stored, which) in stored.iter().zip(Part::ALL) {
        let direct = part(&data, which);
        for k in 0..direct.rows.len() {
            let (a, b) = (crop(stored, k), crop(&direct, k));
            assert!(a.pixels == b.pixels && a.mask == b.mask, "{which} {k}");
            // And the scenes hold what a plain reading of the files gives.
            let row = &direct.rows[k];
            let pair = data.scenes(which).iter().find(|pair| pair.name == row.scene).unwrap();
            let image = MappedScene::open(&pair.image, data.spec.input).unwrap();
            let lines = image.rows(0..300).unwrap();
            for (at, v) in a.pixels.iter().enumerate() {
                let (r, c) = (row.row0_px + at as i64 / 64, row.col0_px + at as i64 % 64);
                let inside = (0..300).contains(&r) && (0..300).contains(&c);
                assert_eq!(*v, if inside { lines.row(r as u64)[c as usize] } else { 0 });
            }
        }
    }
}

#[test]
fn a_ring_leaves_impact_none_and_the_pixels_between_unjudged() {
    let (folder, out) = prepared(&["--ring", "2"]);
    let plain = folder.path().join("plain");
    prepare(&folder.path().join("root"), &plain, &["--crop", "64"]);
    let (ringed, plain) = (DataSet::open(&out).unwrap(), DataSet::open(&plain).unwrap());
    assert_eq!(ringed.crops, plain.crops, "a ring changes no choice of crops");
    let (ringed, plain) = (part(&ringed, Part::Train), part(&plain, Part::Train));
    let mut seen = BTreeMap::new();
    for k in 0..plain.rows.len() {
        let (a, b) = (crop(&ringed, k), crop(&plain, k));
        assert!(b.mask.iter().all(|m| *m == 0 || *m == 255));
        for (ringed, plain) in a.mask.iter().zip(&b.mask) {
            *seen.entry((*plain, *ringed)).or_insert(0) += 1;
        }
    }
    let dont_care = CropBatch::DONT_CARE;
    let kinds: Vec<(u8, u8)> = seen.keys().copied().collect();
    assert_eq!(kinds, [(0, 0), (0, dont_care), (255, dont_care), (255, 255)]);
}

/// A data set's train part as batches of `count`.
fn sampler(data: &DataSet, change: impl FnOnce(&mut Settings)) -> PreparedSampler {
    let mut settings = load("unet1").unwrap();
    settings.train.augment = false;
    change(&mut settings);
    PreparedSampler::new(part(data, Part::Train), &settings.train)
}

fn crops_of(batch: &CropBatch) -> Vec<(Vec<u8>, bool)> {
    let px = batch.side_px * batch.side_px;
    let pairs = batch.pixels.chunks(px).zip(batch.mask.chunks(px));
    pairs.map(|(pixels, mask)| (pixels.to_vec(), mask.contains(&255))).collect()
}

#[test]
fn batches_are_half_and_half_and_each_pass_shows_every_crop_once_in_a_new_order() {
    let (_folder, out) = prepared(&["--store"]);
    let data = DataSet::open(&out).unwrap();
    let train = data.crops_of(Part::Train);
    let passes = train.len() / 10;
    assert_eq!(passes * 10, train.len(), "ten crops an impact, and as many without");
    let shown = |sampler: &PreparedSampler, pass: usize| -> Vec<Vec<u8>> {
        let mut crops = Vec::new();
        for number in pass * passes..(pass + 1) * passes {
            let batch = crops_of(&sampler.batch(number as u64, 10).unwrap());
            assert_eq!(batch.iter().filter(|(_, impact)| *impact).count(), 5);
            crops.extend(batch.into_iter().map(|(pixels, _)| pixels));
        }
        crops
    };
    let one = sampler(&data, |_| ());
    let (first, second) = (shown(&one, 0), shown(&one, 1));
    assert_ne!(first, second);
    assert_eq!(first, shown(&sampler(&data, |_| ()), 0), "a batch is a function of seed and number");
    assert_ne!(first, shown(&sampler(&data, |settings| settings.train.seed = 9), 0));
    let sorted = |mut crops: Vec<Vec<u8>>| {
        crops.sort();
        crops
    };
    let all = part(&data, Part::Train);
    let wanted = sorted((0..train.len()).map(|k| crop(&all, k).pixels).collect());
    assert!(sorted(first) == wanted && sorted(second) == wanted);
    let share = sampler(&data, |settings| settings.train.impact_share = 0.2);
    let batch = crops_of(&share.batch(3, 10).unwrap());
    assert_eq!(batch.iter().filter(|(_, impact)| *impact).count(), 2);
}

#[test]
fn augmented_crops_are_the_same_crops_turned_and_brightened() {
    let (_folder, out) = prepared(&[]);
    let data = DataSet::open(&out).unwrap();
    let plain = sampler(&data, |_| ()).batch(1, 20).unwrap();
    let other = sampler(&data, |settings| settings.train.augment = true).batch(1, 20).unwrap();
    assert_ne!(plain.pixels, other.pixels);
    let count = |plane: &[u8]| plane.chunks(64 * 64).map(|c| c.iter().filter(|v| **v != 0).count()).collect();
    let counts: [Vec<usize>; 4] =
        [&plain.pixels, &other.pixels, &plain.mask, &other.mask].map(|plane| count(plane));
    assert_eq!((&counts[0], &counts[2]), (&counts[1], &counts[3]));
}

#[test]
fn a_damaged_store_is_refused() {
    let (_folder, out) = prepared(&["--store"]);
    let data = DataSet::open(&out).unwrap();
    let path = out.join("crops.bin");
    let good = bytes(&path);
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let cases = [
        (changed(0, b'X'), "no store of crops"),
        (good[..20].to_vec(), "no store of crops"),
        (changed(8, 9), "its version is 9"),
        (changed(12, 65), "do not make"),
        (changed(23, 0xFF), "do not make"),
        (good[..good.len() - 1].to_vec(), "do not make"),
        (changed(30, !good[30]), "another list"),
        (changed(good.len() / 2, !good[good.len() / 2]), "checksum"),
    ];
    for (bytes, why) in cases {
        fs::write(&path, bytes).unwrap();
        let message = format!("{:#}", open_store(&data).unwrap_err());
        assert!(message.contains(why) && message.contains("crops.bin"), "{why}: {message}");
    }
    let run = out.join("run");
    let (code, message) = fail(&["train", "--data", text(&out), "--out", text(&run), "--device", "cpu"]);
    assert!(code == 1 && message.contains("checksum"), "{code}: {message}");
}

#[test]
fn a_changed_list_and_wrong_usage_are_exit_2() {
    let (folder, out) = prepared(&[]);
    let root = folder.path().join("root");
    let [root, other] = [&root, &folder.path().join("other")].map(|path| text(path).to_owned());
    let fixed = ["prepare", "--root", &root, "--out", &other];
    let cases: [(&[&str], &str); 6] = [
        (&["--strategy", "grid"], "grid-1024, balanced, random"),
        (&["--split", "1:2"], "--split 1:2"),
        (&["--split", "0:1:1"], "--split 0:1:1"),
        (&["--crop", "100"], "--crop 100"),
        (&["--mask-pattern", "{id}_gt.tif"], "same placeholders"),
        (&["--scene-pattern", "{folder}/{id}.nope", "--mask-pattern", "{folder}_{id}"], "no file below"),
    ];
    for (more, why) in cases {
        let (code, message) = fail(&[&fixed[..], more].concat());
        assert!(code == 2 && message.contains(why), "{more:?}: {code}: {message}");
    }
    let list = out.join("crops.csv");
    let lines = fs::read_to_string(&list).unwrap();
    fs::write(&list, lines.replacen("train", "test", 1)).unwrap();
    let [run, list] = ["run", "scenes_train.csv"].map(|name| text(&out.join(name)).to_owned());
    let (code, message) = fail(&["train", "--data", text(&out), "--out", &run]);
    assert!(code == 2 && message.contains("crops.csv is not what was prepared"), "{code}: {message}");
    let fixed = ["train", "--scenes", &list, "--out", &run];
    for more in [["--impact-share", "list"], ["--impact-share", "1.5"], ["--ring", "65"]] {
        let (code, message) = fail(&[&fixed[..], &more].concat());
        let key = more[0].trim_start_matches("--").split('-').next().unwrap_or_default();
        assert!(code == 2 && message.contains(key), "{more:?}: {code}: {message}");
    }
    let (code, message) = fail(&[&fixed[..], &["--validation", &list, "--device", "cpu"]].concat());
    assert!(code == 2 && message.contains("to be trained on and to validate"), "{code}: {message}");
    let (code, message) = fail(&["train", "--data", &root, "--out", &run]);
    assert!(code == 2 && message.contains("marscan prepare"), "{code}: {message}");
}

#[test]
fn a_scene_that_was_replaced_is_named() {
    let (_folder, out) = prepared(&[]);
    let data = DataSet::open(&out).unwrap();
    let pair = &data.scenes(Part::Train)[0];
    let mut image = fs::read(&pair.image).unwrap();
    let last = image.len() - 1;
    image[last] ^= 1;
    fs::write(&pair.image, image).unwrap();
    let run = out.with_file_name("run");
    let (code, message) = fail(&["train", "--data", text(&out), "--out", text(&run), "--device", "cpu"]);
    assert!(
        code == 2 && message.contains(&format!("{} or its mask is another image", pair.name)),
        "{message}"
    );
}

#[test]
fn two_scenes_of_one_id_keep_their_folder_in_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    tree(&root);
    for kind in ["IMPACTS", "IMPACTS_GT"] {
        let end = if kind == "IMPACTS" { ".geo.tif" } else { "_gt.tif" };
        let place = |f: &str| root.join(kind).join(f).join(format!("scene_000_001{end}"));
        fs::copy(place("f0"), place("f1")).unwrap();
    }
    let out = folder.path().join("data");
    prepare(&root, &out, &["--crop", "64"]);
    let data = DataSet::open(&out).unwrap();
    let mut names: Vec<&str> =
        Part::ALL.iter().flat_map(|part| data.scenes(*part)).map(|pair| pair.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), NAMES.len() + 1);
    assert!(names.contains(&"f0/scene_000_001") && names.contains(&"f1/scene_000_001"), "{names:?}");
}
