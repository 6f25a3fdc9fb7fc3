//! Steps on parameters that stay on the GPU, which the host waits for once.

use anyhow::{Context, Result};
use cubecl::bytes::Bytes;
use cubecl::prelude::CubeCount;

use super::descend::{descend, survey};
use super::norm::{BUSY, Split};
use super::{Buffer, GpuReplica, TOTALS, UNITS, floats};
use crate::fault::guarded;
use crate::unet::descent::{Descent, Parameters, Rule, kernels};
use crate::unet::replica::{Alone, Keeper, Kept, Share};

/// Parameters that a workgroup looks through at least.
const LEAST: usize = 4096;

/// What is kept beside the parameters' values.
pub struct Memory {
    first: Buffer,
    /// One element where the optimiser has none.
    second: Buffer,
    /// Begins and ends of the kernels.
    kernels: Buffer,
    /// Parts of what is looked for in all parameters, and that.
    parts: Buffer,
    surveyed: Buffer,
    split: Split,
}

impl GpuReplica {
    /// Moves the parameters against the gradient, unless that overflowed.
    fn descend(&self, memory: &Memory, descent: &Descent, scale: f64) {
        let Memory { first, second, kernels, parts, surveyed, split } = memory;
        let ranges = if descent.l2 > 0.0 { kernels.elements / 2 } else { 0 };
        survey::launch(
            &self.client,
            CubeCount::Static(split.parts() as u32, 1, 1),
            UNITS,
            self.values.arg(),
            self.gradient.arg(),
            kernels.arg(),
            parts.arg(),
            ranges,
            split.each,
        );
        self.add_parts(parts, (split.parts(), 1), surveyed, 0, surveyed.elements);
        let (rule, moments) = match descent.rule {
            Rule::Descent { rate, momentum } => ([rate, momentum, 1.0], false),
            Rule::Moments { by_gradient, by_first, correction } => {
                ([by_gradient, by_first, correction], true)
            }
        };
        let [rule0, rule1, rule2] = rule.map(|factor| factor as f32);
        descend::launch(
            &self.client,
            self.each(self.values.elements),
            UNITS,
            self.values.arg(),
            first.arg(),
            second.arg(),
            self.gradient.arg(),
            kernels.arg(),
            surveyed.arg(),
            ranges,
            (1.0 / scale) as f32,
            (2.0 * descent.l2) as f32,
            rule0,
            rule1,
            rule2,
            moments,
        );
    }

    fn memory(&self, parameters: &Parameters) -> Memory {
        let client = &self.client;
        let kernels = kernels(&self.network.widths).into_iter();
        let kernels: Vec<u32> = kernels.flat_map(|kernel| [kernel.start as u32, kernel.end as u32]).collect();
        let split = Split::new(parameters.values.len(), BUSY, LEAST);
        Memory {
            first: Buffer::new(client, parameters.first.len(), 4),
            second: Buffer::new(client, parameters.second.len().max(1), 4),
            kernels: Buffer { elements: kernels.len(), handle: client.create(Bytes::from_elems(kernels)) },
            parts: Buffer::new(client, split.parts(), 16),
            surveyed: Buffer::new(client, 4, 4),
            split,
        }
    }
}

impl Keeper for GpuReplica {
    fn take(&mut self, parameters: &Parameters) -> Result<()> {
        guarded(|| {
            let memory = self.kept.take().unwrap_or_else(|| self.memory(parameters));
            self.write(&self.values, parameters.values.clone());
            self.write(&memory.first, parameters.first.clone());
            if !parameters.second.is_empty() {
                self.write(&memory.second, parameters.second.clone());
            }
            self.kept = Some(memory);
            Ok(())
        })
    }

    fn step(&mut self, share: Share<'_>, descent: &Descent) -> Result<Kept> {
        guarded(|| {
            let room = self.room(share.crops)?;
            self.forth(&room, None, share, &Alone)?;
            self.add_parts(&room.judged, (room.split.parts(), TOTALS / 4), &self.total, 0, TOTALS);
            self.back(&room, share)?;
            let memory = self.kept.as_ref().context("a step without parameters")?;
            self.descend(memory, descent, share.scale);
            let found = [&self.total, &memory.surveyed, &room.seen].map(|buffer| buffer.handle.clone());
            let found = self.wait(self.ask(found.into()))?;
            let [total, surveyed] = [0, 1].map(|k| floats(&found[k]).map(f64::from).collect::<Vec<_>>());
            self.see(&found[2]);
            self.room = Some(room);
            let sums = std::array::from_fn(|k| total[k]);
            Ok(Kept { sums, moved: surveyed[0] == 0.0, squares: surveyed[1] })
        })
    }

    fn give(&mut self, parameters: &mut Parameters) -> Result<()> {
        guarded(|| {
            let memory = self.kept.as_ref().context("parameters that were never taken")?;
            let mut buffers =
                vec![(&self.values, &mut parameters.values), (&memory.first, &mut parameters.first)];
            if !parameters.second.is_empty() {
                buffers.push((&memory.second, &mut parameters.second));
            }
            let (from, to): (Vec<_>, Vec<_>) = buffers.into_iter().unzip();
            let asked = self.ask(from.into_iter().map(|buffer| buffer.handle.clone()).collect());
            for (to, bytes) in to.into_iter().zip(self.wait(asked)?) {
                to.clear();
                to.extend(floats(&bytes));
            }
            Ok(())
        })
    }
}
