//! Rows dealt to shards in the list's order, which leaves the fewest seams.
//!
//! Only whole numbers: every task of an array, on whatever processor, must come to the same plan.

/// Rows of one scene, all of the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Index into the scene list.
    pub scene: usize,
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The work of each; at least 1.
    pub work: u64,
}

/// Deals to each shard the rows in whose share of the work their middle falls.
pub fn deal(list: &[Rows], shards: usize) -> Vec<Vec<Rows>> {
    let mut hands: Vec<Vec<Rows>> = vec![Vec::new(); shards];
    let total: u128 = list.iter().map(|rows| u128::from(rows.count) * u128::from(rows.work)).sum();
    let mut before: u128 = 0;
    for rows in list {
        let (mut first, mut left) = (rows.first, rows.count);
        while left > 0 {
            let shard =
                ((2 * before + u128::from(rows.work)) * shards as u128 / (2 * total)).min(shards as u128 - 1);
            // Middles that lie before the end of this shard's share; at least the first one does.
            let end = (shard + 1) * total;
            let inside = (2 * end).saturating_sub(shards as u128 * (2 * before + u128::from(rows.work)));
            let fit = inside.div_ceil(2 * shards as u128 * u128::from(rows.work)).max(1);
            let count = if shard as usize + 1 == shards { left } else { left.min(fit as u64) };
            hands[shard as usize].push(Rows { first, count, ..*rows });
            (first, left) = (first + count, left - count);
            before += u128::from(count) * u128::from(rows.work);
        }
    }
    hands
}
