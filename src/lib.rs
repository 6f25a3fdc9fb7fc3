//! marscan finds fresh impact craters in giant orbital images of Mars.
//!
//! A scene (a TIFF, memory-mapped) is cut into bands, bands are dealt to the
//! shards of a job array, each shard runs a U-Net over its bands and writes
//! what it found, and `merge` turns the shards into one catalogue. The rooms
//! stand on floors; each names only rooms of a lower one:
//!
//! | floor | rooms |
//! |---|---|
//! | 5 | [`cli`] |
//! | 4 | [`plan`], [`scan`], [`merge`], [`repeat`], [`score`], [`train`], [`synth`], [`speedup`] |
//! | 3 | [`unet`], the only room that names burn or wgpu |
//! | 2 | [`config`], [`detect`], [`raster`], [`picture`] |
//! | 1 | [`geo`], [`tile`], [`table`], [`job`], [`ranks`], the only room that names mpi, [`timing`] |
//! | 0 | [`space`], [`records`], [`fault`], [`dice`] |

pub mod cli;
pub mod config;
pub mod detect;
pub mod dice;
pub mod fault;
pub mod geo;
pub mod job;
pub mod merge;
pub mod picture;
pub mod plan;
pub mod ranks;
pub mod raster;
pub mod records;
pub mod repeat;
pub mod scan;
pub mod score;
pub mod space;
pub mod speedup;
pub mod synth;
pub mod table;
pub mod tile;
pub mod timing;
pub mod train;
pub mod unet;
