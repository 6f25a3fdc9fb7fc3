//! The pipeline without a network: a grey-level threshold over a large drawn scene, Mpx/s.
//!
//!     cargo bench --bench pipeline
//!
//! Nothing but the network is ever to be the bottleneck: this must stay above 300 Mpx/s on 2 cores.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use marscan::config::load;
use marscan::detect::threshold::GreyThreshold;
use marscan::job::StopRequest;
use marscan::plan::SceneList;
use marscan::raster::Io;
use marscan::scan::{ScanJob, Scanned, scan_shard};
use marscan::synth::{SynthSpec, write};

const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let spec = SynthSpec { rows: 16384, cols: 8192, impacts: 200, seed: 1 };
    let began = Instant::now();
    let written = write(&spec, "bench", folder.path(), false)?;
    let pixels = (spec.rows * spec.cols) as f64 / 1e6;
    println!("synth: {pixels:.1} Mpx in {:.2} s", began.elapsed().as_secs_f64());
    let mut speeds = Vec::new();
    for round in 0..ROUNDS {
        let settings = load("threshold")?;
        let mut segmenter = GreyThreshold { dark_max: settings.scan.dark_max, bright_min: None };
        let job = ScanJob {
            scenes: SceneList::read(&written.list)?,
            out: folder.path().join(round.to_string()),
            shards: 1,
            settings,
            weights_id: String::new(),
            io: Io::Auto,
            stop: StopRequest::default(),
            masks: false,
            probabilities: false,
            overlay: false,
            command: Vec::new(),
            scheduler: Vec::new(),
        };
        let began = Instant::now();
        let Scanned::Done(summary) = scan_shard(&job, 0, &mut segmenter, None, &|_| ())? else { continue };
        speeds.push(pixels / began.elapsed().as_secs_f64());
        println!("round {round}: {:.0} Mpx/s, seconds by stage {:.3?}", speeds[round], summary.stage_seconds);
    }
    speeds.sort_by(f64::total_cmp);
    println!("median {:.0} Mpx/s on {} threads", speeds[ROUNDS / 2], rayon::current_num_threads());
    Ok(())
}
