//! How fast each backend hashes on one core: `cargo run --release -p sha_lanes --example speed`.
//!
//! GB for each second of processor time: the median of several rounds and, because a machine that
//! others use has slow ones, the best. All backends take turns in a round, so that they meet the
//! same machine. Data is given as a checker would: a slice of each message in turn.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sha_lanes::{Backend, LANES_MAX, Sha1Lanes, Sha256Lanes};

const ROUNDS: usize = 25;
const ROUND_BYTES: usize = 8 << 20;
const SLICE: usize = 16 << 10;

/// Where the messages are.
struct Place {
    name: &'static str,
    /// Bytes of each.
    len: usize,
    /// From the beginning of one to that of the next.
    apart: usize,
    /// Memory that they are taken from, one batch after the other.
    spread: usize,
}

const PLACES: [Place; 4] = [
    Place { name: "16 KiB, in the cache", len: 16 << 10, apart: (16 << 10) + 64, spread: 0 },
    Place { name: "16 KiB, in memory", len: 16 << 10, apart: 16 << 10, spread: 256 << 20 },
    Place { name: "256 KiB, in memory", len: 256 << 10, apart: 256 << 10, spread: 256 << 20 },
    Place { name: "1 MiB, in memory", len: 1 << 20, apart: 1 << 20, spread: 256 << 20 },
];

/// One line of the table.
struct Case {
    backend: Backend,
    is_sha256: bool,
    count: usize,
    rates: Vec<f64>,
}

fn main() {
    let memory: Vec<u8> = (0..256usize << 20).map(|i| ((i * 31) >> 3) as u8).collect();
    for place in PLACES {
        println!("messages of {}: GB/s, median and best", place.name);
        let mut cases = cases();
        for round in 0..ROUNDS {
            for case in &mut cases {
                case.rates.push(measure(case, &memory, &place, round));
            }
        }
        for mut case in cases {
            case.rates.sort_by(f64::total_cmp);
            let algorithm = if case.is_sha256 { "SHA-256" } else { "SHA-1" };
            let backend = format!("{:?}", case.backend);
            let (median, best) = (case.rates[ROUNDS / 2], case.rates[ROUNDS - 1]);
            println!(
                "{algorithm:8} {backend:7} {:>2} at once {median:>6.2} {best:>6.2}",
                case.count
            );
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for is_sha256 in [false, true] {
        for backend in Backend::available() {
            let most = match backend {
                Backend::Single => 1,
                Backend::Pairs if is_sha256 => 2,
                Backend::Pairs => continue,
                Backend::Avx2 | Backend::Avx512 | Backend::Neon => LANES_MAX,
            };
            for count in [1, 2, 4, 8, 16, 32].into_iter().filter(|count| *count <= most) {
                cases.push(Case { backend, is_sha256, count, rates: Vec::new() });
            }
        }
    }
    cases
}

/// Hashes about [`ROUND_BYTES`] and says how many GB/s that was.
fn measure(case: &Case, memory: &[u8], place: &Place, round: usize) -> f64 {
    let batch = case.count * place.apart;
    let batches = (place.spread / batch).max(1);
    let turns = (ROUND_BYTES / batch).max(1);
    let start = cpu_time();
    for turn in 0..turns {
        let at = (round * turns + turn) % batches * batch;
        let messages = memory[at..at + batch].chunks(place.apart).map(|m| &m[..place.len]);
        let messages: Vec<&[u8]> = messages.collect();
        let slices = (0..place.len).step_by(SLICE);
        let slices = slices.map(|at| messages.iter().map(|m| &m[at..at + SLICE]).collect());
        hash(case, slices);
    }
    (turns * case.count * place.len) as f64 / (cpu_time() - start).as_secs_f64() / 1e9
}

fn hash<'a>(case: &Case, slices: impl Iterator<Item = Vec<&'a [u8]>>) {
    if case.is_sha256 {
        let mut streams = Sha256Lanes::with_backend(case.backend, case.count);
        slices.for_each(|slices| streams.update(&slices));
        black_box(streams.finish());
    } else {
        let mut streams = Sha1Lanes::with_backend(case.backend, case.count);
        slices.for_each(|slices| streams.update(&slices));
        black_box(streams.finish());
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
