//! Other dates of the same ground: real pairs, drawn ones in other projections, and the catalogue's columns.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use marscan::config::InputSettings;
use marscan::geo::{GeoRef, GeoTags, MARS_RADIUS_M};
use marscan::plan::SceneList;
use marscan::raster::MappedScene;
use marscan::raster::writer::StripWriter;
use marscan::repeat::{Repeats, Scene, Square};
use marscan::space::{LonLat, PixelRect, ScenePx};
use serde_json::Value;

use crate::files::{bytes, fail, marscan, shared, succeed};

const INPUT: InputSettings = InputSettings { valid_min: 3, valid_max: 1021 };

/// A list of scenes, by name and file, in `folder`.
fn list(folder: &Path, scenes: &[(&str, &Path)]) -> PathBuf {
    let line = |(name, path): &(&str, &Path)| format!("{name},1,1,{}\n", path.display());
    let lines: String = scenes.iter().map(line).collect();
    let list = folder.join(format!("{}.csv", scenes[0].0));
    fs::write(&list, format!("file_name,height,width,path\n{lines}")).unwrap();
    list
}

fn repeats(list: &Path) -> Repeats {
    Repeats::open(&SceneList::read(list).unwrap(), INPUT)
}

/// What places of a scene that are `radius` wide are given.
fn scores(path: &Path, repeats: &Repeats, places: &[(u64, u64)], radius: u64) -> Vec<Option<f64>> {
    let file = MappedScene::open(path, INPUT).unwrap();
    let georef = file.header().georef.unwrap();
    let around = |&(row, col): &(u64, u64)| PixelRect {
        row0: row - radius,
        col0: col - radius,
        row1: row + radius + 1,
        col1: col + radius + 1,
    };
    let places: Vec<PixelRect> = places.iter().map(around).collect();
    let scene = Scene { file: &file, path, georef: &georef };
    repeats.changes(&scene, &places).unwrap().iter().map(|c| c.map(|change| change.change_score)).collect()
}

/// A copy with the shape of a fresh impact at each place: a dark blast zone with rays around a bright rim.
fn stamped(scene: &Arc<MappedScene>, places: &[(u64, u64)], radius: f64, to: &Path) {
    let header = scene.header();
    let (rows, cols) = (header.rows, header.cols);
    let mut pixels = scene.window(0..rows, 0..cols).unwrap();
    for (k, v) in pixels.iter_mut().enumerate().filter(|(_, v)| **v != 0) {
        for &(row, col) in places {
            let (y, x) = ((k as u64 / cols) as f64 - row as f64, (k as u64 % cols) as f64 - col as f64);
            let (off, rays) = (y.hypot(x) / radius, 0.8 + 0.2 * (5.0 * y.atan2(x)).cos());
            if off < 1.0 {
                let factor = if off < 0.12 { 1.25 } else { 1.0 - 0.35 * rays * (1.0 - off * off) };
                *v = (f64::from(*v) * factor).clamp(1.0, 255.0) as u8;
            }
        }
    }
    let mut writer = StripWriter::create(to, rows, cols, Some(header.geo_tags.clone())).unwrap();
    writer.append(&pixels).unwrap();
    writer.finish().unwrap();
}

