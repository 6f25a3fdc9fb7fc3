//! Where things are: the coordinates all floors share.
//!
//! Order is always (row, col). Rectangles are half-open. Pixel (0, 0) is the
//! top-left one and its centre is (0.0, 0.0).

use serde::{Deserialize, Serialize};

/// Rows, and columns, that a scene has at most.
pub const MOST_PX: u64 = (1 << 31) - 1;

/// A half-open rectangle of pixels of one scene: rows `row0..row1`, columns `col0..col1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PixelRect {
    /// First row.
    pub row0: u64,
    /// First column.
    pub col0: u64,
    /// One past the last row.
    pub row1: u64,
    /// One past the last column.
    pub col1: u64,
}

impl PixelRect {
    /// Rows covered.
    pub fn rows(&self) -> u64 {
        self.row1 - self.row0
    }

    /// Columns covered.
    pub fn cols(&self) -> u64 {
        self.col1 - self.col0
    }

    /// Pixels covered.
    pub fn pixels(&self) -> u64 {
        self.rows() * self.cols()
    }

    /// Whether a pixel lies in it.
    pub fn contains(&self, row: u64, col: u64) -> bool {
        (self.row0..self.row1).contains(&row) && (self.col0..self.col1).contains(&col)
    }

    /// The smallest rectangle that holds both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            row0: self.row0.min(other.row0),
            col0: self.col0.min(other.col0),
            row1: self.row1.max(other.row1),
            col1: self.col1.max(other.col1),
        }
    }
}

/// A place in a scene, in pixels; the centre of the top-left pixel is (0, 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScenePx {
    /// Downwards from the top row's centre.
    pub row: f64,
    /// Rightwards from the left column's centre.
    pub col: f64,
}

/// A place on the map: projected metres, or degrees where the map itself is in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapPoint {
    /// Easting.
    pub x: f64,
    /// Northing.
    pub y: f64,
}

/// A place on Mars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LonLat {
    /// East-positive longitude, 0..360.
    pub lon_deg: f64,
    /// Planetocentric latitude, -90..=90.
    pub lat_deg: f64,
}
