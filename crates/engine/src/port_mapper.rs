//! Asks a router to let peers in: by PCP ([RFC 6887]), else NAT-PMP ([RFC 6886]), else UPnP.
//!
//! All of it are futures of tokio, on the thread that speaks HTTP. The engine hears by messages.
//!
//! [RFC 6886]: https://www.rfc-editor.org/rfc/rfc6886
//! [RFC 6887]: https://www.rfc-editor.org/rfc/rfc6887

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions,
    PortMappingType, TimeoutConfig, natpmp,
};
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::gateway::Gateway;

/// Ports that a router hands on to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPorts {
    /// Which protocol the router was asked by.
    pub by: MappingProtocol,
    /// The router's own address in the world, if it says.
    pub external_ip: Option<IpAddr>,
    /// The port there that leads to ours over TCP.
    pub tcp: u16,
    /// The port there that leads to ours over UDP.
    pub udp: u16,
}

/// How a router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingProtocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// Internet Gateway Device.
    Upnp,
}

impl std::fmt::Display for MappingProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// What to map, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) gateway: Gateway,
    pub(crate) port: NonZeroU16,
}

/// A mapping of both ports, and what it takes to renew and to end it.
enum Mapping {
    Pmp { tcp: Box<PortMapping>, udp: Box<PortMapping> },
    Upnp { router: Box<Router>, wanted: Wanted },
}

/// Maps ports and keeps them mapped, until `stop` is dropped; then takes the mapping back, and drops `done`.
/// `tell` hears of every change.
pub(crate) async fn keep_mapped(
    find: impl Fn() -> Result<Wanted, String> + Send + 'static,
    tell: impl Fn(Result<MappedPorts, String>) + Send + 'static,
    mut stop: oneshot::Receiver<()>,
    done: Sender<()>,
) {
    loop {
        let mapped = match find() {
            Ok(wanted) => tokio::select! {
                mapped = map(wanted) => mapped,
                _ = &mut stop => break,
            },
            Err(why) => Err(why),
        };
        let (mut mapping, mut ports) = match mapped {
            Ok((mapping, ports)) => (mapping, ports),
            Err(why) => {
                tell(Err(why));
                tokio::select! {
                    () = sleep(TRY_AGAIN_AFTER) => continue,
                    _ = &mut stop => break,
                }
            }
        };
        tell(Ok(ports));
        let lost = loop {
            tokio::select! {
                () = sleep(mapping.lifetime() / 2) => {}
                _ = &mut stop => break None,
            }
            match mapping.renew(ports).await {
                Ok(now) if now == ports => {}
                Ok(now) => {
                    ports = now;
                    tell(Ok(ports));
                }
                Err(why) => break Some(why),
            }
        };
        match lost {
            Some(why) => tell(Err(why)),
            None => {
                timeout(FAREWELL_PATIENCE, mapping.take_back(ports)).await.ok();
                break;
            }
        }
    }
    drop(done);
}

/// The router may know any of the protocols, so it is searched for by UPnP while it is asked by the others.
async fn map(wanted: Wanted) -> Result<(Mapping, MappedPorts), String> {
    let mut pmp = pin!(map_by_pmp(wanted));
    let mut search = pin!(search(wanted));
    let mut router = None;
    let by_pmp = loop {
        tokio::select! {
            biased;
            mapped = &mut pmp => break mapped,
            found = &mut search, if router.is_none() => router = Some(found),
        }
    };
    let why = match by_pmp {
        Ok(mapped) => return Ok(mapped),
        Err(why) => why,
    };
    let router = match router {
        Some(found) => found,
        None => search.await,
    };
    match router {
        Ok(router) => map_by_upnp(router, wanted).await,
        Err(upnp) => Err(format!("{why}; UPnP: {upnp}")),
    }
}

async fn map_by_pmp(wanted: Wanted) -> Result<(Mapping, MappedPorts), String> {
    let tcp = pmp_mapping(wanted, InternetProtocol::Tcp, wanted.port).await?;
    // The same for both if it can be: what is told to peers is one number.
    let udp = match pmp_mapping(wanted, InternetProtocol::Udp, tcp.external_port()).await {
        Ok(udp) => udp,
        Err(why) => {
            tcp.try_drop().await.ok();
            return Err(why);
        }
    };
    let (by, external_ip) = match tcp.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => (MappingProtocol::Pcp, Some(external_ip)),
        PortMappingType::NatPmp => {
            let gateway = GatewayAddress::IpV4(wanted.gateway.addr);
            let external_ip = natpmp::external_address(gateway, Some(PATIENCE)).await;
            (MappingProtocol::NatPmp, external_ip.ok().map(IpAddr::V4))
        }
    };
    let (tcp_port, udp_port) = (tcp.external_port().get(), udp.external_port().get());
    let ports = MappedPorts { by, external_ip, tcp: tcp_port, udp: udp_port };
    Ok((Mapping::Pmp { tcp: Box::new(tcp), udp: Box::new(udp) }, ports))
}

async fn pmp_mapping(
    wanted: Wanted,
    protocol: InternetProtocol,
    external_port: NonZeroU16,
) -> Result<PortMapping, String> {
    let gateway = GatewayAddress::IpV4(wanted.gateway.addr);
    let options = PortMappingOptions {
        external_port: Some(external_port),
        lifetime_seconds: Some(LEASE_SECONDS),
        timeout_config: Some(PATIENCE),
    };
    let ours = wanted.gateway.ours.into();
    match PortMapping::new(gateway, ours, protocol, wanted.port, options).await {
        // A router that knows NAT-PMP alone should say so, and may be silent.
        Err(MappingFailure::Pcp(_)) => {
            let mapped = natpmp::port_mapping(gateway, protocol, wanted.port, options).await;
            mapped.map_err(|error| format!("NAT-PMP: {error}"))
        }
        mapped => mapped.map_err(|error| format!("NAT-PMP: {error}")),
    }
}

