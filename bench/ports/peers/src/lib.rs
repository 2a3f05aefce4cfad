//! What all peers have in common: the command line, the clock and the line of JSON.

pub mod actors;

use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What was asked for, word by word.
pub struct Words(std::vec::IntoIter<String>);

impl Words {
    pub fn of_command_line() -> Self {
        Self(std::env::args().skip(1).collect::<Vec<_>>().into_iter())
    }

    /// The next word; without one, the program ends and says what is missing.
    pub fn next<T: FromStr<Err: Display>>(&mut self, name: &str) -> T {
        let word = self.0.next().unwrap_or_else(|| fail(format_args!("{name} is missing")));
        word.parse().unwrap_or_else(|error| fail(format_args!("{name}: {word}: {error}")))
    }

    /// The word after the option of this name, which has to come next.
    pub fn option<T: FromStr<Err: Display>>(&mut self, name: &str) -> T {
        let word: String = self.next(name);
        if word != name {
            fail(format_args!("{name} is missing, there is {word}"));
        }
        self.next(name)
    }

    /// Whether the option of this name comes next; then it is taken.
    pub fn flag(&mut self, name: &str) -> bool {
        let there = self.0.as_slice().first().is_some_and(|word| word == name);
        if there {
            self.0.next();
        }
        there
    }
}

/// A measurement that runs.
pub struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    pub fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu() }
    }

    /// Prints the result.
    pub fn finish(self, test: &str, messages: u64) {
        self.finish_with(test, messages, "");
    }

    /// Prints the result with further fields, which begin with a comma.
    pub fn finish_with(self, test: &str, messages: u64, more: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = (cpu() - self.cpu).as_secs_f64();
        let system = std::env::args().next().unwrap_or_default();
        let system = system.rsplit('/').next().unwrap_or_default();
        println!(
            "{{\"test\": \"{test}\", \"system\": \"{system}\", \"messages\": {messages}, \"seconds\": {seconds:.6}, \
             \"cpu_seconds\": {cpu:.6}{more}}}"
        );
    }
}

/// The times of single round trips.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn note(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The fields that go with a result.
    pub fn fields(mut self) -> String {
        self.0.sort_unstable();
        let at = |share: usize| {
            self.0.get(self.0.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        format!(", \"p50_us\": {:.2}, \"p99_us\": {:.2}", at(50), at(99))
    }
}

/// Bytes resident in this process.
pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux has it");
    let kibibytes: u64 =
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("Linux has it");
    kibibytes * 1024
}

/// Ends the program with an error.
pub fn fail(what: impl Display) -> ! {
    eprintln!("{what}");
    std::process::exit(2)
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process has used no negative time")
}