fn share(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

#[test]
fn real_pairs_without_change_score_low_and_impacts_drawn_on_one_date_high() {
    let Some(folder) = shared("data/georef") else { return };
    let made = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for kind in ["u8_strip", "u16_10bit_strip"] {
        let (before, after) =
            (["before", "after"]).map(|date| folder.join(format!("nochange_{date}_{kind}.tif"))).into();
        let repeats = repeats(&list(made.path(), &[("after", &after)]));
        for radius in [5, 10, 20] {
            // Apart by more than the ring that belongs to a place.
            let lines = (100..560).step_by(5 * radius + 10);
            let places: Vec<(u64, u64)> = lines
                .clone()
                .flat_map(|row| lines.clone().map(move |col| (row as u64, col as u64)))
                .collect();
            let same = scores(&before, &repeats, &places, radius as u64);
            let drawn = made.path().join("drawn.tif");
            let scene = MappedScene::open(&before, INPUT).unwrap();
            stamped(&scene, &places, radius as f64, &drawn);
            let changed = scores(&drawn, &repeats, &places, radius as u64);
            // And with the dates exchanged: an impact that is only in the other scene.
            let vanished = scores(
                &after,
                &self::repeats(&list(made.path(), &[("drawn", &drawn)])),
                &places,
                radius as u64,
            );
            let [same, changed, vanished] =
                [same, changed, vanished].map(|scores| scores.into_iter().flatten().collect::<Vec<f64>>());
            println!(
                "nochange {kind}, circles of {radius} px: {} places, median {:.3}, 95 % {:.3}, highest {:.3}; \
                 drawn 25 % {:.3}, median {:.3}; exchanged median {:.3}",
                same.len(),
                share(&same, 0.5),
                share(&same, 0.95),
                share(&same, 1.0),
                share(&changed, 0.25),
                share(&changed, 0.5),
                share(&vanished, 0.5),
            );
            assert!(same.len() >= 9 && changed.len() == same.len());
            assert!(share(&same, 0.5) < 0.05 && share(&same, 1.0) < 0.3);
            assert!(share(&changed, 0.25) > share(&same, 0.95) && share(&changed, 0.5) > 0.4);
            assert!(share(&vanished, 0.5) > 0.4);
            compared += same.len();
        }
    }
    assert!(compared > 200, "only {compared} places were compared");
}

/// Ground around 77.0 N, 31.0 E that is the same whatever looks at it: waves with a fleck of noise.
fn ground(place: LonLat) -> f64 {
    let (north, east) = offset(place);
    let noise = ((north * 12.9898 + east * 78.233).sin() * 43758.547).fract();
    120.0
        + 25.0 * (north / 130.0).sin() * (east / 170.0).cos()
        + 12.0 * (north / 41.0 + east / 67.0).sin()
        + 0.5 * noise
}

/// Metres north and east of 77.0 N, 31.0 E.
fn offset(place: LonLat) -> (f64, f64) {
    let degree = MARS_RADIUS_M.to_radians();
    ((place.lat_deg - 77.0) * degree, (place.lon_deg - 31.0) * degree * 77f64.to_radians().cos())
}

/// Places of impacts, m north and east, of 90 m radius.
const IMPACTS: [(f64, f64); 4] = [(700.0, -700.0), (700.0, 700.0), (-700.0, -700.0), (-700.0, 700.0)];

/// The tags of a square scene with its middle at a place, in the projection of key 3075, or in degrees.
fn tags(code: u64, metres: f64, side: u64, middle: LonLat) -> GeoTags {
    let degrees = code == 0;
    let directory = [
        [1, 1, 0, 6],
        [1024, 0, 1, if degrees { 2 } else { 1 }],
        [1025, 0, 1, 1],
        [2057, 34736, 1, 0],
        [if code == 15 { 3081 } else { 3078 }, 34736, 1, 1],
        [if code == 15 { 3095 } else { 3088 }, 34736, 1, 2],
        [3075, 0, 1, code],
    ];
    let keys = if degrees { 4 } else { 7 };
    let size = if degrees { metres / MARS_RADIUS_M.to_radians() } else { metres };
    let mut tags = GeoTags {
        pixel_scale: vec![size, size, 0.0],
        tiepoints: vec![side as f64 / 2.0, side as f64 / 2.0, 0.0, 0.0, 0.0, 0.0],
        directory: directory[..keys].concat(),
        doubles: vec![MARS_RADIUS_M, 75.0, 20.0],
        ..GeoTags::default()
    };
    let georef = GeoRef::from_tags(&tags).unwrap().unwrap();
    let at = georef.projection().map(middle);
    (tags.tiepoints[3], tags.tiepoints[4]) = (at.x, at.y);
    tags
}

/// Draws the ground with those impacts; `light` is what a level becomes.
fn draw(path: &Path, side: u64, tags: GeoTags, impacts: &[usize], light: fn(f64) -> f64) {
    let georef = GeoRef::from_tags(&tags).unwrap().unwrap();
    let pixels: Vec<u8> = (0..side * side)
        .map(|k| {
            let place = georef.lonlat(ScenePx { row: (k / side) as f64, col: (k % side) as f64 });
            let (north, east) = offset(place);
            let hit = |k: &usize| (north - IMPACTS[*k].0).hypot(east - IMPACTS[*k].1) < 90.0;
            let level = if impacts.iter().any(hit) { 30.0 } else { ground(place) };
            light(level).round().clamp(1.0, 255.0) as u8
        })
        .collect();
    let mut writer = StripWriter::create(path, side, side, Some(tags)).unwrap();
    writer.append(&pixels).unwrap();
    writer.finish().unwrap();
}

const MIDDLE: LonLat = LonLat { lat_deg: 77.0, lon_deg: 31.0 };

#[test]
fn the_same_ground_is_the_same_picture_in_every_projection() {
    let folder = tempfile::tempdir().unwrap();
    let own = tags(17, 6.0, 300, MIDDLE);
    let georef = GeoRef::from_tags(&own).unwrap().unwrap();
    let square =
        Square { georef: &georef, centre: ScenePx { row: 150.0, col: 150.0 }, side_px: 201, step: 1.0 };
    let expected: Vec<f64> = (0..201 * 201)
        .map(|k| {
            ground(georef.lonlat(ScenePx { row: f64::from(k / 201) + 50.0, col: f64::from(k % 201) + 50.0 }))
        })
        .collect();
    for (name, code, metres, side) in
        [("same", 17, 6.0, 300), ("polar", 15, 6.0, 400), ("fine", 15, 1.5, 1600), ("degrees", 0, 6.0, 2000)]
    {
        let path = folder.path().join(format!("{name}.tif"));
        draw(&path, side, tags(code, metres, side, MIDDLE), &[], |level| level);
        let picture = repeats(&list(folder.path(), &[(name, &path)])).picture(0, &square).unwrap();
        let off = picture.iter().zip(&expected).map(|(&v, level)| (f64::from(v) - level).abs());
        let mean = off.clone().sum::<f64>() / expected.len() as f64;
        assert!(mean < 0.6 && off.fold(0.0, f64::max) < 3.0, "{name}: {mean} grey levels off");
    }
    // Only its south is covered: the rest is no data, and nothing is in between.
    let south = georef.lonlat(ScenePx { row: 250.5, col: 149.5 });
    let path = folder.path().join("south.tif");
    draw(&path, 202, tags(17, 6.0, 202, south), &[], |level| level);
    let picture = repeats(&list(folder.path(), &[("south", &path)])).picture(0, &square).unwrap();
    let (none, some) = picture.split_at(100 * 201);
    assert!(none.iter().all(|&v| v == 0) && some.iter().all(|&v| v > 60));
}

#[test]
fn a_catalogue_says_on_which_other_date_an_impact_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let files = ["now", "polar", "degrees", "bare"].map(|name| folder.join(format!("{name}.tif")));
    let [now, polar, degrees, bare] = &files;
    draw(now, 400, tags(17, 6.0, 400, MIDDLE), &[0, 1, 2, 3], |level| level);
    // The west at a finer scale, without the northern impact; all but the south-east under another sun, without the
    // north-eastern one.
    let west = LonLat { lat_deg: 77.0, lon_deg: 30.93 };
    draw(polar, 900, tags(15, 3.0, 900, west), &[2, 3], |level| level);
    draw(degrees, 2000, tags(0, 6.0, 2000, MIDDLE), &[0, 2], |level| 0.6 * level + 60.0);
    crate::files::tiff(bare, 10, &[100; 100]);
    fs::write(folder.join("scenes.csv"), "file_name,height,width\nnow,400,400\n").unwrap();
    let (scenes, out) = (folder.join("scenes.csv"), folder.join("out"));
    let (scenes, out) = (scenes.to_str().unwrap(), out.to_str().unwrap());
    succeed(&["scan", "--scenes", scenes, "--out", out, "--settings", "threshold", "--shards", "3"]);
    // The scene itself is no other date.
    let others = list(folder, &[("other", polar), ("degrees", degrees), ("now", now)]);
    succeed(&["merge", out, "--repeat", others.to_str().unwrap(), "--group-m", "200", "--gpkg"]);
    let csv = fs::read_to_string(folder.join("out/catalogue.csv")).unwrap();
    assert!(csv.lines().next().unwrap().ends_with(",col1_px,group,repeat_scene,change_score"), "{csv}");
    let cells = |line: &str| line.rsplitn(4, ',').take(3).map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = csv.lines().skip(1).map(cells).collect();
    assert_eq!(rows.len(), 4, "{csv}");
    let (scenes_named, scores): (Vec<&str>, Vec<f64>) =
        rows.iter().map(|row| (row[1].as_str(), row[0].parse::<f64>().unwrap())).unzip();
    assert_eq!((scenes_named[0], scenes_named[1], scenes_named[3]), ("other", "degrees", "degrees"), "{csv}");
    assert!(scores[0] > 0.9 && scores[1] > 0.9 && scores[2] < 0.1 && scores[3] > 0.5, "{csv}");
    assert!(rows.iter().zip(1..).all(|(row, id)| row[2] == id.to_string()), "{csv}");
    let json: Value = serde_json::from_slice(&bytes(folder.join("out/catalogue.geojson"))).unwrap();
    assert_eq!(json["features"][0]["properties"]["repeat_scene"], "other");
    assert_eq!(json["features"][1]["properties"]["change_score"], scores[1]);
    let package = rusqlite::Connection::open(folder.join("out/catalogue.gpkg")).unwrap();
    let kept: (i64, String, f64) = package
        .query_row("SELECT \"group\", repeat_scene, change_score FROM catalogue WHERE id = 2", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(kept, (2, "degrees".into(), scores[1]));
    places_and_scenes_without_an_answer(folder, out, polar, bare);
}

/// Only the west is covered; a scene that lies nowhere is named, and a list that is none is wrong usage.
fn places_and_scenes_without_an_answer(folder: &Path, out: &str, polar: &Path, bare: &Path) {
    let others = list(folder, &[("polar", polar), ("bare", bare)]);
    let output = marscan(&["merge", out, "--repeat", others.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("not compared: bare (it is not georeferenced)"), "{text}");
    let csv = fs::read_to_string(folder.join("out/catalogue.csv")).unwrap();
    let ends: Vec<bool> = csv.lines().skip(1).map(|line| line.ends_with(",,")).collect();
    assert_eq!(ends, [false, true, false, true], "{csv}");
    let (code, message) = fail(&["merge", out, "--repeat", folder.join("none.csv").to_str().unwrap()]);
    assert!(code == 2 && message.contains("none.csv"), "{code}: {message}");
}
