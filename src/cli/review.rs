//! `marscan review`: a page on which a human looks at each candidate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use super::devices::DeviceFlags;
use super::progress::bar;
use super::scan::segmenter;
use crate::config::{Precision, SegmenterKind, shipped_weights};
use crate::detect::Segmenter;
use crate::fault::WrongUsage;
use crate::plan::SceneList;
use crate::repeat::Repeats;
use crate::review::{self, Kind, MOST_CANDIDATES, ReviewOptions, Reviewed, Run};
use crate::table::write_rows;
use crate::unet;
use crate::verdict::{Comparison, PAGE, Said, VERDICT_HEADER, Verdict, Verdicts};

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
    #[arg(required_unless_present = "compare", conflicts_with = "compare")]
    out: Option<PathBuf>,
    /// Hold two reviewers' verdicts on one page against each other: disagreements, and Cohen's kappa
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    compare: Vec<PathBuf>,
    /// With --compare: write what both say, or one alone, to this file
    #[arg(long, value_name = "FILE", requires = "compare")]
    agreed: Option<PathBuf>,
    /// Show the first so many candidates
    #[arg(long, value_name = "N", default_value_t = MOST_CANDIDATES as u16,
        value_parser = clap::value_parser!(u16).range(1..=MOST_CANDIDATES as i64))]
    at_most: u16,
    /// One candidate of each kind in turn, in place of the surest first: kinds by diameter, score, scene, or several
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    stratify: Vec<Kind>,
    /// The list that `merge --repeat` had: show the scene that an impact's place differs most in beside it
    #[arg(long, value_name = "LIST", conflicts_with = "compare")]
    repeat: Option<PathBuf>,
    /// Do not run the network again for outlines
    #[arg(long)]
    no_outlines: bool,
    /// Weights (safetensors) of the run, if these were not the shipped ones
    #[arg(long)]
    weights: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceFlags,
}

/// Writes the page and says what is on it, and which scenes have no pictures; or compares.
///
/// # Errors
/// If the run is not merged, its weights are not at hand, or a file cannot be read or written.
pub fn run(args: &Args) -> Result<Done> {
    match (&args.out, args.compare.as_slice()) {
        (Some(out), _) => page(args, out),
        (None, [a, b]) => compare(a, b, args.agreed.as_deref()),
        (None, _) => Err(WrongUsage("name a run, or two files with --compare".into()).into()),
    }
}

fn page(args: &Args, out: &Path) -> Result<Done> {
    let run = Run::open(out)?;
    let mut network = if args.no_outlines { None } else { Some(network(args, &run)?) };
    let list = args.repeat.as_deref().map(SceneList::read).transpose()?;
    let repeats = list.map(|list| Repeats::open(&list, run.settings.input));
    let bar = bar();
    if let Some(bar) = &bar {
        bar.set_length(args.at_most.into());
    }
    let watch = |more| bar.iter().for_each(|bar| bar.inc(more));
    let options = ReviewOptions {
        at_most: args.at_most.into(),
        kinds: args.stratify.clone(),
        network: network.as_mut().map(|network| &mut **network as &mut dyn Segmenter),
        repeats: repeats.as_ref(),
        watch: &watch,
    };
    let page = out.join(PAGE);
    let reviewed = review::write(out, &run, options, &page)?;
    bar.iter().for_each(indicatif::ProgressBar::finish_and_clear);
    print(&reviewed, &page);
    for (scene, why) in repeats.iter().flat_map(|repeats| &repeats.refused) {
        say!("not beside: {scene} ({why})");
    }
    Ok(if reviewed.blind.is_empty() { Done::All } else { Done::Partly })
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
    let device = args.device.choose()?;
    let mut settings = settings.clone();
    let precision = settings.scan.precision;
    if !unet::computes(&device, precision)? {
        say!(
            "outlines are computed in f32: the run was in {precision}, which {} does not compute in",
            device.name
        );
        settings.scan.precision = Precision::F32;
    }
    let (network, id) = segmenter(&settings, args.weights.as_deref(), || Ok(vec![device]))?;
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
    for (scene, (count, why)) in &reviewed.blind {
        say!("{count} without pictures: {scene} ({why})");
    }
}

fn compare(a: &Path, b: &Path, agreed: Option<&Path>) -> Result<Done> {
    let (first, second) = (Verdicts::read(a)?, Verdicts::read(b)?);
    let compared = Comparison::of(&first, &second);
    say!("A: {} verdicts, {}", first.0.len(), named(a, &first));
    say!("B: {} verdicts, {}", second.0.len(), named(b, &second));
    say!(
        "judged by both: {}; by A alone {}, by B alone {}",
        compared.both(),
        compared.alone.0,
        compared.alone.1
    );
    if compared.both() > 0 {
        say!("{:10}{:>10}{:>10}{:>10}", "", "B accept", "reject", "unsure");
        for (verdict, [accept, reject, unsure]) in Verdict::ALL.into_iter().zip(compared.counts) {
            say!("A {verdict:8}{accept:>10}{reject:>10}{unsure:>10}");
        }
        let share = compared.agreeing() as f64 / compared.both() as f64;
        say!("the same: {} ({:.1} %)", compared.agreeing(), 100.0 * share);
    }
    match compared.kappa() {
        Some(kappa) => say!("Cohen's kappa: {kappa:.3}"),
        None => say!("Cohen's kappa: none, for nothing is left to chance"),
    }
    for (id, mine, theirs) in &compared.disagreements {
        say!("  no. {id}: A {}, B {}", spoken(mine), spoken(theirs));
    }
    if let Some(path) = agreed {
        write_rows(path, &VERDICT_HEADER, &compared.agreed)?;
        say!("wrote {} verdicts to {}", compared.agreed.len(), path.display());
    }
    Ok(Done::All)
}

/// The file, and whose verdicts it has.
fn named(path: &Path, verdicts: &Verdicts) -> String {
    let names: BTreeSet<String> = verdicts.0.values().map(|said| printable(&said.reviewer)).collect();
    let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let of = if names.is_empty() { String::new() } else { format!(", of {}", names.join(", ")) };
    format!("{}{of}", path.display())
}

fn spoken(said: &Said) -> String {
    let note = printable(&said.note);
    if note.is_empty() { said.verdict.to_string() } else { format!("{} ({note})", said.verdict) }
}

/// Text from a file, without what moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
