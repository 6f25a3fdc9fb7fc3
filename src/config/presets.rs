//! What is compiled in: settings and weights.

/// Names and texts of the presets: for scanning, the study's four networks as the study trained them, and
/// a plain grey level.
pub const PRESETS: [(&str, &str); 8] = [
    ("unet1", include_str!("../../configs/unet1.toml")),
    ("unet2", include_str!("../../configs/unet2.toml")),
    ("unet3", include_str!("../../configs/unet3.toml")),
    ("unet1.0", include_str!("../../configs/unet1.0.toml")),
    ("unet2.0", include_str!("../../configs/unet2.0.toml")),
    ("unet2.1", include_str!("../../configs/unet2.1.toml")),
    ("unet3.0", include_str!("../../configs/unet3.0.toml")),
    ("threshold", include_str!("../../configs/threshold.toml")),
];

/// The weights shipped for a preset, a safetensors file's bytes.
pub fn shipped_weights(preset: &str) -> Option<&'static [u8]> {
    match preset {
        "unet1" => Some(include_bytes!("../../configs/unet1.safetensors")),
        _ => None,
    }
}

/// The shipped screening network, a safetensors file's bytes.
pub const SCREEN_WEIGHTS: &[u8] = include_bytes!("../../configs/screen.safetensors");
