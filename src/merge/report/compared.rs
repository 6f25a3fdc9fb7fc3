//! Speed-up: of this run's shards, and the table and figure that `marscan speedup` made of several runs.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::super::outputs::SpeedupRow;
use super::{duration, shortened};
use crate::fault::WrongUsage;
use crate::picture::data_uri;

/// Lines and columns of a table on the page, bytes of its files, characters of a cell.
const LINES: usize = 64;
const COLUMNS: usize = 40;
const MOST_BYTES: usize = 512 << 10;
const CELL: usize = 40;

/// A table and its figure, as they stand in a folder.
#[derive(Clone, Debug)]
pub struct Compared {
    header: Vec<String>,
    lines: Vec<Vec<String>>,
    svg: Vec<u8>,
}

impl Compared {
    /// Reads what `marscan speedup --out folder` wrote.
    ///
    /// # Errors
    /// [`WrongUsage`] if the folder does not hold it.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::read(folder).map_err(|why| {
            let make = "make it with `marscan speedup WORKERS=RUN… --out`";
            WrongUsage(format!("--speedup {}: {why:#}; {make}", folder.display())).into()
        })
    }

    fn read(folder: &Path) -> Result<Self> {
        let bytes = |name: &str| -> Result<Vec<u8>> {
            let bytes = fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"))?;
            ensure!(
                bytes.len() <= MOST_BYTES,
                "{name} has {} bytes, at most {MOST_BYTES} are shown",
                bytes.len()
            );
            Ok(bytes)
        };
        let (table, svg) = (bytes("speedup.csv")?, bytes("speedup.svg")?);
        let mut csv = csv::Reader::from_reader(table.as_slice());
        let row = |record: &csv::StringRecord| record.iter().take(COLUMNS).map(str::to_owned).collect();
        let header: Vec<String> = row(csv.headers()?);
        ensure!(header.iter().any(|name| name == "workers"), "speedup.csv has no column `workers`");
        let lines = csv.records().take(LINES).map(|record| Ok(row(&record?))).collect::<Result<_>>()?;
        Ok(Self { header, lines, svg })
    }

    /// The columns that are filled somewhere, but for those that a deviation follows as its own.
    fn table(&self) -> String {
        let filled = |k: &usize| {
            !self.header[*k].ends_with("_deviation")
                && self.lines.iter().any(|line| line.get(*k).is_some_and(|cell| !cell.is_empty()))
        };
        let shown: Vec<usize> = (0..self.header.len()).filter(filled).collect();
        let mut text = "<div class=wide><table><thead><tr>".to_owned();
        for &k in &shown {
            let _ = write!(text, "<th class=n>{}", shortened(&self.header[k].replace('_', " "), CELL));
        }
        text += "</thead>\n";
        for line in &self.lines {
            text += "<tr>";
            for &k in &shown {
                let cell = |k: usize| line.get(k).map_or(String::new(), |cell| figure(cell));
                let deviation = self.header.get(k + 1) == Some(&format!("{}_deviation", self.header[k]));
                let off = if deviation { cell(k + 1) } else { String::new() };
                let off = if off.is_empty() { off } else { format!(" ± {off}") };
                let _ = write!(text, "<td class=n>{}{off}", cell(k));
            }
            text.push('\n');
        }
        text + "</table></div>\n"
    }
}

/// A cell: fractions to four figures, all else as it is.
fn figure(cell: &str) -> String {
    match cell.parse::<f64>() {
        Ok(value) if cell.contains('.') && value.is_finite() => {
            let whole = value.abs().max(1e-3).log10().floor() as i32;
            format!("{value:.*}", (3 - whole).clamp(0, 4) as usize)
        }
        _ => shortened(cell, CELL),
    }
}

/// This run's line, then the table of several.
pub fn section(speedup: &SpeedupRow, compared: Option<&Compared>) -> String {
    let mut text = format!(
        "<p>The {} shards of this run took {} one after the other and {} all at once: {:.2} times faster, \
         an efficiency of {:.3}.</p>\n",
        speedup.shards,
        duration(speedup.sum_s),
        duration(speedup.longest_s),
        speedup.speedup,
        speedup.efficiency
    );
    match compared {
        Some(compared) => {
            text += &compared.table();
            let _ = writeln!(
                text,
                "<img class=plot alt='Speed-up over workers' src='{}'>",
                data_uri("image/svg+xml", &compared.svg)
            );
        }
        None => {
            text += "<p class=note>Several runs beside each other: <code>marscan speedup 1=RUN 2=RUN … --out FOLDER</code>, \
                     then <code>marscan merge … --speedup FOLDER</code>.</p>\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_and_texts_escaped() {
        let cells = ["2", "1.23456", "123.456", "0.000123", "cpu <1>", ""];
        assert_eq!(cells.map(figure), ["2", "1.235", "123.5", "0.0001", "cpu &lt;1&gt;", ""]);
    }
}
