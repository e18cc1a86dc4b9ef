//! Randomness: one generator for each purpose, all from the seed of the run. What one part of a scenario
//! draws never changes what another one does.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(pub(super) u64);

impl Seed {
    /// The generator for a purpose, as `link 3` or `node xTR1, start 2`.
    pub(super) fn rng(self, purpose: &str) -> StdRng {
        // FNV-1a over the purpose: names, not secrets.
        let start = 0xcbf2_9ce4_8422_2325 ^ self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = purpose.bytes().fold(start, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        StdRng::seed_from_u64(hash)
    }
}

/// A time between the two, both included.
pub(super) fn uniform(rng: &mut StdRng, low: Duration, high: Duration) -> Duration {
    if high <= low {
        return low;
    }
    Duration::from_nanos(rng.random_range(low.as_nanos() as u64..=high.as_nanos() as u64))
}

/// A share in parts per billion: probabilities without floating point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// The whole.
    pub const ALL: u32 = 1_000_000_000;

    /// Whether it happens this time. Draws nothing where it never does.
    pub(super) fn happens(self, rng: &mut StdRng) -> bool {
        self.0 > 0 && rng.random_range(0..Self::ALL) < self.0
    }
}

/// The choice among destinations: the k-th most popular is chosen in proportion to 1/k^s (Zipf), s = 0 being
/// uniform.
#[derive(Clone, Debug)]
pub(super) struct Popularity {
    /// Sums of the weights up to and with each.
    sums: Vec<u64>,
}

impl Popularity {
    /// Of `count` destinations, with `exponent` in thousandths.
    pub(super) fn new(count: usize, exponent: u32) -> Self {
        const WHOLE: f64 = (1_u64 << 40) as f64;
        let mut sum = 0;
        let weights = (1..=count).map(|rank| (WHOLE / power(rank as f64, exponent)).max(1.0) as u64);
        let sums = weights.map(|w| {
            sum += w;
            sum
        });
        Self { sums: sums.collect() }
    }

    /// One of them, by its place.
    pub(super) fn choose(&self, rng: &mut StdRng) -> usize {
        let Some(&all) = self.sums.last() else { return 0 };
        let drawn = rng.random_range(0..all);
        self.sums.partition_point(|sum| *sum <= drawn)
    }
}

/// `base` to the power of `thousandths` / 1000, from products and square roots alone: IEEE 754 rounds these
/// alike everywhere, which it does not promise of a library's power function.
fn power(base: f64, thousandths: u32) -> f64 {
    let mut result = (0..thousandths / 1000).fold(1.0, |r, _| r * base);
    // The fraction in binary, 30 digits.
    let mut fraction = (u64::from(thousandths % 1000) << 30) / 1000;
    let mut root = base;
    for _ in 0..30 {
        root = root.sqrt();
        fraction <<= 1;
        if fraction >> 30 != 0 {
            result *= root;
            fraction &= (1 << 30) - 1;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_its_own_numbers() {
        let draw = |seed, purpose| Seed(seed).rng(purpose).random::<u64>();
        assert_eq!(draw(1, "link 1"), draw(1, "link 1"));
        assert_ne!(draw(1, "link 1"), draw(2, "link 1"));
        assert_ne!(draw(1, "link 1"), draw(1, "link 2"));
    }

    #[test]
    fn powers_are_those_of_mathematics() {
        for (base, thousandths) in [(2.0, 1000), (10.0, 500), (7.0, 1250), (1000.0, 800), (3.0, 0)] {
            let expected = f64::powf(base, f64::from(thousandths) / 1000.0);
            assert!((power(base, thousandths) / expected - 1.0).abs() < 1e-6, "{base}^{thousandths}");
        }
    }

    #[test]
    fn popular_destinations_are_chosen_in_proportion() {
        let mut rng = Seed(1).rng("test");
        let mut count = [0_u32; 4];
        let zipf = Popularity::new(4, 1000);
        (0..25_000).for_each(|_| count[zipf.choose(&mut rng)] += 1);
        // 1 : 1/2 : 1/3 : 1/4, that is 12 : 6 : 4 : 3 of 25.
        for (got, wanted) in count.iter().zip([12_000, 6000, 4000, 3000]) {
            assert!(got.abs_diff(wanted) < 300, "{count:?}");
        }
        let uniform = Popularity::new(4, 0);
        let mut count = [0_u32; 4];
        (0..4000).for_each(|_| count[uniform.choose(&mut rng)] += 1);
        assert!(count.iter().all(|n| n.abs_diff(1000) < 150), "{count:?}");
    }

    #[test]
    fn shares_are_kept() {
        let mut rng = Seed(1).rng("test");
        let mut often = |share| (0..10_000).filter(|_| Share(share).happens(&mut rng)).count();
        assert_eq!((often(0), often(Share::ALL)), (0, 10_000));
        assert!(often(Share::ALL / 4).abs_diff(2500) < 200);
    }
}
