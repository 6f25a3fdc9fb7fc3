//! Weights: a `safetensors` file of f32 tensors under PyTorch's names, with their provenance.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::json;

use super::layout::{BATCH_NORM_EPS, lengths, parameters, statistics, units};
use crate::config::Precision;
use crate::table::write_whole;

/// The tensors of one network, by name, and what its file says of their origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    widths: Vec<usize>,
    tensors: BTreeMap<String, Vec<f32>>,
    /// Free text pairs of the file: settings and training provenance.
    pub metadata: BTreeMap<String, String>,
}

/// A convolution with its batch norm folded in: `[outputs, inputs, 3, 3]` and `[outputs]`.
#[derive(Clone, Debug)]
pub struct FoldedConv {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// `[outputs, inputs, 3, 3]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl FoldedConv {
    /// Its weights in `precision`. What rounding takes from one is given to the next of its filter: pixels that lie
    /// together are much alike, so that the sum of a filter is what matters most.
    #[must_use]
    pub fn rounded(mut self, precision: Precision) -> Self {
        for filter in self.weight.chunks_exact_mut(9) {
            let mut left = 0.0;
            for weight in filter {
                *weight = nearest(*weight, &mut left, precision);
            }
        }
        self
    }
}

/// The nearest in `precision` to a value and what was `left` of the one before; leaves what this takes.
pub fn nearest(value: f32, left: &mut f32, precision: Precision) -> f32 {
    let whole = value + *left;
    let nearest = match precision {
        Precision::F32 => whole,
        Precision::F16 => f16::from_f32(whole).to_f32(),
        Precision::Bf16 => bf16::from_f32(whole).to_f32(),
    };
    *left = whole - nearest;
    nearest
}

