//! Plays ping-pong with two or more servers, a slice of time with each in turn, and says what a round
//! trip cost each of them.
//!
//! ```text
//! load ADDR/PID ADDR/PID… [--connections N] [--size BYTES] [--slices N] [--also PID]
//! ```
//!
//! One thread; on each connection there is one message at a time. A machine that is shared is twice as
//! fast in one second as in the next, so servers that are measured one after the other cannot be told
//! apart: here all of them are there at once, and a slice of a quarter of a second with each follows
//! upon the other. At the end of a slice all replies are in, so that its server is idle, and its CPU
//! time is exact. `--also` is a process whose time is added to each, such as ksoftirqd.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use uring_bench::{cpu_seconds, option};

struct Target {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Whose CPU time is counted.
    pids: Vec<String>,
    slices: Vec<Slice>,
    latencies: Vec<u32>,
}

struct Connection {
    stream: TcpStream,
    /// Of the reply, still to come.
    missing: usize,
    sent_at: Instant,
}

/// CPU time in microseconds for each round trip.
struct Slice {
    server: f64,
    client: f64,
    rate: f64,
}

fn main() -> io::Result<()> {
    let (count, size) = (option("--connections", 1000), option("--size", 64));
    let (slices, also) = (option("--slices", 16), option("--also", String::new()));
    let mut targets = Vec::new();
    for arg in std::env::args().skip(1).take_while(|arg| !arg.starts_with("--")) {
        let (addr, pid) = arg.split_once('/').expect("a server is given as ADDR/PID");
        let pids = [pid, &also].map(str::to_owned).into_iter().filter(|pid| !pid.is_empty());
        targets.push(Target::connect(addr, pids.collect(), count)?);
    }
    for target in &mut targets {
        target.play(size)?;
        target.slices.clear();
        target.latencies.clear();
    }
    for slice in 0..slices {
        // Each is first in turn.
        let first = slice % targets.len();
        targets.rotate_left(first);
        for target in &mut targets {
            target.play(size)?;
        }
        targets.rotate_right(first);
    }
    let reports: Vec<String> = targets.iter_mut().map(Target::report).collect();
    println!("[{}]", reports.join(", "));
    Ok(())
}

impl Target {
    fn connect(addr: &str, pids: Vec<String>, count: u64) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for at in 0..count {
            let stream = TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(&epoll, &stream, EventData::new_u64(at), flags)?;
            connections.push(Connection { stream, missing: 0, sent_at: Instant::now() });
        }
        Ok(Self { epoll, connections, pids, slices: Vec::new(), latencies: Vec::new() })
    }

    fn play(&mut self, size: usize) -> io::Result<()> {
        let (ping, mut pong) = (vec![b'x'; size], vec![0; size]);
        let mut events = Vec::with_capacity(1024);
        let (began, cpu, own) = (Instant::now(), self.cpu_seconds()?, cpu_seconds());
        for connection in &mut self.connections {
            connection.ping(&ping)?;
        }
        let (mut playing, mut count) = (self.connections.len(), 0_u32);
        while playing > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), None)?;
            let is_over = began.elapsed() >= SLICE;
            for event in &events {
                let connection = &mut self.connections[event.data.u64() as usize];
                connection.missing -= connection.stream.read(&mut pong[..connection.missing])?;
                if connection.missing > 0 {
                    continue;
                }
                let taken = connection.sent_at.elapsed();
                self.latencies.push(taken.as_micros().try_into().unwrap_or(u32::MAX));
                count += 1;
                if is_over {
                    playing -= 1;
                } else {
                    connection.ping(&ping)?;
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let own = cpu_seconds() - own;
        // The server still has to find out that there is nothing more.
        std::thread::sleep(Duration::from_millis(2));
        let server = self.cpu_seconds()? - cpu;
        let count = f64::from(count);
        let (server, client) = (server * 1e6 / count, own * 1e6 / count);
        self.slices.push(Slice { server, client, rate: count / seconds });
        Ok(())
    }

    /// What the server has used until now, user and system.
    fn cpu_seconds(&self) -> io::Result<f64> {
        let mut nanos = 0.0;
        for pid in &self.pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may end in between.
                let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
                let on_cpu = stat.split_whitespace().next().and_then(|field| field.parse().ok());
                nanos += on_cpu.unwrap_or(0.0);
            }
        }
        Ok(nanos / 1e9)
    }

    fn report(&mut self) -> String {
        self.latencies.sort_unstable();
        let last = self.latencies.len() - 1;
        let percentile = |share: f64| self.latencies[(last as f64 * share) as usize];
        let all = |value: fn(&Slice) -> f64| {
            let values: Vec<String> =
                self.slices.iter().map(|slice| format!("{:.4}", value(slice))).collect();
            values.join(", ")
        };
        format!(
            "{{\"server\": [{}], \"client\": [{}], \"rate\": [{}], \"p50\": {}, \"p99\": {}}}",
            all(|slice| slice.server),
            all(|slice| slice.client),
            all(|slice| slice.rate),
            percentile(0.5),
            percentile(0.99)
        )
    }
}

impl Connection {
    fn ping(&mut self, ping: &[u8]) -> io::Result<()> {
        self.sent_at = Instant::now();
        self.missing = ping.len();
        // It fits: the other end has taken all that was sent before.
        let sent = self.stream.write(ping)?;
        assert_eq!(sent, ping.len(), "a ping fits into the socket's buffer");
        Ok(())
    }
}

const SLICE: Duration = Duration::from_millis(250);
