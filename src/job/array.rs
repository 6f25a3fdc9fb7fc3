//! A task's place in a job array, and the shard that it stands for.
//!
//! An array must cover the shards that are planned, each once. What it covers is known from a few variables only:
//! Slurm tells first, last, step and count, so that a sparse array shows; LSF tells the last index and the step,
//! so that a list like `[1,3,8]` looks like `[1-8]` (the merge then names what is missing); PBS tells nothing.

use std::ops::Range;

use anyhow::Result;

use super::ranges::ranges;
use crate::fault::WrongUsage;

/// A task's place in a job array, as its scheduler tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayTask {
    /// Which scheduler said so.
    pub scheduler: &'static str,
    index: usize,
    /// The lowest index that the scheduler allows.
    base: usize,
    /// First and last index, their step, and how many they are; `None` where the scheduler does not tell.
    span: Option<Span>,
}

/// The indices of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: usize,
    last: usize,
    step: usize,
    /// As told; less than fit between first and last where the array is sparse.
    count: usize,
}

/// The array task of this environment; `None` outside an array.
///
/// # Errors
/// [`WrongUsage`] if a variable is no number.
pub fn array_task(get: impl Fn(&str) -> Option<String>) -> Result<Option<ArrayTask>> {
    let number = |name: &str| -> Result<Option<usize>> {
        let Some(text) = get(name).filter(|text| !text.is_empty() && text != "undefined") else {
            return Ok(None);
        };
        let wrong = |_| WrongUsage(format!("{name}={text} is no number: is this a job array?"));
        Ok(Some(text.parse().map_err(wrong)?))
    };
    let span = |first, last: Option<usize>, step: Option<usize>, count: Option<usize>| {
        let (last, step) = (last?, step.unwrap_or(1).max(1));
        Some(Span { first, last, step, count: count.unwrap_or(last.saturating_sub(first) / step + 1) })
    };
    if let Some(index) = number("SLURM_ARRAY_TASK_ID")? {
        let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let (last, step) = (number("SLURM_ARRAY_TASK_MAX")?, number("SLURM_ARRAY_TASK_STEP")?);
        let span = span(first, last, step, number("SLURM_ARRAY_TASK_COUNT")?);
        return Ok(Some(ArrayTask { scheduler: "Slurm", index, base: 0, span }));
    }
    // LSF sets index 0 outside an array, and counts from 1 in one.
    if let Some(index) = number("LSB_JOBINDEX")?.filter(|index| *index > 0) {
        let span = span(1, number("LSB_JOBINDEX_END")?, number("LSB_JOBINDEX_STEP")?, None);
        return Ok(Some(ArrayTask { scheduler: "LSF", index, base: 1, span }));
    }
    // `PBS_ARRAYID` is Torque's name.
    for name in ["PBS_ARRAY_INDEX", "PBS_ARRAYID"] {
        if let Some(index) = number(name)? {
            return Ok(Some(ArrayTask { scheduler: "PBS", index, base: 0, span: None }));
        }
    }
    if let Some(index) = number("SGE_TASK_ID")? {
        let first = number("SGE_TASK_FIRST")?.unwrap_or(1);
        let span = span(first, number("SGE_TASK_LAST")?, number("SGE_TASK_STEPSIZE")?, None);
        return Ok(Some(ArrayTask { scheduler: "SGE", index, base: 1, span }));
    }
    Ok(None)
}

impl ArrayTask {
    /// The shard of this task and how many there are: `shards`, or as many as the array is long.
    ///
    /// With `by_index` the index is the shard's number, from the scheduler's lowest (0; 1 for LSF and SGE), and
    /// other arrays may scan the rest. Without it the array must hold every shard once, from 0 or from 1.
    ///
    /// # Errors
    /// [`WrongUsage`] if shards would be left out or do not exist; it names them and the way to mean it.
    pub fn shard(&self, shards: Option<usize>, by_index: bool) -> Result<(usize, usize)> {
        let outcome = if by_index { self.by_index(shards) } else { self.by_place(shards) };
        outcome.map_err(|message| WrongUsage(message).into())
    }

    fn by_index(&self, shards: Option<usize>) -> Result<(usize, usize), String> {
        let shards = shards.ok_or("--array-index takes the number of shards from --shards: say it")?;
        let (index, base) = (self.index, self.base);
        if index < base || index - base >= shards {
            return Err(format!(
                "--array-index: {} index {index} is no shard; of --shards {shards} they are {base} to {}",
                self.scheduler,
                shards + base - 1
            ));
        }
        Ok((index - base, shards))
    }

