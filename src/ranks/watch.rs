//! Whether the other ranks are alive: each holds a connection to rank 0, and one that breaks tells that its
//! other end is gone.
//!
//! `mpirun` ends all ranks when one dies, but `srun` does so only with `--kill-on-bad-exit=1`: without it, the
//! others would wait in their next sum for ever, and be billed for it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// What a rank sends as it leaves in order.
const GOODBYE: u8 = b'b';
/// What rank 0 sends of another one, whose number follows in [`DIGITS`].
const GONE: u8 = b'g';
const DIGITS: usize = 8;
/// Bytes of a watcher's stack: it only reads.
const STACK: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// Called with the number of a rank that is gone.
pub type Gone = Arc<dyn Fn(usize) + Send + Sync>;

/// Where rank 0 listens; goes from it to the others as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    host: String,
    port: u16,
    /// Keeps out whoever does not belong to this run.
    token: String,
}

/// This rank's connections: to rank 0, or to all others.
pub struct Watch(Arc<Lines>);

struct Lines {
    streams: Mutex<Vec<TcpStream>>,
    leaving: AtomicBool,
    gone: Gone,
}

impl Door {
    /// As it is sent.
    pub fn to_text(&self) -> String {
        format!("{} {} {}", self.host, self.port, self.token)
    }

    /// As it was sent.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        let (host, port, token) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        Some(Self { host, port, token })
    }

    /// What a rank says of itself at the door.
    fn greeting(&self, rank: usize) -> Vec<u8> {
        format!("{}{rank:0DIGITS$}", self.token).into_bytes()
    }
}

impl Watch {
    /// Rank 0's: lets in every other rank from now on.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn open(host: &str, gone: Gone) -> Result<(Self, Door)> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no port to listen on")?;
        let port = listener.local_addr()?.port();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let token =
            blake3::hash(format!("{now:?} {}", std::process::id()).as_bytes()).to_hex()[..32].to_owned();
        let door = Door { host: host.to_owned(), port, token };
        let (lines, inside) = (Lines::new(gone), door.clone());
        let watch = Self(lines.clone());
        let accept = move || {
            for mut stream in listener.incoming().flatten() {
                let (inside, lines) = (inside.clone(), lines.clone());
                let follow = move || {
                    if let Some(rank) = greeted(&mut stream, &inside) {
                        lines.hold(&stream);
                        lines.follow(stream, rank);
                    }
                };
                // A rank that cannot be watched is one more that is not: the run goes on.
                drop(Builder::new().stack_size(STACK).spawn(follow));
            }
        };
        Builder::new().stack_size(STACK).spawn(accept)?;
        Ok((watch, door))
    }

    /// Another rank's: `here` is its host.
    ///
    /// # Errors
    /// If rank 0 cannot be reached.
    pub fn enter(door: &Door, rank: usize, here: &str, gone: Gone) -> Result<Self> {
        let (host, port) = (&door.host, door.port);
        let places: Vec<SocketAddr> = if host == here {
            vec![(Ipv4Addr::LOCALHOST, port).into()]
        } else {
            (host.as_str(), port)
                .to_socket_addrs()
                .with_context(|| format!("no address of {host}"))?
                .collect()
        };
        let mut streams = places.iter().map(|place| TcpStream::connect_timeout(place, PATIENCE));
        let last = streams.find_map(Result::ok).with_context(|| format!("no way to {host}, port {port}"));
        let mut stream = last?;
        stream.write_all(&door.greeting(rank))?;
        let lines = Lines::new(gone);
        let watch = Self(lines.clone());
        lines.hold(&stream);
        Builder::new().stack_size(STACK).spawn(move || lines.follow(stream, 0))?;
        Ok(watch)
    }

    /// Leaves in order: nobody is alarmed.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::SeqCst);
        self.0.tell(&[GOODBYE]);
    }
}

/// The rank that stands at the door, if it is one of ours.
fn greeted(stream: &mut TcpStream, door: &Door) -> Option<usize> {
    let mut said = vec![0; door.greeting(0).len()];
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.read_exact(&mut said).ok()?;
    stream.set_read_timeout(None).ok()?;
    let rank = std::str::from_utf8(&said).ok()?.strip_prefix(door.token.as_str())?;
    rank.parse().ok()
}

