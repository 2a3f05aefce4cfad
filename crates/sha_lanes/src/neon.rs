//! Four lanes in the 128-bit registers of NEON, for processors without SHA instructions.
//!
//! It has the fewest operations that do, each one instruction or two, so that what the tests of
//! `words` say about four lanes holds here too.

use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vbslq_u32, vdupq_n_u32, veorq_u32, vshlq_n_u32, vshrq_n_u32, vsriq_n_u32,
};

pub(crate) const WIDTH: usize = 4;

type V = uint32x4_t;

#[target_feature(enable = "neon")]
#[inline]
fn splat(word: u32) -> V {
    vdupq_n_u32(word)
}

#[target_feature(enable = "neon")]
#[inline]
fn add(x: V, y: V) -> V {
    vaddq_u32(x, y)
}

#[target_feature(enable = "neon")]
#[inline]
fn xor(x: V, y: V) -> V {
    veorq_u32(x, y)
}

#[target_feature(enable = "neon")]
#[inline]
fn xor3(x: V, y: V, z: V) -> V {
    xor(x, xor(y, z))
}

#[target_feature(enable = "neon")]
#[inline]
fn choose(x: V, y: V, z: V) -> V {
    vbslq_u32(x, y, z)
}

#[target_feature(enable = "neon")]
#[inline]
fn majority(x: V, y: V, z: V) -> V {
    vbslq_u32(xor(x, y), z, y)
}

#[target_feature(enable = "neon")]
#[inline]
fn rotate_left<const LEFT: i32, const RIGHT: i32>(x: V) -> V {
    vsriq_n_u32::<RIGHT>(vshlq_n_u32::<LEFT>(x), x)
}

#[target_feature(enable = "neon")]
#[inline]
fn shift_right<const BITS: i32>(x: V) -> V {
    vshrq_n_u32::<BITS>(x)
}

#[target_feature(enable = "neon")]
#[inline]
fn from_words(words: [u32; WIDTH]) -> V {
    // SAFETY: both are 16 bytes of which any are valid.
    unsafe { std::mem::transmute(words) }
}

#[target_feature(enable = "neon")]
#[inline]
fn to_words(lanes: V) -> [u32; WIDTH] {
    // SAFETY: both are 16 bytes of which any are valid.
    unsafe { std::mem::transmute(lanes) }
}

#[target_feature(enable = "neon")]
#[inline]
fn prefetch(_block: *const [u8; 64]) {}

/// The sixteen words of each block, most significant byte first, as sixteen vectors.
#[target_feature(enable = "neon")]
#[inline]
fn transpose(blocks: [&[u8; 64]; WIDTH]) -> [V; 16] {
    std::array::from_fn(|word| {
        from_words(blocks.map(|block| u32::from_be_bytes(block.as_chunks().0[word])))
    })
}

crate::kernel::kernels!(#[target_feature(enable = "neon")]);
