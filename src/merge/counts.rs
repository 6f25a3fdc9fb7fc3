//! The catalogue for crater statistics: diameters with the area searched, `.diam` and `.scc`.
//!
//! Both are files of Craterstats, described by the samples and readers in its source (Greg Michael, craterstats 3,
//! `sample/sample.diam`, `sample/sample.scc`, `Cratercount.py`; github.com/ggmichael/craterstats); `.scc` (spatial
//! crater count) is also what CraterTools and OpenCraterTool exchange. Diameters are in km, areas in km², longitudes
//! east. The area is all valid ground that was scanned and did not fail; where scenes overlap it counts as often as
//! it was scanned, and so do the impacts there, which leaves the density right.

use std::io::Write;

use anyhow::Result;

use crate::geo::{MARS_NAME, MARS_RADIUS_M};
use crate::records::Impact;

/// After the last crater.
pub const TAIL: &str = "}\n";

/// What a `.diam` file begins with.
pub fn diam_head(area_km2: f64) -> String {
    format!(
        "# Impacts found by marscan {}\n#\n# area searched, km^2; ground in several scenes counts in each\n\
         area = {area_km2:.6}\n#\n# km, -, deg east, deg north\ncrater = {{diameter, fraction, lon, lat\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What an `.scc` file begins with.
pub fn scc_head(area_km2: f64) -> String {
    let radius_km = MARS_RADIUS_M / 1000.0;
    format!(
        "# Spatial crater count\n#\n# Impacts found by marscan {}\n#\n# Ellipsoid axes:\n\
         a_axis_radius = {radius_km} <km>\nb_axis_radius = {radius_km} <km>\nc_axis_radius = {radius_km} <km>\n\
         coordinate_system_name = {MARS_NAME}\n#\n# area searched; ground in several scenes counts in each\n\
         Total_area = {area_km2:.6} <km^2>\n#\n# crater_diameters:\ncrater = {{diam, fraction, lon, lat\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Appends an impact, which is the same line in both; nothing where it has no place on Mars.
///
/// # Errors
/// None is known: memory takes everything.
pub fn append(text: &mut Vec<u8>, impact: &Impact) -> Result<()> {
    if let (Some(diameter_m), Some(lon), Some(lat)) = (impact.diameter_m, impact.lon_deg, impact.lat_deg) {
        writeln!(text, "{:.5}\t1\t{lon:.6}\t{lat:.6}", diameter_m / 1000.0)?;
    }
    Ok(())
}
