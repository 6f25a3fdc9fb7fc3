//! Devices that work on batches of windows while others are filled and taken away, a thread each.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

use crate::detect::{Queue, Segmenter, WindowBatch};
use crate::fault::{DeviceLost, guarded};

/// Batches that a device may have before it has answered one: it works on one, the next is there, and an answer is on
/// its way back.
const BATCHES: usize = 3;

/// A segmenter, made by the thread that it lives on.
pub type Make = Box<dyn FnOnce() -> Result<Box<dyn Segmenter>> + Send>;

/// Segmenters of the same network, one a device, as one: each batch goes to the next of them.
pub struct Workers {
    each: Vec<Worker>,
    halo_px: u32,
    multiple_px: u32,
    name: String,
    /// Workers, in the order of the batches that they hold.
    asked: VecDeque<usize>,
    next: usize,
}

struct Worker {
    batches: Option<SyncSender<WindowBatch>>,
    answers: Receiver<Result<WindowBatch>>,
    thread: Option<JoinHandle<()>>,
}

/// What a segmenter is, told once it is made.
struct Told {
    halo_px: u32,
    multiple_px: u32,
    name: String,
}

impl Workers {
    /// Of at least one; all are made at the same time.
    ///
    /// # Errors
    /// As what makes them.
    pub fn new(each: Vec<Make>) -> Result<Self> {
        let started: Vec<_> = each.into_iter().map(Worker::start).collect();
        let mut workers = Self {
            each: Vec::new(),
            halo_px: 0,
            multiple_px: 1,
            name: String::new(),
            asked: VecDeque::new(),
            next: 0,
        };
        for (worker, made) in started {
            let told = made.recv().map_err(|_| anyhow!("a device's thread failed"))??;
            (workers.halo_px, workers.multiple_px) = (told.halo_px, told.multiple_px);
            let plus = if workers.each.is_empty() { "" } else { " + " };
            workers.name = format!("{}{plus}{}", workers.name, told.name);
            workers.each.push(worker);
        }
        Ok(workers)
    }
}

impl Worker {
    fn start(make: Make) -> (Self, Receiver<Result<Told>>) {
        let (batches, asked) = sync_channel(BATCHES);
        let (answered, answers) = channel();
        let (tell, told) = channel();
        let work = move || {
            let segmenter = match guarded(make) {
                Ok(segmenter) => segmenter,
                Err(why) => return drop(tell.send(Err(why))),
            };
            let (halo_px, multiple_px) = (segmenter.halo_px(), segmenter.multiple_px());
            drop(tell.send(Ok(Told { halo_px, multiple_px, name: segmenter.device() })));
            segmenter.serve(asked, &answered);
        };
        let thread = Some(std::thread::spawn(work));
        (Self { batches: Some(batches), answers, thread }, told)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing left to tell.
            drop(thread.join());
        }
    }
}

fn ended() -> anyhow::Error {
    DeviceLost("a device's thread ended".into()).into()
}

impl Queue for Workers {
    fn depth(&self) -> usize {
        BATCHES * self.each.len()
    }

    fn submit(&mut self, batch: WindowBatch) -> Result<()> {
        let worker = &self.each[self.next];
        worker.batches.as_ref().and_then(|to| to.send(batch).ok()).ok_or_else(ended)?;
        self.asked.push_back(self.next);
        self.next = (self.next + 1) % self.each.len();
        Ok(())
    }

    fn collect(&mut self) -> Result<Option<WindowBatch>> {
        let Some(worker) = self.asked.pop_front() else { return Ok(None) };
        self.each[worker].answers.recv().map_err(|_| ended())?.map(Some)
    }
}

impl Segmenter for Workers {
    fn halo_px(&self) -> u32 {
        self.halo_px
    }

    fn multiple_px(&self) -> u32 {
        self.multiple_px
    }

    fn device(&self) -> String {
        self.name.clone()
    }

    fn queue(&mut self) -> Option<&mut dyn Queue> {
        Some(self)
    }

    fn segment(&mut self, batch: &WindowBatch, probabilities: &mut [u8]) -> Result<()> {
        self.submit(batch.clone())?;
        if let Some(answer) = self.collect()? {
            let meant = answer.meant_px();
            probabilities[..meant].copy_from_slice(&answer.pixels[..meant]);
        }
        Ok(())
    }
}
