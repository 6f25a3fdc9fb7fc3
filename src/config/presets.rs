//! What is compiled in: settings and weights.

/// Names and texts of the presets.
pub const PRESETS: [(&str, &str); 4] = [
    ("unet1", include_str!("../../configs/unet1.toml")),
    ("unet2", include_str!("../../configs/unet2.toml")),
    ("unet3", include_str!("../../configs/unet3.toml")),
    ("threshold", include_str!("../../configs/threshold.toml")),
];

/// The weights shipped for a preset, a safetensors file's bytes.
pub fn shipped_weights(preset: &str) -> Option<&'static [u8]> {
    match preset {
        "unet1" => Some(include_bytes!("../../configs/unet1.safetensors")),
        _ => None,
    }
}
