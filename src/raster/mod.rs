//! shim
#![allow(missing_docs)]
use std::{ops::Range, path::Path};
use anyhow::Result;
use crate::config::InputSettings;
pub struct Header { pub rows: u64, pub cols: u64 }
pub struct MappedScene { h: Header, px: Vec<u8> }
pub struct Rows<'a> { s: &'a MappedScene }
impl Rows<'_> { pub fn row(&self, r: u64) -> &[u8] { let c = self.s.h.cols as usize; &self.s.px[r as usize * c..][..c] } }
impl MappedScene {
    pub fn open(p: &Path, _i: InputSettings) -> Result<Self> {
        let mut d = tiff::decoder::Decoder::new(std::io::BufReader::new(std::fs::File::open(p)?))?;
        let (c, r) = d.dimensions()?;
        let tiff::decoder::DecodingResult::U8(px) = d.read_image()? else { anyhow::bail!("not u8") };
        Ok(Self { h: Header { rows: r.into(), cols: c.into() }, px })
    }
    pub fn header(&self) -> &Header { &self.h }
    pub fn rows(&self, _r: Range<u64>) -> Result<Rows<'_>> { Ok(Rows { s: self }) }
}
