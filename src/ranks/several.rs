//! The ranks of MPI's world.
//!
//! A gradient's pieces are added up by a thread of their own, which has MPI's requests, and on a communicator of
//! their own: their order among the other sums, which differs from rank to rank, does not matter so. MPI gets on with
//! them in its calls, which batch norm makes all the way back; calling it every millisecond besides only took time
//! from ranks that share a core.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::request::Request;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};

use crate::fault::WrongUsage;

/// Elements that are sent at once.
const BUCKET: usize = 1 << 20;

/// All ranks of MPI's world; dropping it leaves MPI, once every rank does.
pub struct Peers {
    /// Locked by the thread that is in a call: MPI was promised one at a time.
    turn: Arc<Mutex<Universe>>,
    courier: Option<(Sender<Errand>, JoinHandle<()>)>,
}

/// Values to be added up: how many, their pieces, and where the sums go.
struct Errand {
    count: usize,
    pieces: Receiver<Vec<f32>>,
    sums: Sender<Vec<f32>>,
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
        let mut peers = Self { turn: Arc::new(Mutex::new(universe)), courier: None };
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
            _ => {
                peers.hire()?;
                Ok(peers)
            }
        }
    }

    /// Starts the thread that adds pieces up, and waits until it has its communicator: all ranks make that now.
    fn hire(&mut self) -> Result<()> {
        let (turn, (errands, given), (ready, is_ready)) = (self.turn.clone(), channel(), channel());
        let work = move || {
            let apart = {
                let _turn = taken(&turn);
                SimpleCommunicator::world().duplicate()
            };
            let _ = ready.send(());
            let mut mine = Vec::new();
            for Errand { count, pieces, sums } in given {
                mine.resize(count, 0.0);
                let _ = sums.send(sum_pieces(&turn, &apart, &mut mine, &pieces));
            }
        };
        let thread = thread::Builder::new().name("sums".into()).spawn(work).context("no thread for MPI")?;
        self.courier = Some((errands, thread));
        is_ready.recv().context("MPI gave no second communicator")
    }

    /// The turn, to be kept while calling, and the world.
    fn world(&self) -> (MutexGuard<'_, Universe>, SimpleCommunicator) {
        (taken(&self.turn), SimpleCommunicator::world())
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

    pub fn sum(&self, values: &mut [f64]) {
        let (_turn, world) = self.world();
        let mine = values.to_vec();
        world.all_reduce_into(&mine[..], values, SystemOperation::sum());
    }

    pub fn sum_pieces(&self, count: usize, pieces: &mut dyn Iterator<Item = Vec<f32>>) -> Vec<f32> {
        let ((found, pieces_found), (sums, summed)) = (channel(), channel());
        let (errands, _) = self.courier.as_ref().expect("hired when the world was joined");
        let gone = "the courier works until the world is left";
        errands.send(Errand { count, pieces: pieces_found, sums }).expect(gone);
        pieces.for_each(|piece| found.send(piece).expect(gone));
        drop(found);
        summed.recv().expect(gone)
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

impl Drop for Peers {
    fn drop(&mut self) {
        // Its communicator goes before MPI does.
        if let Some((errands, thread)) = self.courier.take() {
            drop(errands);
            let _ = thread.join();
        }
    }
}

fn taken(turn: &Mutex<Universe>) -> MutexGuard<'_, Universe> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds up over `apart` what comes in `pieces`, the last values first; they are sent from `mine`, of the sums' length.
fn sum_pieces(
    turn: &Mutex<Universe>,
    apart: &SimpleCommunicator,
    mine: &mut [f32],
    pieces: &Receiver<Vec<f32>>,
) -> Vec<f32> {
    let mut sums = vec![0.0; mine.len()];
    mpi::request::scope(|scope| {
        let (mut mine_left, mut sums_left) = (mine, &mut sums[..]);
        let mut under_way = Vec::new();
        for piece in pieces {
            let at = mine_left.len() - piece.len();
            let (left, from) = mine_left.split_at_mut(at);
            let (to_left, to) = sums_left.split_at_mut(at);
            (mine_left, sums_left) = (left, to_left);
            from.copy_from_slice(&piece);
            let _turn = taken(turn);
            under_way.push(apart.immediate_all_reduce_into(scope, &*from, to, SystemOperation::sum()));
        }
        let _turn = taken(turn);
        under_way.into_iter().for_each(Request::wait_without_status);
    });
    sums
}
