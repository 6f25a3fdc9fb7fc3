//! The replicas of one process: threads that add up what each has found, in the order of their numbers, so
//! that the sums do not depend on who came first.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::replica::{Beyond, Sums};

/// The replicas of a step.
pub struct Gang<'a> {
    count: usize,
    /// Sums over what this process is one part of.
    beyond: &'a dyn Beyond,
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Default)]
struct Round {
    number: u64,
    parts: Vec<Option<Vec<f64>>>,
    sums: Vec<f64>,
    failed: bool,
    /// Of the first replica, waiting for the others and adding.
    spent: Duration,
}

/// One replica's place in a gang. If it goes before [`Member::done`], the others are told.
pub struct Member<'a> {
    gang: &'a Gang<'a>,
    number: usize,
    done: bool,
}

impl<'a> Gang<'a> {
    /// A gang of `count` replicas, part of what `beyond` adds up.
    pub fn new(count: usize, beyond: &'a dyn Beyond) -> Self {
        let round = Round { parts: vec![None; count], ..Round::default() };
        Self { count, beyond, round: Mutex::new(round), changed: Condvar::new() }
    }

    /// The place of replica `number`.
    pub fn member(&'a self, number: usize) -> Member<'a> {
        Member { gang: self, number, done: false }
    }

    /// Seconds that the first replica spent on sums.
    pub fn spent_s(&self) -> f64 {
        self.lock().map_or(0.0, |round| round.spent.as_secs_f64())
    }

    fn lock(&self) -> Result<MutexGuard<'_, Round>> {
        self.round.lock().map_err(|_| anyhow!("another replica failed"))
    }

    fn fail(&self) {
        if let Ok(mut round) = self.round.lock() {
            round.failed = true;
        }
        self.changed.notify_all();
    }

    fn add(&self, number: usize, values: &mut [f64]) -> Result<()> {
        let mut round = self.lock()?;
        let mine = round.number;
        round.parts[number] = Some(values.to_vec());
        if round.parts.iter().all(Option::is_some) {
            let mut sums = vec![0.0; values.len()];
            for part in &mut round.parts {
                let part = part.take().unwrap_or_default();
                sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
            }
            if let Err(why) = self.beyond.add(&mut sums) {
                round.failed = true;
                self.changed.notify_all();
                return Err(why);
            }
            values.copy_from_slice(&sums);
            round.sums = sums;
            round.number += 1;
            self.changed.notify_all();
            return Ok(());
        }
        let waiting = |round: &mut Round| round.number == mine && !round.failed;
        let round = self.changed.wait_while(round, waiting).map_err(|_| anyhow!("another replica failed"))?;
        if round.failed {
            bail!("another replica failed");
        }
        values.copy_from_slice(&round.sums);
        Ok(())
    }
}

impl Member<'_> {
    /// [`Gang::spent_s`].
    pub fn spent_s(&self) -> f64 {
        self.gang.spent_s()
    }

    /// The replica has ended its step.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.gang.fail();
        }
    }
}

impl Sums for Member<'_> {
    fn add(&self, values: &mut [f64]) -> Result<()> {
        let began = Instant::now();
        if self.gang.count == 1 {
            self.gang.beyond.add(values)?;
        } else {
            self.gang.add(self.number, values)?;
        }
        if self.number == 0 {
            self.gang.lock()?.spent += began.elapsed();
        }
        Ok(())
    }

    fn alone(&self) -> bool {
        self.gang.count == 1 && self.gang.beyond.alone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unet::replica::Alone;

    #[test]
    fn all_get_the_same_sums_round_after_round() {
        let gang = Gang::new(3, &Alone);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let member = gang.member(number);
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut values = [number as f64, f64::from(round)];
                        member.add(&mut values).unwrap();
                        assert_eq!(values.map(|v| v as i32), [3, 3 * round]);
                    }
                    member.done();
                });
            }
        });
    }

    #[test]
    fn a_replica_that_fails_leaves_nobody_waiting() {
        let gang = Gang::new(2, &Alone);
        std::thread::scope(|scope| {
            let (first, second) = (gang.member(0), gang.member(1));
            let waiting = scope.spawn(move || first.add(&mut [1.0]));
            drop(second);
            let why = waiting.join().unwrap().unwrap_err();
            assert!(why.to_string().contains("another replica failed"));
        });
    }
}
