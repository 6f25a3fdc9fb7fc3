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
/// Columns that are the same in every line, and said once.
const TOLD: [&str; 4] = ["scaling", "reference_workers", "device", "host"];

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

    /// Where column `name` is.
    fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// The figures, with their deviations, then the stages' shares.
    fn tables(&self) -> String {
        let filled =
            |k: usize| self.lines.iter().any(|line| line.get(k).is_some_and(|cell| !cell.is_empty()));
        let is_share = |name: &str| name.starts_with("share_");
        let told = |name: &str| TOLD.contains(&name) || name.ends_with("_deviation") || is_share(name);
        let all = || self.header.iter().enumerate();
        let figures: Vec<usize> =
            all().filter(|(k, name)| !told(name) && filled(*k)).map(|(k, _)| k).collect();
        let shares = all().filter(|(_, name)| is_share(name)).map(|(k, _)| k);
        let shares: Vec<usize> = self.column("workers").into_iter().chain(shares).collect();
        let said = TOLD.iter().filter_map(|name| {
            let cell = self.lines.first()?.get(self.column(name)?)?;
            Some(format!("{} {}", name.replace('_', " "), shortened(cell, CELL)))
        });
        let mut text = format!("<p>Of several runs: {}.</p>\n", said.collect::<Vec<_>>().join(", "));
        text += &self.table(&figures, |name| name.replace('_', " "));
        if shares.len() > 1 {
            text += "<p class=note>Share of each stage in the time of all.</p>\n";
            text += &self.table(&shares, |name| name.trim_start_matches("share_").to_owned());
        }
        text
    }

    fn table(&self, columns: &[usize], head: impl Fn(&str) -> String) -> String {
        let mut text = "<div class=wide><table><thead><tr>".to_owned();
        for &k in columns {
            let _ = write!(text, "<th class=n>{}", shortened(&head(&self.header[k]), CELL));
        }
        text += "</thead>\n";
        for line in &self.lines {
            text += "<tr>";
            for &k in columns {
                let cell = |k: usize| line.get(k).map_or(String::new(), |cell| figure(cell));
                let off = self.column(&format!("{}_deviation", self.header[k])).map(cell);
                let off = off
                    .filter(|off| !off.is_empty())
                    .map_or(String::new(), |off| format!("&nbsp;±&nbsp;{off}"));
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
            text += &compared.tables();
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
