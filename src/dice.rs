//! Random numbers that depend on what they are for and on nothing else.

/// A stream of numbers (splitmix64, Steele et al. 2014) from a seed and the indices of what it is drawn for.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of `seed` for the thing numbered `parts`.
    pub fn new(seed: u64, parts: &[u64]) -> Self {
        parts.iter().fold(Self(seed), |dice, &part| dice.part(part))
    }

    /// The stream of this thing's part of a number.
    #[must_use]
    pub fn part(mut self, number: u64) -> Self {
        Self(self.any() ^ number)
    }

    /// All that the numbers to come depend on.
    pub fn state(&self) -> u64 {
        self.0
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `0..bound`; `bound` of 0 gives 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.any()) * u128::from(bound)) >> 64) as u64
    }

    /// In `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.any() >> 11) as f64 / (1u64 << 53) as f64
    }
}
