//! What the scheduler says of this task: its array index, how far the array goes, and when to stop.

mod signals;

use anyhow::Result;

use crate::fault::WrongUsage;

pub use signals::{StopRequest, outlive_file_size_limit};

/// A task's place in a job array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayTask {
    /// Which scheduler said so.
    pub scheduler: &'static str,
    /// Counted from 0, gaps of a regular step taken out.
    pub index: usize,
    /// Tasks in the array, where the scheduler tells.
    pub count: Option<usize>,
}

/// Variables worth keeping in `shard.json`.
const KEPT: [&str; 8] = [
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "LSB_JOBID",
    "LSB_JOBINDEX",
    "PBS_JOBID",
    "JOB_ID",
];

/// The scheduler's variables that are worth keeping and set.
pub fn kept(get: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    KEPT.iter().filter_map(|name| Some(((*name).to_owned(), get(name)?))).collect()
}

/// The array task of this environment; `None` outside an array.
///
/// # Errors
/// [`WrongUsage`] if a variable is no number, or the array is sparse: its indices would not be the shards'.
pub fn array_task(get: impl Fn(&str) -> Option<String>) -> Result<Option<ArrayTask>> {
    let number = |name: &str| -> Result<Option<usize>> {
        let Some(text) = get(name).filter(|text| !text.is_empty() && text != "undefined") else {
            return Ok(None);
        };
        let wrong = |_| WrongUsage(format!("{name}={text} is no number: is this a job array?"));
        Ok(Some(text.parse().map_err(wrong)?))
    };
    if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
        let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let last = number("SLURM_ARRAY_TASK_MAX")?;
        let step = number("SLURM_ARRAY_TASK_STEP")?;
        let range = Range { id, first, last, step, count: number("SLURM_ARRAY_TASK_COUNT")? };
        return range.task("Slurm").map(Some);
    }
    // LSF sets index 0 outside an array, and counts from 1 in one.
    if let Some(id) = number("LSB_JOBINDEX")?.filter(|id| *id > 0) {
        let (last, step) = (number("LSB_JOBINDEX_END")?, number("LSB_JOBINDEX_STEP")?);
        return Range { id, first: 1, last, step, count: None }.task("LSF").map(Some);
    }
    if let Some(id) = number("PBS_ARRAY_INDEX")? {
        return Ok(Some(ArrayTask { scheduler: "PBS", index: id, count: number("PBS_ARRAY_COUNT")? }));
    }
    if let Some(id) = number("SGE_TASK_ID")? {
        let first = number("SGE_TASK_FIRST")?.unwrap_or(1);
        let (last, step) = (number("SGE_TASK_LAST")?, number("SGE_TASK_STEPSIZE")?);
        return Range { id, first, last, step, count: None }.task("SGE").map(Some);
    }
    Ok(None)
}

/// An array as its variables give it.
struct Range {
    id: usize,
    first: usize,
    last: Option<usize>,
    step: Option<usize>,
    count: Option<usize>,
}

impl Range {
    fn task(&self, scheduler: &'static str) -> Result<ArrayTask> {
        let step = self.step.unwrap_or(1).max(1);
        let spanned = self.last.map(|last| last.saturating_sub(self.first) / step + 1);
        if let (Some(spanned), Some(count)) = (spanned, self.count)
            && spanned != count
        {
            return Err(WrongUsage(format!(
                "the {scheduler} array has {count} tasks between {} and {}, where a full one has {spanned}: \
                 a sparse array would leave shards out; name the shard with --shard and --shards",
                self.first,
                self.last.unwrap_or(self.first)
            ))
            .into());
        }
        if self.id < self.first || !(self.id - self.first).is_multiple_of(step) {
            let message =
                format!("{scheduler} task {} does not fit an array from {} by {step}", self.id, self.first);
            return Err(WrongUsage(message).into());
        }
        Ok(ArrayTask { scheduler, index: (self.id - self.first) / step, count: self.count.or(spanned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pairs: &[(&str, &str)]) -> Result<Option<ArrayTask>> {
        array_task(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn arrays_of_all_schedulers_count_from_zero() {
        let slurm = |id, first, last, count| {
            let keys = ["ID", "MIN", "MAX", "COUNT"].map(|part| format!("SLURM_ARRAY_TASK_{part}"));
            let pairs: Vec<_> = keys.iter().map(String::as_str).zip([id, first, last, count]).collect();
            task(&pairs)
        };
        let found = slurm("7", "1", "8", "8").unwrap();
        assert_eq!(found, Some(ArrayTask { scheduler: "Slurm", index: 6, count: Some(8) }));
        assert!(slurm("3", "1", "7", "3").is_err(), "a sparse array is refused");
        let lsf = task(&[("LSB_JOBINDEX", "4"), ("LSB_JOBINDEX_END", "16")]).unwrap();
        assert_eq!(lsf, Some(ArrayTask { scheduler: "LSF", index: 3, count: Some(16) }));
        assert_eq!(task(&[("LSB_JOBINDEX", "0")]).unwrap(), None);
        assert_eq!(task(&[("SGE_TASK_ID", "undefined")]).unwrap(), None);
        assert!(task(&[("SLURM_ARRAY_TASK_ID", "x")]).is_err());
    }
}
