use super::*;
use crate::records::{RunIds, SceneOutcome, ShardManifest};
use crate::scan::write_manifest;
use crate::table::{TIMING_HEADER, write_rows};

fn training(folder: &Path, images: u64, images_per_s: f64) {
    std::fs::create_dir_all(folder).unwrap();
    let text = format!(
        r#"{{"run_id":"r","settings":"unet1","ended":"done","stopped_by":null,"epochs":1,"steps":1,
        "images":{images},"seconds":9.0,"images_per_s":{images_per_s},"train_loss":null,"validation_loss":null,
        "best_epoch":null,"best_validation_loss":null,"until_validation_loss":null,"reached_s":null,
        "reached_images":null,"peak_resident_bytes":1048576,"peak_private_bytes":1,"host":"n1","device":"cpu",
        "version":"1","command":[]}}"#
    );
    std::fs::write(folder.join("summary.json"), text).unwrap();
}

/// A scan of `list`, `pixels` in all, by shards with these starts and ends.
fn scan(folder: &Path, list: &str, pixels: u64, intervals: &[(f64, f64)]) {
    for (shard, &(started, ended)) in intervals.iter().enumerate() {
        let place = crate::scan::shard_folder(folder, shard, intervals.len());
        std::fs::create_dir_all(&place).unwrap();
        let mut files = Vec::new();
        for (name, header) in
            [("impacts.csv", &crate::table::BLOB_HEADER[..]), ("seams.csv", &crate::table::SEAM_HEADER)]
        {
            write_rows::<u8>(&place.join(name), header, &[]).unwrap();
            files.push(name);
        }
        let row = |stage, seconds| (shard, "s", 0, stage, 0.0, seconds, 0, 0, 0, "n1", "cpu");
        let rows = [row("read", 0.25 * (ended - started)), row("infer", 0.75 * (ended - started))];
        write_rows(&place.join("timing.csv"), &TIMING_HEADER, &rows).unwrap();
        files.push("timing.csv");
        let hash = |name: &str| blake3::hash(&std::fs::read(place.join(name)).unwrap()).to_hex().to_string();
        let outcome = SceneOutcome {
            scene: "s".into(),
            file: None,
            look: None,
            rows: 0,
            cols: 0,
            row_runs: Vec::new(),
            pixels: pixels / intervals.len() as u64,
            valid_px: 1,
            valid_m2: None,
            computed_px: 1,
            looked_px: None,
            failed: None,
            georef: None,
            geo_tags: None,
            pixel_error: None,
        };
        let mut manifest = ShardManifest {
            shard,
            shards: intervals.len(),
            ids: RunIds {
                scene_list: list.into(),
                settings: "e".into(),
                weights: "w".into(),
                version: "1".into(),
            },
            planned_px: None,
            min_area_px: 1,
            min_score: 0.5,
            host: "n1".into(),
            device: "cpu".into(),
            threads: 1,
            scheduler: Vec::new(),
            command: Vec::new(),
            seconds: ended - started,
            started_unix_s: 1e9 + started,
            ended_unix_s: 1e9 + ended,
            tasks: 1,
            overlay: false,
            peak_rss_anon_bytes: 1 << 20,
            scenes: vec![outcome],
            files: files.iter().map(|name| ((*name).to_owned(), hash(name))).collect(),
            seal: String::new(),
        };
        write_manifest(&place, &mut manifest).unwrap();
    }
}

fn ask(runs: &[(u64, PathBuf)], asked: Asked) -> Result<(Table, Vec<String>)> {
    speedup(&Question { runs: runs.to_vec(), asked, ..Question::default() })
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn the_speed_up_carries_its_spread_and_other_work_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for (name, rate) in
        [("one/repeat-0", 10.0), ("one/repeat-1", 12.5), ("two/repeat-0", 20.0), ("two/repeat-1", 25.0)]
    {
        training(&place(name), 100, rate);
    }
    let runs = [(1, place("one")), (2, place("two"))];
    let rows = ask(&runs, Asked::ByLogs).unwrap().0.rows;
    // 10 s and 8 s, then 5 s and 4 s.
    assert!(near(rows[0].seconds.mean, 9.0) && near(rows[1].speedup, 2.0), "{rows:?}");
    assert!(near(rows[1].efficiency, 1.0) && rows[1].repeats == 2 && near(rows[1].karp_flatt.unwrap(), 0.0));
    let each = 2f64.sqrt() / 9.0;
    assert!(near(rows[1].speedup_deviation.unwrap(), 2.0 * each.hypot(each)));
    assert!(near(ask(&runs, Asked::Flat).unwrap().0.rows[1].efficiency, 2.0));
    training(&place("other"), 250, 10.0);
    let why = ask(&[(1, place("one")), (2, place("other"))], Asked::ByLogs).unwrap_err();
    assert!(why.is::<WrongUsage>(), "{why}");
    let why = why.to_string();
    assert!(why.contains("other work") && why.contains("250 images") && why.contains("100 images"), "{why}");
    assert!(ask(&[(1, place("none"))], Asked::ByLogs).is_err());
}

