//! `marscan judge`: networks side by side on the same crops, as a table and as a picture.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use super::Done;
use super::devices::DeviceFlags;
use crate::config;
use crate::fault::WrongUsage;
use crate::picture::mosaic::{Mosaic, Tile};
use crate::table::write_rows;
use crate::train::judge::{Candidate, JUDGEMENT_HEADER, Judged, judge, tell_apart};
use crate::train::list::{DataSet, Part};
use crate::unet::Weights;

/// Judge networks side by side on the crops of a data set: squared error beside that of predicting nothing, and
/// a picture of what each makes of the same ground.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan judge --data data --network unet1.0=one/best.safetensors \
    --network unet3.0=three/best.safetensors --out judged")]
pub struct Args {
    /// Data set made by `prepare`
    #[arg(long)]
    data: PathBuf,
    /// train, validation or test
    #[arg(long, default_value = "test")]
    part: String,
    /// SETTINGS=WEIGHTS: preset or TOML file, and the weights trained with it; again for each network
    #[arg(long = "network", required = true)]
    networks: Vec<String>,
    /// Gets networks.csv and networks.png
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    pub device: DeviceFlags,
}

/// Prints and writes the table, and draws the picture.
///
/// # Errors
/// If a file cannot be read or written, or the device fails.
pub fn run(args: &Args) -> Result<Done> {
    let part = Part::ALL
        .into_iter()
        .find(|part| part.to_string() == args.part)
        .ok_or_else(|| WrongUsage(format!("--part {}: must be train, validation or test", args.part)))?;
    let mut networks = args.networks.iter().map(|text| candidate(text)).collect::<Result<Vec<_>>>()?;
    tell_apart(&mut networks);
    let data = DataSet::open(&args.data)?;
    let judged = judge(&data, part, &networks, &args.device.choose()?)?;
    print(&judged);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    write_rows(&args.out.join("networks.csv"), &JUDGEMENT_HEADER, &judged.table)?;
    draw(&judged, &args.out.join("networks.png"))?;
    say!("wrote networks.csv and networks.png in {}", args.out.display());
    Ok(Done::All)
}

fn candidate(text: &str) -> Result<Candidate> {
    let Some((settings, path)) = text.split_once('=') else {
        return Err(WrongUsage(format!("--network {text}: must be SETTINGS=WEIGHTS")).into());
    };
    let settings = config::load(settings)?;
    let bytes =
        std::fs::read(path).map_err(|why| WrongUsage(format!("cannot read the weights {path}: {why}")))?;
    let weights = Weights::parse(&settings.network.widths, &bytes)
        .map_err(|why| WrongUsage(format!("the weights {path} cannot be used: {why:#}")))?;
    Ok(Candidate { name: settings.name, file: path.to_owned(), weights })
}

fn print(judged: &Judged) {
    say!("network      parameters  crops     MSE %  nothing %  pixel precision  recall     F1  weights");
    for line in &judged.table {
        say!(
            "{:12} {:10} {:6} {:9.4} {:10.4} {:16.3} {:7.3} {:6.3}  {}",
            line.network,
            line.parameters,
            line.crops,
            line.mse_percent,
            line.nothing_mse_percent,
            line.pixel_precision,
            line.pixel_recall,
            line.pixel_f1,
            line.weights
        );
    }
}

/// Image and mask, then a row a network, as the study has it.
fn draw(judged: &Judged, path: &Path) -> Result<()> {
    let columns: Vec<&str> = judged.shown.iter().map(|shown| shown.caption).collect();
    let mut mosaic = Mosaic::new(judged.side_px, &columns);
    mosaic.row("image", judged.shown.iter().map(|shown| Tile::Grey(&shown.pixels)));
    mosaic.row("mask", judged.shown.iter().map(|shown| Tile::Probability(&shown.mask)));
    for (k, line) in judged.table.iter().enumerate() {
        mosaic.row(&line.network, judged.shown.iter().map(|shown| Tile::Probability(&shown.answers[k])));
    }
    mosaic.save(path)
}
