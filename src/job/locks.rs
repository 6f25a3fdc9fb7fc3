//! Locks: on files that one process writes at a time, and those that keep the processes of a machine from using one GPU by
//! accident, where no scheduler deals them out.
//!
//! Of these a file for each GPU, locked while a process uses it; the system takes the lock away when the process ends,
//! however it ends. The folder is one for all users of the machine, and so not that of `TMPDIR`, which is often a
//! job's own.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::StopRequest;
use crate::fault::Stopped;

/// Where the locks are, on every machine.
pub const LOCKS: &str = "/tmp/marscan-gpu-locks";

/// What came of asking for a GPU.
#[derive(Debug)]
pub enum Asked {
    /// Nobody else uses it while this is kept.
    Free(GpuLock),
    /// Who uses it: a process and, of a scheduler's, the task.
    Taken(String),
}

/// A GPU that this process alone uses; given back when it is dropped.
#[derive(Debug)]
pub struct GpuLock {
    _file: File,
}

/// Asks for the GPU at `address` for `task`, with the locks in `folder`.
///
/// # Errors
/// If the lock cannot be made.
pub fn lock_gpu(folder: &Path, address: &str, task: Option<&str>) -> Result<Asked> {
    let path = folder.join(format!("gpu-{address}"));
    let asked = || -> io::Result<Asked> {
        let mut file = open(folder, &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Ok(Asked::Taken(holder.trim().to_owned()));
            }
            Err(TryLockError::Error(why)) => return Err(why),
        }
        let task = task.map_or(String::new(), |task| format!(" of task {task}"));
        file.set_len(0)?;
        writeln!(file, "process {}{task}", std::process::id())?;
        Ok(Asked::Free(GpuLock { _file: file }))
    };
    asked().with_context(|| format!("cannot lock {}; --share-gpu does without", path.display()))
}

/// Opens the file, which any user may have made.
fn open(folder: &Path, path: &Path) -> io::Result<File> {
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))?;
    }
    // Not to be created: Linux would then refuse another user's file in a folder like /tmp.
    let there = || OpenOptions::new().read(true).write(true).open(path);
    match there() {
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
        Ok(file) => {
            file.set_permissions(fs::Permissions::from_mode(0o666))?;
            Ok(file)
        }
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => there(),
        Err(why) => Err(why),
    }
}

/// A task that was killed may take this long to let go of its files: Slurm's `KillWait` is 30 s.
const PATIENCE: Duration = Duration::from_mins(1);
const RETRY: Duration = Duration::from_millis(100);

/// What came of waiting for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is locked for as long as it is open.
    Mine,
    /// Another process keeps it.
    Theirs,
    /// Its file system has no locks, as some network file systems.
    NoLocks,
}

/// Locks `file`; waits a minute for another process to let go of it, and calls `waits` every now and then.
///
/// # Errors
/// [`Stopped`] if asked to stop while waiting.
pub fn wait_for(file: &File, stop: &StopRequest, waits: &mut dyn FnMut()) -> Result<Turn> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Turn::Mine),
            Err(TryLockError::Error(_)) => return Ok(Turn::NoLocks),
            Err(TryLockError::WouldBlock) if began.elapsed() >= PATIENCE => return Ok(Turn::Theirs),
            Err(TryLockError::WouldBlock) => {}
        }
        ensure!(stop.asked().is_none(), Stopped);
        waits();
        std::thread::sleep(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_one_process_s_until_it_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let locks = folder.path().join("locks");
        let ask = |address: &str, task| lock_gpu(&locks, address, task).unwrap();
        let Asked::Free(first) = ask("0000:01:00.0", Some("1234_7")) else { panic!("it is free") };
        let Asked::Taken(who) = ask("0000:01:00.0", None) else { panic!("it is taken") };
        assert_eq!(who, format!("process {} of task 1234_7", std::process::id()));
        assert!(matches!(ask("0000:41:00.0", None), Asked::Free(_)), "another GPU is free");
        drop(first);
        assert!(matches!(ask("0000:01:00.0", None), Asked::Free(_)));
        let why = lock_gpu(Path::new("/proc/no"), "0000:01:00.0", None).unwrap_err().to_string();
        assert!(why.contains("/proc/no/gpu-0000:01:00.0") && why.contains("--share-gpu"), "{why}");
    }
}
