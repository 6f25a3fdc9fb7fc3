//! The ranks of MPI's world.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};

use crate::fault::WrongUsage;

/// Elements that are sent at once: a gradient of any size goes through a buffer of this many.
const BUCKET: usize = 1 << 20;

/// All ranks of MPI's world; dropping it leaves MPI, once every rank does.
pub struct Peers {
    /// Locked by the thread that is in a call: MPI was promised one at a time.
    turn: Mutex<Universe>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    /// Starts MPI; `told` is how many ranks the environment speaks of.
    ///
    /// # Errors
    /// If it was started before, cannot be called from several threads in turn, or sees another count of ranks.
    pub fn join(told: Option<usize>) -> Result<Self> {
        let (universe, level) =
            mpi::initialize_with_threading(Threading::Serialized).context("MPI was started before")?;
        let peers = Self { turn: Mutex::new(universe) };
        let wrong = |message: String| Err(WrongUsage(message).into());
        if level < Threading::Serialized {
            return wrong(format!("this MPI lets threads in at level {level:?} only, Serialized is needed"));
        }
        let seen = peers.world().1.size() as usize;
        match told {
            Some(told) if told != seen => wrong(format!(
                "{told} ranks were started, but MPI sees {seen}: marscan was built with another MPI than this \
                 launcher's"
            )),
            _ => Ok(peers),
        }
    }

    /// The turn, to be kept while calling, and the world.
    fn world(&self) -> (MutexGuard<'_, Universe>, SimpleCommunicator) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        (turn, SimpleCommunicator::world())
    }

    pub fn rank(&self) -> usize {
        self.world().1.rank() as usize
    }

    /// The text of each rank.
    pub fn gather(&self, text: &str) -> Vec<String> {
        /// Longer ones are cut: host names have at most 64 bytes.
        const BYTES: usize = 256;
        let (_turn, world) = self.world();
        let mut mine = [0u8; BYTES];
        let length = text.len().min(BYTES);
        mine[..length].copy_from_slice(&text.as_bytes()[..length]);
        let mut all = vec![0u8; BYTES * world.size() as usize];
        world.all_gather_into(&mine[..], &mut all[..]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
        all.chunks(BYTES).map(text).collect()
    }

    pub fn sum<T: Equivalence + Copy>(&self, values: &mut [T]) {
        let (_turn, world) = self.world();
        let mut mine = Vec::with_capacity(BUCKET.min(values.len()));
        for bucket in values.chunks_mut(BUCKET) {
            mine.clear();
            mine.extend_from_slice(bucket);
            world.all_reduce_into(&mine[..], bucket, SystemOperation::sum());
        }
    }

    pub fn broadcast<T: Equivalence>(&self, values: &mut [T]) {
        let (_turn, world) = self.world();
        for bucket in values.chunks_mut(BUCKET) {
            world.process_at_rank(0).broadcast_into(bucket);
        }
    }

    pub fn broadcast_bytes(&self, bytes: &mut Vec<u8>) {
        let mut length = [bytes.len() as u64];
        self.broadcast(&mut length);
        bytes.resize(length[0] as usize, 0);
        self.broadcast(bytes);
    }

    pub fn any(&self, here: bool) -> bool {
        let (_turn, world) = self.world();
        let mut most = 0u8;
        world.all_reduce_into(&u8::from(here), &mut most, SystemOperation::max());
        most != 0
    }

    pub fn barrier(&self) {
        let (_turn, world) = self.world();
        world.barrier();
    }

    /// Ends every rank; does not come back.
    pub fn end_all(code: i32) {
        // Without the turn: a thread that died in a call may have it still.
        SimpleCommunicator::world().abort(code);
    }
}
