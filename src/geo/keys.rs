//! The tags and keys of a `GeoTIFF` (OGC 19-008r4), as far as images of Mars use them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use serde::{Deserialize, Serialize};

use super::projection::Projection;

/// The tags of a TIFF that say how it lies on a map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeoTags {
    /// Tag 33550.
    #[serde(with = "exact")]
    pub pixel_scale: Vec<f64>,
    /// Tag 33922, six numbers a point.
    #[serde(with = "exact")]
    pub tiepoints: Vec<f64>,
    /// Tag 34264, 16 numbers.
    #[serde(with = "exact")]
    pub transformation: Vec<f64>,
    /// Tag 34735, four numbers a key.
    pub directory: Vec<u64>,
    /// Tag 34736.
    #[serde(with = "exact")]
    pub doubles: Vec<f64>,
    /// Tag 34737: names, which nothing is read from.
    pub names: String,
}

/// Doubles as text: what reads numbers of JSON may round the last digit.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

const MODEL_TYPE: u64 = 1024;
const RASTER_TYPE: u64 = 1025;
const SEMI_MAJOR_AXIS: u64 = 2057;
const SEMI_MINOR_AXIS: u64 = 2058;
const TRANSFORMATION: u64 = 3075;
const LINEAR_UNITS: u64 = 3076;
const STANDARD_PARALLEL: u64 = 3078;
const ORIGIN_LONGITUDE: u64 = 3080;
const ORIGIN_LATITUDE: u64 = 3081;
const FALSE_EASTING: u64 = 3082;
const FALSE_NORTHING: u64 = 3083;
const CENTRE_LONGITUDE: u64 = 3088;
const CENTRE_LATITUDE: u64 = 3089;
const SCALE_AT_ORIGIN: u64 = 3092;
const POLE_LONGITUDE: u64 = 3095;

/// Pixel centre to map, as in `GeoRef`; `None` where the file has no such tags.
pub fn affine(tags: &GeoTags) -> Result<Option<[f64; 6]>> {
    let corner = if let [a, b, _, x, c, d, _, y, ..] = tags.transformation[..] {
        [x, a, b, y, c, d]
    } else if let ([sx, sy, ..], [col, row, _, x, y, ..]) = (&tags.pixel_scale[..], &tags.tiepoints[..]) {
        [x - col * sx, *sx, 0.0, y + row * sy, 0.0, -sy]
    } else {
        return Ok(None);
    };
    let det = corner[1] * corner[5] - corner[2] * corner[4];
    ensure!(det.is_finite() && det != 0.0, "its pixels have no extent on the map ({corner:?})");
    // Pixel is area (1): the tags place a pixel's corner. Pixel is point (2): its centre.
    let half = if integer(tags, RASTER_TYPE) == Some(2) { 0.0 } else { 0.5 };
    let mut centre = corner;
    centre[0] += half * (corner[1] + corner[2]);
    centre[3] += half * (corner[4] + corner[5]);
    Ok(Some(centre))
}

/// The projection; `None` where the file has no keys.
pub fn projection(tags: &GeoTags) -> Result<Option<Projection>> {
    let Some(model) = integer(tags, MODEL_TYPE) else { return Ok(None) };
    let numbers = doubles(tags);
    let get = |key: u64| numbers.get(&key).copied();
    let first = |keys: &[u64]| keys.iter().find_map(|key| get(*key));
    let radius_m =
        get(SEMI_MAJOR_AXIS).context("it has no key 2057 (semi-major axis): the radius is unknown")?;
    ensure!(
        (3_300_000.0..3_500_000.0).contains(&radius_m),
        "its radius of {radius_m} m is not that of Mars (3376 to 3397 km)"
    );
    if model == 2 {
        return Ok(Some(Projection::Geographic { radius_m }));
    }
    ensure!(model == 1, "key 1024 (model type) is {model}: only 1 (projected) and 2 (degrees) are known");
    let units = integer(tags, LINEAR_UNITS).unwrap_or(9001);
    ensure!(units == 9001, "its map units have code {units}: only metres (9001) are known");
    let lon0_deg = first(&[CENTRE_LONGITUDE, ORIGIN_LONGITUDE, POLE_LONGITUDE]).unwrap_or(0.0);
    let lat0_deg = first(&[CENTRE_LATITUDE, ORIGIN_LATITUDE]).unwrap_or(0.0);
    let false_easting_m = get(FALSE_EASTING).unwrap_or(0.0);
    let false_northing_m = get(FALSE_NORTHING).unwrap_or(0.0);
    match integer(tags, TRANSFORMATION) {
        Some(17) => {
            // The latitude of true scale; files without key 3078 mean the centre latitude by it.
            let lat_ts_deg = get(STANDARD_PARALLEL).unwrap_or(lat0_deg);
            let lat0_deg = if get(STANDARD_PARALLEL).is_some() { lat0_deg } else { 0.0 };
            Ok(Some(Projection::Equirectangular {
                radius_m,
                lon0_deg,
                lat0_deg,
                lat_ts_deg,
                false_easting_m,
                false_northing_m,
            }))
        }
        Some(15) => {
            let sphere = get(SEMI_MINOR_AXIS).is_none_or(|minor| (minor - radius_m).abs() < 1.0);
            ensure!(sphere, "polar stereographic on an ellipsoid is not known: only on a sphere");
            let scale = get(SCALE_AT_ORIGIN).unwrap_or(1.0);
            ensure!((scale - 1.0).abs() < 1e-9, "a scale of {scale} at the pole is not known: only 1");
            let lat_ts_deg = get(ORIGIN_LATITUDE).context("it has no key 3081: which pole is unknown")?;
            ensure!(lat_ts_deg != 0.0, "key 3081 is 0: which pole is unknown");
            Ok(Some(Projection::PolarStereographic {
                radius_m,
                lon0_deg,
                lat_ts_deg,
                false_easting_m,
                false_northing_m,
            }))
        }
        Some(other) => bail!(
            "projection {other} (key 3075) is not known: equirectangular (17) and polar stereographic (15) are"
        ),
        None => bail!("it has no key 3075: its projection is unknown"),
    }
}

/// Keys whose value stands in the directory itself.
fn integer(tags: &GeoTags, key: u64) -> Option<u64> {
    let mut entries = tags.directory.chunks_exact(4).skip(1);
    entries.find(|entry| entry[0] == key && entry[1] == 0).map(|entry| entry[3])
}

/// Keys whose value stands among the doubles.
fn doubles(tags: &GeoTags) -> BTreeMap<u64, f64> {
    let entries = tags.directory.chunks_exact(4).skip(1).filter(|entry| entry[1] == 34736);
    entries.filter_map(|entry| Some((entry[0], *tags.doubles.get(entry[3] as usize)?))).collect()
}