impl Weights {
    /// Reads a file's bytes, holding every tensor against the shape `widths` asks for.
    ///
    /// # Errors
    /// If the bytes are no safetensors file, a tensor is missing, of another type or of another shape,
    /// or holds a value that is not finite. The message names the tensor.
    pub fn parse(widths: &[usize], bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).context("not a readable safetensors file")?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in parameters(widths).into_iter().chain(statistics(widths)) {
            let view = file
                .tensor(&name)
                .with_context(|| format!("no tensor {name}: weights of another network?"))?;
            ensure!(view.dtype() == Dtype::F32, "tensor {name} is {:?}, must be F32", view.dtype());
            ensure!(
                view.shape() == shape,
                "tensor {name} is {:?}, but widths {widths:?} need {shape:?}: weights of another network?",
                view.shape()
            );
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            ensure!(values.iter().all(|v| v.is_finite()), "tensor {name} holds a value that is not finite");
            tensors.insert(name, values);
        }
        let known = |name: &str| tensors.contains_key(name) || name.ends_with("num_batches_tracked");
        if let Some(name) = file.names().into_iter().find(|name| !known(name)) {
            bail!("tensor {name} belongs to no level of widths {widths:?}: weights of another network?");
        }
        let (_, head) = SafeTensors::read_metadata(bytes)?;
        let metadata = head.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { widths: widths.to_vec(), tensors, metadata })
    }

    /// From the trainer's flat vectors, in the order of [`parameters`] and [`statistics`].
    pub fn from_flat(widths: &[usize], parameter_values: &[f32], statistic_values: &[f32]) -> Self {
        let mut tensors = BTreeMap::new();
        for (names, mut values) in
            [(parameters(widths), parameter_values), (statistics(widths), statistic_values)]
        {
            for (name, shape) in names {
                let (mine, rest) = values.split_at(shape.iter().product());
                tensors.insert(name, mine.to_vec());
                values = rest;
            }
        }
        Self { widths: widths.to_vec(), tensors, metadata: BTreeMap::new() }
    }

    /// The trainer's flat vectors: parameters, statistics.
    pub fn to_flat(&self) -> (Vec<f32>, Vec<f32>) {
        let flat = |names: Vec<(String, Vec<usize>)>| {
            names.iter().flat_map(|(name, _)| self.values(name)).copied().collect()
        };
        (flat(parameters(&self.widths)), flat(statistics(&self.widths)))
    }

    /// How many numbers training changes.
    pub fn parameter_count(&self) -> usize {
        lengths(&self.widths)[0]
    }

    /// Channels of each level.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.to_bytes()?)
    }

    /// The file's bytes, a function of the network alone: all is in the order of the names, where `safetensors` would
    /// write the metadata in another order each time.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let shapes: BTreeMap<_, _> =
            parameters(&self.widths).into_iter().chain(statistics(&self.widths)).collect();
        let mut head = BTreeMap::from([("__metadata__".to_owned(), json!(self.metadata))]);
        let mut end = 0;
        for (name, shape) in shapes {
            let start = end;
            end += 4 * shape.iter().product::<usize>();
            head.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
        }
        let mut head = serde_json::to_vec(&head)?;
        head.resize(head.len().next_multiple_of(8), b' ');
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut head);
        bytes.extend(self.tensors.values().flatten().flat_map(|value| value.to_le_bytes()));
        Ok(bytes)
    }

    /// The convolutions in the order of [`units`], batch norm folded into each in f64.
    pub fn folded(&self) -> Vec<FoldedConv> {
        units(&self.widths)
            .par_iter()
            .map(|unit| {
                let [weight, bias] = ["weight", "bias"].map(|part| self.values(&unit.tensor("conv", part)));
                let [gamma, beta, mean, var] = ["weight", "bias", "running_mean", "running_var"]
                    .map(|part| self.values(&unit.tensor("bn", part)));
                let scale: Vec<f64> = gamma
                    .iter()
                    .zip(var)
                    .map(|(&g, &v)| f64::from(g) / (f64::from(v) + BATCH_NORM_EPS).sqrt())
                    .collect();
                let each = unit.inputs * 9;
                FoldedConv {
                    channels: [unit.inputs, unit.outputs],
                    weight: weight
                        .iter()
                        .enumerate()
                        .map(|(i, &w)| (f64::from(w) * scale[i / each]) as f32)
                        .collect(),
                    bias: (0..unit.outputs)
                        .map(|o| {
                            let centred = f64::from(bias[o]) - f64::from(mean[o]);
                            (centred * scale[o] + f64::from(beta[o])) as f32
                        })
                        .collect(),
                }
            })
            .collect()
    }

    /// The last 1x1 convolution: its weight, `[widths[0]]`, and its bias.
    pub fn head(&self) -> (&[f32], f32) {
        (self.values("head.weight"), self.values("head.bias")[0])
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.tensors[name]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_filter_keeps_its_sum() {
        let weight: Vec<f32> = (0..18).map(|k| (k as f32 * 0.7 + 0.3).sin()).collect();
        let conv = FoldedConv { channels: [2, 1], weight, bias: vec![0.0] };
        let off = |precision| {
            let rounded = conv.clone().rounded(precision);
            let sums = rounded.weight.chunks_exact(9).zip(conv.weight.chunks_exact(9));
            sums.map(|(a, b)| (a.iter().sum::<f32>() - b.iter().sum::<f32>()).abs()).fold(0.0, f32::max)
        };
        // Half a step of the last weight, which is less than 1, and what f32 itself rounds.
        assert_eq!(off(Precision::F32), 0.0);
        assert!(off(Precision::F16) < 2.5e-4 && off(Precision::Bf16) < 2e-3 && off(Precision::Bf16) > 1e-6);
        let held = conv.clone().rounded(Precision::Bf16).weight;
        assert!(held.iter().all(|&v| bf16::from_f32(v).to_f32() == v) && held != conv.weight);
    }

    #[test]
    fn a_saved_file_reads_back_and_another_network_is_refused() {
        let widths = [2, 3];
        let [parameter_count, statistic_count] = lengths(&widths);
        let flat: Vec<f32> = (0..parameter_count).map(|i| i as f32 * 0.5).collect();
        let stats: Vec<f32> = (0..statistic_count).map(|i| i as f32).collect();
        let mut weights = Weights::from_flat(&widths, &flat, &stats);
        weights.metadata =
            ["seed", "epoch", "loss", "data", "command"].map(|key| (key.into(), "7".into())).into();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        weights.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = Weights::parse(&widths, &bytes).unwrap();
        assert_eq!(read, weights);
        read.save(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes, "saved again, the file has other bytes");
        assert_eq!(read.to_flat(), (flat, stats));
        let wrong = Weights::parse(&[2, 4], &bytes).unwrap_err().to_string();
        assert!(wrong.contains("enc.1.conv1.weight"), "{wrong}");
        assert!(Weights::parse(&widths, &bytes[..40]).is_err());
    }
}
