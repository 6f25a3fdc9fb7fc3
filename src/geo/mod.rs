//! From pixels to places on Mars, and back.
//!
//! `GeoTIFF`s of Mars carry no EPSG code: the user-defined keys say all, and nothing is assumed that
//! they do not say. HiRISE in particular uses the local radius at the projection's centre latitude.

mod keys;
pub mod name;
mod projection;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::space::{LonLat, MapPoint, ScenePx};
pub use keys::GeoTags;
pub use projection::Projection;

/// Radius of the sphere that positions on Mars are given on (IAU 2015), m; scenes may be projected from others.
pub const MARS_RADIUS_M: f64 = 3_396_190.0;

/// That sphere's planetocentric latitudes and longitudes among the IAU's reference systems of 2015.
pub const MARS_CODE: i32 = 49900;

/// The name of that reference system.
pub const MARS_NAME: &str = "Mars (2015) - Sphere / Ocentric";

/// That reference system as the OGC names it.
pub const MARS_URN: &str = "urn:ogc:def:crs:IAU:2015:49900";

/// How a scene's pixels lie on Mars: pixel centre to map by an affine, map to the sphere by a projection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeoRef {
    /// `x = a[0] + a[1] col + a[2] row`, `y = a[3] + a[4] col + a[5] row`, for pixel centres.
    affine: [f64; 6],
    projection: Projection,
}

impl GeoRef {
    /// From a TIFF's tags; `None` where it has none.
    ///
    /// # Errors
    /// If the tags are there and cannot be understood; the message says which.
    pub fn from_tags(tags: &GeoTags) -> Result<Option<Self>> {
        let Some(affine) = keys::affine(tags)? else { return Ok(None) };
        Ok(keys::projection(tags)?.map(|projection| Self { affine, projection }))
    }

    /// The projection.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// Where a pixel is on the map.
    pub fn map(&self, at: ScenePx) -> MapPoint {
        let a = &self.affine;
        MapPoint { x: a[0] + a[1] * at.col + a[2] * at.row, y: a[3] + a[4] * at.col + a[5] * at.row }
    }

    /// Where a pixel is on Mars.
    pub fn lonlat(&self, at: ScenePx) -> LonLat {
        self.projection.lonlat(self.map(at))
    }

    /// The pixel at a place, inside the scene or not.
    pub fn pixel(&self, place: LonLat) -> ScenePx {
        let a = &self.affine;
        // Longitudes are circular: take the first turn that is not left of the scene, so that every
        // place inside one finds its pixel, a scene all around Mars included.
        let here = self.projection.map(place);
        let left = self.map(ScenePx { row: 0.0, col: -0.5 }).x;
        let x = self.projection.turn().map_or(here.x, |turn| left + (here.x - left).rem_euclid(turn));
        let (dx, dy) = (x - a[0], here.y - a[3]);
        let det = a[1] * a[5] - a[2] * a[4];
        ScenePx { col: (dx * a[5] - dy * a[2]) / det, row: (dy * a[1] - dx * a[4]) / det }
    }

    /// Ground that the pixel at `at` covers, m².
    pub fn pixel_area_m2(&self, at: ScenePx) -> f64 {
        let a = &self.affine;
        (a[1] * a[5] - a[2] * a[4]).abs() * self.projection.ground_per_map_area(self.map(at))
    }

    /// Ground of so many pixels of a row of `cols`, as if all lay at its middle, m²: whole 64ths, so that rows add up to
    /// the same in any order.
    pub fn row_area_m2(&self, row: u64, cols: u64, pixels: u64) -> f64 {
        let middle = ScenePx { row: row as f64, col: (cols as f64 - 1.0) / 2.0 };
        (pixels as f64 * self.pixel_area_m2(middle) * 64.0).round() / 64.0
    }

    /// Side of the square as large as the pixel at `at`, m.
    pub fn metres_per_px(&self, at: ScenePx) -> f64 {
        self.pixel_area_m2(at).sqrt()
    }
}
