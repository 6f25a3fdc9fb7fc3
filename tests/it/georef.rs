//! Places on Mars against GDAL and against a HiRISE label.

use std::io::Write;
use std::process::{Command, Stdio};

use marscan::config::InputSettings;
use marscan::geo::name::NamedPlace;
use marscan::geo::{GeoRef, GeoTags};
use marscan::plan::SceneList;
use marscan::raster::MappedScene;
use marscan::space::{LonLat, ScenePx};

use crate::files::{has, shared};

/// gdaltransform's longitude and latitude of pixels, on the file's own sphere.
fn gdal(path: &std::path::Path, radius_m: f64, pixels: &[ScenePx]) -> Vec<(f64, f64)> {
    let sphere = format!("+proj=longlat +R={radius_m} +no_defs");
    let mut child = Command::new("gdaltransform")
        .args(["-t_srs", &sphere])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // GDAL counts from the pixel's corner.
    let lines: Vec<String> = pixels.iter().map(|p| format!("{} {}\n", p.col + 0.5, p.row + 0.5)).collect();
    child.stdin.take().unwrap().write_all(lines.concat().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers = |line: &str| {
        let mut parts = line.split_whitespace().map(|n| n.parse::<f64>().unwrap());
        (parts.next().unwrap(), parts.next().unwrap())
    };
    text.lines().map(numbers).collect()
}

#[test]
fn every_georeferenced_file_agrees_with_gdal() {
    let Some(folder) = shared("data/georef") else { return };
    if !has("gdaltransform") {
        return;
    }
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let input = InputSettings { valid_min: 3, valid_max: 1021 };
        let Ok(scene) = MappedScene::open(&path, input) else { continue };
        let georef = scene.header().georef.unwrap();
        let (bottom, right) = (scene.header().rows as f64 - 1.0, scene.header().cols as f64 - 1.0);
        let pixels = [(0.0, 0.0), (0.0, right), (bottom, 0.0), (bottom, right), (10.25, 300.75)]
            .map(|(row, col)| ScenePx { row, col });
        for (pixel, (lon, lat)) in pixels.iter().zip(gdal(&path, georef.projection().radius_m(), &pixels)) {
            let mine = georef.lonlat(*pixel);
            let turn = (mine.lon_deg - lon).rem_euclid(360.0);
            let off = turn.min(360.0 - turn).max((mine.lat_deg - lat).abs());
            assert!(off < 1e-8, "{} {pixel:?}: {mine:?}, GDAL {lon} {lat}", path.display());
            let back = georef.pixel(mine);
            assert!(
                (back.row - pixel.row).hypot(back.col - pixel.col) < 1e-5,
                "{pixel:?} came back as {back:?}"
            );
        }
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} files were checked");
}

/// A number of a PDS3 label.
fn value(label: &str, key: &str) -> f64 {
    let line = label.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
    let text = line.split('=').nth(1).unwrap().trim();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_hirise_labels_own_figures_come_out() {
    let Some(path) = shared("data/formats/ESP_013951_1955_RED.LBL") else { return };
    let label = std::fs::read_to_string(path).unwrap();
    let get = |key| value(&label, key);
    let radius_m = get("A_AXIS_RADIUS") * 1000.0;
    let (scale, lat_ts) = (get("MAP_SCALE"), get("CENTER_LATITUDE"));
    let (line, sample) = (get("LINE_PROJECTION_OFFSET"), get("SAMPLE_PROJECTION_OFFSET"));
    assert!((radius_m - 3_394_839.813).abs() < 0.01);
    let tags = GeoTags {
        pixel_scale: vec![scale, scale, 0.0],
        // The projection's origin lies at the centre of this pixel; PDS counts from 1.
        tiepoints: vec![sample - 0.5, line - 0.5, 0.0, 0.0, 0.0, 0.0],
        directory: [
            [1, 1, 0, 6],
            [1024, 0, 1, 1],
            [1025, 0, 1, 1],
            [3075, 0, 1, 17],
            [2057, 34736, 1, 0],
            [3078, 34736, 1, 1],
            [3088, 34736, 1, 2],
        ]
        .concat(),
        doubles: vec![radius_m, lat_ts, get("CENTER_LONGITUDE")],
        ..GeoTags::default()
    };
    let georef = GeoRef::from_tags(&tags).unwrap().unwrap();
    let (rows, cols) = (get("LINES"), get("LINE_SAMPLES"));
    let corner = |row, col| georef.lonlat(ScenePx { row, col });
    let (upper_left, lower_right) = (corner(-0.5, -0.5), corner(rows - 0.5, cols - 0.5));
    let pixel_deg = (scale / radius_m).to_degrees();
    for (mine, key) in [
        (upper_left.lat_deg, "MAXIMUM_LATITUDE"),
        (lower_right.lat_deg, "MINIMUM_LATITUDE"),
        (upper_left.lon_deg, "WESTERNMOST_LONGITUDE"),
        (lower_right.lon_deg, "EASTERNMOST_LONGITUDE"),
    ] {
        let off_px = (mine - get(key)).abs() / pixel_deg;
        assert!(off_px < 1.0, "{key}: {mine}, the label says {}, {off_px} px off", get(key));
    }
    let origin = georef.pixel(LonLat { lon_deg: get("CENTER_LONGITUDE"), lat_deg: 0.0 });
    assert!((origin.row + 1.0 - line).abs() < 1e-3 && (origin.col + 1.0 - sample).abs() < 1e-3, "{origin:?}");
}

#[test]
fn of_the_original_names_two_contradict_themselves() {
    let Some(path) = shared("data/scenes_19.csv") else { return };
    let list = SceneList::read(&path).unwrap();
    let named = |name: &str| NamedPlace::parse(name).unwrap_or_else(|| panic!("{name} is not understood"));
    let wrong: Vec<&str> = list
        .records
        .iter()
        .map(|record| record.file_name.as_str())
        .filter(|name| named(name).contradiction().is_some())
        .collect();
    assert_eq!(wrong, ["D22_018102_1986_XI_10N150W", "D14_032577_1818_XI_11N116W"]);
    assert_eq!(list.records.len(), 19);
}
