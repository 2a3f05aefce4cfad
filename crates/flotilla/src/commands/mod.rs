//! One file for each command.

mod create;
mod demo;
mod dht;
mod get;
mod pages;
mod seed;
mod show;
mod tracker;
mod verify;

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use engine::disk::CheckOptions;
use engine::{CheckSettings, DhtConfig, ListenConfig, NatConfig, SessionConfig, SessionLimits};
use torrent::ip_filter::{IpFilter, IpFilterBuilder};

use crate::cli::{Command, Network, Reading, Transport, Ways};
use crate::failure::Failure;
use crate::source::state_dir;
use crate::terminal::Terminal;
use crate::values::peer_addrs;
use crate::ways;

/// Does what was asked.
pub(crate) fn run(command: Command, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        Command::Get(options) => get::run(options, terminal),
        Command::Seed(options) => seed::run(options, terminal),
        Command::Create(options) => create::run(&options, terminal),
        Command::Show(options) => show::run(&options, terminal),
        Command::Verify(options) => verify::run(&options, terminal),
        Command::Tracker(options) => tracker::run(&options, terminal),
        Command::Dht(options) => dht::run(options, terminal),
        Command::Demo(options) => demo::run(&options, terminal),
        Command::Completions(options) => {
            pages::completions(&options, terminal);
            Ok(())
        }
        Command::Man(options) => pages::man(&options, terminal),
    }
}

/// A session as the options want it.
fn session_config(
    network: Network,
    download: Option<u64>,
    terminal: &Terminal,
) -> Result<SessionConfig, Failure> {
    let usual = SessionLimits::default();
    let limits = SessionLimits {
        download,
        upload: network.limit_up,
        local_too: network.limit_local,
        connections_max: network.max_peers.into(),
        connections_per_torrent_max: usual
            .connections_per_torrent_max
            .min(network.max_peers.into()),
        upload_slots: network.upload_slots.map(usize::from),
        ..usual
    };
    let ip_filter =
        network.ip_filter.as_deref().map(|path| ip_filter(path, terminal)).transpose()?;
    let mut dht = DhtConfig { is_enabled: !network.no_dht, ..DhtConfig::default() };
    dht.boot.extend(network.dht_nodes);
    Ok(SessionConfig {
        dht,
        listen: ListenConfig { ports: network.port.0, bind: network.bind },
        state_dir: state_dir(network.state_dir, network.no_state),
        limits,
        check: CheckSettings {
            rate: network.check_rate,
            low_priority: network.low_priority,
            ..CheckSettings::default()
        },
        schedule: network.schedule,
        nat: NatConfig { is_on: !network.no_nat, ..NatConfig::default() },
        ip_filter: ip_filter.unwrap_or_default(),
        encryption: network.encryption,
        tcp: network.transport != Transport::Utp,
        utp: network.transport != Transport::Tcp,
        exchange: !network.no_pex,
        lsd: !network.no_lsd,
        ..ways::session_config(&network.ways)?
    })
}

/// The rules of a list. What is no rule is complained of and left out, unless nothing else is in it.
fn ip_filter(path: &Path, terminal: &Terminal) -> Result<IpFilter, Failure> {
    let mut list = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIST_LEN_MAX + 1).read_to_end(&mut list));
    read.map_err(|error| Failure::at(path, error))?;
    if list.len() as u64 > LIST_LEN_MAX {
        let mib = LIST_LEN_MAX >> 20;
        return Err(Failure::at(path, format!("longer than {mib} MiB: no list of addresses")));
    }
    let mut rules = IpFilterBuilder::default();
    let loaded = rules.load(&list).map_err(|fault| Failure::at(path, fault))?;
    for fault in loaded.first_faults.iter().take(FAULTS_SHOWN_MAX) {
        terminal.complain(&format!("{}: {fault}; left out", path.display()));
    }
    let more = loaded.fault_count.saturating_sub(FAULTS_SHOWN_MAX);
    if more > 0 {
        terminal.complain(&format!("{}: {more} more of these", path.display()));
    }
    Ok(rules.build())
}

fn all_addrs(peers: &[String], ways: &Ways) -> Result<Vec<SocketAddr>, Failure> {
    let may_look_up = ways.proxy.is_none() || ways.proxy_loose;
    let found: Result<Vec<_>, String> =
        peers.iter().map(|peer| peer_addrs(peer, may_look_up)).collect();
    Ok(found.map_err(Failure::Usage)?.concat())
}

/// How files are hashed: with as many threads as were asked for, or as there are cores.
fn check_options(threads: Option<u16>, reading: &Reading) -> CheckOptions {
    let usual = CheckOptions::default();
    CheckOptions {
        threads: threads.map_or(usual.threads, usize::from),
        rate: reading.rate,
        low_priority: reading.low_priority,
    }
}

/// Ten times the longest list in use.
const LIST_LEN_MAX: u64 = 256 * 1024 * 1024;
const FAULTS_SHOWN_MAX: usize = 5;
