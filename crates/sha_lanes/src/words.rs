//! Four lanes in plain words: the rounds at NEON's width, for the tests of every processor.

pub(crate) const WIDTH: usize = 4;

type V = [u32; WIDTH];

fn splat(word: u32) -> V {
    [word; WIDTH]
}

fn add(x: V, y: V) -> V {
    std::array::from_fn(|i| x[i].wrapping_add(y[i]))
}

fn xor(x: V, y: V) -> V {
    std::array::from_fn(|i| x[i] ^ y[i])
}

fn xor3(x: V, y: V, z: V) -> V {
    xor(x, xor(y, z))
}

fn choose(x: V, y: V, z: V) -> V {
    std::array::from_fn(|i| (x[i] & y[i]) | (!x[i] & z[i]))
}

fn majority(x: V, y: V, z: V) -> V {
    choose(xor(x, y), z, y)
}

fn rotate_left<const LEFT: u32, const RIGHT: u32>(x: V) -> V {
    x.map(|word| word << LEFT | word >> RIGHT)
}

fn shift_right<const BITS: u32>(x: V) -> V {
    x.map(|word| word >> BITS)
}

fn from_words(words: [u32; WIDTH]) -> V {
    words
}

fn to_words(lanes: V) -> [u32; WIDTH] {
    lanes
}

fn prefetch(_block: *const [u8; 64]) {}

fn transpose(blocks: [&[u8; 64]; WIDTH]) -> [V; 16] {
    std::array::from_fn(|word| {
        from_words(blocks.map(|block| u32::from_be_bytes(block.as_chunks().0[word])))
    })
}

crate::kernel::kernels!();
