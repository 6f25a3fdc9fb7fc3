//! Map projections of Mars on a sphere, the ones its images come in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::space::{LonLat, MapPoint};

/// A projection with all its parameters, in degrees and metres.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Projection {
    /// `lon = lon0 + x / (R cos(lat_ts))`, `lat = lat0 + y / R`.
    Equirectangular {
        /// Of the sphere.
        radius_m: f64,
        /// Where x is 0.
        lon0_deg: f64,
        /// Where y is 0.
        lat0_deg: f64,
        /// Of true scale.
        lat_ts_deg: f64,
        /// Added to x.
        false_easting_m: f64,
        /// Added to y.
        false_northing_m: f64,
    },
    /// Seen from the opposite pole.
    PolarStereographic {
        /// Of the sphere.
        radius_m: f64,
        /// Straight down from the pole.
        lon0_deg: f64,
        /// Of true scale; its sign names the pole.
        lat_ts_deg: f64,
        /// Added to x.
        false_easting_m: f64,
        /// Added to y.
        false_northing_m: f64,
    },
    /// The map is in degrees.
    Geographic {
        /// Of the sphere.
        radius_m: f64,
    },
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equirectangular { radius_m, lon0_deg, lat_ts_deg, .. } => write!(
                f,
                "equirectangular, radius {radius_m} m, centre longitude {lon0_deg}, true scale at {lat_ts_deg}"
            ),
            Self::PolarStereographic { radius_m, lon0_deg, lat_ts_deg, .. } => write!(
                f,
                "polar stereographic, radius {radius_m} m, centre longitude {lon0_deg}, true scale at {lat_ts_deg}"
            ),
            Self::Geographic { radius_m } => write!(f, "degrees, radius {radius_m} m"),
        }
    }
}

impl Projection {
    /// The place at a map point.
    pub fn lonlat(&self, at: MapPoint) -> LonLat {
        match *self {
            Self::Equirectangular {
                radius_m,
                lon0_deg,
                lat0_deg,
                lat_ts_deg,
                false_easting_m,
                false_northing_m,
            } => {
                let x = (at.x - false_easting_m) / (radius_m * lat_ts_deg.to_radians().cos());
                let y = (at.y - false_northing_m) / radius_m;
                LonLat { lon_deg: positive(lon0_deg + x.to_degrees()), lat_deg: lat0_deg + y.to_degrees() }
            }
            Self::PolarStereographic {
                radius_m,
                lon0_deg,
                lat_ts_deg,
                false_easting_m,
                false_northing_m,
            } => {
                let (x, y) = (at.x - false_easting_m, at.y - false_northing_m);
                let pole = lat_ts_deg.signum();
                let rho = x.hypot(y);
                let colatitude =
                    2.0 * (rho / (radius_m * (1.0 + lat_ts_deg.abs().to_radians().sin()))).atan();
                let lon = if rho == 0.0 { 0.0 } else { x.atan2(-pole * y).to_degrees() };
                LonLat { lon_deg: positive(lon0_deg + lon), lat_deg: pole * (90.0 - colatitude.to_degrees()) }
            }
            Self::Geographic { .. } => LonLat { lon_deg: positive(at.x), lat_deg: at.y },
        }
    }

    /// The map point of a place.
    pub fn map(&self, at: LonLat) -> MapPoint {
        match *self {
            Self::Equirectangular {
                radius_m,
                lon0_deg,
                lat0_deg,
                lat_ts_deg,
                false_easting_m,
                false_northing_m,
            } => {
                let scale = radius_m * lat_ts_deg.to_radians().cos();
                MapPoint {
                    x: false_easting_m + (at.lon_deg - lon0_deg).to_radians() * scale,
                    y: false_northing_m + (at.lat_deg - lat0_deg).to_radians() * radius_m,
                }
            }
            Self::PolarStereographic {
                radius_m,
                lon0_deg,
                lat_ts_deg,
                false_easting_m,
                false_northing_m,
            } => {
                let pole = lat_ts_deg.signum();
                let half = (90.0 - pole * at.lat_deg).to_radians() / 2.0;
                let rho = radius_m * (1.0 + lat_ts_deg.abs().to_radians().sin()) * half.tan();
                let lon = (at.lon_deg - lon0_deg).to_radians();
                MapPoint {
                    x: false_easting_m + rho * lon.sin(),
                    y: false_northing_m - pole * rho * lon.cos(),
                }
            }
            Self::Geographic { .. } => MapPoint { x: at.lon_deg, y: at.lat_deg },
        }
    }

    /// Of the sphere, m.
    pub fn radius_m(&self) -> f64 {
        match *self {
            Self::Equirectangular { radius_m, .. }
            | Self::PolarStereographic { radius_m, .. }
            | Self::Geographic { radius_m } => radius_m,
        }
    }

    /// How far x moves in 360 degrees of longitude, where it does.
    pub fn turn(&self) -> Option<f64> {
        match *self {
            Self::Equirectangular { radius_m, lat_ts_deg, .. } => {
                Some(std::f64::consts::TAU * radius_m * lat_ts_deg.to_radians().cos())
            }
            Self::PolarStereographic { .. } => None,
            Self::Geographic { .. } => Some(360.0),
        }
    }

    /// Ground, m², of a unit of map area at a map point.
    pub fn ground_per_map_area(&self, at: MapPoint) -> f64 {
        let lat = self.lonlat(at).lat_deg;
        match *self {
            Self::Equirectangular { lat_ts_deg, .. } => {
                lat.to_radians().cos() / lat_ts_deg.to_radians().cos()
            }
            Self::PolarStereographic { lat_ts_deg, .. } => {
                let sine = (lat * lat_ts_deg.signum()).to_radians().sin();
                let scale = (1.0 + lat_ts_deg.abs().to_radians().sin()) / (1.0 + sine);
                1.0 / (scale * scale)
            }
            Self::Geographic { radius_m } => {
                let degree_m = radius_m.to_radians();
                degree_m * degree_m * lat.to_radians().cos()
            }
        }
    }
}

fn positive(lon_deg: f64) -> f64 {
    lon_deg.rem_euclid(360.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_projection_comes_back_from_the_map() {
        let (radius_m, lon0_deg, false_easting_m, false_northing_m) = (3_396_190.0, 180.0, 10.0, -20.0);
        let all = [
            Projection::Equirectangular {
                radius_m,
                lon0_deg,
                lat0_deg: 0.0,
                lat_ts_deg: 15.0,
                false_easting_m,
                false_northing_m,
            },
            Projection::PolarStereographic {
                radius_m,
                lon0_deg,
                lat_ts_deg: 90.0,
                false_easting_m,
                false_northing_m,
            },
            Projection::PolarStereographic {
                radius_m,
                lon0_deg,
                lat_ts_deg: -75.0,
                false_easting_m,
                false_northing_m,
            },
            Projection::Geographic { radius_m },
        ];
        for projection in all {
            for lon_deg in [3.0, 100.0, 181.5, 359.0] {
                for lat_deg in [-80.0, -12.5, 33.0, 77.0] {
                    let back = projection.lonlat(projection.map(LonLat { lon_deg, lat_deg }));
                    let off = (back.lon_deg - lon_deg).abs() + (back.lat_deg - lat_deg).abs();
                    assert!(off < 1e-9, "{projection}: {lon_deg} {lat_deg} came back as {back:?}");
                }
            }
        }
    }
}
