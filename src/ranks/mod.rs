//! The processes that train together: a world of one, or, built with the feature `mpi` and started by
//! `mpirun` or `srun --mpi=pmix`, all ranks of MPI's world. The only room that names MPI.
//!
//! MPI is touched only where the environment says that several were started: a single process pays nothing.
//! A rank that fails ends all of them, for the others would wait for it in their next sum for ever. Its own
//! last line names it; one that is killed is missed (`watch.rs`), named, and ends the others too.

mod launch;
#[cfg_attr(feature = "mpi", path = "several.rs")]
#[cfg_attr(not(feature = "mpi"), path = "alone.rs")]
mod peers;
mod watch;

use std::env;
use std::ops::RangeTo;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use anyhow::{Error, Result};

use crate::fault::WrongUsage;
pub use launch::place;
use launch::{Launch, launch};
use peers::Peers;
use watch::{Door, Gone, Watch};

/// The ranks that were started together, and which of them this process is.
///
/// Every rank makes the same calls in the same order; on one rank, one thread at a time is let in.
#[derive(Debug)]
pub struct World {
    peers: Option<Peers>,
    rank: usize,
    hosts: Vec<String>,
}

impl World {
    /// All that were started together with this process; once in its life.
    ///
    /// # Errors
    /// [`WrongUsage`] if several were started and this program cannot join them: built without MPI, `srun`
    /// without `--mpi=pmix`, an MPI that does not see them all.
    pub fn join() -> Result<Self> {
        let get = |name: &str| env::var(name).ok();
        let host = host_name(get);
        match launch(get)? {
            Launch::Alone => Ok(Self { peers: None, rank: 0, hosts: vec![host] }),
            Launch::Ranks(told) => {
                let peers = Peers::join(told)?;
                let (rank, hosts) = (peers.rank(), peers.gather(&host));
                Ok(Self { peers: Some(peers), rank, hosts })
            }
        }
    }

    /// Which of the ranks this is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// The host of each rank.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Which of the ranks on its host this is, from 0: which of the host's devices it should take.
    pub fn local_rank(&self) -> usize {
        self.on_this_host(..self.rank)
    }

    /// How many ranks there are on its host.
    pub fn local_size(&self) -> usize {
        self.on_this_host(..self.size())
    }

    fn on_this_host(&self, ranks: RangeTo<usize>) -> usize {
        let mine = &self.hosts[self.rank];
        self.hosts[ranks].iter().filter(|host| *host == mine).count()
    }

    /// Replaces `values` by their sums over the ranks, the same bits on each; all have the same length.
    pub fn sum_f64(&self, values: &mut [f64]) {
        if let Some(peers) = &self.peers {
            peers.sum(values);
        }
    }

    /// The sums over the ranks, the same bits on each, of `count` values that come in pieces, the last values
    /// first, cut the same on every rank: a piece is added up while the next ones are being found, whatever
    /// other calls are made meanwhile. For one thread at a time.
    pub fn sum_pieces(&self, count: usize, pieces: &mut dyn Iterator<Item = Vec<f32>>) -> Vec<f32> {
        match &self.peers {
            Some(peers) => peers.sum_pieces(count, pieces),
            None => joined(pieces),
        }
    }

    /// Replaces `values` by those of rank 0; all have the same length.
    pub fn broadcast(&self, values: &mut [f32]) {
        if let Some(peers) = &self.peers {
            peers.broadcast(values);
        }
    }

    /// Replaces `bytes` by those of rank 0, however many they are.
    pub fn broadcast_bytes(&self, bytes: &mut Vec<u8>) {
        if let Some(peers) = &self.peers {
            peers.broadcast_bytes(bytes);
        }
    }

    /// Whether any rank says so, the same answer on each: "stop", say, where one got a signal.
    pub fn agree(&self, here: bool) -> bool {
        self.peers.as_ref().map_or(here, |peers| peers.any(here))
    }

    /// The text of each rank, of which the first 256 bytes are kept.
    pub fn gather(&self, text: &str) -> Vec<String> {
        self.peers.as_ref().map_or_else(|| vec![text.to_owned()], |peers| peers.gather(text))
    }

    /// Waits until every rank is here.
    pub fn barrier(&self) {
        if let Some(peers) = &self.peers {
            peers.barrier();
        }
    }

