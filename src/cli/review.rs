//! `marscan review`: a page on which a human looks at each candidate.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use super::progress::bar;
use super::scan::segmenter;
use crate::config::{SegmenterKind, shipped_weights};
use crate::detect::Segmenter;
use crate::fault::WrongUsage;
use crate::review::{self, Kind, MOST_CANDIDATES, ReviewOptions, Reviewed, Run};

/// Write a page on which a human accepts or rejects each candidate of a merged run.
///
/// The page is one file that opens from disk, in any browser. What is said of the candidates is kept by the browser and
/// leaves it as verdicts.csv, which `merge --verdicts` and `mine --verdicts` take.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  marscan review found\n  marscan review found --stratify diameter,score,scene --at-most 500"
)]
pub struct Args {
    /// Folder of the run, merged
    out: PathBuf,
    /// Show the first so many candidates
    #[arg(long, value_name = "N", default_value_t = MOST_CANDIDATES as u16,
        value_parser = clap::value_parser!(u16).range(1..=MOST_CANDIDATES as i64))]
    at_most: u16,
    /// One candidate of each kind in turn, in place of the surest first: kinds by diameter, score, scene, or several
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    stratify: Vec<Kind>,
    /// Do not run the network again for outlines
    #[arg(long)]
    no_outlines: bool,
    /// Weights (safetensors) of the run, if these were not the shipped ones
    #[arg(long)]
    weights: Option<PathBuf>,
    /// auto, cpu, gpu, gpu:N or gpu:PCI-ADDRESS
    #[arg(long, default_value = "auto")]
    device: String,
    /// Use a GPU though another process uses it; without it a GPU is one process's, unless a scheduler deals them out
    #[arg(long)]
    share_gpu: bool,
}

/// Writes the page and says what is on it.
///
/// # Errors
/// If the run is not merged, its weights are not at hand, or the page cannot be written.
pub fn run(args: &Args) -> Result<Done> {
    let run = Run::open(&args.out)?;
    let mut network = if args.no_outlines { None } else { Some(network(args, &run)?) };
    let bar = bar();
    if let Some(bar) = &bar {
        bar.set_length(args.at_most.into());
    }
    let watch = |more| bar.iter().for_each(|bar| bar.inc(more));
    let options = ReviewOptions {
        at_most: args.at_most.into(),
        kinds: args.stratify.clone(),
        network: network.as_mut().map(|network| &mut **network as &mut dyn Segmenter),
        beside: None,
        watch: &watch,
    };
    let page = args.out.join("review.html");
    let reviewed = review::write(&args.out, &run, options, &page)?;
    bar.iter().for_each(indicatif::ProgressBar::finish_and_clear);
    print(&reviewed, &page);
    Ok(Done::All)
}

/// The network that the run was scanned with.
fn network(args: &Args, run: &Run) -> Result<Box<dyn Segmenter>> {
    let settings = &run.settings;
    let shipped = shipped_weights(&settings.name).map(|bytes| blake3::hash(bytes).to_hex().to_string());
    let unet = settings.scan.segmenter == SegmenterKind::Unet;
    if unet && args.weights.is_none() && shipped.as_deref() != Some(run.weights_id()) {
        let message = format!(
            "the run was scanned with weights that are not shipped (id {:.16}): name them with --weights, or go \
             without outlines with --no-outlines",
            run.weights_id()
        );
        return Err(WrongUsage(message).into());
    }
    let (network, id) = segmenter(settings, args.weights.as_deref(), &args.device, args.share_gpu)?;
    if id != run.weights_id() {
        let message = format!("--weights: their id is {id:.16}, the run's {:.16}", run.weights_id());
        return Err(WrongUsage(message).into());
    }
    Ok(network)
}

fn print(reviewed: &Reviewed, page: &Path) {
    let Reviewed { all, shown, bytes, outlines, agreeing, .. } = reviewed;
    say!("{shown} of {all} candidates, {:.1} MB: {}", *bytes as f64 / 1e6, page.display());
    if *outlines > 0 {
        say!("{outlines} outlines, {agreeing} of them with the catalogue's box and area");
    }
    if let Some((count, why)) = &reviewed.blind {
        say!("{count} without pictures: {why}");
    }
}
