//! The same training on more and more workers: how much faster, with the spread over repeats.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Summary;
use super::spread::Spread;
use crate::fault::WrongUsage;
use crate::picture::plot::{Axis, Colour, Corner, Figure, Item};

/// What the speed-up should be, were nothing lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ideal {
    /// As many times faster as there are workers.
    Linear,
    /// None: the same workers, placed otherwise.
    Flat,
}

/// A line of `speedup.csv`: the repeats of one run.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SpeedupRow {
    /// How many workers.
    pub workers: u64,
    /// How many runs.
    pub repeats: usize,
    /// Crops a run.
    pub images: u64,
    /// Until the validation loss was reached, where one was to be; otherwise of training alone.
    pub seconds: f64,
    /// Of the sample of repeats; none of one.
    pub seconds_deviation: Option<f64>,
    /// Crops a second.
    pub images_per_s: f64,
    /// Of the sample of repeats; none of one.
    pub images_per_s_deviation: Option<f64>,
    /// The first line's mean seconds over this one's.
    pub speedup: f64,
    /// By both lines' spread.
    pub speedup_deviation: Option<f64>,
    /// Speed-up over its ideal.
    pub efficiency: f64,
    /// Most memory of a process, MiB.
    pub peak_resident_mib: f64,
    /// What the first rank's part ran on.
    pub device: String,
    /// Where.
    pub host: String,
}

/// The names of a [`SpeedupRow`]'s columns.
pub const SPEEDUP_HEADER: [&str; 13] = [
    "workers",
    "repeats",
    "images",
    "seconds",
    "seconds_deviation",
    "images_per_s",
    "images_per_s_deviation",
    "speedup",
    "speedup_deviation",
    "efficiency",
    "peak_resident_mib",
    "device",
    "host",
];

/// The table of `runs`: workers, and the folder of a run or of its repeats. The first is the reference.
///
/// # Errors
/// If a folder holds no run that ended, or [`WrongUsage`] if two did other work.
pub fn speedup(runs: &[(u64, PathBuf)], ideal: Ideal) -> Result<Vec<SpeedupRow>> {
    let mut rows: Vec<SpeedupRow> = Vec::new();
    let mut first: Option<(Summary, Spread, u64)> = None;
    for (workers, folder) in runs {
        let repeats = summaries(folder)?;
        let one = repeats.first().with_context(|| format!("no run in {}", folder.display()))?;
        let seconds = repeats.iter().map(|run| run.reached_s.unwrap_or(run.images as f64 / run.images_per_s));
        let seconds = Spread::of(&seconds.collect::<Vec<_>>());
        let rate = Spread::of(&repeats.iter().map(|run| run.images_per_s).collect::<Vec<_>>());
        let reference = first.get_or_insert_with(|| (one.clone(), seconds, *workers));
        for run in &repeats {
            same_work(&reference.0, run, folder)?;
        }
        let speedup = reference.1.mean / seconds.mean;
        let off = |spread: &Spread| spread.deviation.map(|deviation| deviation / spread.mean);
        let times = match ideal {
            Ideal::Linear => *workers as f64 / reference.2 as f64,
            Ideal::Flat => 1.0,
        };
        let most = repeats.iter().map(|run| run.peak_resident_bytes).max().unwrap_or(0);
        rows.push(SpeedupRow {
            workers: *workers,
            repeats: repeats.len(),
            images: one.images,
            seconds: seconds.mean,
            seconds_deviation: seconds.deviation,
            images_per_s: rate.mean,
            images_per_s_deviation: rate.deviation,
            speedup,
            speedup_deviation: off(&reference.1).zip(off(&seconds)).map(|(a, b)| speedup * a.hypot(b)),
            efficiency: speedup / times,
            peak_resident_mib: most as f64 / f64::from(1 << 20),
            device: one.device.clone(),
            host: one.host.clone(),
        });
    }
    Ok(rows)
}

/// The summary of a run, or those of its repeats in order.
fn summaries(folder: &Path) -> Result<Vec<Summary>> {
    let repeat = |number: usize| folder.join(format!("repeat-{number}"));
    let folders: Vec<PathBuf> = (0..1000).map(repeat).take_while(|folder| folder.exists()).collect();
    let folders = if folders.is_empty() { vec![folder.to_owned()] } else { folders };
    folders.iter().map(|folder| ended(&folder.join("summary.json"))).collect()
}

