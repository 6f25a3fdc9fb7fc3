//! Figures for papers: axes, lines, points with error bars, shaded spans; SVG and PNG from one description.
//!
//! A logarithmic axis is drawn as a linear one of the logarithms, so that one kind of chart does for all. The
//! font travels with the program: a computing node has none.

mod draw;

use std::path::Path;

use anyhow::Result;

pub(super) use draw::{FONT, failed, font};

use crate::table::write_whole;

/// Colours that the colour-blind tell apart (Okabe and Ito 2008).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// The first series.
    Blue,
    /// The second.
    Vermilion,
    /// The third.
    Green,
    /// The fourth.
    Purple,
    /// Spans.
    Yellow,
    /// References: an ideal, a limit.
    Grey,
}

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Lowest and highest value shown; made wider where both are the same.
    pub range: (f64, f64),
    /// Logarithmic; the range must then be above 0.
    pub log: bool,
}

/// Something drawn over the axes, in their values; what is not finite, or not above 0 on a logarithmic axis, is
/// left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A line through points.
    Line {
        /// In the legend.
        name: String,
        /// (x, y).
        points: Vec<(f64, f64)>,
        /// Of the line.
        colour: Colour,
        /// An ideal or a limit is dashed.
        dashed: bool,
    },
    /// Discs with error bars.
    Points {
        /// In the legend; empty for none.
        name: String,
        /// (x, y, half the error bar's length).
        points: Vec<(f64, f64, f64)>,
        /// Of discs and bars.
        colour: Colour,
    },
    /// A shaded span of x, over the whole height, with a label at its top.
    Span {
        /// At its top.
        label: String,
        /// Its ends.
        x: (f64, f64),
        /// Of the shade.
        colour: Colour,
    },
    /// An upright dashed line with a label beside it.
    Upright {
        /// Beside it.
        label: String,
        /// Where.
        x: f64,
    },
}

/// Where the legend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    /// For what rises.
    UpperLeft,
    /// For what falls.
    UpperRight,
}

/// A figure: what is drawn first lies lowest, spans lie under all.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Above it.
    pub title: String,
    /// Where the legend stands.
    pub legend: Corner,
    /// Rightwards.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is drawn.
    pub items: Vec<Item>,
}

impl Axis {
    /// A value's place on the axis.
    fn place(&self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    fn span(&self) -> (f64, f64) {
        let (low, high) = (self.place(self.range.0), self.place(self.range.1));
        if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
    }

    /// Where the ticks are: whole steps of 1, 2 or 5 times a power of ten; on a logarithmic axis such multiples of
    /// each power.
    fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.span();
        if self.log {
            let leads: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let decades = low.floor() as i32..=high.ceil() as i32;
            let all = decades.flat_map(|d| leads.iter().map(move |lead| f64::from(d) + lead.log10()));
            return all.filter(|tick| (low..=high).contains(tick)).collect();
        }
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0);
        let steps = (low / step).ceil() as i64..=(high / step + 1e-9).floor() as i64;
        steps.map(|k| k as f64 * step).collect()
    }

    /// A tick's text.
    fn text(&self, place: f64) -> String {
        let value = if self.log { 10f64.powf(place) } else { place };
        if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
            return format!("{value:.0e}");
        }
        let text = format!("{value:.6}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text == "-0" { "0".into() } else { text.to_owned() }
    }
}

impl Figure {
    /// Writes the figure as `path` with the endings `svg` and `png`, each whole or not at all.
    ///
    /// # Errors
    /// If it cannot be drawn or written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(&path.with_extension("svg"), self.svg()?.as_bytes())?;
        write_whole(&path.with_extension("png"), &self.png()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(range: (f64, f64), log: bool) -> Axis {
        Axis { label: String::new(), range, log }
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        let texts = |axis: &Axis| axis.ticks().iter().map(|&t| axis.text(t)).collect::<Vec<_>>();
        assert_eq!(texts(&axis((0.0, 200.0), false)), ["0", "50", "100", "150", "200"]);
        assert_eq!(texts(&axis((0.13, 0.31), false)), ["0.15", "0.2", "0.25", "0.3"]);
        assert_eq!(texts(&axis((-1.0, 1.0), false)), ["-1", "-0.5", "0", "0.5", "1"]);
        assert_eq!(texts(&axis((0.009, 0.3), true)), ["0.01", "0.02", "0.05", "0.1", "0.2"]);
        assert_eq!(texts(&axis((0.5, 20_000.0), true)), ["1", "10", "100", "1000", "10000"]);
        assert!(!texts(&axis((3.0, 3.0), false)).is_empty(), "a range of nothing is made wider");
    }
}