    fn by_place(&self, shards: Option<usize>) -> Result<(usize, usize), String> {
        let scheduler = self.scheduler;
        let Some(span) = self.span else {
            return Err(format!(
                "{scheduler} does not tell how long the array is, so that shards could be left out: submit indices \
                 0 to N-1 and say --shards N --array-index"
            ));
        };
        let planned = shards.unwrap_or(span.last + 1 - self.base.min(span.last));
        if !span.is_regular(self.index) {
            return Err(self.left_out(span, planned, "is sparse"));
        }
        if shards.is_none() && span.first > 1 {
            return Err(self.left_out(span, planned, "begins in the middle, and there is no --shards"));
        }
        let shards = shards.unwrap_or(span.count);
        if span.count > shards {
            let surplus = (span.first + shards * span.step..=span.last).step_by(span.step);
            return Err(format!(
                "--shards {shards}, but the {scheduler} array has {} tasks: its indices {} have no shard",
                span.count,
                ranges(surplus)
            ));
        }
        if span.count < shards {
            return Err(self.left_out(span, shards, "is too short"));
        }
        Ok(((self.index - span.first) / span.step, shards))
    }

    /// Names the shards of `planned` that the array does not hold, as far as a task can know.
    fn left_out(&self, span: Span, planned: usize, why: &str) -> String {
        // Slurm allows both; an array that ends with the number of shards counts from 1.
        let from = usize::from(self.base == 1 || span.last == planned && span.first > 0);
        let missing = span.missing(self.index, from..planned + from);
        let Span { first, last, count, .. } = span;
        let (lowest, highest) = (self.base, planned + self.base - 1);
        let option = match self.scheduler {
            "LSF" => format!("-J \"NAME[{lowest}-{highest}]\""),
            "SGE" => format!("-t {lowest}-{highest}"),
            _ => format!("--array={lowest}-{highest}"),
        };
        format!(
            "the {} array {first}-{last} {why}: {count} tasks for {planned} shards would leave out {missing} (counted \
             from {from}). Submit {option} for all, or, where other arrays scan the rest, say --shards \
             {planned} --array-index: each index is then the number of its shard, from {lowest}",
            self.scheduler
        )
    }
}

impl Span {
    fn holds(&self, index: usize) -> bool {
        (self.first..=self.last).contains(&index) && (index - self.first).is_multiple_of(self.step)
    }

    /// Whether it holds all indices from first to last by the step, and `index` is one of them.
    fn is_regular(&self, index: usize) -> bool {
        self.holds(index) && self.count == (self.last - self.first) / self.step + 1
    }

