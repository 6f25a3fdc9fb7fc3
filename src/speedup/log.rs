//! A run as its logs tell it, whether it scanned or trained.

use std::path::PathBuf;

use crate::fault::WrongUsage;

/// What a run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shards of a scene list.
    Scan,
    /// A network.
    Training,
}

impl Kind {
    /// What its workers are, if nobody says.
    pub fn worker(self) -> &'static str {
        match self {
            Self::Scan => "tasks",
            Self::Training => "devices",
        }
    }

    /// The columns of an amount of work, of a rate, and of the memory of the largest process.
    pub fn columns(self) -> [&'static str; 3] {
        match self {
            Self::Scan => ["pixels", "mpx_per_s", "peak_private_mib"],
            Self::Training => ["images", "images_per_s", "peak_resident_mib"],
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct RunLog {
    /// Where its logs are.
    pub folder: PathBuf,
    /// What it was.
    pub kind: Kind,
    /// What must agree in any comparison: name and value.
    pub must: Vec<Fact>,
    /// What must agree where all are to have done the same: name and value.
    pub same: Vec<Fact>,
    /// Pixels or crops.
    pub amount: u64,
    /// Wall time.
    pub seconds: f64,
    /// Million pixels, or crops, a second.
    pub rate: f64,
    /// Seconds that each worker the logs tell apart was at work.
    pub loads: Vec<f64>,
    /// Most shards at once, where the logs say.
    pub at_once: Option<usize>,
    /// Machines.
    pub hosts: usize,
    /// Seconds of each stage, added up, in the order of work.
    pub stages: Vec<(String, f64)>,
    /// Memory of the largest process.
    pub peak_bytes: u64,
    /// What the network ran on.
    pub device: String,
    /// Where.
    pub host: String,
}

impl RunLog {
    /// Mean over longest load, 0..=1, where there are several.
    pub fn balance(&self) -> Option<f64> {
        let longest = self.loads.iter().copied().fold(0.0, f64::max);
        let mean = self.loads.iter().sum::<f64>() / self.loads.len() as f64;
        (self.loads.len() > 1 && longest > 0.0).then(|| mean / longest)
    }

    /// The refusal to compare this run with `other`: both named, and in what they differ.
    pub fn other_work(&self, other: &Self, how: &str) -> WrongUsage {
        let pairs = |log: &Self| [log.must.clone(), log.same.clone()].concat();
        let (mine, theirs) = (pairs(self), pairs(other));
        let says = |log: &Self, own: &[Fact], others: &[Fact]| {
            let differ = own.iter().zip(others).filter(|(a, b)| a != b);
            let facts: Vec<_> = differ.map(|((name, value), _)| format!("{name} {value:.16}; ")).collect();
            format!("{} ({}{} {})", log.folder.display(), facts.concat(), log.amount, log.kind.columns()[0])
        };
        let (first, second) = (says(self, &mine, &theirs), says(other, &theirs, &mine));
        WrongUsage(format!("{second} did other work{how} than {first}: their times cannot be compared"))
    }
}

/// A name and a value.
pub type Fact = (&'static str, String);
