//! Three ways to deal strips of scenes to shards: in order, which leaves the fewest seams, and two that
//! gather strips from all over the list, for when a strip of a wide scene is a good part of a shard.
//!
//! Only whole numbers: every task of an array, on whatever processor, must come to the same plan.

/// Whole rows of window cores of one scene, all of the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Index into the scene list.
    pub scene: usize,
    /// The first, counted in cores from the scene's top.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Pixels to be worked on in each; at least 1.
    pub work: u64,
}

/// What each shard is dealt.
pub type Hands = Vec<Vec<Strips>>;

/// The work of the shard that has most.
pub fn longest(hands: &Hands) -> u64 {
    hands.iter().map(|hand| hand.iter().map(|strips| strips.count * strips.work).sum()).max().unwrap_or(0)
}

/// Deals in the list's order: each strip to the shard in whose share of the work its middle falls.
pub fn in_order(list: &[Strips], shards: usize) -> Hands {
    let mut hands: Hands = vec![Vec::new(); shards];
    let total: u128 = list.iter().map(|strips| u128::from(strips.count * strips.work)).sum();
    let mut before: u128 = 0;
    for strips in list {
        let mut first = strips.first;
        let mut left = strips.count;
        while left > 0 {
            let shard = ((2 * before + u128::from(strips.work)) * shards as u128 / (2 * total))
                .min(shards as u128 - 1);
            // Middles that lie before the end of this shard's share; at least the first one does.
            let end = (shard + 1) * total;
            let inside = (2 * end).saturating_sub(shards as u128 * (2 * before + u128::from(strips.work)));
            let fit = inside.div_ceil(2 * shards as u128 * u128::from(strips.work)).max(1);
            let count = if shard as usize + 1 == shards { left } else { left.min(fit as u64) };
            hands[shard as usize].push(Strips { first, count, ..*strips });
            (first, left) = (first + count, left - count);
            before += u128::from(count * strips.work);
        }
    }
    hands
}

/// Deals the largest strips first, each to the first shard that has room below `limit`; `None` if one has none.
pub fn first_fit(largest_first: &[Strips], shards: usize, limit: u64) -> Option<Hands> {
    let mut hands: Hands = vec![Vec::new(); shards];
    let mut room = vec![limit; shards];
    for strips in largest_first {
        let mut rest = *strips;
        for (hand, room) in hands.iter_mut().zip(&mut room) {
            let count = rest.count.min(*room / rest.work);
            if count > 0 {
                *room -= count * rest.work;
                hand.push(take(&mut rest, count));
            }
            if rest.count == 0 {
                break;
            }
        }
        if rest.count > 0 {
            return None;
        }
    }
    Some(hands)
}

/// Takes `count` strips off the front.
fn take(rest: &mut Strips, count: u64) -> Strips {
    let taken = Strips { count, ..*rest };
    rest.first += count;
    rest.count -= count;
    taken
}

/// Fills one shard after the other as full as the strips that are left allow; `None` if more shards than
/// `shards` are needed in all of `rounds`.
///
/// A knapsack a shard. What decides is which strips to use up early: each kind has a price, at first a little
/// more than its work where it is large, which rises when shards that hold it stay emptier than others
/// (sequential value correction, Belov and Scheithauer 2007); the next round begins with the prices learnt.
pub fn fill(largest_first: &[Strips], shards: usize, limit: u64, rounds: usize) -> Option<Hands> {
    let sizes: Vec<usize> = largest_first
        .iter()
        .map(|strips| (u128::from(strips.work) * CELLS as u128).div_ceil(u128::from(limit.max(1))) as usize)
        .collect();
    if sizes.iter().any(|&size| size > CELLS) {
        return None;
    }
    let mut prices: Vec<u64> = sizes.iter().map(|&size| price(size, CELLS, 8)).collect();
    for _ in 0..rounds {
        let mut hands: Hands = Vec::new();
        let mut left = largest_first.to_vec();
        while left.iter().any(|strips| strips.count > 0) {
            let counts = knapsack(&sizes, &prices, &left);
            let full: usize = counts.iter().zip(&sizes).map(|(count, size)| *count as usize * size).sum();
            let mut hand = Vec::new();
            for (kind, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                // The rarer what is left of a kind, the faster its price learns.
                let (old, new) = (2 * left[kind].count, count);
                prices[kind] = (old * prices[kind] + new * price(sizes[kind], full, 16)) / (old + new);
                hand.push(take(&mut left[kind], count));
            }
            hands.push(hand);
        }
        if hands.len() <= shards {
            hands.resize(shards, Vec::new());
            return Some(hands);
        }
    }
    None
}

/// Cells that a shard's limit is cut into: sizes are rounded up to a thousandth.
const CELLS: usize = 1024;

/// The price of a strip of `size` cells in a shard filled to `full` of them: large ones are worth up to one part
/// in `bonus` more.
fn price(size: usize, full: usize, bonus: usize) -> u64 {
    ((size << 20) * (bonus * CELLS + size) / (bonus * CELLS) * CELLS / full) as u64
}

/// How many of each kind make the dearest hand that fits.
fn knapsack(sizes: &[usize], prices: &[u64], left: &[Strips]) -> Vec<u64> {
    let mut best = vec![0u64; CELLS + 1];
    let mut taken = vec![0u16; sizes.len() * (CELLS + 1)];
    for (kind, (&size, &price)) in sizes.iter().zip(prices).enumerate() {
        let most = left[kind].count.min((CELLS / size) as u64);
        let taken = &mut taken[kind * (CELLS + 1)..][..=CELLS];
        // From the fullest down, so that a cell still holds what the kinds before made of it.
        for cells in (size..=CELLS).rev() {
            for count in 1..=most.min((cells / size) as u64) {
                let worth = best[cells - count as usize * size] + count * price;
                if worth > best[cells] {
                    (best[cells], taken[cells]) = (worth, count as u16);
                }
            }
        }
    }
    let mut cells = CELLS;
    let mut counts = vec![0; sizes.len()];
    for kind in (0..sizes.len()).rev() {
        counts[kind] = u64::from(taken[kind * (CELLS + 1) + cells]);
        cells -= counts[kind] as usize * sizes[kind];
    }
    counts
}
