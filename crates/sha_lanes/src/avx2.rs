//! Eight lanes in the 256-bit registers of AVX2.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256,
    _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set_epi32, _mm256_set1_epi32,
    _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

pub(crate) const WIDTH: usize = 8;

type V = __m256i;

#[target_feature(enable = "avx2")]
#[inline]
fn splat(word: u32) -> V {
    _mm256_set1_epi32(word.cast_signed())
}

#[target_feature(enable = "avx2")]
#[inline]
fn add(x: V, y: V) -> V {
    _mm256_add_epi32(x, y)
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor(x: V, y: V) -> V {
    _mm256_xor_si256(x, y)
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor3(x: V, y: V, z: V) -> V {
    xor(x, xor(y, z))
}

#[target_feature(enable = "avx2")]
#[inline]
fn choose(x: V, y: V, z: V) -> V {
    xor(z, _mm256_and_si256(x, xor(y, z)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn majority(x: V, y: V, z: V) -> V {
    xor(y, _mm256_and_si256(xor(x, y), xor(y, z)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn rotate_left<const LEFT: i32, const RIGHT: i32>(x: V) -> V {
    _mm256_or_si256(_mm256_slli_epi32::<LEFT>(x), _mm256_srli_epi32::<RIGHT>(x))
}

#[target_feature(enable = "avx2")]
#[inline]
fn shift_right<const BITS: i32>(x: V) -> V {
    _mm256_srli_epi32::<BITS>(x)
}

#[target_feature(enable = "avx2")]
#[inline]
fn from_words(words: [u32; WIDTH]) -> V {
    // SAFETY: both are 32 bytes of which any are valid.
    unsafe { std::mem::transmute(words) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn to_words(lanes: V) -> [u32; WIDTH] {
    // SAFETY: both are 32 bytes of which any are valid.
    unsafe { std::mem::transmute(lanes) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(half: &[u8; 32]) -> V {
    // SAFETY: 32 bytes are read, of any alignment.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn prefetch(block: *const [u8; 64]) {
    _mm_prefetch::<_MM_HINT_T0>(block.cast());
}

/// The sixteen words of each block, most significant byte first, as sixteen vectors.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(blocks: [&[u8; 64]; WIDTH]) -> [V; 16] {
    let low = transpose_half(std::array::from_fn(|i| blocks[i].first_chunk().expect("32 of 64")));
    let high = transpose_half(std::array::from_fn(|i| blocks[i].last_chunk().expect("32 of 64")));
    std::array::from_fn(|i| if i < 8 { low[i] } else { high[i - 8] })
}

#[target_feature(enable = "avx2")]
#[inline]
fn transpose_half(halves: [&[u8; 32]; WIDTH]) -> [V; 8] {
    let swap = _mm256_set_epi32(
        0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203, 0x0c0d0e0f, 0x08090a0b, 0x04050607,
        0x00010203,
    );
    let r: [V; 8] = std::array::from_fn(|i| _mm256_shuffle_epi8(load(halves[i]), swap));
    let mut q = r;
    for k in 0..2 {
        let [r0, r1, r2, r3] = [r[4 * k], r[4 * k + 1], r[4 * k + 2], r[4 * k + 3]];
        let (lo01, hi01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
        let (lo23, hi23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
        q[4 * k] = _mm256_unpacklo_epi64(lo01, lo23);
        q[4 * k + 1] = _mm256_unpackhi_epi64(lo01, lo23);
        q[4 * k + 2] = _mm256_unpacklo_epi64(hi01, hi23);
        q[4 * k + 3] = _mm256_unpackhi_epi64(hi01, hi23);
    }
    std::array::from_fn(|i| {
        if i < 4 {
            _mm256_permute2x128_si256::<0x20>(q[i], q[i + 4])
        } else {
            _mm256_permute2x128_si256::<0x31>(q[i - 4], q[i])
        }
    })
}

crate::kernel::kernels!(#[target_feature(enable = "avx2")]);
