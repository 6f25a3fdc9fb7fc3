//! Built without MPI: there are no peers to join.

use std::convert::Infallible;

use anyhow::Result;

use crate::fault::WrongUsage;

/// Never made: [`Peers::join`] fails.
#[derive(Debug)]
pub struct Peers(Infallible);

impl Peers {
    /// # Errors
    /// Always: each process would take itself for the only one, and write over the others' files.
    pub fn join(told: Option<usize>) -> Result<Self> {
        let several = told.map_or("several".into(), |told| format!("{told}"));
        let message = format!(
            "started as one of {several} ranks, but this marscan was built without MPI: build it with \
             cargo build --release --features mpi"
        );
        Err(WrongUsage(message).into())
    }

    pub fn rank(&self) -> usize {
        match self.0 {}
    }

    pub fn gather(&self, _: &str) -> Vec<String> {
        match self.0 {}
    }

    pub fn sum(&self, _: &mut [f64]) {
        match self.0 {}
    }

    pub fn sum_pieces(&self, _: usize, _: &mut dyn Iterator<Item = Vec<f32>>) -> Vec<f32> {
        match self.0 {}
    }

    pub fn broadcast<T>(&self, _: &mut [T]) {
        match self.0 {}
    }

    pub fn broadcast_bytes(&self, _: &mut Vec<u8>) {
        match self.0 {}
    }

    pub fn any(&self, _: bool) -> bool {
        match self.0 {}
    }

    pub fn barrier(&self) {
        match self.0 {}
    }

    pub fn end_all(_: i32) {}
}
