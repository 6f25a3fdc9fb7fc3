//! Several devices as one: each takes its share of a batch of windows, all at once.

use anyhow::{Result, anyhow};

use crate::detect::{Segmenter, WindowBatch};

/// Segmenters of the same network, one a device.
pub struct SeveralSegmenters {
    each: Vec<(Box<dyn Segmenter>, WindowBatch, Vec<u8>)>,
}

impl SeveralSegmenters {
    /// Of at least one.
    pub fn new(each: Vec<Box<dyn Segmenter>>) -> Self {
        let room = |one| (one, WindowBatch::new(0, 1), Vec::new());
        Self { each: each.into_iter().map(room).collect() }
    }
}

impl Segmenter for SeveralSegmenters {
    fn halo_px(&self) -> u32 {
        self.each[0].0.halo_px()
    }

    fn multiple_px(&self) -> u32 {
        self.each[0].0.multiple_px()
    }

    fn device(&self) -> String {
        let names: Vec<_> = self.each.iter().map(|(one, ..)| one.device()).collect();
        names.join(" + ")
    }

    fn devices(&self) -> usize {
        self.each.iter().map(|(one, ..)| one.devices()).sum()
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        let window = batch.side_px * batch.side_px;
        // Each device keeps one shape of batch, so that none builds its kernels twice.
        let share = batch.capacity().div_ceil(self.each.len());
        let parts = batch.pixels.chunks(share * window).zip(probabilities.chunks_mut(share * window));
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (k, ((one, mine, answer), (pixels, probabilities))) in
                self.each.iter_mut().zip(parts).enumerate()
            {
                let count = batch.count.saturating_sub(k * share).min(share);
                if count == 0 {
                    break;
                }
                if (mine.capacity(), mine.side_px) != (share, batch.side_px) {
                    *mine = WindowBatch::new(share, batch.side_px);
                    answer.resize(share * window, 0);
                }
                mine.count = count;
                mine.pixels[..count * window].copy_from_slice(&pixels[..count * window]);
                threads.push(scope.spawn(move || {
                    one.segment(mine, answer)?;
                    probabilities[..count * window].copy_from_slice(&answer[..count * window]);
                    Ok(())
                }));
            }
            let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            ended
                .into_iter()
                .try_for_each(|one| one.unwrap_or_else(|_| Err(anyhow!("a device's thread failed"))))
        })
    }
}
