//! The columns of every table a run writes, in order, as the records' fields are.

/// A shard's `impacts.csv`: [`crate::records::BlobRow`].
pub const BLOB_HEADER: [&str; 11] = [
    "scene",
    "area_px",
    "row_sum",
    "col_sum",
    "score_sum",
    "peak",
    "row0_px",
    "col0_px",
    "row1_px",
    "col1_px",
    "seam",
];

/// A shard's `seams.csv`: [`crate::records::SeamRow`].
pub const SEAM_HEADER: [&str; 5] = ["scene", "row_px", "col0_px", "col1_px", "seam"];

/// A shard's `probabilities.csv`: [`crate::records::PartRow`].
pub const PART_HEADER: [&str; 5] = ["scene", "row0_px", "row1_px", "start", "bytes"];

/// `timing.csv`: [`crate::records::TimingRow`].
pub const TIMING_HEADER: [&str; 11] =
    ["shard", "scene", "band", "stage", "start_s", "seconds", "bytes", "pixels", "windows", "host", "device"];

/// `catalogue.csv`: [`crate::records::Impact`].
pub const CATALOGUE_HEADER: [&str; 15] = [
    "id",
    "scene",
    "row_px",
    "col_px",
    "lat_deg",
    "lon_deg",
    "diameter_m",
    "diameter_px",
    "area_px",
    "score",
    "peak",
    "row0_px",
    "col0_px",
    "row1_px",
    "col1_px",
];
