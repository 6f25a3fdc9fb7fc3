//! Killed and asked to stop: a shard is absent or whole, what is finished is kept, and the same command goes on.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{
    FAST, SLOW, discs, drawn, journal, merged, run, said, scan, start, strace, tampered, undisturbed,
    wait_for_a_band,
};

#[test]
fn killed_at_every_system_call_of_publishing_it_goes_on_to_the_same_bytes() {
    if !strace() {
        return;
    }
    let folder = discs();
    let wanted = undisturbed(folder.path(), &FAST);
    let (mut kills, mut went_on) = (0, 0);
    for call in ["mkdir", "write", "fsync", "rename", "unlink", "ftruncate", "flock"] {
        for when in 1.. {
            let out = format!("{call}-{when}");
            let args = scan(folder.path(), &out, &FAST);
            let killed = tampered(call, "signal=SIGKILL", when, &args);
            if killed.status.success() {
                assert!(when > 1, "no {call} was seen");
                break;
            }
            assert_eq!(killed.status.signal(), Some(9), "{call} {when}: {}", said(&killed));
            kills += 1;
            // Absent or whole: what stands under a shard's name can be merged.
            let shard = folder.path().join(&out).join("shards/shard-00000-of-00001");
            if shard.exists() {
                assert_eq!(merged(folder.path(), &out), wanted, "{call} {when}");
            }
            let again = run(&args);
            assert!(again.status.success(), "{call} {when}: {}", said(&again));
            went_on += usize::from(said(&again).contains("goes on: an earlier task finished"));
            assert_eq!(merged(folder.path(), &out), wanted, "{call} {when}");
            let hidden = std::fs::read_dir(shard.parent().unwrap()).unwrap().count();
            assert!(
                hidden == 1 || shard.exists() && said(&again).contains("nothing to do"),
                "{call} {when}: leftovers"
            );
        }
    }
    assert!(kills > 20 && went_on > 10, "{kills} kills, {went_on} of them after a finished band");
}

#[test]
fn killed_at_any_moment_no_finished_band_is_scanned_again() {
    let folder = drawn("1100");
    let wanted = undisturbed(folder.path(), &SLOW);
    let args = scan(folder.path(), "out", &SLOW);
    let out = folder.path().join("out");
    let mut finished = 0;
    for pause_ms in [0, 150, 30, 300] {
        let mut task = start(&args);
        wait_for_a_band(&out);
        std::thread::sleep(Duration::from_millis(pause_ms));
        task.kill().unwrap();
        let ended = task.wait_with_output().unwrap();
        let Some(kept) = journal(&out) else {
            assert!(ended.status.success(), "neither kept nor published: {}", said(&ended));
            break;
        };
        let bands = String::from_utf8(crate::files::bytes(kept)).unwrap().matches("\"Band\"").count();
        assert!(bands >= finished, "{bands} bands are kept, {finished} were");
        finished = bands;
    }
    let ended = run(&args);
    assert!(ended.status.success(), "{}", said(&ended));
    assert_eq!(merged(folder.path(), "out"), wanted);
    // Every band's line stands in the timing once.
    let timing = String::from_utf8(crate::files::bytes(out.join("timing.csv"))).unwrap();
    let labelled = timing.lines().filter(|line| line.split(',').nth(3) == Some("label")).count();
    assert_eq!(labelled, 2 * 1100usize.div_ceil(352), "{timing}");
}

#[test]
fn a_signal_ends_it_within_seconds_with_75_and_the_same_command_goes_on() {
    let folder = drawn("1100");
    let wanted = undisturbed(folder.path(), &SLOW);
    for signal in ["TERM", "INT", "USR1", "USR2"] {
        let args = scan(folder.path(), signal, &SLOW);
        let task = start(&args);
        wait_for_a_band(&folder.path().join(signal));
        let asked = Instant::now();
        let sent =
            Command::new("kill").args([&format!("-{signal}"), &task.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ended = task.wait_with_output().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(75), "{text}");
        assert!(text.contains(&format!("stopped by SIG{signal}")) && text.contains("goes on"), "{text}");
        assert!(!folder.path().join(signal).join("shards/shard-00000-of-00001").exists());
        let again = run(&args);
        assert!(
            again.status.success() && said(&again).contains("an earlier task finished"),
            "{}",
            said(&again)
        );
        assert_eq!(merged(folder.path(), signal), wanted, "{signal}");
    }
}

#[test]
fn the_maps_of_a_task_that_was_killed_are_the_same_bytes() {
    let folder = drawn("1100");
    let flags = [&SLOW[..], &["--probabilities"]].concat();
    let wanted = undisturbed(folder.path(), &flags);
    let maps = |out: &str| {
        let maps = folder.path().join(out).join("probabilities");
        ["first", "second"].map(|scene| crate::files::bytes(maps.join(format!("{scene}.tif"))))
    };
    let (args, out) = (scan(folder.path(), "out", &flags), folder.path().join("out"));
    for _ in 0..2 {
        let mut task = start(&args);
        wait_for_a_band(&out);
        task.kill().unwrap();
        task.wait().unwrap();
    }
    // A band whose probabilities are damaged is scanned again.
    let kept = journal(&out).unwrap().with_extension("probabilities");
    let band = std::fs::read_dir(&kept).unwrap().flatten().next().unwrap().path();
    std::fs::write(band, "damaged").unwrap();
    let ended = run(&args);
    assert!(ended.status.success(), "{}", said(&ended));
    assert_eq!(std::fs::read_dir(out.join("shards")).unwrap().count(), 1, "leftovers");
    assert_eq!(merged(folder.path(), "out"), wanted);
    assert!(maps("out") == maps("undisturbed"));
}
