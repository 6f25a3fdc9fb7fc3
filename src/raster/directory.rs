//! A TIFF's directory as bytes, classic or Big, little-endian.

use crate::geo::GeoTags;

/// The values of a tag.
pub enum Values {
    /// Offsets and sizes: as wide as the file's offsets.
    Integers(Vec<u64>),
    /// 16 bits each.
    Shorts(Vec<u16>),
    /// 64 bits each.
    Doubles(Vec<f64>),
    /// ASCII; its closing zero is added.
    Text(String),
}

impl Values {
    /// TIFF type, count and bytes.
    fn encoded(self, big: bool) -> (u16, usize, Vec<u8>) {
        match self {
            Self::Integers(v) if big => (16, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::Integers(v) => (4, v.len(), v.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect()),
            Self::Shorts(v) => (3, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::Doubles(v) => (12, v.len(), v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::Text(text) => (2, text.len() + 1, [text.as_bytes(), &[0]].concat()),
        }
    }
}

/// The tags that place a picture on the map, and 0 as its no-data value; in ascending order, the empty ones left out.
pub fn geo_values(tags: &GeoTags) -> Vec<(u16, Values)> {
    let doubles = [
        (33550, &tags.pixel_scale),
        (33922, &tags.tiepoints),
        (34264, &tags.transformation),
        (34736, &tags.doubles),
    ];
    let mut values: Vec<(u16, Values)> = doubles
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(tag, values)| (tag, Values::Doubles(values.clone())))
        .collect();
    if !tags.directory.is_empty() {
        values.push((34735, Values::Shorts(tags.directory.iter().map(|&v| v as u16).collect())));
    }
    if !tags.names.is_empty() {
        values.push((34737, Values::Text(tags.names.clone())));
    }
    values.push((42113, Values::Text("0".into())));
    values.sort_by_key(|(tag, _)| *tag);
    values
}

/// The header that names the first directory.
pub fn header(directory: u64, big: bool) -> Vec<u8> {
    if big {
        [&b"II\x2b\0\x08\0\0\0"[..], &directory.to_le_bytes()].concat()
    } else {
        [&b"II\x2a\0"[..], &(directory as u32).to_le_bytes()].concat()
    }
}

/// The directory's bytes where it stands at `at`, its longer values behind it; `tags` ascend. If there are `more`
/// directories, the next one follows at once.
pub fn directory(tags: Vec<(u16, Values)>, at: u64, big: bool, more: bool) -> Vec<u8> {
    let (inline, entry) = if big { (8, 20) } else { (4, 12) };
    let mut head = if big {
        (tags.len() as u64).to_le_bytes().to_vec()
    } else {
        (tags.len() as u16).to_le_bytes().to_vec()
    };
    let behind = at + (head.len() + tags.len() * entry + inline) as u64;
    let mut tail = Vec::new();
    for (tag, values) in tags {
        let (kind, count, mut bytes) = values.encoded(big);
        head.extend(tag.to_le_bytes());
        head.extend(kind.to_le_bytes());
        head.extend(&(count as u64).to_le_bytes()[..inline]);
        if bytes.len() <= inline {
            bytes.resize(inline, 0);
            head.extend(bytes);
        } else {
            head.extend(&(behind + tail.len() as u64).to_le_bytes()[..inline]);
            tail.extend(bytes);
            tail.resize(tail.len().next_multiple_of(8), 0);
        }
    }
    let next = if more { behind + tail.len() as u64 } else { 0 };
    head.extend(&next.to_le_bytes()[..inline]);
    head.extend(tail);
    head
}
