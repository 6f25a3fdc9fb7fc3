//! A file cut short under its map, or a disk that fails: the system sends SIGBUS to whoever reads there.
//!
//! Within a map that is guarded here, the page is answered with zeros and the fault is remembered, so that one
//! scene is lost and not the process. Anywhere else the signal does what it did before.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Maps guarded at a time; those beyond are not, and a fault in them ends the process.
const SLOTS: usize = 1024;

struct Slot {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    faults: AtomicUsize,
}

static MAPS: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        faults: AtomicUsize::new(0),
    }
}; SLOTS];
static PAGE: AtomicUsize = AtomicUsize::new(0);
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Watches over a map until it is dropped, which must be before the map is.
#[derive(Debug)]
pub struct Guard {
    slot: Option<usize>,
}

impl Guard {
    /// Of the map that `bytes` is.
    pub fn new(bytes: &[u8]) -> Self {
        BEFORE.get_or_init(listen);
        let free = |slot: &Slot| {
            slot.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let slot = MAPS.iter().position(free);
        if let Some(slot) = slot.map(|slot| &MAPS[slot]) {
            let start = bytes.as_ptr() as usize;
            slot.faults.store(0, Ordering::Relaxed);
            slot.end.store(start + bytes.len(), Ordering::Relaxed);
            slot.start.store(start, Ordering::Release);
        }
        Self { slot }
    }

    /// Whether a part of the map could not be read, so that zeros were read there.
    pub fn faulted(&self) -> bool {
        self.slot.is_some_and(|slot| MAPS[slot].faults.load(Ordering::Acquire) > 0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.map(|slot| &MAPS[slot]) {
            slot.end.store(0, Ordering::Release);
            slot.start.store(0, Ordering::Release);
            slot.taken.store(false, Ordering::Release);
        }
    }
}

/// Takes the signal over; gives what was done with it before.
fn listen() -> libc::sigaction {
    // SAFETY: a `sigaction` of zeros is a valid one; `answer` has the signature that SA_SIGINFO asks for, and
    // only calls what may be called in a signal handler: atomics, mmap, sigaction.
    unsafe {
        PAGE.store(libc::sysconf(libc::_SC_PAGESIZE) as usize, Ordering::Relaxed);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = answer as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before);
        before
    }
}

extern "C" fn answer(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system hands a valid `siginfo_t` to such a handler. The page that is replaced lies in a map
    // of this program that is read only and was found unreadable just now: nothing else can be there. `errno`
    // is put back, so that the code which was interrupted does not see another one.
    unsafe {
        let at = (*info).si_addr() as usize;
        let errno = *libc::__errno_location();
        let page = PAGE.load(Ordering::Relaxed);
        let within = |slot: &&Slot| {
            let start = slot.start.load(Ordering::Acquire);
            start != 0 && start <= at && at < slot.end.load(Ordering::Relaxed).next_multiple_of(page)
        };
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let zeros = |at: usize| libc::mmap(at as *mut libc::c_void, page, libc::PROT_READ, flags, -1, 0);
        match MAPS.iter().find(within) {
            Some(slot) if zeros(at - at % page) != libc::MAP_FAILED => {
                slot.faults.fetch_add(1, Ordering::Release);
            }
            _ => {
                // Not ours: the same read faults again, and finds what was there before.
                if let Some(before) = BEFORE.get() {
                    libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut());
                } else {
                    libc::signal(libc::SIGBUS, libc::SIG_DFL);
                }
            }
        }
        *libc::__errno_location() = errno;
    }
}
