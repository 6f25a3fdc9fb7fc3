//! How this process was started, from its environment alone: MPI is not asked before it is known to be there.

use anyhow::Result;

use crate::fault::WrongUsage;

/// How a process was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// By itself.
    Alone,
    /// As one of several that MPI can join; of how many, where that is told.
    Ranks(Option<usize>),
}

/// What the variables of `mpirun` (Open MPI, MPICH) and of `srun` say.
///
/// # Errors
/// [`WrongUsage`] if a count is no number, or if `srun` started several tasks that cannot find each other.
pub fn launch(get: impl Fn(&str) -> Option<String>) -> Result<Launch> {
    let number = |name: &str| -> Result<Option<usize>> {
        let Some(text) = get(name) else { return Ok(None) };
        let wrong = |_| WrongUsage(format!("{name}={text} is no number: is this started by mpirun or srun?"));
        Ok(Some(text.parse().map_err(wrong)?))
    };
    for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
        if let Some(ranks) = number(name)? {
            return Ok(Launch::Ranks(Some(ranks)));
        }
    }
    let tasks = number("SLURM_STEP_NUM_TASKS")?;
    if get("PMIX_RANK").is_some() {
        return Ok(Launch::Ranks(tasks));
    }
    match tasks {
        Some(tasks) if tasks > 1 => Err(WrongUsage(format!(
            "srun started {tasks} tasks that cannot find each other: start them with srun --mpi=pmix, or with mpirun"
        ))
        .into()),
        _ => Ok(Launch::Alone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> Result<Launch> {
        launch(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_launcher_is_understood() {
        assert_eq!(told(&[]).unwrap(), Launch::Alone);
        assert_eq!(told(&[("SLURM_STEP_NUM_TASKS", "1")]).unwrap(), Launch::Alone);
        // mpirun inside a Slurm job starts a step of its own, with a task a node.
        let inside = [("SLURM_STEP_NUM_TASKS", "2"), ("OMPI_COMM_WORLD_SIZE", "8")];
        assert_eq!(told(&inside).unwrap(), Launch::Ranks(Some(8)));
        let pmix = [("SLURM_STEP_NUM_TASKS", "4"), ("PMIX_RANK", "3")];
        assert_eq!(told(&pmix).unwrap(), Launch::Ranks(Some(4)));
        assert_eq!(told(&[("PMIX_RANK", "0")]).unwrap(), Launch::Ranks(None));
        let message = told(&[("SLURM_STEP_NUM_TASKS", "4")]).unwrap_err().to_string();
        assert!(message.contains("4 tasks") && message.contains("--mpi=pmix"), "{message}");
        assert!(told(&[("PMI_SIZE", "many")]).is_err());
    }
}
