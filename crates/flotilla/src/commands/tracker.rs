//! `flotilla tracker`: answers announces and scrapes until interrupted.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use torrent::tracker::server::TableLimits;

use crate::cli::Tracker;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::terminal::Terminal;
use crate::text::count;
use crate::tracker_host::TrackerHost;

pub(crate) fn run(options: &Tracker, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let limits = TableLimits {
        interval: options.interval,
        expire_after: options.interval * 2,
        ..TableLimits::default()
    };
    let host = match (options.http, options.udp) {
        (None, None) => {
            let everywhere = |ip: std::net::IpAddr| [SocketAddr::new(ip, PORT)];
            let (v6, v4) = (
                everywhere(Ipv6Addr::UNSPECIFIED.into()),
                everywhere(Ipv4Addr::UNSPECIFIED.into()),
            );
            // A system may have no IPv6 at all.
            TrackerHost::start(&v6, &v6, limits).or_else(|_| TrackerHost::start(&v4, &v4, limits))
        }
        (http, udp) => TrackerHost::start(http.as_slice(), udp.as_slice(), limits),
    };
    let host = host.map_err(Failure::Failed)?;
    for addr in host.http_addrs() {
        terminal.line(&format!("http://{}/announce", reachable(*addr)));
    }
    for addr in host.udp_addrs() {
        terminal.line(&format!("udp://{}", reachable(*addr)));
    }
    let mut told = (0, 0);
    let mut told_at = Instant::now();
    while !interrupt.is_set() && !terminal.is_gone() {
        std::thread::sleep(LOOK_EVERY);
        let counts = host.counts();
        let text =
            format!("{}, {}", count(counts.0 as u64, "torrent"), count(counts.1 as u64, "peer"));
        if terminal.is_live() {
            terminal.show(&[text]);
        } else if counts != told && told_at.elapsed() >= TELL_EVERY {
            terminal.line(&text);
            (told, told_at) = (counts, Instant::now());
        }
    }
    terminal.show(&[]);
    Ok(())
}

/// How others write an address: this machine's name stands for all that it has.
fn reachable(addr: SocketAddr) -> String {
    if !addr.ip().is_unspecified() {
        return addr.to_string();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", addr.port())
}

const PORT: u16 = 6969;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(5);
