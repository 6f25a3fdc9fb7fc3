//! Networks judged on the same crops, pixel by pixel: the study's table and the study's picture.

use anyhow::{Context, Result};

use super::list::{DataSet, Kind, Part};
use super::mistakes::Candidates;
use super::prepared::{PartCrops, open_store};
use crate::job::StopRequest;
use crate::unet::{Chosen, CropBatch, Weights, predictor};

/// Crops that go through the network at once.
const BATCH: usize = 16;

/// A network to be judged.
pub struct Candidate {
    /// What the table calls it.
    pub name: String,
    /// The file of its weights.
    pub file: String,
    /// Its weights.
    pub weights: Weights,
}

/// Numbers those that have one name, in their order: `unet1 (1)`, `unet1 (2)`.
pub fn tell_apart(networks: &mut [Candidate]) {
    let names: Vec<String> = networks.iter().map(|network| network.name.clone()).collect();
    for (k, network) in networks.iter_mut().enumerate() {
        let same = |names: &[String]| names.iter().filter(|name| **name == network.name).count();
        if same(&names) > 1 {
            let number = same(&names[..=k]);
            network.name = format!("{} ({number})", network.name);
        }
    }
}

/// A line of the table: one network on all crops of a part.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Judgement {
    /// The network.
    pub network: String,
    /// How many numbers training changed in it.
    pub parameters: u64,
    /// Crops judged.
    pub crops: u64,
    /// Mean squared error of the probabilities over ground, %.
    pub mse_percent: f64,
    /// The same of never predicting an impact, %.
    pub nothing_mse_percent: f64,
    /// Share of the pixels called impact, at 0.5, that are.
    pub pixel_precision: f64,
    /// Share of the impact pixels that are called so.
    pub pixel_recall: f64,
    /// Harmonic mean of both.
    pub pixel_f1: f64,
    /// The file of the network's weights.
    pub weights: String,
}

/// The names of a [`Judgement`]'s columns.
pub const JUDGEMENT_HEADER: [&str; 9] = [
    "network",
    "parameters",
    "crops",
    "mse_percent",
    "nothing_mse_percent",
    "pixel_precision",
    "pixel_recall",
    "pixel_f1",
    "weights",
];

/// What the networks make of one crop.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Why it was chosen.
    pub caption: &'static str,
    /// `[side, side]`, 0 = no data.
    pub pixels: Vec<u8>,
    /// `[side, side]`, 255 = impact.
    pub mask: Vec<u8>,
    /// Of each network, `[side, side]`, probabilities in 0..=255.
    pub answers: Vec<Vec<u8>>,
}

/// The table, and crops worth a look.
pub struct Judged {
    /// A line a network.
    pub table: Vec<Judgement>,
    /// Side of a crop, px.
    pub side_px: usize,
    /// In the order of the picture's columns.
    pub shown: Vec<Shown>,
}

/// Judges `networks` on the crops of `part`.
///
/// # Errors
/// If the data set cannot be read, or the device fails.
pub fn judge(data: &DataSet, part: Part, networks: &[Candidate], device: &Chosen) -> Result<Judged> {
    let crops =
        PartCrops::open(data, part, open_store(data)?, &Candidates::default(), &StopRequest::default())?;
    let mut all = crops.empty_batch();
    for k in 0..crops.rows.len() {
        crops.append(k, &mut all)?;
    }
    let mut answers = Vec::new();
    let mut table = Vec::new();
    for network in networks {
        let answer = predict(network, &all, device).with_context(|| network.name.clone())?;
        table.push(line(network, &all, &answer));
        answers.push(answer);
    }
    let crop_px = all.side_px * all.side_px;
    let take = |values: &[u8], k: usize| values[k * crop_px..(k + 1) * crop_px].to_vec();
    let kinds: Vec<Kind> = crops.rows.iter().map(|row| row.kind).collect();
    let shown = choose(&kinds, &all, &answers)
        .into_iter()
        .map(|(k, caption)| Shown {
            caption,
            pixels: take(&all.pixels, k),
            mask: take(&all.mask, k),
            answers: answers.iter().map(|answer| take(answer, k)).collect(),
        })
        .collect();
    Ok(Judged { table, side_px: all.side_px, shown })
}

