//! The catalogue as GeoJSON (RFC 7946), a feature a line.
//!
//! RFC 7946 knows the Earth only and leaves other members to whoever adds them. `crs`, as GeoJSON 2008 had it,
//! names Mars: GDAL and QGIS read it, others pass it over. Coordinates are east longitude, 0..360, and
//! planetocentric latitude, as in `catalogue.csv`. A scene that is not georeferenced gives features without
//! geometry, which the RFC calls unlocated.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::columns::Cells;
use crate::geo::MARS_URN;
use crate::records::Impact;

/// After the last feature.
pub const TAIL: &str = "\n]}\n";

#[derive(Serialize)]
struct Feature<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: u64,
    geometry: Option<Point>,
    properties: Properties<'a>,
}

/// The columns of the catalogue.
#[derive(Serialize)]
struct Properties<'a> {
    #[serde(flatten)]
    impact: &'a Impact,
    #[serde(flatten)]
    cells: Cells<'a>,
}

#[derive(Serialize)]
struct Point {
    #[serde(rename = "type")]
    kind: &'static str,
    coordinates: (f64, f64),
}

/// Before the first feature; Mars is named where there are places on it.
pub fn head(georeferenced: bool) -> String {
    let crs = format!(r#""crs":{{"type":"name","properties":{{"name":"{MARS_URN}"}}}},"#);
    let crs = if georeferenced { crs.as_str() } else { "" };
    format!(r#"{{"type":"FeatureCollection","name":"catalogue",{crs}"features":["#)
}

/// Appends a feature; the first one of all has the id 1 and no comma before it.
///
/// # Errors
/// None is known: memory takes everything.
pub fn append(text: &mut Vec<u8>, impact: &Impact, cells: Cells<'_>) -> Result<()> {
    text.write_all(if impact.id == 1 { b"\n" } else { b",\n" })?;
    let place = impact.lon_deg.zip(impact.lat_deg);
    let geometry = place.map(|coordinates| Point { kind: "Point", coordinates });
    let properties = Properties { impact, cells };
    serde_json::to_writer(text, &Feature { kind: "Feature", id: impact.id, geometry, properties })?;
    Ok(())
}
