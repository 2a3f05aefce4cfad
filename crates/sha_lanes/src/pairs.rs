//! SHA-256 of two messages side by side with the SHA instructions of x86: each of them waits four
//! cycles for the one before, and the processor could begin one every two.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi32,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32,
};

use crate::kernel::SHA256_K;

const LANES: usize = 2;

#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(crate) fn sha256(states: &mut [[u32; 8]], data: &[&[[u8; 64]]]) {
    assert!(states.len() == data.len() && (1..=LANES).contains(&data.len()), "one or two");
    let blocks = data.iter().map(|row| row.len()).min().unwrap_or(0);
    // A second lane without a stream reads along with the first.
    let last = data.len() - 1;
    let rows = [&data[0][..blocks], &data[last][..blocks]];
    let mut abef = [halves(&states[0]).0, halves(&states[last]).0];
    let mut cdgh = [halves(&states[0]).1, halves(&states[last]).1];
    for (first, second) in rows[0].iter().zip(rows[1]) {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut w = [[_mm_setzero_si128(); 4]; LANES];
        for (w, block) in w.iter_mut().zip([first, second]) {
            for (words, quarter) in w.iter_mut().zip(block.as_chunks().0) {
                *words = load_words(quarter);
            }
        }
        for (turn, k) in SHA256_K.as_chunks::<16>().0.iter().enumerate() {
            for i in 0..4 {
                let k = _mm_set_epi32(
                    k[4 * i + 3].cast_signed(),
                    k[4 * i + 2].cast_signed(),
                    k[4 * i + 1].cast_signed(),
                    k[4 * i].cast_signed(),
                );
                for lane in 0..LANES {
                    let sum = _mm_add_epi32(w[lane][i], k);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
                    let sum = _mm_shuffle_epi32::<0b1110>(sum);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], sum);
                    if turn < 3 {
                        let w = &mut w[lane];
                        let last = w[(i + 3) % 4];
                        let far = _mm_sha256msg1_epu32(w[i], w[(i + 1) % 4]);
                        let between = _mm_alignr_epi8::<4>(last, w[(i + 2) % 4]);
                        w[i] = _mm_sha256msg2_epu32(_mm_add_epi32(far, between), last);
                    }
                }
            }
        }
        for lane in 0..LANES {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    for (lane, state) in states.iter_mut().enumerate() {
        *state = joined(abef[lane], cdgh[lane]);
    }
}

/// The state in the order that the instructions want: the first word named is the highest.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn halves(state: &[u32; 8]) -> (__m128i, __m128i) {
    let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
    (_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h))
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn joined(abef: __m128i, cdgh: __m128i) -> [u32; 8] {
    [
        _mm_extract_epi32::<3>(abef),
        _mm_extract_epi32::<2>(abef),
        _mm_extract_epi32::<3>(cdgh),
        _mm_extract_epi32::<2>(cdgh),
        _mm_extract_epi32::<1>(abef),
        _mm_extract_epi32::<0>(abef),
        _mm_extract_epi32::<1>(cdgh),
        _mm_extract_epi32::<0>(cdgh),
    ]
    .map(i32::cast_unsigned)
}

/// Four words, most significant byte first.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn load_words(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read, of any alignment.
    let words = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm_shuffle_epi8(words, _mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203))
}