/// Probabilities in 0..=255 of all crops; no data is never impact.
fn predict(network: &Candidate, all: &CropBatch, device: &Chosen) -> Result<Vec<u8>> {
    let mut network = predictor(&network.weights, device)?;
    let mut answer = Vec::with_capacity(all.pixels.len());
    for pixels in all.pixels.chunks(BATCH * all.side_px * all.side_px) {
        let probabilities = network(all.side_px, pixels)?;
        let byte = |(p, &v): (f32, &u8)| if v == 0 { 0 } else { (p * 255.0 + 0.5) as u8 };
        answer.extend(probabilities.into_iter().zip(pixels).map(byte));
    }
    Ok(answer)
}

fn line(network: &Candidate, all: &CropBatch, answer: &[u8]) -> Judgement {
    let (mut ground, mut truth, mut called, mut both, mut error) = (0u64, 0u64, 0u64, 0u64, 0.0);
    for ((&p, &m), &v) in answer.iter().zip(&all.mask).zip(&all.pixels) {
        if v == 0 || m == CropBatch::DONT_CARE {
            continue;
        }
        let (impact, said) = (m != 0, p >= 128);
        ground += 1;
        truth += u64::from(impact);
        called += u64::from(said);
        both += u64::from(impact && said);
        let off = f64::from(p) / 255.0 - f64::from(u8::from(impact));
        error += off * off;
    }
    let ratio = |part: u64, whole: u64| if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
    Judgement {
        network: network.name.clone(),
        parameters: network.weights.parameter_count() as u64,
        crops: (all.pixels.len() / (all.side_px * all.side_px)) as u64,
        mse_percent: 100.0 * error / ground.max(1) as f64,
        nothing_mse_percent: 100.0 * truth as f64 / ground.max(1) as f64,
        pixel_precision: ratio(both, called),
        pixel_recall: ratio(both, truth),
        pixel_f1: ratio(2 * both, called + truth),
        weights: network.file.clone(),
    }
}

/// The study's columns: impacts, one at a border, a border alone, what is mistaken most, rough ground.
fn choose(kinds: &[Kind], all: &CropBatch, answers: &[Vec<u8>]) -> Vec<(usize, &'static str)> {
    let crop_px = all.side_px * all.side_px;
    let part = |values: &[u8], k: usize| -> std::ops::Range<usize> {
        debug_assert!(values.len() >= (k + 1) * crop_px);
        k * crop_px..(k + 1) * crop_px
    };
    let count =
        |k: usize, wanted: &dyn Fn(usize) -> bool| part(&all.pixels, k).filter(|at| wanted(*at)).count();
    let impact_px = |k: usize| count(k, &|at| all.mask[at] == 255);
    let empty_px = |k: usize| count(k, &|at| all.pixels[at] == 0);
    let mistaken = |k: usize| -> usize {
        answers
            .iter()
            .map(|answer| answer[part(answer, k)].iter().map(|&p| usize::from(p)).sum::<usize>())
            .sum()
    };
    let roughness = |k: usize| -> usize {
        let pixels = &all.pixels[part(&all.pixels, k)];
        pixels.windows(2).map(|pair| usize::from(pair[0].abs_diff(pair[1]))).sum()
    };
    let numbers = |kind: Kind| (0..kinds.len()).filter(move |&k| kinds[k] == kind);
    let mut impacts: Vec<usize> = numbers(Kind::Impact).filter(|&k| empty_px(k) == 0).collect();
    impacts.sort_by_key(|&k| std::cmp::Reverse(impact_px(k)));
    let mut chosen: Vec<(usize, &'static str)> = Vec::new();
    let mut take = |number: Option<usize>, caption| {
        if let Some(k) = number.filter(|k| chosen.iter().all(|(taken, _)| taken != k)) {
            chosen.push((k, caption));
        }
    };
    // A large one, a middling one and a small one.
    for place in [0, impacts.len() / 3, 2 * impacts.len() / 3] {
        take(impacts.get(place).copied(), "impact");
    }
    take(
        numbers(Kind::Impact).filter(|&k| empty_px(k) > crop_px / 10).max_by_key(|&k| impact_px(k)),
        "at a border",
    );
    take(numbers(Kind::Border).min_by_key(|&k| empty_px(k).abs_diff(crop_px / 2)), "border");
    let mut worst: Vec<usize> = numbers(Kind::Ground).collect();
    worst.sort_by_key(|&k| std::cmp::Reverse((mistaken(k), roughness(k))));
    take(worst.first().copied(), "mistaken most");
    take(worst.get(1).copied(), "mistaken");
    take(numbers(Kind::Ground).max_by_key(|&k| roughness(k)), "rough");
    chosen
}
