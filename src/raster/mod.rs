//! STUB raster.
