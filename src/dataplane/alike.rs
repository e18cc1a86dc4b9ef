//! Whether two packets have the same headers but for what differs between packets of one flow. Owns the
//! comparison alone: which bytes are compared, and what follows, is up to those who ask.

use std::ops::Range;

/// Which of the first `N` bytes of two packets are compared.
pub(super) struct Mask<const N: usize>([u8; N]);

impl<const N: usize> Mask<N> {
    /// Of the bytes in `ranges`; one that reaches beyond `N` does not compile.
    pub(super) const fn of(ranges: &[Range<usize>]) -> Self {
        let mut mask = [0; N];
        let mut i = 0;
        while i < ranges.len() {
            let mut at = ranges[i].start;
            while at < ranges[i].end {
                mask[at] = 0xff;
                at += 1;
            }
            i += 1;
        }
        Self(mask)
    }

    /// Whether these bytes of `a` and `b` are the same. Not of what is shorter than `N`.
    #[inline(always)] // so that the mask is known where it is compiled
    pub(super) fn same(&self, a: &[u8], b: &[u8]) -> bool {
        let (Some(a), Some(b)) = (a.first_chunk::<N>(), b.first_chunk::<N>()) else { return false };
        let ((a, a_rest), (b, b_rest), (mask, rest)) = (a.as_chunks(), b.as_chunks(), self.0.as_chunks());
        let mut differing = 0;
        for ((a, b), mask) in a.iter().zip(b).zip(mask) {
            differing |= (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)) & u64::from_ne_bytes(*mask);
        }
        for ((a, b), mask) in a_rest.iter().zip(b_rest).zip(rest) {
            differing |= u64::from((a ^ b) & mask);
        }
        differing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_mask_are_compared_and_no_others() {
        const MASK: Mask<12> = Mask::of(&[0..1, 3..6, 11..12]);
        let (a, compared) = ([7; 12], [0, 3, 4, 5, 11]);
        for at in 0..12 {
            for bit in 0..8 {
                let mut b = a;
                b[at] ^= 1 << bit;
                assert_eq!(MASK.same(&a, &b), !compared.contains(&at), "byte {at}");
            }
        }
        assert!(MASK.same(&a, &[7; 13]));
        assert!(!MASK.same(&a, &a[..11]));
    }
}
