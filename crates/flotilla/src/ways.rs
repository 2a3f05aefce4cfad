//! A session as the options want it that are for all who ask the network.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use engine::http::HttpOptions;
use engine::{DhtConfig, ListenConfig, NatConfig, NetworkConfig, ProxyConfig, SessionConfig};
use torrent::ip_filter::{IpFilter, IpFilterBuilder};
use torrent::proxy::{Login, ProxyUrl};

use crate::cli::{Peering, Transport, Ways};
use crate::failure::Failure;
use crate::source::USER_AGENT;
use crate::terminal::Terminal;

/// The way to servers that have torrent files.
pub(crate) fn http_options(ways: &Ways) -> Result<HttpOptions, Failure> {
    Ok(unfiltered_config(ways)?.http_options())
}

/// A session that goes the way it is told to, and is as usual otherwise.
pub(crate) fn session_config(ways: &Ways, terminal: &Terminal) -> Result<SessionConfig, Failure> {
    let ip_filter = ways.ip_filter.as_deref().map(|path| ip_filter(path, terminal)).transpose()?;
    Ok(SessionConfig { ip_filter: ip_filter.unwrap_or_default(), ..unfiltered_config(ways)? })
}

fn unfiltered_config(ways: &Ways) -> Result<SessionConfig, Failure> {
    if ways.proxy_loose && ways.proxy.is_none() {
        let why = "--proxy-loose: there is no proxy to go beside; --proxy names one";
        return Err(Failure::Usage(why.to_owned()));
    }
    let proxy = ways.proxy.as_deref().map(proxy_url).transpose()?;
    let is_loose = ways.proxy_loose;
    let usual = SessionConfig::default();
    Ok(SessionConfig {
        listen: ListenConfig { bind: ways.bind, ..usual.listen },
        nat: NatConfig { is_on: !ways.no_nat, ..NatConfig::default() },
        user_agent: USER_AGENT.to_owned(),
        network: NetworkConfig {
            interface: ways.interface.clone(),
            is_anonymous: ways.anonymous,
            allow_local: ways.allow_local,
        },
        proxy: proxy.map(|url| ProxyConfig { strict: !is_loose, ..ProxyConfig::new(url) }),
        ..usual
    })
}

/// The same, which finds peers and talks to them as it is told.
pub(crate) fn peering_config(
    peering: &Peering,
    ways: &Ways,
    terminal: &Terminal,
) -> Result<SessionConfig, Failure> {
    let mut dht = DhtConfig { is_enabled: !peering.no_dht, ..DhtConfig::default() };
    dht.boot.extend_from_slice(&peering.dht_nodes);
    Ok(SessionConfig {
        dht,
        exchange: !peering.no_pex,
        lsd: !peering.no_lsd,
        encryption: peering.encryption,
        tcp: peering.transport != Transport::Utp,
        utp: peering.transport != Transport::Tcp,
        ..session_config(ways, terminal)?
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

/// The text is not in what is complained of: it may have a password in it.
fn proxy_url(text: &str) -> Result<ProxyUrl, Failure> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| Failure::Usage(format!("{what}: {error}"));
    let url: ProxyUrl = text.parse().map_err(|error| wrong("--proxy", &error))?;
    match env::var(LOGIN_VARIABLE) {
        Ok(login) if !login.is_empty() => {
            let (user, password) = login.split_once(':').unwrap_or((&login, ""));
            let login = Login::new(user.to_owned(), password.to_owned());
            let login = login
                .map_err(|_error| wrong(LOGIN_VARIABLE, &"it must look like USER:PASSWORD"))?;
            Ok(url.with_login(login))
        }
        Ok(_) | Err(env::VarError::NotPresent) => Ok(url),
        Err(env::VarError::NotUnicode(_)) => Err(wrong(LOGIN_VARIABLE, &"it is no UTF-8 text")),
    }
}

/// Ten times the longest list in use.
const LIST_LEN_MAX: u64 = 256 * 1024 * 1024;
const FAULTS_SHOWN_MAX: usize = 5;
const LOGIN_VARIABLE: &str = "FLOTILLA_PROXY_LOGIN";
