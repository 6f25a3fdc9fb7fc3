//! How a scene is cut into windows, and how much of each belongs to its neighbours.

mod grid;
mod halo;

pub use grid::TileGrid;
pub use halo::{halo_px, multiple_px};
