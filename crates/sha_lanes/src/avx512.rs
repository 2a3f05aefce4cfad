//! Sixteen lanes in the 512-bit registers of AVX-512: a rotation and any function of three words
//! are one instruction each.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32,
    _mm512_set1_epi32, _mm512_set4_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4,
    _mm512_srli_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

pub(crate) const WIDTH: usize = 16;

type V = __m512i;

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn splat(word: u32) -> V {
    _mm512_set1_epi32(word.cast_signed())
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn add(x: V, y: V) -> V {
    _mm512_add_epi32(x, y)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn xor(x: V, y: V) -> V {
    _mm512_xor_si512(x, y)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn xor3(x: V, y: V, z: V) -> V {
    _mm512_ternarylogic_epi32::<0x96>(x, y, z)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn choose(x: V, y: V, z: V) -> V {
    _mm512_ternarylogic_epi32::<0xca>(x, y, z)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn majority(x: V, y: V, z: V) -> V {
    _mm512_ternarylogic_epi32::<0xe8>(x, y, z)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn rotate_left<const LEFT: i32, const RIGHT: i32>(x: V) -> V {
    _mm512_rol_epi32::<LEFT>(x)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn shift_right<const BITS: u32>(x: V) -> V {
    _mm512_srli_epi32::<BITS>(x)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn from_words(words: [u32; WIDTH]) -> V {
    // SAFETY: both are 64 bytes of which any are valid.
    unsafe { std::mem::transmute(words) }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn to_words(lanes: V) -> [u32; WIDTH] {
    // SAFETY: both are 64 bytes of which any are valid.
    unsafe { std::mem::transmute(lanes) }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(block: &[u8; 64]) -> V {
    // SAFETY: 64 bytes are read, of any alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn prefetch(block: *const [u8; 64]) {
    _mm_prefetch::<_MM_HINT_T0>(block.cast());
}

/// The sixteen words of each block, most significant byte first, as sixteen vectors.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn transpose(blocks: [&[u8; 64]; WIDTH]) -> [V; 16] {
    let swap = _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    let mut r = [swap; 16];
    for i in 0..16 {
        r[i] = _mm512_shuffle_epi8(load(blocks[i]), swap);
    }
    // In each 128-bit part: words of rows 4k to 4k+3.
    let mut q = r;
    for k in 0..4 {
        let [r0, r1, r2, r3] = [r[4 * k], r[4 * k + 1], r[4 * k + 2], r[4 * k + 3]];
        let (lo01, hi01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (lo23, hi23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        q[4 * k] = _mm512_unpacklo_epi64(lo01, lo23);
        q[4 * k + 1] = _mm512_unpackhi_epi64(lo01, lo23);
        q[4 * k + 2] = _mm512_unpacklo_epi64(hi01, hi23);
        q[4 * k + 3] = _mm512_unpackhi_epi64(hi01, hi23);
    }
    // q[4k + j] has, in part p, word 4p + j of rows 4k..4k+4: now the parts are transposed.
    let mut w = q;
    for j in 0..4 {
        let [q0, q1, q2, q3] = [q[j], q[4 + j], q[8 + j], q[12 + j]];
        let even01 = _mm512_shuffle_i32x4::<0x88>(q0, q1);
        let odd01 = _mm512_shuffle_i32x4::<0xdd>(q0, q1);
        let even23 = _mm512_shuffle_i32x4::<0x88>(q2, q3);
        let odd23 = _mm512_shuffle_i32x4::<0xdd>(q2, q3);
        w[j] = _mm512_shuffle_i32x4::<0x88>(even01, even23);
        w[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even01, even23);
        w[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd01, odd23);
        w[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd01, odd23);
    }
    w
}

crate::kernel::kernels!(#[target_feature(enable = "avx512f,avx512bw")]);
