//! Who was at work when: shards put, by their clocks, on as few workers as can have done them.

/// Of an interval, what an overlap may take before two are held to be at once: clocks of machines differ, and a
/// task begins a shard as it ends the one before.
const SLACK_SHARE: f64 = 0.1;
/// The same, seconds.
const SLACK_S: f64 = 1.0;

/// Seconds at work of each of the fewest workers that can have had these intervals (start and end, seconds), each to
/// the one that was free for the shortest time.
pub fn slots(mut intervals: Vec<(f64, f64)>) -> Vec<f64> {
    intervals.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut slots: Vec<(f64, f64)> = Vec::new();
    for (start, end) in intervals {
        let slack = (SLACK_SHARE * (end - start)).min(SLACK_S);
        let free = slots.iter_mut().filter(|slot| slot.0 <= start + slack);
        match free.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some(slot) => *slot = (end, slot.1 + end - start),
            None => slots.push((end, end - start)),
        }
    }
    slots.into_iter().map(|slot| slot.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_workers_that_can_have_done_it() {
        assert_eq!(slots(vec![(0.0, 4.0), (4.0, 7.0), (7.01, 8.0)]).len(), 1);
        assert_eq!(slots(vec![(0.0, 4.0), (0.1, 3.0), (3.0, 6.0), (4.0, 5.0)]), [5.0, 5.9]);
        assert_eq!(slots(vec![(0.0, 10.0); 3]).len(), 3);
    }
}
