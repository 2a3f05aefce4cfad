//! A storm: a great many connections of two reactors with themselves, whose handlers do at random
//! whatever can be done to a connection, with timers, watched pipes and signals in between.
//!
//! Every byte says by its value whose it is and where it belongs, so that none can be lost, doubled or
//! given to another connection unnoticed. In the end all is written out, read, and closed: whoever
//! waits for ever then was forgotten by the loop. The same seed does the same in a simulated world.

mod stage;
mod weather;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reactor::Reactor;
use reactor::simulated::{World, WorldOptions};
use rustix::process::{Signal, getpid, kill_process};
use weather::{Size, Weather};

#[test]
fn nothing_is_lost_in_a_storm_on_the_real_network() {
    for seed in 1..=3 {
        let _hint = Hint(seed);
        let before = descriptors();
        let is_over = Arc::new(AtomicBool::new(false));
        {
            let reactors = [Reactor::new().unwrap(), Reactor::new().unwrap()];
            let size = Size { wires: 800, watches: 50, turns: 1000, is_real: true };
            let mut weather = Weather::new(seed, reactors, Ipv4Addr::LOCALHOST.into(), size);
            let signals = thread::spawn({
                let is_over = Arc::clone(&is_over);
                move || {
                    while !is_over.load(Ordering::Relaxed) {
                        kill_process(getpid(), Signal::USR1).unwrap();
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            weather.rage();
            is_over.store(true, Ordering::Relaxed);
            signals.join().unwrap();
            weather.calm();
        }
        assert_eq!(descriptors(), before, "descriptors are left open");
    }
}

#[test]
fn a_storm_in_a_simulated_world_is_the_same_each_time() {
    for seed in 1..=3 {
        let _hint = Hint(seed);
        assert_eq!(simulated(seed), simulated(seed));
    }
}

fn simulated(seed: u64) -> (u64, [u64; 4]) {
    let options = WorldOptions {
        latency: Duration::from_micros(300),
        jitter: Duration::from_micros(200),
        partial_share: 0.3,
        reset_share: 0.0005,
        buffer_len: 20_000,
        segment_len_max: 1500,
        ..WorldOptions::default()
    };
    let world = World::new(seed, options);
    let ip = IpAddr::from([10, 0, 0, 1]);
    let hosts = [world.host(&[ip]), world.reactor_on(ip)];
    let size = Size { wires: 100, watches: 0, turns: 400, is_real: false };
    let mut weather = Weather::new(seed, hosts.map(Reactor::simulated), ip, size);
    weather.rage();
    let done = weather.calm();
    (world.trace_digest(), done)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Tells which seed to play again, if it comes to that.
struct Hint(u64);

impl Drop for Hint {
    #[expect(clippy::print_stderr, reason = "tests tell what to play again")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("it was the storm of seed {}", self.0);
        }
    }
}
