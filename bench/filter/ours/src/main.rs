//! What a filter of many rules costs: memory, time to load, time a question.
//!
//! ```text
//! filter-bench [RULES]      a made-up list of this many rules, a million if not given
//! filter-bench FILE         a list of yours
//! ```
//!
//! Memory is what the process holds more than before, by the system's count, and the most that it ever held.
#![expect(clippy::print_stdout, reason = "it prints figures, and is no part of the product")]

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use torrent::Rng;
use torrent::ip_filter::{IpFilter, IpFilterBuilder};

/// The median of some rounds counts, each in processor time: others use the machine too.
const ROUNDS: u32 = 50;
const QUESTIONS: u32 = 500_000;

fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "1000000".to_owned());
    let list = match argument.parse() {
        Ok(rule_count) => made_up(rule_count),
        Err(_) => std::fs::read(&argument)?,
    };
    let before = kib("VmRSS")?;
    let begin = Instant::now();
    let filter = build(&list)?;
    let load_time = begin.elapsed();
    let held = (kib("VmRSS")? - before) * 1024;
    let most = (kib("VmHWM")? - before) * 1024;
    println!("ranges                 {}", filter.len());
    println!("memory                 {held} bytes");
    println!("most while loading     {most} bytes, the list of {} bytes apart", list.len());
    println!("load                   {:.2} s", load_time.as_secs_f64());
    for (name, mask) in [("anywhere", u32::MAX), ("near each other", 0xffff)] {
        let (time, banned) = ask(&filter, mask)?;
        println!("ask {name:<18} {time:.0} ns, {:.1} % banned", 100.0 * banned);
    }
    Ok(())
}

/// Ranges apart from each other, most with a text of their own, as in the largest public lists.
fn made_up(rule_count: u32) -> Vec<u8> {
    let mut rng = Rng::from_seed(1);
    let (mut list, step) = (String::new(), u32::MAX / rule_count.max(1));
    for index in 0..rule_count {
        let first = index * step + rng.below(step as usize / 2) as u32;
        let last = first + rng.below(step as usize / 2) as u32;
        let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last));
        let number = rng.below(rule_count as usize);
        // Writing into a string cannot fail.
        writeln!(list, "Organisation {number}:{first}-{last}").expect("a string takes all");
    }
    list.into_bytes()
}

fn build(list: &[u8]) -> Result<IpFilter, Box<dyn Error>> {
    let mut builder = IpFilterBuilder::default();
    let loaded = builder.load(list)?;
    println!("rules                  {}, and {} faults", loaded.rule_count, loaded.fault_count);
    Ok(builder.build())
}

/// Nanoseconds a question, and which part of the addresses were banned.
fn ask(filter: &IpFilter, mask: u32) -> Result<(f64, f64), Box<dyn Error>> {
    let mut rng = Rng::from_seed(2);
    let (mut times, mut banned) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let begin = cpu_nanoseconds()?;
        for _ in 0..QUESTIONS {
            let address = Ipv4Addr::from_bits(0x4000_0000 ^ (rng.u32() & mask));
            banned += u32::from(black_box(filter.is_banned(address.into())));
        }
        times.push(cpu_nanoseconds()? - begin);
    }
    times.sort_unstable();
    let median = times[times.len() / 2] as f64 / f64::from(QUESTIONS);
    Ok((median, f64::from(banned) / f64::from(QUESTIONS * ROUNDS)))
}

fn cpu_nanoseconds() -> Result<u64, Box<dyn Error>> {
    let fields = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(fields.split_whitespace().next().ok_or("no number")?.parse()?)
}

fn kib(name: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}