impl Lines {
    fn new(gone: Gone) -> Arc<Self> {
        Arc::new(Self { streams: Mutex::default(), leaving: AtomicBool::default(), gone })
    }

    /// Keeps an end of `stream` to speak to.
    fn hold(&self, stream: &TcpStream) {
        if let Ok(stream) = stream.try_clone() {
            self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
    }

    /// Says so to everyone who is there.
    fn tell(&self, words: &[u8]) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // Whoever is gone already need not hear it.
            drop(stream.write_all(words));
        }
    }

    /// Waits for the end of `stream`, whose other end is `rank`.
    fn follow(&self, mut stream: TcpStream, rank: usize) {
        let gone_rank = heard(&mut stream).unwrap_or(Some(rank));
        if let Some(rank) = gone_rank.filter(|_| !self.leaving.load(Ordering::SeqCst)) {
            self.tell(format!("{}{rank:0DIGITS$}", char::from(GONE)).as_bytes());
            (self.gone)(rank);
        }
    }
}

/// Who is gone, as the other end says; nobody, if it says goodbye.
fn heard(stream: &mut TcpStream) -> std::io::Result<Option<usize>> {
    let (mut word, mut digits) = ([0], [0; DIGITS]);
    stream.read_exact(&mut word)?;
    if word == [GOODBYE] {
        return Ok(None);
    }
    stream.read_exact(&mut digits)?;
    Ok(std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    fn noted(to: &Sender<usize>) -> Gone {
        let to = Mutex::new(to.clone());
        Arc::new(move |rank| _ = to.lock().unwrap().send(rank))
    }

    /// Waits until so many have been let in.
    fn until_held(watch: &Watch, count: usize) {
        while watch.0.streams.lock().unwrap().len() < count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_rank_that_is_gone_is_noticed_and_one_that_leaves_is_not() {
        let (to, told) = channel();
        let (first, door) = Watch::open("here", noted(&to)).unwrap();
        let door = Door::parse(&door.to_text()).unwrap();
        let stranger = TcpStream::connect((Ipv4Addr::LOCALHOST, door.port)).unwrap();
        let [second, third] = [1, 2].map(|rank| Watch::enter(&door, rank, "here", noted(&to)).unwrap());
        until_held(&first, 2);
        second.leave();
        let die = |watch: &Watch| {
            watch.0.leaving.store(true, Ordering::SeqCst);
            let streams = watch.0.streams.lock().unwrap();
            streams.iter().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
        };
        die(&third);
        drop(stranger);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(2));
        let (to_fourth, told_fourth) = channel();
        let fourth = Watch::enter(&door, 3, "here", noted(&to_fourth)).unwrap();
        until_held(&first, 3);
        die(&first);
        assert_eq!(told_fourth.recv_timeout(PATIENCE), Ok(0), "rank 0 itself");
        drop((fourth, second));
    }

    #[test]
    fn the_others_are_told_who_is_gone() {
        let (to, told) = channel();
        let (first, door) = Watch::open("here", Arc::new(|_| ())).unwrap();
        let second = Watch::enter(&door, 1, "here", noted(&to)).unwrap();
        until_held(&first, 1);
        let third = TcpStream::connect((Ipv4Addr::LOCALHOST, door.port)).unwrap();
        (&third).write_all(&door.greeting(2)).unwrap();
        drop(third);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(2), "rank 1 hears of rank 2 from rank 0");
        second.leave();
    }

    #[test]
    fn rank_0_that_cannot_be_reached_is_said() {
        let door = Door { host: "no-such-host.invalid".into(), port: 9, token: "t".into() };
        let why = Watch::enter(&door, 1, "here", Arc::new(|_| ())).err().unwrap();
        assert!(format!("{why:#}").contains("no-such-host.invalid"), "{why:#}");
        assert_eq!(Door::parse("host port token"), None);
    }
}
