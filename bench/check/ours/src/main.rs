//! What `bench/check/run` and `bench/check/beside` set beside other clients, and beneath all of them.
//!
//! ```text
//! check-bench read THREADS PATH     reads a file, or all files of a folder, and looks at nothing
//! check-bench session ADDR          a session that obeys lines of its standard input: see session.rs
//! ```

mod lag;
mod read;
mod session;

use std::error::Error;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["read", threads, path] => read::run(threads.parse()?, path.as_ref()),
        ["session", addr] => session::run(addr.parse()?),
        _ => Err("usage: check-bench read THREADS PATH | check-bench session ADDR".into()),
    }
}

/// The clocks at the start of a measurement.
struct Began {
    at: Instant,
    cpu: Duration,
}

impl Began {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_time() }
    }

    /// What has passed since, as the inside of a JSON object.
    fn fields(&self) -> String {
        let cpu = cpu_time().saturating_sub(self.cpu).as_secs_f64();
        format!("\"seconds\": {:.6}, \"cpu_seconds\": {cpu:.6}", self.at.elapsed().as_secs_f64())
    }
}

/// What all threads of this process have used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[expect(clippy::print_stdout, reason = "the results go to the script that runs this")]
fn print(line: &str) {
    println!("{line}");
}
