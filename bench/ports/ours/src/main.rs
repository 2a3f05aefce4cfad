//! Ports, as `bench/ports/run` measures them; that says what each command does.

mod local;
mod remote;

use std::env;
use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use reactor::Reactor;
use rustix::time::{ClockId, clock_gettime};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["flood", count] => local::flood(1, count.parse()?, "flood"),
        ["fanin", senders, count] => local::flood(senders.parse()?, count.parse()?, "fanin"),
        ["pingpong", count] => local::ring(2, count.parse::<u64>()? * 2, "pingpong"),
        ["ring", ports, hops] => local::ring(ports.parse()?, hops.parse()?, "ring"),
        ["threads", count] => local::threads(count.parse()?),
        ["threads-pingpong", count] => local::threads_pingpong(count.parse()?),
        ["idle", count] => local::idle(count.parse()?),
        ["churn", count] => local::churn(count.parse()?),
        ["monitors", count] => local::monitors(count.parse()?),
        ["serve", "--listen", addr] => remote::serve(addr),
        ["remote-flood", "--connect", addr, count, size, ref framing @ ..] => {
            remote::flood(addr, count.parse()?, size.parse()?, framing)
        }
        ["remote-pingpong", "--connect", addr, count, size] => {
            remote::pingpong(addr, count.parse()?, size.parse()?)
        }
        _ => Err("no such command: see bench/ports/run".into()),
    }
}

/// The clocks at the start of a test.
struct Began {
    at: Instant,
    cpu: Duration,
}

impl Began {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_time() }
    }

    /// Prints what was measured; `more` is further JSON.
    fn report(&self, test: &str, messages: u64, more: &str) {
        let (seconds, cpu) = (self.at.elapsed(), cpu_time().saturating_sub(self.cpu));
        print(&format!(
            "{{\"test\": \"{test}\", \"system\": \"ours\", \"messages\": {messages}, \"seconds\": {:.9}, \
             \"cpu_seconds\": {:.9}{more}}}",
            seconds.as_secs_f64(),
            cpu.as_secs_f64(),
        ));
    }
}

#[expect(clippy::print_stdout, reason = "the results go to the script that runs this")]
fn print(line: &str) {
    println!("{line}");
}

/// What all threads of this process have used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Resident memory, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// Runs the loop until a test says that it is done.
fn run(reactor: &mut Reactor<()>) -> Outcome {
    Ok(reactor.run(&mut ())?)
}