/// Only the router that we know, whoever else answers.
async fn search(wanted: Wanted) -> Result<Router, String> {
    let mut options = SearchOptions::default();
    options.bind_addr = (wanted.gateway.ours, 0).into();
    options.timeout = Some(SEARCH_PATIENCE);
    let found = search_gateway(options).await.map_err(|error| error.to_string())?;
    if found.addr.ip() == IpAddr::V4(wanted.gateway.addr) {
        Ok(found)
    } else {
        Err(format!("what answers at {} is not our router", found.addr))
    }
}

async fn map_by_upnp(router: Router, wanted: Wanted) -> Result<(Mapping, MappedPorts), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("UPnP: {error}");
    let tcp = upnp_port(&router, PortMappingProtocol::TCP, wanted.port.get(), wanted).await;
    let tcp = tcp.map_err(|error| wrong(&error))?;
    let udp = match upnp_port(&router, PortMappingProtocol::UDP, tcp, wanted).await {
        Ok(udp) => udp,
        Err(error) => {
            router.remove_port(PortMappingProtocol::TCP, tcp).await.ok();
            return Err(wrong(&error));
        }
    };
    let external_ip = router.get_external_ip().await.ok();
    let ports = MappedPorts { by: MappingProtocol::Upnp, external_ip, tcp, udp };
    Ok((Mapping::Upnp { router: Box::new(router), wanted }, ports))
}

/// Maps one port: the one that is wanted, or the first behind it that nobody else has.
async fn upnp_port(
    router: &Router,
    protocol: PortMappingProtocol,
    external_port: u16,
    wanted: Wanted,
) -> Result<u16, AddPortError> {
    let ours = SocketAddr::from((wanted.gateway.ours, wanted.port.get()));
    let (mut port, mut lease, mut tries) = (external_port, LEASE_SECONDS, UPNP_TRIES_MAX);
    loop {
        match router.add_port(protocol, port, ours, lease, DESCRIPTION).await {
            Ok(()) => return Ok(port),
            Err(error) if tries == 0 => return Err(error),
            Err(AddPortError::OnlyPermanentLeasesSupported) if lease > 0 => lease = 0,
            Err(AddPortError::PortInUse) => port = port.checked_add(1).unwrap_or(UNPRIVILEGED),
            Err(error) => return Err(error),
        }
        tries -= 1;
    }
}

impl Mapping {
    fn lifetime(&self) -> Duration {
        let seconds = match self {
            Self::Pmp { tcp, udp } => tcp.lifetime().min(udp.lifetime()),
            Self::Upnp { .. } => LEASE_SECONDS,
        };
        // A router that grants seconds would have us ask without end.
        Duration::from_secs(seconds.max(LEASE_SECONDS_MIN).into())
    }

    async fn renew(&mut self, ports: MappedPorts) -> Result<MappedPorts, String> {
        let (tcp_port, udp_port) = match self {
            Self::Pmp { tcp, udp } => {
                for mapping in [&mut *tcp, &mut *udp] {
                    mapping.renew().await.map_err(|error| error.to_string())?;
                }
                (tcp.external_port().get(), udp.external_port().get())
            }
            Self::Upnp { router, wanted } => {
                let wrong = |error: AddPortError| error.to_string();
                let (tcp, udp) = (PortMappingProtocol::TCP, PortMappingProtocol::UDP);
                let tcp = upnp_port(router, tcp, ports.tcp, *wanted).await.map_err(wrong)?;
                (tcp, upnp_port(router, udp, ports.udp, *wanted).await.map_err(wrong)?)
            }
        };
        Ok(MappedPorts { tcp: tcp_port, udp: udp_port, ..ports })
    }

    async fn take_back(self, ports: MappedPorts) {
        match self {
            Self::Pmp { tcp, udp } => {
                let (tcp, udp) = tokio::join!(tcp.try_drop(), udp.try_drop());
                if let Err((error, _)) = tcp.and(udp) {
                    tracing::debug!(%error, "a mapped port is not taken back");
                }
            }
            Self::Upnp { router, .. } => {
                let (tcp, udp) = tokio::join!(
                    router.remove_port(PortMappingProtocol::TCP, ports.tcp),
                    router.remove_port(PortMappingProtocol::UDP, ports.udp),
                );
                if let Err(error) = tcp.and(udp) {
                    tracing::debug!(%error, "a mapped port is not taken back");
                }
            }
        }
    }
}

type Router = igd_next::aio::Gateway<Tokio>;

/// An hour, so that a mapping that is left behind is gone soon; it is renewed every half.
const LEASE_SECONDS: u32 = 3600;
const LEASE_SECONDS_MIN: u32 = 60;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Three times, after a quarter of a second, a half, and one.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};
const SEARCH_PATIENCE: Duration = Duration::from_secs(4);
/// How long the end of a session waits for a router.
pub(crate) const FAREWELL_PATIENCE: Duration = Duration::from_millis(600);
const UPNP_TRIES_MAX: u32 = 16;
const UNPRIVILEGED: u16 = 1024;
/// What people see in their router's list.
const DESCRIPTION: &str = "Flotilla";
