//! Merging many shards: what is written, what other programs read of it, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use marscan::plan::SceneList;
use marscan::records::Impact;
use marscan::table::read_rows;
use serde_json::Value;
use tempfile::TempDir;

use crate::files::{bytes, fail, has, marscan, succeed, tiff};
use crate::run_folder::{RunSpec, make};

const SPEC: RunSpec = RunSpec { shards: 60, scenes: 8, impacts: 4000 };

/// A run of many shards, drawn, and what `merge` prints with `flags`.
fn merged(flags: &[&str]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &SPEC).unwrap();
    let text = succeed(&[&["merge", folder.path().to_str().unwrap()], flags].concat());
    (folder, text)
}

fn catalogue(folder: &Path) -> Vec<Impact> {
    read_rows(&folder.join("catalogue.csv")).unwrap()
}

#[test]
fn every_impact_of_many_shards_is_there_once_and_in_order() {
    let (folder, text) = merged(&[]);
    assert!(text.contains("4000 impacts in 4000.00 Mpx"), "{text}");
    let all = catalogue(folder.path());
    assert_eq!(all.len(), 4000);
    let keys: Vec<_> = all.iter().map(|impact| (&impact.scene, impact.row0_px, impact.col0_px)).collect();
    assert!(keys.is_sorted());
    assert!((1..).zip(&all).all(|(id, impact)| impact.id == id));
    // Both halves of an impact over a seam: 6 rows of 6 px.
    assert!(all.iter().any(|impact| impact.row1_px - impact.row0_px == 6 && impact.area_px == 36));
    let timing = fs::read_to_string(folder.path().join("timing.csv")).unwrap();
    let of_shards = (0..60).map(|k| {
        let path = folder.path().join(format!("shards/shard-{k:05}-of-00060/timing.csv"));
        fs::read_to_string(path).unwrap().lines().count() - 1
    });
    assert_eq!(timing.lines().count(), 1 + of_shards.sum::<usize>());
}

