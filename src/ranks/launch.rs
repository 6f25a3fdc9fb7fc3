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

/// Which of the processes that were started together this is, from 0, and how many they are: for work that is
/// dealt out without any word between them, so that MPI need not be there.
///
/// # Errors
/// [`WrongUsage`] if a variable is no number.
pub fn place(get: impl Fn(&str) -> Option<String>) -> Result<(usize, usize)> {
    let pairs = [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ];
    for (rank, size) in pairs {
        // A batch script has SLURM_PROCID too; only a step has a number of tasks.
        let (Some(rank_text), Some(size_text)) = (get(rank), get(size)) else { continue };
        return match (rank_text.parse(), size_text.parse()) {
            (Ok(rank), Ok(size)) if rank < size => Ok((rank, size)),
            _ => Err(WrongUsage(format!(
                "{rank}={rank_text}, {size}={size_text}: is this started by mpirun or srun?"
            ))
            .into()),
        };
    }
    Ok((0, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_among_processes_needs_no_mpi() {
        let told = |pairs: &[(&str, &str)]| {
            place(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(told(&[("SLURM_PROCID", "0")]).unwrap(), (0, 1), "a batch script is alone");
        assert_eq!(told(&[("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "4")]).unwrap(), (3, 4));
        let inside = [
            ("SLURM_PROCID", "1"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("OMPI_COMM_WORLD_RANK", "5"),
            ("OMPI_COMM_WORLD_SIZE", "8"),
        ];
        assert_eq!(told(&inside).unwrap(), (5, 8));
        assert_eq!(told(&[("PMI_RANK", "1"), ("PMI_SIZE", "2")]).unwrap(), (1, 2));
        assert!(told(&[("PMI_RANK", "2"), ("PMI_SIZE", "2")]).is_err());
    }

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
