//! The Internet checksum's sum (RFC 1071) with the widest vector unit that the processor has.
//!
//! All variants add the 16-bit halves of 32-bit lanes separately, so that no carry is lost: a lane overflows
//! after 65,536 additions at the earliest, far beyond the longest packet; longer input is taken in parts.

use std::sync::OnceLock;

/// Computes the one's complement sum of big-endian 16-bit words.
type Sum = fn(&[u8]) -> u16;

/// The fastest function that this processor can run, and its name. It gives what the definition gives, for
/// input of any length and alignment; an odd last byte counts as if a zero followed.
pub fn fastest() -> (Sum, &'static str) {
    static CHOSEN: OnceLock<(Sum, &'static str)> = OnceLock::new();
    *CHOSEN.get_or_init(|| *available().last().unwrap_or(&(scalar, "scalar")))
}

/// Every variant that this processor can run, slowest first.
fn available() -> Vec<(Sum, &'static str)> {
    let mut all: Vec<(Sum, &'static str)> = vec![(scalar, "scalar")];
    #[cfg(target_arch = "x86_64")]
    {
        all.push((x86::sse2, "sse2"));
        if std::arch::is_x86_feature_detected!("avx2") {
            all.push((x86::avx2, "avx2"));
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            all.push((x86::avx512, "avx512"));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        all.push((arm::neon, "neon"));
    }
    all
}

/// How many bytes a 32-bit lane of 16-bit halves can take in without overflow, for the narrowest unit (two
/// halves added for every 16 bytes), rounded down to whole vectors.
const PART: usize = 1 << 19;

fn fold(mut total: u64) -> u16 {
    while total >> 16 != 0 {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

/// The sum of native-endian 16-bit words of what is left over, unfolded.
#[inline]
fn scalar_words(bytes: &[u8]) -> u64 {
    let mut total = 0u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let word = u64::from_ne_bytes(last);
    total + (word >> 32) + (word & 0xffff_ffff)
}

fn scalar(bytes: &[u8]) -> u16 {
    u16::from_be(fold(scalar_words(bytes)))
}

/// Sums vectors of `WIDTH` bytes by `vectors`, and the rest by words.
#[inline(always)]
fn in_parts<const WIDTH: usize>(bytes: &[u8], vectors: impl Fn(&[[u8; WIDTH]]) -> u64) -> u16 {
    let mut total = 0u64;
    for part in bytes.chunks(PART) {
        let (whole, rest) = part.as_chunks::<WIDTH>();
        total += vectors(whole) + scalar_words(rest);
    }
    u16::from_be(fold(total))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::in_parts;

    pub(super) fn sse2(bytes: &[u8]) -> u16 {
        in_parts::<16>(bytes, |vectors| {
            // SAFETY: every x86_64 processor has SSE2.
            unsafe { sse2_sum(vectors) }
        })
    }

    pub(super) fn avx2(bytes: &[u8]) -> u16 {
        if bytes.len() < 64 {
            return super::scalar(bytes);
        }
        in_parts::<32>(bytes, |vectors| {
            // SAFETY: this function is handed out only where AVX2 was detected.
            unsafe { avx2_sum(vectors) }
        })
    }

    pub(super) fn avx512(bytes: &[u8]) -> u16 {
        if bytes.len() < 256 {
            return avx2(bytes);
        }
        in_parts::<64>(bytes, |vectors| {
            // SAFETY: this function is handed out only where AVX-512F was detected.
            unsafe { avx512_sum(vectors) }
        })
    }

    #[target_feature(enable = "sse2")]
    fn sse2_sum(vectors: &[[u8; 16]]) -> u64 {
        let low = _mm_set1_epi32(0xffff);
        let (mut a, mut b) = (_mm_setzero_si128(), _mm_setzero_si128());
        for v in vectors {
            // SAFETY: 16 readable bytes; the load has no alignment to keep.
            let v = unsafe { _mm_loadu_si128(v.as_ptr().cast()) };
            a = _mm_add_epi32(a, _mm_and_si128(v, low));
            b = _mm_add_epi32(b, _mm_srli_epi32::<16>(v));
        }
        let mut lanes = [[0u32; 4]; 2];
        // SAFETY: each array has room for one vector.
        unsafe {
            _mm_storeu_si128(lanes[0].as_mut_ptr().cast(), a);
            _mm_storeu_si128(lanes[1].as_mut_ptr().cast(), b);
        }
        lanes.as_flattened().iter().map(|&l| u64::from(l)).sum()
    }

    #[target_feature(enable = "avx2")]
    fn avx2_sum(vectors: &[[u8; 32]]) -> u64 {
        let low = _mm256_set1_epi32(0xffff);
        let mut sums = [_mm256_setzero_si256(); 4];
        let (pairs, last) = vectors.as_chunks::<2>();
        for [v, w] in pairs {
            // SAFETY: 32 readable bytes each; the loads have no alignment to keep.
            let (v, w) =
                unsafe { (_mm256_loadu_si256(v.as_ptr().cast()), _mm256_loadu_si256(w.as_ptr().cast())) };
            sums[0] = _mm256_add_epi32(sums[0], _mm256_and_si256(v, low));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_srli_epi32::<16>(v));
            sums[2] = _mm256_add_epi32(sums[2], _mm256_and_si256(w, low));
            sums[3] = _mm256_add_epi32(sums[3], _mm256_srli_epi32::<16>(w));
        }
        for v in last {
            // SAFETY: as above.
            let v = unsafe { _mm256_loadu_si256(v.as_ptr().cast()) };
            sums[0] = _mm256_add_epi32(sums[0], _mm256_and_si256(v, low));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_srli_epi32::<16>(v));
        }
        let mut lanes = [[0u32; 8]; 4];
        for (to, sum) in lanes.iter_mut().zip(sums) {
            // SAFETY: the array has room for one vector.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), sum) };
        }
        lanes.as_flattened().iter().map(|&l| u64::from(l)).sum()
    }

    #[target_feature(enable = "avx512f")]
    fn avx512_sum(vectors: &[[u8; 64]]) -> u64 {
        let low = _mm512_set1_epi32(0xffff);
        let mut sums = [_mm512_setzero_si512(); 4];
        let (pairs, last) = vectors.as_chunks::<2>();
        for [v, w] in pairs {
            // SAFETY: 64 readable bytes each; the loads have no alignment to keep.
            let (v, w) =
                unsafe { (_mm512_loadu_si512(v.as_ptr().cast()), _mm512_loadu_si512(w.as_ptr().cast())) };
            sums[0] = _mm512_add_epi32(sums[0], _mm512_and_si512(v, low));
            sums[1] = _mm512_add_epi32(sums[1], _mm512_srli_epi32::<16>(v));
            sums[2] = _mm512_add_epi32(sums[2], _mm512_and_si512(w, low));
            sums[3] = _mm512_add_epi32(sums[3], _mm512_srli_epi32::<16>(w));
        }
        for v in last {
            // SAFETY: as above.
            let v = unsafe { _mm512_loadu_si512(v.as_ptr().cast()) };
            sums[0] = _mm512_add_epi32(sums[0], _mm512_and_si512(v, low));
            sums[1] = _mm512_add_epi32(sums[1], _mm512_srli_epi32::<16>(v));
        }
        let mut lanes = [[0u32; 16]; 4];
        for (to, sum) in lanes.iter_mut().zip(sums) {
            // SAFETY: the array has room for one vector.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), sum) };
        }
        lanes.as_flattened().iter().map(|&l| u64::from(l)).sum()
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::in_parts;

    pub(super) fn neon(bytes: &[u8]) -> u16 {
        in_parts::<16>(bytes, |vectors| {
            // SAFETY: this function is handed out only where NEON was detected.
            unsafe { neon_sum(vectors) }
        })
    }

    #[target_feature(enable = "neon")]
    fn neon_sum(vectors: &[[u8; 16]]) -> u64 {
        let (mut a, mut b) = (vdupq_n_u32(0), vdupq_n_u32(0));
        let (pairs, last) = vectors.as_chunks::<2>();
        for [v, w] in pairs {
            // SAFETY: 16 readable bytes each; the loads have no alignment to keep.
            let (v, w) = unsafe { (vld1q_u8(v.as_ptr()), vld1q_u8(w.as_ptr())) };
            // Adds neighbouring 16-bit words into 32-bit lanes.
            a = vpadalq_u16(a, vreinterpretq_u16_u8(v));
            b = vpadalq_u16(b, vreinterpretq_u16_u8(w));
        }
        for v in last {
            // SAFETY: as above.
            a = vpadalq_u16(a, vreinterpretq_u16_u8(unsafe { vld1q_u8(v.as_ptr()) }));
        }
        vaddlvq_u32(a) + vaddlvq_u32(b)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn every_variant_equals_the_definition_at_every_length_and_alignment() {
        let bytes: Vec<u8> = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (sum, name) in available() {
            for start in 0..65 {
                for len in (0..520).chain([1399, 1400, 1460, 2048]) {
                    let part = &bytes[start..start + len];
                    assert_eq!(sum(part), reference(part), "{name} {start}+{len}");
                }
            }
        }
    }

    #[test]
    fn no_lane_overflows() {
        for len in [65_535, 65_536, (1 << 20) - 1, (1 << 22) + 3] {
            let bytes = vec![0xff; len];
            for (sum, name) in available() {
                assert_eq!(sum(&bytes), reference(&bytes), "{name} {len}");
            }
        }
    }

    #[test]
    fn the_widest_is_chosen() {
        assert_eq!(fastest().1, available().last().unwrap().1);
        #[cfg(target_arch = "x86_64")]
        assert!(available().len() >= 2);
    }

    proptest! {
        #[test]
        fn every_variant_equals_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            for (sum, name) in available() {
                prop_assert_eq!(sum(&bytes), reference(&bytes), "{}", name);
            }
        }
    }
}