    /// Ends every rank with this one's exit code, once `last_words` has been given why.
    fn end_all(&self, why: &Error, last_words: fn(&str)) {
        if self.peers.is_none() {
            return;
        }
        let (rank, size, host) = (self.rank, self.size(), &self.hosts[self.rank]);
        last_words(&format!("error: rank {rank} of {size} on {host} failed and ends the others: {why:#}"));
        let wrong_usage = why.chain().any(<dyn std::error::Error>::is::<WrongUsage>);
        Peers::end_all(if wrong_usage { 2 } else { 1 });
    }
}

/// The values that came in pieces, the last ones first.
pub fn joined(pieces: &mut dyn Iterator<Item = Vec<f32>>) -> Vec<f32> {
    let mut pieces: Vec<Vec<f32>> = pieces.collect();
    pieces.reverse();
    pieces.concat()
}

/// Sees to it that all ranks end when one is gone; `None`, and says so, where that cannot be.
fn watch(world: &World, last_words: fn(&str)) -> Option<Watch> {
    let (rank, hosts) = (world.rank, world.hosts.clone());
    let gone: Gone = Arc::new(move |other: usize| {
        let (size, host) = (hosts.len(), hosts.get(other).map_or("", String::as_str));
        last_words(&format!(
            "error: rank {other} of {size} on {host} is gone, rank {rank} ends with it: the same command goes on \
             from the last checkpoint"
        ));
        // At once: MPI waits for the one that is gone, in a call of another thread.
        signal_hook::low_level::exit(1);
    });
    let here = system_name();
    let (mut watch, mut text, mut why) = (None, Vec::new(), None);
    if rank == 0 {
        match Watch::open(&here, gone.clone()) {
            Ok((opened, door)) => (watch, text) = (Some(opened), door.to_text().into_bytes()),
            Err(error) => why = Some(error),
        }
    }
    world.broadcast_bytes(&mut text);
    if let Some(door) = Door::parse(&String::from_utf8_lossy(&text)).filter(|_| rank > 0) {
        match Watch::enter(&door, rank, &here, gone) {
            Ok(entered) => watch = Some(entered),
            Err(error) => why = Some(error),
        }
    }
    if let Some(why) = why {
        last_words(&format!(
            "rank {rank} is not watched ({why:#}): should it die, srun ends the others only with --kill-on-bad-exit=1"
        ));
    }
    watch
}

/// Joins the world, works, and leaves it when every rank is done. Among several, a rank whose work fails or
/// panics gives `last_words` a line that names it, and ends all of them.
///
/// # Errors
/// Those of [`World::join`]; and where there is one rank only, those of `work`.
pub fn together<T>(last_words: fn(&str), work: impl FnOnce(&World) -> Result<T>) -> Result<T> {
    let world = World::join()?;
    let watch = (world.size() > 1).then(|| watch(&world, last_words)).flatten();
    let done = catch_unwind(AssertUnwindSafe(|| work(&world)));
    if matches!(done, Ok(Ok(_))) {
        world.barrier();
    }
    if let Some(watch) = watch {
        watch.leave();
    }
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(why)) => {
            world.end_all(&why, last_words);
            Err(why)
        }
        Err(panic) => {
            world.end_all(&Error::msg("it panicked, as said above"), last_words);
            resume_unwind(panic)
        }
    }
}

/// The scheduler's name of this host, which tells apart the virtual nodes of one machine, or the system's.
fn host_name(get: impl Fn(&str) -> Option<String>) -> String {
    get("SLURMD_NODENAME").map_or_else(system_name, |name| name.trim().to_owned())
}

/// The system's name of this host, which others can reach it by.
fn system_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_rank_sums_are_what_they_were_and_its_errors_come_back() {
        let mut values = [1.5, -2.0];
        let world = World { peers: None, rank: 0, hosts: vec!["here".into()] };
        world.sum_f64(&mut values);
        assert_eq!((values, world.size(), world.local_rank()), ([1.5, -2.0], 1, 0));
        let pieces = [vec![3.0], vec![1.0, 2.0]];
        assert_eq!(world.sum_pieces(3, &mut pieces.into_iter()), [1.0, 2.0, 3.0]);
        assert!(world.agree(true) && !world.agree(false));
        world.end_all(&Error::msg("why"), |line| panic!("{line}"));
    }

    #[test]
    fn ranks_are_counted_host_by_host() {
        let hosts: Vec<String> = ["a", "a", "b", "a", "b"].map(String::from).into();
        let local = |rank| World { peers: None, rank, hosts: hosts.clone() }.local_rank();
        assert_eq!([0, 1, 2, 3, 4].map(local), [0, 1, 0, 2, 1]);
        assert_eq!(World { peers: None, rank: 2, hosts }.local_size(), 2);
    }
}