    /// Those of `all` that it does not hold, as far as the task of `index` can know.
    fn missing(&self, index: usize, all: Range<usize>) -> String {
        if self.is_regular(index) {
            return ranges(all.filter(|index| !self.holds(*index)));
        }
        // LSF does not tell the first, so that it counts only where `index` agrees with it.
        let mut known =
            if self.holds(index) { vec![self.first, index, self.last] } else { vec![index, self.last] };
        known.dedup();
        if known.len() == self.count {
            return ranges(all.filter(|index| !known.contains(index)));
        }
        let outside = ranges(all.filter(|index| *index < self.first || *index > self.last));
        let between: Vec<_> = (self.first..self.last).filter(|index| !known.contains(index)).collect();
        let some = (between.len() + known.len()).saturating_sub(self.count);
        let some = format!("{some} of {}", ranges(between));
        if outside.is_empty() { some } else { format!("{outside} and {some}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pairs: &[(&str, &str)]) -> Result<Option<ArrayTask>> {
        array_task(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    /// Index, first, last, step, count.
    fn slurm(numbers: [&str; 5]) -> ArrayTask {
        let keys = ["ID", "MIN", "MAX", "STEP", "COUNT"].map(|part| format!("SLURM_ARRAY_TASK_{part}"));
        let pairs: Vec<_> = keys.iter().map(String::as_str).zip(numbers).collect();
        task(&pairs).unwrap().unwrap()
    }

    fn lsf(index: &str, end: &str) -> ArrayTask {
        let pairs = [("LSB_JOBINDEX", index), ("LSB_JOBINDEX_END", end), ("LSB_JOBINDEX_STEP", "1")];
        task(&pairs).unwrap().unwrap()
    }

    fn message(task: &ArrayTask, shards: Option<usize>) -> String {
        task.shard(shards, false).unwrap_err().to_string()
    }

    #[test]
    fn complete_arrays_count_from_zero_or_one() {
        assert_eq!(slurm(["7", "0", "7", "1", "8"]).shard(None, false).unwrap(), (7, 8));
        assert_eq!(slurm(["7", "1", "8", "1", "8"]).shard(Some(8), false).unwrap(), (6, 8));
        assert_eq!(slurm(["6", "0", "14", "2", "8"]).shard(None, false).unwrap(), (3, 8));
        assert_eq!(lsf("4", "16").shard(None, false).unwrap(), (3, 16));
        let sge = [("SGE_TASK_ID", "3"), ("SGE_TASK_FIRST", "1"), ("SGE_TASK_LAST", "8")];
        assert_eq!(task(&sge).unwrap().unwrap().shard(None, false).unwrap(), (2, 8));
        assert_eq!(task(&[("LSB_JOBINDEX", "0")]).unwrap(), None);
        assert_eq!(task(&[("SGE_TASK_ID", "undefined")]).unwrap(), None);
        assert!(task(&[("SLURM_ARRAY_TASK_ID", "x")]).is_err());
    }

    #[test]
    fn a_sparse_array_names_what_it_would_leave_out_as_far_as_its_task_knows() {
        // --array=1,3,7: the middle task knows all three, the first does not know the middle one.
        let middle = message(&slurm(["3", "1", "7", "1", "3"]), Some(9));
        assert!(middle.contains("leave out 0, 2, 4-6, 8 (counted from 0)"), "{middle}");
        assert!(middle.contains("--array=0-8") && middle.contains("--array-index"), "{middle}");
        let first = message(&slurm(["1", "1", "7", "1", "3"]), Some(9));
        assert!(first.contains("leave out 0, 8 and 4 of 2-6 (counted from 0)"), "{first}");
        let unplanned = message(&slurm(["3", "0", "7", "1", "3"]), None);
        assert!(unplanned.contains("leave out 1-2, 4-6 (counted from 0)"), "{unplanned}");
    }

    #[test]
    fn an_array_of_another_length_names_the_shards_exactly() {
        let short = message(&slurm(["3", "0", "61", "1", "62"]), Some(64));
        assert!(
            short.contains("62 tasks for 64 shards") && short.contains("leave out 62-63 (counted from 0)"),
            "{short}"
        );
        let every_other = message(&slurm(["2", "0", "6", "2", "4"]), Some(8));
        assert!(every_other.contains("leave out 1, 3, 5, 7 ("), "{every_other}");
        let from_1 = message(&slurm(["3", "3", "64", "1", "62"]), Some(64));
        assert!(from_1.contains("leave out 1-2 (counted from 1)"), "{from_1}");
        let late = message(&slurm(["60", "60", "63", "1", "4"]), None);
        assert!(late.contains("begins in the middle") && late.contains("leave out 0-59 ("), "{late}");
        let long = message(&slurm(["3", "0", "9", "1", "10"]), Some(8));
        assert!(long.contains("indices 8-9 have no shard"), "{long}");
        let lsf = message(&lsf("3", "7"), Some(8));
        assert!(lsf.contains("leave out 8 (counted from 1)") && lsf.contains("NAME[1-8]"), "{lsf}");
        let pbs = task(&[("PBS_ARRAY_INDEX", "3")]).unwrap().unwrap();
        assert!(message(&pbs, Some(8)).contains("--shards N --array-index"));
    }

    #[test]
    fn an_index_that_is_meant_as_the_shard_needs_no_complete_array() {
        let sparse = slurm(["3", "1", "7", "1", "3"]);
        assert_eq!(sparse.shard(Some(8), true).unwrap(), (3, 8));
        assert_eq!(lsf("3", "7").shard(Some(8), true).unwrap(), (2, 8));
        assert!(sparse.shard(None, true).unwrap_err().to_string().contains("--shards"));
        let beyond = slurm(["8", "8", "8", "1", "1"]).shard(Some(8), true).unwrap_err().to_string();
        assert!(beyond.contains("index 8") && beyond.contains("0 to 7"), "{beyond}");
    }
}
