//! The same run several times with other seeds: how much of a figure is chance.

use anyhow::Result;
use serde::Serialize;

use super::hold::hold;
use super::run::run;
use super::{Event, Summary, Team, TrainJob};
use crate::job::StopRequest;
use crate::table::write_rows;
use crate::timing::Spread;

/// Figures of a [`RepeatRow`].
const FIGURES: usize = 11;

/// The names of the columns of `repeats.csv`.
pub const REPEAT_HEADER: [&str; 2 + FIGURES] = [
    "repeat",
    "seed",
    "epochs",
    "images",
    "seconds",
    "images_per_s",
    "train_loss",
    "validation_loss",
    "best_epoch",
    "best_validation_loss",
    "reached_s",
    "reached_images",
    "peak_resident_mib",
];

/// A line of `repeats.csv`: a run, or `mean` and `deviation` (of a sample: over one less than the runs).
#[derive(Debug, Serialize)]
struct RepeatRow {
    repeat: String,
    seed: Option<u64>,
    figures: [Option<f64>; FIGURES],
}

/// Runs `job` `count` times, with the seeds from its own upwards, in `repeat-0`, `repeat-1` and so on of its
/// folder, and writes `repeats.csv` beside them. Scenes and validation crops are the same in all. Ends early when
/// asked to stop: the last summary then says so.
///
/// # Errors
/// As [`run`].
pub fn repeat(
    job: &TrainJob,
    count: u64,
    team: Team,
    stop: &StopRequest,
    see: &mut dyn FnMut(Event),
) -> Result<Vec<Summary>> {
    let _hold = hold(&job.out, team, stop, see)?;
    let (mut summaries, mut rows) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut one = job.clone();
        one.settings.train.seed = job.settings.train.seed.wrapping_add(number);
        one.out = job.out.join(format!("repeat-{number}"));
        let seed = one.settings.train.seed;
        see(Event::Repeat { number, seed });
        let summary = run(&one, team, stop, see)?;
        let stopped = summary.stopped_by.is_some();
        let figures = figures(&summary);
        summaries.push(summary);
        if stopped {
            return Ok(summaries);
        }
        rows.push(RepeatRow { repeat: number.to_string(), seed: Some(seed), figures });
    }
    let all: Vec<_> = rows.iter().map(|row| row.figures).collect();
    let [mean, deviation] = spread(&all);
    for (name, figures) in [("mean", mean), ("deviation", deviation)] {
        rows.push(RepeatRow { repeat: name.into(), seed: None, figures });
    }
    if team.writes() {
        write_rows(&job.out.join("repeats.csv"), &REPEAT_HEADER, &rows)?;
    }
    Ok(summaries)
}

fn figures(summary: &Summary) -> [Option<f64>; FIGURES] {
    [
        Some(summary.epochs as f64),
        Some(summary.images as f64),
        Some(summary.seconds),
        Some(summary.images_per_s),
        summary.train_loss,
        summary.validation_loss.map(f64::from),
        summary.best_epoch.map(|epoch| epoch as f64),
        summary.best_validation_loss.map(f64::from),
        summary.reached_s,
        summary.reached_images.map(|images| images as f64),
        Some(summary.peak_resident_bytes as f64 / f64::from(1 << 20)),
    ]
}

/// Mean and sample deviation of each figure that every run has; of one run there is no deviation.
fn spread(all: &[[Option<f64>; FIGURES]]) -> [[Option<f64>; FIGURES]; 2] {
    let mut spread = [[None; FIGURES]; 2];
    for k in 0..FIGURES {
        let Some(values) = all.iter().map(|figures| figures[k]).collect::<Option<Vec<f64>>>() else {
            continue;
        };
        let one = Spread::of(&values);
        (spread[0][k], spread[1][k]) = (Some(one.mean), one.deviation);
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_those_of_a_sample_and_missing_figures_stay_missing() {
        let row = |seconds: f64, reached: Option<f64>| {
            let mut figures = [Some(1.0); FIGURES];
            (figures[2], figures[8]) = (Some(seconds), reached);
            figures
        };
        let [mean, deviation] = spread(&[row(2.0, Some(1.0)), row(4.0, None), row(9.0, Some(2.0))]);
        assert_eq!((mean[2], mean[8], deviation[8], deviation[0]), (Some(5.0), None, None, Some(0.0)));
        assert!((deviation[2].unwrap() - 13f64.sqrt()).abs() < 1e-12);
        assert_eq!(spread(&[row(2.0, None)])[1][2], None);
    }
}
