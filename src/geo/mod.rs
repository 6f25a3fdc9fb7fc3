//! From pixels to places on Mars.

use serde::{Deserialize, Serialize};

/// STUB: owner of geo/ replaces it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeoRef {}