#[test]
fn the_scenes_that_are_done_are_a_scene_list() {
    let (folder, _) = merged(&[]);
    let list = SceneList::read(&folder.path().join("scenes.csv")).unwrap();
    assert_eq!(list.records.len(), SPEC.scenes);
    let first = &list.records[0];
    assert_eq!((first.rows, first.cols, first.valid_px), (50_000, 10_000, Some(500_000_000)));
    assert_eq!(list.path(first), Path::new("/images/scene_000000.tif"));
    // Without shard 7 of 60 the first scene, which is in eight of them, is not done.
    fs::remove_dir_all(folder.path().join("shards/shard-00007-of-00060")).unwrap();
    let out = folder.path().to_str().unwrap();
    let (code, message) = fail(&["merge", out]);
    assert_eq!(code, 1);
    assert!(message.contains("1 of 60 shards are missing") && message.contains(": 7;"), "{message}");
    let output = marscan(&["merge", out, "--allow-partial"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("missing shards: 7\n"), "{text}");
    let share: f64 =
        text.split("in the catalogue: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((98.0..98.7).contains(&share), "{text}");
    let list = SceneList::read(&folder.path().join("scenes.csv")).unwrap();
    assert!(list.records.iter().all(|record| record.file_name != "scene_000000"));
    assert!(list.records.len() >= SPEC.scenes - 2);
}

#[test]
fn a_file_that_vanished_is_named_with_the_remedy() {
    let (folder, _) = merged(&[]);
    let before = bytes(folder.path().join("catalogue.csv"));
    let path = folder.path().join("shards/shard-00003-of-00060/seams.csv");
    fs::remove_file(&path).unwrap();
    let (code, message) = fail(&["merge", folder.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    for part in [path.to_str().unwrap(), "scan this shard again", "No such file"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(bytes(folder.path().join("catalogue.csv")) == before);
}

/// The first columns of each line of a CSV, the header included.
fn without_last_column(csv: &str) -> Vec<&str> {
    csv.lines().map(|line| line.rsplit_once(',').unwrap().0).collect()
}

#[test]
fn groups_are_a_last_column_and_drop_nothing() {
    let (folder, _) = merged(&[]);
    let (out, path) = (folder.path().to_str().unwrap(), folder.path().join("catalogue.csv"));
    let plain = fs::read_to_string(&path).unwrap();
    // Scenes come in pairs on the same ground, 300 by 60 km: at 1000 m some of 500 impacts are neighbours.
    succeed(&["merge", out, "--group-m", "1000"]);
    let grouped = fs::read_to_string(&path).unwrap();
    assert!(grouped.starts_with("id,scene,") && grouped.lines().next().unwrap().ends_with(",col1_px,group"));
    assert_eq!(without_last_column(&grouped), plain.lines().collect::<Vec<_>>());
    let groups: Vec<usize> =
        grouped.lines().skip(1).map(|l| l.rsplit_once(',').unwrap().1.parse().unwrap()).collect();
    let scenes: Vec<&str> = grouped.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert!(groups.iter().zip(1..).all(|(&group, id)| group <= id && groups[group - 1] == group));
    assert!(
        groups.iter().enumerate().any(|(k, &group)| scenes[k] != scenes[group - 1]),
        "none over two scenes"
    );
    let json: Value = serde_json::from_slice(&bytes(folder.path().join("catalogue.geojson"))).unwrap();
    let features = json["features"].as_array().unwrap();
    assert!(features.iter().zip(&groups).all(|(f, group)| f["properties"]["group"] == *group));
    assert_eq!(fail(&["merge", out, "--group-m", "-3"]).0, 2);
    succeed(&["merge", out]);
    assert_eq!(fs::read_to_string(&path).unwrap(), plain);
}

#[test]
fn the_geojson_is_what_the_rfc_says() {
    let (folder, _) = merged(&[]);
    let json: Value = serde_json::from_slice(&bytes(folder.path().join("catalogue.geojson"))).unwrap();
    assert_eq!(json["type"], "FeatureCollection");
    assert_eq!(json["crs"]["properties"]["name"], "urn:ogc:def:crs:IAU:2015:49900");
    let features = json["features"].as_array().unwrap();
    for (feature, impact) in features.iter().zip(catalogue(folder.path())) {
        assert_eq!((&feature["type"], &feature["geometry"]["type"]), (&"Feature".into(), &"Point".into()));
        assert_eq!(feature["id"], impact.id);
        let place = serde_json::json!([impact.lon_deg, impact.lat_deg]);
        assert_eq!(feature["geometry"]["coordinates"], place);
        assert_eq!(serde_json::from_value::<Impact>(feature["properties"].clone()).unwrap(), impact);
    }
    assert_eq!(features.len(), 4000);
}

/// What ogrinfo says of a file; fails on any complaint.
fn ogrinfo(path: &Path) -> String {
    let output = Command::new("ogrinfo").args(["-ro", "-so", "-al"]).arg(path).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn gdal_reads_geojson_and_geopackage_on_mars() {
    let (folder, _) = merged(&["--gpkg", "--group-m", "200"]);
    if !has("ogrinfo") {
        return;
    }
    for (file, driver) in [("catalogue.geojson", "GeoJSON"), ("catalogue.gpkg", "GPKG")] {
        let path = folder.path().join(file);
        let text = ogrinfo(&path);
        let wanted = [
            &format!("using driver `{driver}' successful"),
            "Layer name: catalogue",
            "Geometry: Point",
            "Feature Count: 4000",
            "GEOGCRS[\"Mars (2015) - Sphere / Ocentric\"",
            "ELLIPSOID[\"Mars (2015) - Sphere\",3396190,0",
            "diameter_m: Real",
            "scene: String",
            "group: Integer",
        ];
        for part in wanted {
            assert!(text.contains(part), "{part}: {text}");
        }
        // The same places in both, to the last bit that GDAL prints.
        let place = |id: u64| {
            let output = Command::new("ogrinfo")
                .args(["-ro", "-q", "-al", "-fid", &id.to_string()])
                .arg(&path)
                .output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let impact = &catalogue(folder.path())[1233];
        let point = format!("POINT ({} {})", impact.lon_deg.unwrap(), impact.lat_deg.unwrap());
        assert!(place(1234).contains(&point), "{point}: {}", place(1234));
    }
}

/// A file of Craterstats, read as strictly as its samples are written: comments, `key = value`, one table.
fn craterstats(path: &Path) -> (BTreeMap<String, String>, Vec<String>, Vec<Vec<f64>>) {
    let (mut values, mut columns, mut rows) = (BTreeMap::new(), Vec::new(), Vec::new());
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines.by_ref() {
        let (key, value) = line.split_once(" = ").unwrap();
        if let Some(names) = value.strip_prefix('{') {
            assert_eq!(key, "crater");
            columns = names.split(',').map(|name| name.trim().to_owned()).collect();
            break;
        }
        assert!(values.insert(key.to_owned(), value.to_owned()).is_none(), "{key} twice");
    }
    for line in lines.by_ref().take_while(|line| *line != "}") {
        rows.push(line.split('\t').map(|number| number.parse().unwrap()).collect());
    }
    assert!(text.ends_with("\n}\n") && lines.next().is_none());
    (values, columns, rows)
}

#[test]
fn crater_statistics_have_every_impact_and_the_area_searched() {
    let (folder, _) = merged(&[]);
    let all = catalogue(folder.path());
    // Scenes are 60 km wide on the equator and 300 km high, two each from 50, 47, 44 and 41 degrees south downwards.
    let sine = |lat_deg: f64, km: f64| (lat_deg.to_radians() - km / 3396.19).sin();
    let zones =
        [-50.0, -47.0, -44.0, -41.0].map(|lat| 2.0 * 60.0 * 3396.19 * (sine(lat, 0.0) - sine(lat, 300.0)));
    let wanted: f64 = zones.iter().sum();
    let area = |text: &str| text.trim_end_matches(" <km^2>").parse::<f64>().unwrap();
    for (file, key, first) in
        [("catalogue.diam", "area", "diameter"), ("catalogue.scc", "Total_area", "diam")]
    {
        let (values, columns, rows) = craterstats(&folder.path().join(file));
        assert_eq!(columns, [first, "fraction", "lon", "lat"]);
        let km2 = area(&values[key]);
        assert!((km2 / wanted - 1.0).abs() < 1e-4, "{km2} km², {wanted} wanted");
        assert_eq!(rows.len(), all.len());
        for (row, impact) in rows.iter().zip(&all) {
            assert_eq!(row[1..], [1.0, impact.lon_deg.unwrap(), impact.lat_deg.unwrap()]);
            assert!((row[0] * 1000.0 - impact.diameter_m.unwrap()).abs() < 0.006);
        }
        read_by_craterstats(&folder.path().join(file), rows.len(), km2);
    }
    let (values, ..) = craterstats(&folder.path().join("catalogue.scc"));
    assert_eq!(values["a_axis_radius"], "3396.19 <km>");
}

/// Craterstats itself, where Python has it.
fn read_by_craterstats(path: &Path, impacts: usize, km2: f64) {
    let script = "import sys, craterstats\ncount = craterstats.Cratercount(sys.argv[1])\n\
                  print('read', len(count.diam), count.area, sum(count.fraction))";
    let output = Command::new("python3").args(["-c", script]).arg(path).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("read ")) else {
        println!("not run: Python has no craterstats (pip install craterstats)");
        return;
    };
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    assert_eq!((numbers[0], numbers[2]), (impacts as f64, impacts as f64), "{line}");
    assert!((numbers[1] - km2).abs() < 1e-3, "{line}");
}

#[test]
fn without_georeferencing_there_is_no_file_that_would_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pixels: Vec<u8> =
        (0..80 * 90).map(|k| if k / 80 > 20 && k / 80 < 30 && k % 80 < 9 { 20 } else { 120 }).collect();
    tiff(&folder.join("s.tif"), 80, &pixels);
    fs::write(folder.join("list.csv"), "file_name,height,width\ns,90,80\n").unwrap();
    let (list, out) = (folder.join("list.csv"), folder.join("out"));
    let (list, out) = (list.to_str().unwrap(), out.to_str().unwrap());
    succeed(&["scan", "--scenes", list, "--out", out, "--settings", "threshold"]);
    // Of an earlier merge of something else.
    fs::write(folder.join("out/catalogue.scc"), "old").unwrap();
    fs::write(folder.join("out/catalogue.gpkg"), "old").unwrap();
    succeed(&["merge", out, "--group-m", "200"]);
    for name in ["catalogue.diam", "catalogue.scc", "catalogue.gpkg"] {
        assert!(!folder.join("out").join(name).exists(), "{name}");
    }
    let csv = fs::read_to_string(folder.join("out/catalogue.csv")).unwrap();
    assert!(csv.lines().count() == 2 && csv.lines().nth(1).unwrap().ends_with(','), "{csv}");
    let json: Value = serde_json::from_slice(&bytes(folder.join("out/catalogue.geojson"))).unwrap();
    assert_eq!((&json["crs"], &json["features"][0]["geometry"]), (&Value::Null, &Value::Null));
    assert_eq!(json["features"][0]["properties"]["group"], Value::Null);
    let list = SceneList::read(&folder.join("out/scenes.csv")).unwrap();
    assert_eq!((list.records.len(), list.path(&list.records[0])), (1, folder.join("s.tif")));
}
