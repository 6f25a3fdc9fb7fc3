//! What annotated scenes hold: a line each, and how their sizes and impacts are spread.

use anyhow::Result;
use serde::Serialize;

use super::crops::{TrainingScene, diameter};

/// One line of `stats.csv`; the last one is that of all scenes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StatRow {
    /// The scene's `file_name`, or `all`.
    pub scene: String,
    /// What it is for.
    pub part: String,
    /// Rows.
    pub rows: Option<u64>,
    /// Columns.
    pub cols: Option<u64>,
    /// Million pixels.
    pub mpx: f64,
    /// Pixels that are not no-data.
    pub valid_px: u64,
    /// Of all pixels, 0..=1.
    pub valid_share: f64,
    /// Impacts.
    pub impacts: u64,
    /// Their pixels.
    pub impact_px: u64,
    /// Of all pixels, 0..=1.
    pub impact_share: f64,
    /// Middle one of the impacts' diameters.
    pub median_diameter_px: Option<f64>,
}

/// The names of a [`StatRow`]'s columns.
pub const STAT_HEADER: [&str; 11] = [
    "scene",
    "part",
    "rows",
    "cols",
    "mpx",
    "valid_px",
    "valid_share",
    "impacts",
    "impact_px",
    "impact_share",
    "median_diameter_px",
];

/// The table of a data set.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// A scene each, then all.
    pub rows: Vec<StatRow>,
    /// Of each scene, million pixels.
    pub sizes_mpx: Vec<f64>,
    /// Of each impact.
    pub diameters_px: Vec<f64>,
}

impl Stats {
    /// Reads every pixel of a scene and adds its line.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, name: &str, part: &str, scene: &TrainingScene) -> Result<u64> {
        let (rows, cols) = (scene.rows(), scene.cols());
        let valid_px = scene.image().valid_px()?;
        let diameters: Vec<f64> = scene.impacts().iter().map(diameter).collect();
        let impact_px = scene.impacts().iter().map(|impact| impact.area_px).sum();
        let mut row = line(name, rows * cols, valid_px, impact_px, &diameters);
        (row.part, row.rows, row.cols) = (part.to_owned(), Some(rows), Some(cols));
        self.sizes_mpx.push(row.mpx);
        self.rows.push(row);
        self.diameters_px.extend(diameters);
        Ok(valid_px)
    }

    /// Adds the line of all scenes.
    pub fn total(&mut self) {
        let sum = |part: fn(&StatRow) -> u64| self.rows.iter().map(part).sum::<u64>();
        let pixels = sum(|row| row.rows.unwrap_or(0) * row.cols.unwrap_or(0));
        let all = line("all", pixels, sum(|row| row.valid_px), sum(|row| row.impact_px), &self.diameters_px);
        self.rows.push(all);
    }
}

fn line(name: &str, pixels: u64, valid_px: u64, impact_px: u64, diameters: &[f64]) -> StatRow {
    let mut sorted = diameters.to_vec();
    sorted.sort_by(f64::total_cmp);
    StatRow {
        scene: name.to_owned(),
        mpx: pixels as f64 / 1e6,
        valid_px,
        valid_share: valid_px as f64 / pixels.max(1) as f64,
        impacts: diameters.len() as u64,
        impact_px,
        impact_share: impact_px as f64 / pixels.max(1) as f64,
        median_diameter_px: sorted.get(sorted.len() / 2).map(|d| (d * 100.0).round() / 100.0),
        ..StatRow::default()
    }
}

/// A histogram as lines of text: values counted between powers of two, the longest bar `width` characters.
pub fn histogram(values: &[f64], unit: &str, width: usize) -> Vec<String> {
    let bin = |value: &f64| value.max(f64::MIN_POSITIVE).log2().floor() as i32;
    let Some(first) = values.iter().map(bin).min() else { return vec![format!("none ({unit})")] };
    let last = values.iter().map(bin).max().unwrap_or(first);
    let counts: Vec<usize> =
        (first..=last).map(|k| values.iter().filter(|value| bin(value) == k).count()).collect();
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let text = |(k, count): (i32, &usize)| {
        let (from, to) = (2f64.powi(k), 2f64.powi(k + 1));
        let bar = "#".repeat((count * width).div_ceil(most));
        format!("{from:>9} to {to:<9} {unit:4} {count:6} {bar}").trim_end().to_owned()
    };
    (first..=last).zip(&counts).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_powers_of_two_and_empty_ones_are_shown() {
        let lines = histogram(&[4.0, 7.9, 8.0, 40.0], "px", 10);
        let counts: Vec<&str> = lines.iter().map(|line| line.split_whitespace().nth(4).unwrap()).collect();
        assert_eq!(counts, ["2", "1", "0", "1"]);
        assert!(lines[0].trim_start().starts_with("4 to 8") && lines[0].ends_with("##########"), "{lines:?}");
        assert_eq!(histogram(&[], "px", 10).len(), 1);
    }
}
