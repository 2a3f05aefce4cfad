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

use std::net::SocketAddr;

use engine::disk::CheckOptions;
use engine::{CheckSettings, ListenConfig, SessionConfig, SessionLimits};

use crate::cli::{Command, Network, Reading, Ways};
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
    let peering = ways::peering_config(&network.peering, &network.ways, terminal)?;
    Ok(SessionConfig {
        listen: ListenConfig { ports: network.port.0, ..peering.listen },
        state_dir: state_dir(network.state_dir, network.no_state),
        limits,
        check: CheckSettings {
            rate: network.check_rate,
            low_priority: network.low_priority,
            ..CheckSettings::default()
        },
        schedule: network.schedule,
        ..peering
    })
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