#[test]
fn scans_are_timed_from_the_first_start_to_the_last_end() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    scan(&place("one"), "list", 4_000_000, &[(0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 40.0)]);
    scan(&place("two/repeat-0"), "list", 4_000_000, &[(0.0, 10.0), (0.5, 12.0), (10.0, 20.0), (12.0, 25.0)]);
    scan(&place("two/repeat-1"), "list", 4_000_000, &[(0.0, 10.0), (0.5, 12.0), (10.0, 20.0), (12.0, 25.0)]);
    let (table, notes) = ask(&[(1, place("one")), (2, place("two"))], Asked::ByLogs).unwrap();
    let row = &table.rows[1];
    assert!(notes.is_empty() && table.scaling == Scaling::Strong && table.stages == ["read", "infer"]);
    assert!(near(row.seconds.mean, 25.0) && near(row.speedup, 1.6) && near(row.rate.mean, 0.16), "{row:?}");
    assert!(near(row.karp_flatt.unwrap(), 0.25) && near(row.balance.unwrap(), 22.25 / 24.5), "{row:?}");
    assert!(near(row.shares[1], 0.75) && row.at_once == Some(2) && table.rows[0].at_once == Some(1));
    table.save(folder.path()).unwrap();
    let text = std::fs::read_to_string(folder.path().join("speedup.csv")).unwrap();
    let columns: Vec<_> = text.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [21, 21, 21], "{text}");
    let reference = Question {
        runs: vec![(1, place("one")), (2, place("two"))],
        reference: Some(2),
        ..Question::default()
    };
    assert!(near(speedup(&reference).unwrap().0.rows[0].speedup, 0.625));
    // Two at once are not one task, and four tasks were never seen.
    let why = ask(&[(1, place("two"))], Asked::ByLogs).unwrap_err().to_string();
    assert!(why.contains("named as 1 tasks, its logs show 2 shards at once"), "{why}");
    assert_eq!(ask(&[(4, place("two"))], Asked::ByLogs).unwrap().1.len(), 2);
}

#[test]
fn nodes_that_no_log_shows_and_a_run_named_twice_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    scan(&place("one"), "list", 4_000_000, &[(0.0, 10.0), (0.0, 10.0)]);
    scan(&place("two/repeat-0"), "list", 4_000_000, &[(0.0, 5.0), (0.0, 5.0)]);
    let refused = |runs: &[(u64, PathBuf)], workers: &str| {
        let question = Question { runs: runs.to_vec(), workers: Some(workers.into()), ..Question::default() };
        let why = speedup(&question).unwrap_err();
        assert!(why.is::<WrongUsage>(), "{why}");
        why.to_string()
    };
    let runs = [(1, place("one")), (2, place("two"))];
    let why = refused(&runs, "nodes");
    assert!(why.contains("repeat-0: named as 2 nodes, its logs show 1 machines"), "{why}");
    for workers in [1, 2] {
        let twice = [(1, place("two")), (workers, place("one/../two/repeat-0"))];
        let why = refused(&twice, "threads");
        assert!(why.contains("two/repeat-0 is named twice"), "{why}");
    }
}

#[test]
fn strong_and_weak_scaling_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    scan(&place("one"), "small", 1_000_000, &[(0.0, 10.0)]);
    scan(&place("two"), "large", 2_000_000, &[(0.0, 10.0), (0.0, 12.5)]);
    scan(&place("four"), "large", 2_000_000, &[(0.0, 5.0), (0.0, 5.0), (0.0, 5.0), (0.0, 5.0)]);
    let (table, _) = ask(&[(1, place("one")), (2, place("two"))], Asked::ByLogs).unwrap();
    assert_eq!((table.scaling, table.rows[1].scaling), (Scaling::Weak, "weak"));
    assert!(near(table.rows[1].speedup, 1.6) && near(table.rows[1].efficiency, 0.8));
    let mixture = ask(&[(1, place("one")), (2, place("two")), (4, place("four"))], Asked::ByLogs);
    let why = mixture.unwrap_err();
    assert!(why.is::<WrongUsage>() && why.to_string().contains("scene list large"), "{why}");
    let why = ask(&[(2, place("two")), (4, place("four"))], Asked::Weak).unwrap_err().to_string();
    assert!(why.contains("no weak scaling"), "{why}");
    let repeats = [(1, place("one")), (2, place("two")), (2, place("again"))];
    scan(&place("again"), "another", 2_000_000, &[(0.0, 5.0), (0.0, 5.0)]);
    assert!(ask(&repeats, Asked::ByLogs).unwrap_err().is::<WrongUsage>(), "repeats of other scenes");
    training(&place("trained"), 100, 10.0);
    let why = ask(&[(1, place("one")), (2, place("trained"))], Asked::ByLogs).unwrap_err().to_string();
    assert!(why.contains("one (") && why.contains("kind training"), "{why}");
}

#[test]
fn a_run_that_was_interrupted_or_does_not_say_when_it_began_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("went-on");
    scan(&place, "list", 4_000_000, &[(0.0, 10.0), (0.0, 10.0), (0.0, 10.0), (0.0, 10.0)]);
    let refused = |change: fn(&mut ShardManifest)| {
        for shard in [1, 2] {
            let shard = crate::scan::shard_folder(&place, shard, 4);
            let mut manifest = crate::scan::read_manifest(&shard).unwrap();
            change(&mut manifest);
            write_manifest(&shard, &mut manifest).unwrap();
        }
        let runs = [(1, folder.path().join("one")), (4, place.clone())];
        ask(&runs, Asked::ByLogs).unwrap_err().to_string()
    };
    scan(&folder.path().join("one"), "list", 4_000_000, &[(0.0, 30.0)]);
    let why = refused(|manifest| manifest.tasks = 2);
    assert!(why.contains("went-on: its shards 1-2 of 4 were interrupted"), "{why}");
    let why = refused(|manifest| manifest.started_unix_s = 0.0);
    assert!(why.contains("went-on: shard 1 does not say when it began"), "{why}");
}
