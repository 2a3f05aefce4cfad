//! What timers cost: adding and taking back a million, and pushing back the deadlines of connections;
//! and how long another thread's post takes to wake the loop.
//!
//! ```text
//! timers [--timers N] [--connections N]     prints nanoseconds an operation, as JSON
//! ```
//!
//! The connections are of a simulated world, so that there may be more of them than descriptors; what a
//! deadline costs is the same in any world.
#![expect(clippy::print_stdout, reason = "it prints one line, and is no part of the product")]

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use reactor::simulated::{World, WorldOptions};
use reactor::{ConnectOptions, Handler, HandlerError, Reactor, Reason, Token};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut timers, mut connections) = (1_000_000, 100_000);
    let args: Vec<String> = std::env::args().skip(1).collect();
    for pair in args.chunks(2) {
        match pair.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["--timers", count] => timers = count.parse()?,
            ["--connections", count] => connections = count.parse()?,
            _ => return Err("usage: timers [--timers N] [--connections N]".into()),
        }
    }
    let (add_ns, cancel_ns) = add_and_cancel(timers)?;
    let churn_ns = churn(timers)?;
    let push_back_ns = push_back(connections)?;
    let (wake_p50_us, wake_p99_us) = wake()?;
    println!(
        "{{\"timers\": {timers}, \"add_ns\": {add_ns:.1}, \"cancel_ns\": {cancel_ns:.1}, \
         \"churn_ns\": {churn_ns:.1}, \"connections\": {connections}, \
         \"push_back_ns\": {push_back_ns:.1}, \"wake_p50_us\": {wake_p50_us:.1}, \
         \"wake_p99_us\": {wake_p99_us:.1}}}"
    );
    Ok(())
}

/// Adds `count` timers, then takes them back in another order.
fn add_and_cancel(count: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let mut reactor = Reactor::<()>::new()?;
    let mut dice = Dice(1);
    let start = cpu_time()?;
    let mut timers: Vec<_> = (0..count)
        .map(|_| reactor.add_timer(reactor.now() + dice.within_a_minute(), |&mut (), _| {}))
        .collect();
    let added = cpu_time()? - start;
    for at in (1..count).rev() {
        timers.swap(at, dice.below(at + 1));
    }
    let start = cpu_time()?;
    let cancelled = timers.into_iter().filter(|&timer| reactor.cancel_timer(timer)).count();
    let cancelling = cpu_time()? - start;
    assert_eq!(cancelled, count, "a timer was gone before its time");
    Ok((each(added, count), each(cancelling, count)))
}

/// Among `count` timers, takes one back and adds another, as often as there are timers.
fn churn(count: usize) -> Result<f64, Box<dyn Error>> {
    let mut reactor = Reactor::<()>::new()?;
    let mut dice = Dice(2);
    let mut timers: Vec<_> = (0..count)
        .map(|_| reactor.add_timer(reactor.now() + dice.within_a_minute(), |&mut (), _| {}))
        .collect();
    let start = cpu_time()?;
    for _ in 0..count {
        let timer = &mut timers[dice.below(count)];
        reactor.cancel_timer(*timer);
        *timer = reactor.add_timer(reactor.now() + dice.within_a_minute(), |&mut (), _| {});
    }
    Ok(each(cpu_time()? - start, count))
}

/// Pushes back the idle deadline of each of `count` connections, as traffic on them would.
fn push_back(count: usize) -> Result<f64, Box<dyn Error>> {
    let world = World::new(1, WorldOptions::default());
    let sources: Vec<_> =
        (0..=count / PORTS).map(|index| IpAddr::from([10, 0, 1, index as u8])).collect();
    let to = SocketAddr::from(([10, 0, 0, 1], 1));
    let mut reactor = Reactor::<()>::simulated(world.host(&sources));
    let connections = (0..count)
        .map(|index| {
            let bind = Some(sources[index / PORTS]);
            let options = ConnectOptions { bind, ..ConnectOptions::default() };
            reactor.connect(to, &options, Box::new(Silent))
        })
        .collect::<io::Result<Vec<Token>>>()?;
    let start = cpu_time()?;
    for round in 0..ROUNDS {
        let now = reactor.now() + Duration::from_millis(round);
        for &token in &connections {
            touch(&mut reactor, token, now);
        }
    }
    let rounds = usize::try_from(ROUNDS)?;
    Ok(each(cpu_time()? - start, count * rounds))
}

/// The one place that knows how an idle deadline is pushed back.
fn touch(reactor: &mut Reactor<()>, token: Token, now: Instant) {
    reactor.set_deadline(token, Some(now + IDLE));
}

/// How long it takes from a post in another thread to its call in a loop that sleeps: median and
/// 99 of 100.
fn wake() -> Result<(f64, f64), Box<dyn Error>> {
    let mut reactor = Reactor::<Vec<Duration>>::new()?;
    let remote = reactor.remote();
    let poster = std::thread::spawn(move || {
        for _ in 0..WAKES {
            std::thread::sleep(Duration::from_micros(200));
            let posted = Instant::now();
            remote.post(move |taken: &mut Vec<Duration>, _| taken.push(posted.elapsed())).ok();
        }
        remote.stop();
    });
    let mut taken = Vec::new();
    reactor.run(&mut taken)?;
    poster.join().map_err(|_panic| "the poster panicked")?;
    taken.sort_unstable();
    let at = |percent: usize| taken[taken.len() * percent / 100].as_secs_f64() * 1e6;
    Ok((at(50), at(99)))
}

/// Processor time of this thread: others on the machine do not count.
fn cpu_time() -> io::Result<Duration> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = line.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no schedstat here"))
}

struct Silent;

impl Handler<()> for Silent {
    fn readable(&mut self, _: Token, _: &mut (), _: &mut Reactor<()>) -> Result<(), HandlerError> {
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, _: &mut (), _: &mut Reactor<()>) {}
}

/// Chance that is the same each time, and costs next to nothing.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn within_a_minute(&mut self) -> Duration {
        Duration::from_micros(1 + self.below(60_000_000) as u64)
    }
}

fn each(took: Duration, count: usize) -> f64 {
    took.as_secs_f64() * 1e9 / count as f64
}

const IDLE: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 10;
/// An address has 16,384 ports to connect from.
const PORTS: usize = 16_000;
const WAKES: usize = 5000;