fn ended(path: &Path) -> Result<Summary> {
    let summary = Summary::load(path)?;
    match &summary.stopped_by {
        None => Ok(summary),
        Some(signal) => anyhow::bail!("{}: stopped by {signal}, not at its end", path.display()),
    }
}

fn same_work(reference: &Summary, run: &Summary, folder: &Path) -> Result<()> {
    let work = |run: &Summary| (run.settings.clone(), run.until_validation_loss, run.version.clone());
    let until_loss = reference.until_validation_loss.is_some();
    let reached = |run: &Summary| !until_loss || run.reached_s.is_some();
    if work(reference) == work(run) && (until_loss || reference.images == run.images) && reached(run) {
        return Ok(());
    }
    let says = |run: &Summary| match (run.until_validation_loss, run.reached_s) {
        (Some(loss), None) => format!("{}, validation loss {loss}, not reached", run.settings),
        (Some(loss), _) => format!("{}, to validation loss {loss}", run.settings),
        (None, _) => format!("{}, {} images", run.settings, run.images),
    };
    let message = format!(
        "{} did other work ({}; version {}) than the first run ({}; version {}): their times cannot be compared",
        folder.display(),
        says(run),
        run.version,
        says(reference),
        reference.version
    );
    Err(WrongUsage(message).into())
}

/// The figure of a table: speed-up over `workers`, with its ideal.
pub fn speedup_figure(rows: &[SpeedupRow], workers: &str, ideal: Ideal) -> Figure {
    let most = rows.iter().map(|row| row.workers).max().unwrap_or(1) as f64;
    let least = rows.first().map_or(1.0, |row| row.workers as f64);
    let points: Vec<_> = rows
        .iter()
        .map(|row| (row.workers as f64, row.speedup, row.speedup_deviation.unwrap_or(0.0)))
        .collect();
    let highest = points.iter().map(|(_, y, half)| y + half).fold(1.0, f64::max);
    let (line, top) = match ideal {
        Ideal::Linear => (vec![(0.0, 0.0), (most, most / least)], highest.max(most / least)),
        Ideal::Flat => (vec![(0.0, 1.0), (most, 1.0)], highest),
    };
    Figure {
        title: format!("Speed-up over {workers}"),
        legend: Corner::UpperLeft,
        x: Axis { label: workers.to_owned(), range: (0.0, most * 1.05), log: false },
        y: Axis { label: "speed-up".into(), range: (0.0, top * 1.25), log: false },
        items: vec![
            Item::Line { name: "ideal".into(), points: line, colour: Colour::Grey, dashed: true },
            Item::Points { name: "mean and deviation".into(), points, colour: Colour::Blue },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, images: u64, images_per_s: f64) {
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

    #[test]
    fn the_speed_up_carries_its_spread_and_other_work_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for (name, rate) in
            [("one/repeat-0", 10.0), ("one/repeat-1", 12.5), ("two/repeat-0", 20.0), ("two/repeat-1", 25.0)]
        {
            run(&place(name), 100, rate);
        }
        let runs = [(1, place("one")), (2, place("two"))];
        let rows = speedup(&runs, Ideal::Linear).unwrap();
        // 10 s and 8 s, then 5 s and 4 s.
        assert!((rows[0].seconds - 9.0).abs() < 1e-12 && (rows[1].speedup - 2.0).abs() < 1e-12, "{rows:?}");
        assert!((rows[1].efficiency - 1.0).abs() < 1e-12 && rows[1].repeats == 2);
        let each = 2f64.sqrt() / 9.0;
        assert!((rows[1].speedup_deviation.unwrap() - 2.0 * each.hypot(each)).abs() < 1e-12);
        assert!((speedup(&runs, Ideal::Flat).unwrap()[1].efficiency - 2.0).abs() < 1e-12);
        run(&place("other"), 200, 10.0);
        let why = speedup(&[(1, place("one")), (2, place("other"))], Ideal::Linear).unwrap_err().to_string();
        assert!(why.contains("other work") && why.contains("200 images"), "{why}");
        assert!(speedup(&[(1, place("none"))], Ideal::Linear).is_err());
    }
}
