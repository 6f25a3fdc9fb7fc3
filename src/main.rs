//! temp trainer driver
use marscan::{config, train, unet};
fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    // preset.toml out val-prefix scenes...
    let settings: config::Settings = toml::from_str(&std::fs::read_to_string(&a[1])?)?;
    let mut scenes = vec![]; let mut val = vec![];
    for s in &a[3..] { let (v, s) = match s.strip_prefix("val:") { Some(s) => (true, s), None => (false, s.as_str()) };
        let m = s.replace(".tif", "_gt.tif"); (if v { &mut val } else { &mut scenes }).push((s.into(), m.into())); }
    let job = train::TrainJob { settings, scenes, validation: val, out: a[2].clone().into(), command: a.clone() };
    let d = unet::device::choose("cpu")?;
    train::run(&job, &d, |e| println!("{}", serde_json::to_string(e).unwrap()))
}
