//! `marscan settings`, and the flags that change settings.

use anyhow::Result;
use clap::Args as ClapArgs;

use super::Done;
use crate::config::{self, Precision, SegmenterKind, Settings};
use crate::fault::WrongUsage;
use crate::unet::layout::flop_per_px;

/// Settings by name or file, then flags over them.
#[derive(Clone, Debug, ClapArgs)]
pub struct Flags {
    /// Preset (unet1, unet2, unet3, threshold) or TOML file
    #[arg(long, default_value = "unet1")]
    pub settings: String,
    /// Side of a window, px; the CPU needs none
    #[arg(long)]
    window: Option<u32>,
    /// Windows given to a device at once
    #[arg(long)]
    batch: Option<usize>,
    /// What the network is computed in: f32, f16 or bf16; a CPU has f32 and, with AMX, bf16
    #[arg(long)]
    precision: Option<Precision>,
    /// Rows read, inferred and measured in one piece
    #[arg(long)]
    band_rows: Option<u64>,
    /// Probability from which a pixel is impact
    #[arg(long)]
    probability: Option<f64>,
    /// Smallest impact, px
    #[arg(long)]
    min_area: Option<u64>,
    /// Lowest mean probability of an impact
    #[arg(long)]
    min_score: Option<f64>,
    /// unet, or threshold for a plain grey level
    #[arg(long)]
    segmenter: Option<String>,
    /// With threshold: grey levels 1 to this are impact
    #[arg(long)]
    dark_max: Option<u8>,
    /// With threshold: grey levels from this are impact; 0 for none
    #[arg(long)]
    bright_min: Option<u8>,
}

impl Flags {
    /// The settings that are meant, checked.
    ///
    /// # Errors
    /// [`WrongUsage`] that names what is wrong.
    pub fn load(&self) -> Result<Settings> {
        let mut settings = config::load(&self.settings)?;
        let scan = &mut settings.scan;
        set(&mut scan.window_px, self.window);
        set(&mut scan.batch, self.batch);
        set(&mut scan.precision, self.precision);
        set(&mut scan.band_rows, self.band_rows);
        set(&mut scan.probability, self.probability);
        set(&mut scan.min_area_px, self.min_area);
        set(&mut scan.min_score, self.min_score);
        set(&mut scan.dark_max, self.dark_max);
        set(&mut scan.bright_min, self.bright_min);
        match self.segmenter.as_deref() {
            None => {}
            Some("unet") => scan.segmenter = SegmenterKind::Unet,
            Some("threshold") => scan.segmenter = SegmenterKind::Threshold,
            Some(other) => {
                return Err(WrongUsage(format!("--segmenter {other}: must be unet or threshold")).into());
            }
        }
        settings.check()?;
        Ok(settings)
    }
}

fn set<T: Copy>(place: &mut T, flag: Option<T>) {
    *place = flag.unwrap_or(*place);
}

/// Print the settings that would run, as a TOML file that --settings takes.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  marscan settings --settings unet3 --window 768 > mine.toml")]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// Prints them.
///
/// # Errors
/// If they are wrong.
pub fn run(args: &Args) -> Result<Done> {
    let settings = args.flags.load()?;
    say!(
        "# halo {} px, windows answer for {} px, grid of {} px; {:.3} MFLOP a pixel; id {:.16}\n{}",
        settings.halo_px(),
        settings.core_px(),
        settings.multiple_px(),
        flop_per_px(&settings.network.widths) / 1e6,
        settings.id(),
        toml::to_string(&settings)?.trim_end()
    );
    Ok(Done::All)
}
