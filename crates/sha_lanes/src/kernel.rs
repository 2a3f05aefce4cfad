//! The rounds of SHA-1 and SHA-256 for a vector of messages, written once for every width.
//!
//! A word of the algorithm becomes a vector with that word of each message, a *lane* for each, so
//! the code below reads as FIPS 180-4 does. Each processor's module brings the vector `V`, its
//! `WIDTH` and the few operations that are used here, and has these functions made for it by
//! [`kernels!`]. It is a macro because the features of a processor belong to functions: generic
//! code would lose them, and with them the safety of calling the operations.
//!
//! `GROUPS` vectors are taken through the rounds side by side. One round waits for the one before,
//! so one group alone leaves half of a wide processor idle.

/// How many blocks ahead of its rounds SHA-1 has the lanes' data fetched: a processor does not
/// foresee so many streams by itself (6 % of the rate from memory; SHA-256 is too slow to notice).
pub(crate) const AHEAD: usize = 8;

/// The start of SHA-1 (FIPS 180-4, 5.3.1).
pub(crate) const SHA1_START: [u32; 5] =
    [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];

/// The start of SHA-256 (FIPS 180-4, 5.3.3).
pub(crate) const SHA256_START: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// The constants of SHA-256's rounds (FIPS 180-4, 4.2.2).
pub(crate) const SHA256_K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// Makes `sha1` and `sha256` of the module's vector, with the attributes given.
macro_rules! kernels {
    ($(#[$feature:meta])*) => {
        /// The lanes' words `index`: those of streams that are not there are 0.
        $(#[$feature])*
        #[inline]
        fn gather<const WORDS: usize>(states: &[[u32; WORDS]], group: usize, index: usize) -> V {
            let streams = states.iter().skip(group * WIDTH).take(WIDTH);
            let mut words = [0; WIDTH];
            words.iter_mut().zip(streams).for_each(|(word, state)| *word = state[index]);
            from_words(words)
        }

        $(#[$feature])*
        #[inline]
        fn scatter<const WORDS: usize>(
            lanes: V,
            states: &mut [[u32; WORDS]],
            group: usize,
            index: usize,
        ) {
            let streams = states.iter_mut().skip(group * WIDTH).take(WIDTH);
            streams.zip(to_words(lanes)).for_each(|(state, word)| state[index] = word);
        }

        /// The data of each lane; lanes without a stream read along with the first.
        $(#[$feature])*
        #[inline]
        fn rows<'a, const GROUPS: usize>(
            data: &[&'a [[u8; 64]]],
        ) -> [[&'a [[u8; 64]]; WIDTH]; GROUPS] {
            std::array::from_fn(|group| {
                std::array::from_fn(|lane| *data.get(group * WIDTH + lane).unwrap_or(&data[0]))
            })
        }

        $(#[$feature])*
        #[inline]
        fn big_sigma_0(x: V) -> V {
            xor3(rotate_left::<30, 2>(x), rotate_left::<19, 13>(x), rotate_left::<10, 22>(x))
        }

        $(#[$feature])*
        #[inline]
        fn big_sigma_1(x: V) -> V {
            xor3(rotate_left::<26, 6>(x), rotate_left::<21, 11>(x), rotate_left::<7, 25>(x))
        }

        $(#[$feature])*
        #[inline]
        fn small_sigma_0(x: V) -> V {
            xor3(rotate_left::<25, 7>(x), rotate_left::<14, 18>(x), shift_right::<3>(x))
        }

        $(#[$feature])*
        #[inline]
        fn small_sigma_1(x: V) -> V {
            xor3(rotate_left::<15, 17>(x), rotate_left::<13, 19>(x), shift_right::<10>(x))
        }

        $(#[$feature])*
        pub(crate) fn sha1<const GROUPS: usize>(states: &mut [[u32; 5]], data: &[&[[u8; 64]]]) {
            assert!(states.len() == data.len() && (1..=WIDTH * GROUPS).contains(&data.len()));
            let rows = rows::<GROUPS>(data);
            let blocks = data.iter().map(|row| row.len()).min().unwrap_or(0);
            let mut state: [[V; GROUPS]; 5] =
                std::array::from_fn(|i| std::array::from_fn(|group| gather(states, group, i)));
            for block in 0..blocks {
                let mut w = [[splat(0); 16]; GROUPS];
                for group in 0..GROUPS {
                    let mut at = [&[0; 64]; WIDTH];
                    for lane in 0..WIDTH {
                        at[lane] = &rows[group][lane][block];
                        let ahead = block + crate::kernel::AHEAD;
                        prefetch(rows[group][lane].as_ptr().wrapping_add(ahead));
                    }
                    w[group] = transpose(at);
                }
                let [mut a, mut b, mut c, mut d, mut e] = state;
                crate::kernel::sha1_rounds!(
                    GROUPS, w, a, b, c, d, e, choose, 0x5a827999; 0 5 10 15);
                crate::kernel::sha1_rounds!(
                    GROUPS, w, a, b, c, d, e, xor3, 0x6ed9eba1; 20 25 30 35);
                crate::kernel::sha1_rounds!(
                    GROUPS, w, a, b, c, d, e, majority, 0x8f1bbcdc; 40 45 50 55);
                crate::kernel::sha1_rounds!(
                    GROUPS, w, a, b, c, d, e, xor3, 0xca62c1d6; 60 65 70 75);
                for (sum, round) in state.iter_mut().zip([a, b, c, d, e]) {
                    for group in 0..GROUPS {
                        sum[group] = add(sum[group], round[group]);
                    }
                }
            }
            for (index, groups) in state.iter().enumerate() {
                for (group, lanes) in groups.iter().enumerate() {
                    scatter(*lanes, states, group, index);
                }
            }
        }

        $(#[$feature])*
        pub(crate) fn sha256<const GROUPS: usize>(states: &mut [[u32; 8]], data: &[&[[u8; 64]]]) {
            assert!(states.len() == data.len() && (1..=WIDTH * GROUPS).contains(&data.len()));
            let rows = rows::<GROUPS>(data);
            let blocks = data.iter().map(|row| row.len()).min().unwrap_or(0);
            let mut state: [[V; GROUPS]; 8] =
                std::array::from_fn(|i| std::array::from_fn(|group| gather(states, group, i)));
            let mut w = [[splat(0); GROUPS]; 64];
            for block in 0..blocks {
                for group in 0..GROUPS {
                    let mut at = [&[0; 64]; WIDTH];
                    for lane in 0..WIDTH {
                        at[lane] = &rows[group][lane][block];
                    }
                    let words = transpose(at);
                    for t in 0..16 {
                        w[t][group] = words[t];
                    }
                }
                let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
                // All words first and the rounds then, in loops: as one run of code, the compiler
                // put the words first anyway, and had to put what the rounds need into memory.
                for at in [0, 8, 16, 24, 32, 40] {
                    let w = w[at..].first_chunk_mut::<24>().expect("at most 64");
                    for t in 0..8 {
                        for group in 0..GROUPS {
                            let sum = add(w[t][group], small_sigma_0(w[t + 1][group]));
                            let sum = add(sum, w[t + 9][group]);
                            w[t + 16][group] = add(sum, small_sigma_1(w[t + 14][group]));
                        }
                    }
                }
                for at in [0, 8, 16, 24, 32, 40, 48, 56] {
                    let w = w[at..].first_chunk::<8>().expect("at most 64");
                    let k = crate::kernel::SHA256_K[at..].first_chunk::<8>().expect("64 too");
                    crate::kernel::sha256_rounds!(
                        GROUPS, w, k, a, b, c, d, e, f, g, h);
                }
                for (sum, round) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                    for group in 0..GROUPS {
                        sum[group] = add(sum[group], round[group]);
                    }
                }
            }
            for (index, groups) in state.iter().enumerate() {
                for (group, lanes) in groups.iter().enumerate() {
                    scatter(*lanes, states, group, index);
                }
            }
        }
    };
}

/// Five rounds for each number, after which every letter has its name again.
macro_rules! sha1_rounds {
    ($groups:ident, $w:ident,
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident,
     $f:ident, $k:literal; $($t:literal)+) => {$(
        crate::kernel::sha1_round!($groups, $w, $a, $b, $c, $d, $e, $f, $k, $t);
        crate::kernel::sha1_round!($groups, $w, $e, $a, $b, $c, $d, $f, $k, $t + 1);
        crate::kernel::sha1_round!($groups, $w, $d, $e, $a, $b, $c, $f, $k, $t + 2);
        crate::kernel::sha1_round!($groups, $w, $c, $d, $e, $a, $b, $f, $k, $t + 3);
        crate::kernel::sha1_round!($groups, $w, $b, $c, $d, $e, $a, $f, $k, $t + 4);
    )+};
}

/// One round (FIPS 180-4, 6.1.2). Only the turn of `a` and the last sum wait for the round before.
macro_rules! sha1_round {
    ($groups:ident, $w:ident,
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident,
     $f:ident, $k:literal, $t:expr) => {
        for group in 0..$groups {
            let w = &mut $w[group];
            if $t >= 16 {
                let far = xor3(w[($t + 13) % 16], w[($t + 8) % 16], w[($t + 2) % 16]);
                w[$t % 16] = rotate_left::<1, 31>(xor(far, w[$t % 16]));
            }
            let sum = add($e[group], add(w[$t % 16], splat($k)));
            let sum = add(sum, $f($b[group], $c[group], $d[group]));
            $e[group] = add(sum, rotate_left::<5, 27>($a[group]));
            $b[group] = rotate_left::<30, 2>($b[group]);
        }
    };
}

/// Eight rounds, after which every letter has its name again.
macro_rules! sha256_rounds {
    ($groups:ident, $w:ident, $k:ident,
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident, $f:ident, $g:ident, $h:ident) => {
        crate::kernel::sha256_round!($groups, $w, $k, 0, $a, $b, $c, $d, $e, $f, $g, $h);
        crate::kernel::sha256_round!($groups, $w, $k, 1, $h, $a, $b, $c, $d, $e, $f, $g);
        crate::kernel::sha256_round!($groups, $w, $k, 2, $g, $h, $a, $b, $c, $d, $e, $f);
        crate::kernel::sha256_round!($groups, $w, $k, 3, $f, $g, $h, $a, $b, $c, $d, $e);
        crate::kernel::sha256_round!($groups, $w, $k, 4, $e, $f, $g, $h, $a, $b, $c, $d);
        crate::kernel::sha256_round!($groups, $w, $k, 5, $d, $e, $f, $g, $h, $a, $b, $c);
        crate::kernel::sha256_round!($groups, $w, $k, 6, $c, $d, $e, $f, $g, $h, $a, $b);
        crate::kernel::sha256_round!($groups, $w, $k, 7, $b, $c, $d, $e, $f, $g, $h, $a);
    };
}

/// One round (FIPS 180-4, 6.2.2). The next round waits for `d`, so what it adds comes in last.
macro_rules! sha256_round {
    ($groups:ident, $w:ident, $k:ident, $t:literal,
     $a:ident, $b:ident, $c:ident, $d:ident, $e:ident, $f:ident, $g:ident, $h:ident) => {
        for group in 0..$groups {
            let (a, e) = ($a[group], $e[group]);
            let sum = add($h[group], add($w[$t][group], splat($k[$t])));
            let sum = add(sum, choose(e, $f[group], $g[group]));
            let turned = big_sigma_1(e);
            $d[group] = add(add($d[group], sum), turned);
            let sum = add(add(sum, turned), majority(a, $b[group], $c[group]));
            $h[group] = add(sum, big_sigma_0(a));
        }
    };
}

pub(crate) use {kernels, sha1_round, sha1_rounds, sha256_round, sha256_rounds};
