//! Tasks that meet, and devices that fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use marscan::config;
use marscan::detect::{Segmenter, WindowBatch};
use marscan::fault::DeviceLost;
use marscan::job::StopRequest;
use marscan::plan::SceneList;
use marscan::raster::Io;
use marscan::scan::{Event, ScanJob, Scanned, scan_shard};

use super::{SLOW, discs, drawn, merged, said, scan, start, undisturbed, wait_for_a_band};

#[test]
fn two_tasks_of_one_index_make_one_shard() {
    let folder = drawn("800");
    let wanted = undisturbed(folder.path(), &SLOW);
    let args = scan(folder.path(), "out", &SLOW);
    let tasks = [start(&args), start(&args)].map(|task| task.wait_with_output().unwrap());
    for task in &tasks {
        assert!(task.status.success(), "{}", said(task));
    }
    let idle = tasks.iter().filter(|task| said(task).contains("nothing to do")).count();
    assert_eq!(idle, 1, "one waits for the other");
    assert_eq!(merged(folder.path(), "out"), wanted);
}

#[test]
fn a_run_with_other_settings_at_the_same_time_is_refused_when_the_first_is_published() {
    let folder = drawn("800");
    let first = start(&scan(folder.path(), "out", &SLOW));
    wait_for_a_band(&folder.path().join("out"));
    let other = start(&scan(folder.path(), "out", &[&SLOW[..], &["--probability", "0.6"]].concat()));
    let ended = [first, other].map(|task| task.wait_with_output().unwrap());
    let codes: Vec<_> = ended.iter().map(|task| task.status.code().unwrap()).collect();
    assert!(codes.contains(&0) && codes.iter().any(|code| [1, 2].contains(code)), "{codes:?}");
    assert!(merged(folder.path(), "out").len() > 100);
}

/// Answers 200 where a pixel is dark, until its windows are over: then it is lost, or panics.
struct Failing {
    windows: AtomicUsize,
    panics: bool,
}

impl Segmenter for Failing {
    fn halo_px(&self) -> u32 {
        0
    }

    fn multiple_px(&self) -> u32 {
        1
    }

    fn device(&self) -> String {
        "a failing device".into()
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        if self.windows.fetch_sub(batch.count, Ordering::Relaxed) <= batch.count {
            assert!(!self.panics, "a panic inside the library");
            return Err(DeviceLost("unplugged".into()).into());
        }
        for (p, &v) in probabilities.iter_mut().zip(&batch.pixels) {
            *p = if v < 60 { 200 } else { 0 };
        }
        Ok(())
    }
}

#[test]
fn a_lost_device_or_a_panic_in_its_library_fails_the_shard_and_keeps_its_bands() {
    let folder = discs();
    let mut settings = config::load("threshold").unwrap();
    (settings.scan.window_px, settings.scan.band_rows, settings.scan.batch) = (50, 50, 1);
    let mut job = ScanJob {
        scenes: SceneList::read(&folder.path().join("scenes.csv")).unwrap(),
        out: folder.path().join("undisturbed"),
        shards: 1,
        settings,
        weights_id: String::new(),
        io: Io::Auto,
        stop: StopRequest::default(),
        masks: false,
        probabilities: false,
        overlay: false,
        command: Vec::new(),
        scheduler: Vec::new(),
    };
    let scan = |job: &ScanJob, windows: usize, panics: bool| {
        let kept = AtomicUsize::new(0);
        let mut segmenter = Failing { windows: windows.into(), panics };
        let ended = scan_shard(job, 0, &mut segmenter, None, &|event| {
            if let Event::GoesOn { bands, .. } = event {
                kept.store(bands, Ordering::Relaxed);
            }
        });
        (ended, kept.into_inner())
    };
    assert!(matches!(scan(&job, 1000, false).0, Ok(Scanned::Done(_))));
    let wanted = merged(folder.path(), "undisturbed");
    for (name, panics, says) in [("lost", false, "unplugged"), ("panic", true, "a panic inside the library")]
    {
        job.out = folder.path().join(name);
        // Six bands of four windows: the eleventh window is in the third band.
        let why = scan(&job, 11, panics).0.unwrap_err();
        assert!(why.is::<DeviceLost>() && format!("{why:#}").contains(says), "{why:#}");
        let (ended, kept) = scan(&job, 1000, panics);
        assert!(matches!(ended, Ok(Scanned::Done(_))));
        assert_eq!(kept, 2, "{name}");
        assert_eq!(merged(folder.path(), name), wanted, "{name}");
    }
}
