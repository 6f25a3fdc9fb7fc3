//! What a scene's name says of where it is, and whether it agrees with itself.
//!
//! `D21_035473_1885_XI_08N342W`: 1885 is the orbit angle times 10, so the latitude is 1885 / 10 - 180 =
//! 8.5 N; 342 W is longitude 18 E (CTX counts west).

/// What a CTX name says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NamedPlace {
    /// From the orbit angle.
    pub angle_lat_deg: f64,
    /// From the `08N` at the end.
    pub lat_deg: f64,
    /// From the `342W` at the end, east-positive.
    pub lon_deg: f64,
}

/// The name rounds to a degree, and the angle is of the frame's centre or its edge.
const TOLERANCE_DEG: f64 = 1.5;

impl NamedPlace {
    /// Reads `<product>_<orbit>_<angle>_<camera>_<lat><N|S><lon>W`; `None` for other names.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.split('.').next()?;
        let parts: Vec<&str> = stem.split('_').collect();
        let [_, _, angle, _, place, ..] = parts[..] else { return None };
        let angle: f64 = angle.parse().ok().filter(|_| angle.len() == 4)?;
        let split = place.find(['N', 'S'])?;
        let north = place.as_bytes()[split] == b'N';
        let degrees: f64 = place[..split].parse().ok()?;
        let west: f64 = place[split + 1..].strip_suffix('W')?.parse().ok()?;
        let orbit = angle / 10.0;
        // Past 270 degrees the orbit comes down again on the other side.
        let angle_lat_deg = if orbit > 270.0 {
            360.0 - orbit
        } else if orbit < 90.0 {
            -orbit
        } else {
            orbit - 180.0
        };
        let lat_deg = if north { degrees } else { -degrees };
        Some(Self { angle_lat_deg, lat_deg, lon_deg: (360.0 - west).rem_euclid(360.0) })
    }

    /// What contradicts what, in words; `None` if nothing does.
    pub fn contradiction(&self) -> Option<String> {
        let off = (self.angle_lat_deg - self.lat_deg).abs();
        (off > TOLERANCE_DEG).then(|| {
            format!(
                "its name contradicts itself: the orbit angle says latitude {:.1}, the end says {:.0}",
                self.angle_lat_deg, self.lat_deg
            )
        })
    }
}

/// The observation that a CTX or HiRISE product is of: mission phase, orbit and angle, `D21_035473_1885` of
/// `D21_035473_1885_XI_08N342W.geo`. A name of another kind is an observation of its own; folders before it do not count.
pub fn observation(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    let ends = file.as_bytes().get(15).is_none_or(|b| !b.is_ascii_alphanumeric());
    let fits = |b: &[u8]| {
        let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        let phase = b[0].is_ascii_uppercase() && b[1..3].iter().all(u8::is_ascii_alphanumeric);
        phase && b[3] == b'_' && digits(&b[4..10]) && b[10] == b'_' && digits(&b[11..15])
    };
    match file.as_bytes().get(..15) {
        Some(start) if ends && fits(start) => &file[..15],
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_one_observation_share_its_name() {
        for name in ["D21_035473_1885_XI_08N342W", "a/D21_035473_1885_XN_09N342W.geo", "D21_035473_1885"] {
            assert_eq!(observation(name), "D21_035473_1885");
        }
        assert_eq!(observation("ESP_013161_1715_RED-0058"), "ESP_013161_1715");
        for other in ["scene_500_000", "D21_035473_18855", "D21_03547a_1885", "d", "äöü_äöüäöü_ä"] {
            assert_eq!(observation(other), other);
        }
        assert_eq!(observation("f1/scene_500_000"), "scene_500_000");
    }

    #[test]
    fn the_designs_example_agrees_with_itself() {
        let place = NamedPlace::parse("D21_035473_1885_XI_08N342W").unwrap();
        assert_eq!(place, NamedPlace { angle_lat_deg: 8.5, lat_deg: 8.0, lon_deg: 18.0 });
        assert_eq!(place.contradiction(), None);
        assert!(NamedPlace::parse("D21_035473_1885_XI_28N342W").unwrap().contradiction().is_some());
        assert_eq!(NamedPlace::parse("scene_500_000"), None);
    }
}
