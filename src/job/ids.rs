//! What a task is called by its scheduler, and which of its variables are worth keeping.

/// Variables worth keeping in `shard.json`.
const KEPT: [&str; 12] = [
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURMD_NODENAME",
    "LSB_JOBID",
    "LSB_JOBINDEX",
    "LSB_RESTART",
    "PBS_JOBID",
    "PBS_ARRAY_INDEX",
    "JOB_ID",
    "SGE_TASK_ID",
];

/// The scheduler's variables that are worth keeping and set, and as `task` what [`task_id`] says.
pub fn kept(get: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let task = task_id(&get).map(|id| ("task".to_owned(), id));
    task.into_iter().chain(KEPT.iter().filter_map(|name| Some(((*name).to_owned(), get(name)?)))).collect()
}

/// What the scheduler's own commands and logs call this task: `1234_7` of a Slurm array, `1234[7]` of an LSF
/// one, `1234[7].server` of PBS, `1234.7` of SGE, the job's number outside an array; `None` without a scheduler.
pub fn task_id(get: impl Fn(&str) -> Option<String>) -> Option<String> {
    let said = |name: &str| get(name).filter(|text| !text.is_empty() && text != "undefined");
    if let (Some(job), Some(index)) = (said("SLURM_ARRAY_JOB_ID"), said("SLURM_ARRAY_TASK_ID")) {
        return Some(format!("{job}_{index}"));
    }
    if let Some(job) = said("LSB_JOBID") {
        return Some(match said("LSB_JOBINDEX").filter(|index| index != "0") {
            Some(index) => format!("{job}[{index}]"),
            None => job,
        });
    }
    if let (Some(job), Some(index)) = (said("JOB_ID"), said("SGE_TASK_ID")) {
        return Some(format!("{job}.{index}"));
    }
    ["SLURM_JOB_ID", "PBS_JOBID", "JOB_ID"].iter().find_map(|name| said(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> Option<String> {
        task_id(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_task_is_called_as_its_scheduler_does() {
        let slurm = [("SLURM_JOB_ID", "1241"), ("SLURM_ARRAY_JOB_ID", "1234"), ("SLURM_ARRAY_TASK_ID", "7")];
        assert_eq!(told(&slurm).as_deref(), Some("1234_7"));
        assert_eq!(told(&slurm[..1]).as_deref(), Some("1241"));
        assert_eq!(told(&[("LSB_JOBID", "1234"), ("LSB_JOBINDEX", "7")]).as_deref(), Some("1234[7]"));
        assert_eq!(told(&[("LSB_JOBID", "1234"), ("LSB_JOBINDEX", "0")]).as_deref(), Some("1234"));
        assert_eq!(told(&[("PBS_JOBID", "1234[7].pbs")]).as_deref(), Some("1234[7].pbs"));
        assert_eq!(told(&[("JOB_ID", "1234"), ("SGE_TASK_ID", "undefined")]).as_deref(), Some("1234"));
        assert_eq!(told(&[("JOB_ID", "1234"), ("SGE_TASK_ID", "7")]).as_deref(), Some("1234.7"));
        assert_eq!(told(&[]), None);
    }
}
