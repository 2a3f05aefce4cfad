//! Every way of hashing says what the crates for one message say.

use sha1::Digest as _;

use crate::backend::{Kernel, Plan, sha1_kernels, sha256_kernels};
use crate::kernel::{SHA1_START, SHA256_START};
use crate::streams::Streams;
use crate::{
    Backend, LANES_MAX, Sha1Lanes, Sha256Lanes, lanes, lanes_of, sha1, sha256, sha256_lanes, words,
};

/// Xorshift: the same numbers on every machine.
struct Rng(u64);

impl Rng {
    fn from_seed(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Four lanes of plain words, as if they were a backend of this processor.
fn words_sha1() -> Kernel<5> {
    Kernel { backend: Backend::Single, lanes: 4, cost: 1, compress: words::sha1::<1> }
}

fn words_sha256() -> Kernel<8> {
    Kernel { backend: Backend::Single, lanes: 4, cost: 1, compress: words::sha256::<1> }
}

/// The kernels of SHA-1, each on its own, and all of them as they are used.
fn sha1_ways() -> Vec<Vec<Kernel<5>>> {
    let all = sha1_kernels(&Backend::ALL);
    let mut ways: Vec<_> = all.iter().map(|kernel| vec![*kernel]).collect();
    ways.extend([vec![words_sha1()], all]);
    ways
}

fn sha256_ways() -> Vec<Vec<Kernel<8>>> {
    let all = sha256_kernels(&Backend::ALL);
    let mut ways: Vec<_> = all.iter().map(|kernel| vec![*kernel]).collect();
    ways.extend([vec![words_sha256()], all]);
    ways
}

fn run<const WORDS: usize>(mut streams: Streams<WORDS>, cuts: &[Vec<&[u8]>]) -> Vec<Vec<u8>> {
    for cut in cuts {
        streams.update(cut);
    }
    let to_bytes = |state: [u32; WORDS]| state.iter().flat_map(|word| word.to_be_bytes()).collect();
    streams.finish().into_iter().map(to_bytes).collect()
}

/// Hashes `messages`, given in the `cuts`, in every way there is.
fn check(messages: &[Vec<u8>], cuts: &[Vec<&[u8]>], what: &str) {
    let want: Vec<_> =
        messages.iter().map(|message| sha1::Sha1::digest(message).to_vec()).collect();
    for kernels in sha1_ways() {
        let streams = Streams::new(&kernels, SHA1_START, messages.len());
        let name = format!("{:?} of {} lanes", kernels[0].backend, kernels[0].lanes);
        assert_eq!(run(streams, cuts), want, "SHA-1 by {name}, {what}");
    }
    let want: Vec<_> =
        messages.iter().map(|message| sha2::Sha256::digest(message).to_vec()).collect();
    for kernels in sha256_ways() {
        let streams = Streams::new(&kernels, SHA256_START, messages.len());
        let name = format!("{:?} of {} lanes", kernels[0].backend, kernels[0].lanes);
        assert_eq!(run(streams, cuts), want, "SHA-256 by {name}, {what}");
    }
}

#[test]
fn the_vectors_of_fips_180_4_come_out() {
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let million = vec![b'a'; 1_000_000];
    let vectors: [(&[u8], &str, &str); 4] = [
        (
            b"",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            b"abc",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            two_blocks,
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            &million,
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
    ];
    for (message, short, long) in vectors {
        assert_eq!(hex(&sha1(message)), short);
        assert_eq!(hex(&sha256(message)), long);
        for backend in Backend::available() {
            let mut shorts = Sha1Lanes::with_backend(backend, LANES_MAX);
            let mut longs = Sha256Lanes::with_backend(backend, LANES_MAX);
            shorts.update(&[message; LANES_MAX]);
            longs.update(&[message; LANES_MAX]);
            assert!(shorts.finish().iter().all(|hash| hex(hash) == short), "{backend:?}");
            assert!(longs.finish().iter().all(|hash| hex(hash) == long), "{backend:?}");
        }
    }
}

#[test]
fn every_number_of_equally_long_messages_is_hashed_right() {
    for count in 1..=LANES_MAX {
        let mut rng = Rng::from_seed(count as u64);
        let messages: Vec<_> = (0..count).map(|_| rng.bytes(256)).collect();
        let whole: Vec<_> = messages.iter().map(Vec::as_slice).collect();
        check(&messages, &[whole], &format!("{count} messages"));
    }
}

#[test]
fn every_length_around_the_borders_of_blocks_is_hashed_right() {
    for len in 0..=200 {
        let mut rng = Rng::from_seed(len as u64);
        let messages: Vec<_> = (0..5).map(|more| rng.bytes(len + more)).collect();
        let whole: Vec<_> = messages.iter().map(Vec::as_slice).collect();
        check(&messages, &[whole], &format!("{len} bytes and more"));
    }
}

#[test]
fn a_thousand_seeds_of_messages_and_cuts_are_hashed_right() {
    for seed in 0..1000 {
        let mut rng = Rng::from_seed(seed);
        let count = 1 + rng.below(LANES_MAX);
        let messages: Vec<_> = (0..count)
            .map(|_| {
                let len = rng.below(1000);
                rng.bytes(len)
            })
            .collect();
        let mut left: Vec<_> = messages.iter().map(Vec::as_slice).collect();
        let mut cuts = Vec::new();
        while left.iter().any(|left| !left.is_empty()) {
            let cut = left.iter_mut().map(|left| {
                // All at once, nothing, and whole blocks are more frequent than chance has them.
                let len = match rng.below(4) {
                    0 => left.len(),
                    1 => left.len().min(64 * rng.below(4)),
                    _ => left.len().min(rng.below(200)),
                };
                let (cut, after) = left.split_at(len);
                *left = after;
                cut
            });
            cuts.push(cut.collect());
        }
        check(&messages, &cuts, &format!("seed {seed}"));
    }
}

#[test]
fn the_backends_that_the_processor_has_are_those_that_it_says() {
    assert!(Backend::available().contains(&Backend::Single));
    for backend in Backend::ALL {
        assert_eq!(backend.is_available(), Backend::available().contains(&backend));
    }
    for backend in Backend::available() {
        assert!((1..=LANES_MAX).contains(&lanes_of(backend)), "{backend:?}");
    }
    assert_eq!(lanes_of(Backend::Single), 1);
    assert!((1..=LANES_MAX).contains(&lanes()));
    assert!((1..=LANES_MAX).contains(&sha256_lanes()));
}

#[test]
fn a_plan_takes_the_cheapest_way_through_all_messages() {
    let kernel = |lanes, cost| Kernel { lanes, cost, ..words_sha1() };
    let plan = Plan::new(&[kernel(1, 100), kernel(16, 300), kernel(32, 450)]);
    let lanes = |count| plan.next(count).lanes;
    assert_eq!([1, 2, 4, 16].map(lanes), [1, 1, 16, 16]);
    // Sixteen and one alone are less than thirty-two, most of them idle.
    assert_eq!(lanes(18), 32);
    assert_eq!([20, 32].map(lanes), [32, 32]);
    assert_eq!(plan.lanes(), 32);
    assert_eq!(Plan::new(&[kernel(1, 100), kernel(4, 500)]).lanes(), 1);
}

#[test]
#[should_panic(expected = "one slice for each stream")]
fn a_slice_too_few_is_refused() {
    Sha1Lanes::new(2).update(&[b"one"]);
}

#[test]
#[should_panic(expected = "1 to 32 streams")]
fn more_streams_than_lanes_are_refused() {
    Sha256Lanes::new(LANES_MAX + 1);
}
