//! A training's folder is one process's at a time: of two, each would write over the other's checkpoint and history.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Event, Team};
use crate::fault::Stopped;
use crate::job::{StopRequest, Turn, wait_for};
use crate::timing::host_name;

/// A folder that no other training writes in while this is kept.
#[derive(Debug)]
pub(super) struct Hold {
    _file: File,
}

/// Takes the folder `out` for `team`, by its rank 0; it is made if need be. Waits a minute for another training to let
/// go of it. `None` on the other ranks, and where the file system has no locks.
///
/// # Errors
/// If it cannot be made, or another training keeps it: the message names both. [`Stopped`], on every rank, if asked to
/// stop while waiting.
pub(super) fn hold(
    out: &Path,
    team: Team,
    stop: &StopRequest,
    see: &mut dyn FnMut(Event),
) -> Result<Option<Hold>> {
    let held = if team.writes() { Hold::take(out, stop, see) } else { Ok(None) };
    let stopped = held.as_ref().is_err_and(anyhow::Error::is::<Stopped>);
    ensure!(!team.world.agree(stopped), Stopped);
    held
}

impl Hold {
    fn take(out: &Path, stop: &StopRequest, see: &mut dyn FnMut(Event)) -> Result<Option<Self>> {
        let path = out.join(".training");
        let open = || {
            fs::create_dir_all(out)?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        };
        let mut file = open().with_context(|| format!("cannot write {}", path.display()))?;
        // It may have taken the folder just now, and not said so yet.
        let holder = || match fs::read_to_string(&path).unwrap_or_default().trim() {
            "" => "another process".to_owned(),
            who => who.to_owned(),
        };
        let mut said = false;
        let turn = wait_for(&file, stop, &mut || {
            if !std::mem::replace(&mut said, true) {
                see(Event::Waits { folder: out, holder: &holder() });
            }
        })?;
        match turn {
            Turn::Mine => {}
            Turn::NoLocks => return Ok(None),
            Turn::Theirs => {
                bail!(
                    "{} trains in {}: end it, let it finish, or choose another --out",
                    holder(),
                    out.display()
                )
            }
        }
        let who = format!("process {} on {}\n", std::process::id(), host_name());
        let written = file.set_len(0).and_then(|()| file.write_all(who.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_waited_for_and_who_has_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/run");
        let stop = StopRequest::default();
        let mut first = Hold::take(&out, &stop, &mut |_| panic!("it is free")).unwrap();
        let mut seen = Vec::new();
        Hold::take(&out, &stop, &mut |event| {
            let Event::Waits { folder, holder } = event else { panic!("{event:?}") };
            seen.push((folder.to_owned(), holder.to_owned()));
            first = None;
        })
        .unwrap();
        assert_eq!(seen, [(out, format!("process {} on {}", std::process::id(), host_name()))]);
        assert!(first.is_none());
    }
}
