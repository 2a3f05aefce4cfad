//! One file for each command.

mod create;
mod demo;
mod get;
mod pages;
mod seed;
mod show;
mod tracker;
mod verify;

use std::net::SocketAddr;
use std::thread::available_parallelism;

use engine::{ListenConfig, SessionConfig, SessionLimits};

use crate::cli::{Command, Network};
use crate::failure::Failure;
use crate::source::{USER_AGENT, state_dir};
use crate::terminal::Terminal;
use crate::values::peer_addrs;

/// Does what was asked.
pub(crate) fn run(command: Command, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        Command::Get(options) => get::run(options, terminal),
        Command::Seed(options) => seed::run(options, terminal),
        Command::Create(options) => create::run(&options, terminal),
        Command::Show(options) => show::run(&options, terminal),
        Command::Verify(options) => verify::run(&options, terminal),
        Command::Tracker(options) => tracker::run(&options, terminal),
        Command::Demo(options) => demo::run(&options, terminal),
        Command::Completions(options) => {
            pages::completions(&options, terminal);
            Ok(())
        }
        Command::Man(options) => pages::man(&options, terminal),
    }
}

/// A session as the options want it.
fn session_config(network: Network, download: Option<u64>) -> SessionConfig {
    let usual = SessionLimits::default();
    let limits = SessionLimits {
        download,
        upload: network.limit_up,
        connections_max: network.max_peers.into(),
        connections_per_torrent_max: usual
            .connections_per_torrent_max
            .min(network.max_peers.into()),
        upload_slots: network.upload_slots.map(usize::from),
        ..usual
    };
    SessionConfig {
        listen: ListenConfig { ports: network.port.0, bind: network.bind },
        state_dir: state_dir(network.state_dir, network.no_state),
        limits,
        user_agent: USER_AGENT.to_owned(),
        ..SessionConfig::default()
    }
}

fn all_addrs(peers: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let found: Result<Vec<_>, String> = peers.iter().map(|peer| peer_addrs(peer)).collect();
    Ok(found.map_err(Failure::Usage)?.concat())
}

/// As many threads as were asked for, or as there are cores.
fn hash_threads(wanted: Option<u16>) -> usize {
    wanted.map_or_else(|| available_parallelism().map_or(1, Into::into), usize::from)
}
