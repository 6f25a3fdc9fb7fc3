//! Tables and files: CSV with a header, and files that appear whole or not at all.

mod headers;
mod whole;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use headers::{BLOB_HEADER, CATALOGUE_HEADER, PART_HEADER, SEAM_HEADER, TIMING_HEADER};
pub use whole::{Aside, WholeFile, aside_of, make_folder_of, scene_file, write_whole, write_whole_with};

/// Writes `rows` as CSV, the struct's field names as header, through a temporary file and a rename.
///
/// # Errors
/// If the file cannot be written; the message names it.
pub fn write_rows<T: Serialize>(path: &Path, header: &[&str], rows: &[T]) -> Result<()> {
    write_whole(path, &csv_bytes(header, rows)?)
}

/// `rows` as CSV, the struct's field names as header.
///
/// # Errors
/// If a row cannot be written as CSV.
pub fn csv_bytes<T: Serialize>(header: &[&str], rows: &[T]) -> Result<Vec<u8>> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    csv.write_record(header)?;
    for row in rows {
        csv.serialize(row)?;
    }
    Ok(csv.into_inner()?)
}

/// Reads a CSV whose header names the fields of `T`, in any order.
///
/// # Errors
/// If the file cannot be read, or a line does not fit; the message names the file and the line.
pub fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    csv::Reader::from_reader(BufReader::new(file))
        .deserialize()
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot read {}", path.display()))
}
