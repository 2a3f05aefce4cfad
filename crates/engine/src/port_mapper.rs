//! Asks a router to let peers in: by PCP ([RFC 6887]), else NAT-PMP ([RFC 6886]), else UPnP.
//!
//! All of it are futures of tokio, on the thread that speaks HTTP. The engine hears by messages.
//!
//! [RFC 6886]: https://www.rfc-editor.org/rfc/rfc6886
//! [RFC 6887]: https://www.rfc-editor.org/rfc/rfc6887

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions,
    PortMappingType, TimeoutConfig, natpmp, pcp,
};
use igd_next::aio::Ipv6FirewallGateway;
use igd_next::aio::tokio::{Tokio, search_gateway, search_ipv6_firewall_gateway};
use igd_next::{
    AddPortError, GatewayIpVersion, IPV6_SSDP_LINK_LOCAL, PinholeError, PortMappingProtocol,
    SearchOptions,
};
use reactor::interface_addrs;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;
use torrent::Reach;

use crate::gateway::Gateway;
use crate::nat::{Done, Family, Router};

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

impl fmt::Display for MappingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// Ports that a router has mapped, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) ports: MappedPorts,
    pub(crate) lifetime: Duration,
}

/// What to map, and where.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    gateway: Gateway,
    port: NonZeroU16,
}

/// A mapping of both ports, and what it takes to renew and to end it.
struct Mapping {
    ports: MappedPorts,
    way: Way,
}

enum Way {
    Pmp {
        tcp: Box<PortMapping>,
        udp: Box<PortMapping>,
    },
    Upnp {
        router: Box<Igd>,
        wanted: Wanted,
    },
    /// By the numbers that the router gave the ways through it.
    Firewall {
        router: Box<Firewall>,
        tcp: u16,
        udp: u16,
    },
}

/// The routers of this machine.
pub(crate) struct SystemRouter {
    runtime: Handle,
    /// The one to ask, rather than those of the default routes.
    gateway: Option<Ipv4Addr>,
    /// Where we listen, if not everywhere.
    bind: Option<IpAddr>,
    interface: Option<String>,
    /// What is mapped over each family. Locked while a router is being asked, so that nothing is mapped after it was
    /// to be taken back.
    v4: Mapped,
    v6: Mapped,
}

type Mapped = Arc<Mutex<Option<Mapping>>>;

impl SystemRouter {
    pub(crate) fn new(
        runtime: Handle,
        gateway: Option<Ipv4Addr>,
        bind: Option<IpAddr>,
        interface: Option<String>,
    ) -> Self {
        Self { runtime, gateway, bind, interface, v4: Mapped::default(), v6: Mapped::default() }
    }

    fn mapped(&self, family: Family) -> Mapped {
        Arc::clone(match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        })
    }
}

impl fmt::Debug for SystemRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemRouter")
    }
}

impl Router for SystemRouter {
    fn find(&mut self, family: Family) -> Result<Gateway, String> {
        let interface = self.interface.as_deref();
        let found = match (family, self.gateway) {
            (Family::V4, Some(addr)) => Gateway::at(addr),
            (Family::V4, None) => Gateway::find_v4(interface),
            (Family::V6, None) => Gateway::find_v6(interface),
            (Family::V6, Some(_)) => return Err("another router is to be asked".to_owned()),
        };
        let found = found.map_err(|error| error.to_string())?;
        let ours = found.ours;
        let is_elsewhere = |bind: IpAddr| bind != ours && !bind.is_unspecified();
        if self.gateway.is_none() && self.bind.is_some_and(is_elsewhere) {
            return Err(format!("not of use: we do not listen on {ours}"));
        }
        // Neither library can be held to an interface.
        if let Some(name) = interface
            && !interface_addrs(name).is_ok_and(|addrs| addrs.contains(&ours))
        {
            return Err(format!("the way to {} is not by {name}", found.addr));
        }
        let is_behind_nat = Reach::of(ours) == Reach::Private;
        if family == Family::V4 && self.gateway.is_none() && !is_behind_nat {
            return Err(format!("not needed: {ours} is an address of the world"));
        }
        Ok(found)
    }

    fn map(&mut self, family: Family, gateway: Gateway, port: NonZeroU16, done: Done) {
        let (mapped, wanted) = (self.mapped(family), Wanted { gateway, port });
        self.runtime.spawn(async move {
            let mut mapped = mapped.lock().await;
            if let Some(before) = mapped.take() {
                timeout(FAREWELL_PATIENCE, before.take_back()).await.ok();
            }
            let answer = match family {
                Family::V4 => map_v4(wanted).await,
                Family::V6 => map_v6(wanted).await,
            };
            done(answer.as_ref().map(Mapping::lease).map_err(|why| brief(why)));
            *mapped = answer.ok();
        });
    }

    fn renew(&mut self, family: Family, done: Done) {
        let mapped = self.mapped(family);
        self.runtime.spawn(async move {
            let mut mapped = mapped.lock().await;
            let Some(mapping) = mapped.as_mut() else { return done(Err("not mapped".to_owned())) };
            let answer = mapping.renew().await;
            done(answer.map(|()| mapping.lease()).map_err(|why| brief(&why)));
        });
    }

    fn leave(&mut self) -> Receiver<()> {
        let (done, is_done) = channel();
        for family in [Family::V4, Family::V6] {
            let (mapped, done) = (self.mapped(family), done.clone());
            self.runtime.spawn(async move {
                if let Some(mapping) = mapped.lock().await.take() {
                    mapping.take_back().await;
                }
                drop(done);
            });
        }
        is_done
    }
}

/// What a router says of itself may be long.
fn brief(why: &str) -> String {
    why.chars().filter(|letter| !letter.is_control()).take(ERROR_LEN_MAX).collect()
}

/// The router may know any of the protocols, so it is searched for by UPnP while it is asked by the others.
async fn map_v4(wanted: Wanted) -> Result<Mapping, String> {
    match mapped_or_found(wanted, search(wanted)).await? {
        Answer::Mapped(mapped) => Ok(mapped),
        Answer::Router(router) => map_by_upnp(router, wanted).await,
    }
}

/// Asks for a way through the router's firewall to our own address.
async fn map_v6(wanted: Wanted) -> Result<Mapping, String> {
    match mapped_or_found(wanted, search_firewall(wanted)).await? {
        Answer::Mapped(mapped) => Ok(mapped),
        Answer::Router(router) => open_by_upnp(router, wanted).await,
    }
}

/// Which of the protocols a router knows.
enum Answer<T> {
    /// PCP or NAT-PMP.
    Mapped(Mapping),
    /// UPnP, by which it is to be asked yet.
    Router(T),
}

/// What PCP or NAT-PMP mapped, or else the router that the search by UPnP found, which goes on meanwhile.
async fn mapped_or_found<T>(
    wanted: Wanted,
    search: impl Future<Output = Result<T, String>>,
) -> Result<Answer<T>, String> {
    let (mut pmp, mut search) = (pin!(map_by_pmp(wanted)), pin!(search));
    let mut router = None;
    let by_pmp = loop {
        tokio::select! {
            biased;
            mapped = &mut pmp => break mapped,
            found = &mut search, if router.is_none() => router = Some(found),
        }
    };
    let why = match by_pmp {
        Ok(mapped) => return Ok(Answer::Mapped(mapped)),
        Err(why) => why,
    };
    let router = match router {
        Some(found) => found,
        None => search.await,
    };
    router.map(Answer::Router).map_err(|upnp| format!("{why}; UPnP: {upnp}"))
}

async fn map_by_pmp(wanted: Wanted) -> Result<Mapping, String> {
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
            let gateway = GatewayAddress::from(wanted.gateway.addr);
            let external_ip = natpmp::external_address(gateway, Some(PATIENCE)).await;
            (MappingProtocol::NatPmp, external_ip.ok().map(IpAddr::V4))
        }
    };
    let (tcp_port, udp_port) = (tcp.external_port().get(), udp.external_port().get());
    let ports = MappedPorts { by, external_ip, tcp: tcp_port, udp: udp_port };
    Ok(Mapping { ports, way: Way::Pmp { tcp: Box::new(tcp), udp: Box::new(udp) } })
}

async fn pmp_mapping(
    wanted: Wanted,
    protocol: InternetProtocol,
    external_port: NonZeroU16,
) -> Result<PortMapping, String> {
    let gateway = GatewayAddress::from(wanted.gateway.addr);
    let options = PortMappingOptions {
        external_port: Some(external_port),
        lifetime_seconds: Some(LEASE_SECONDS),
        timeout_config: Some(PATIENCE),
    };
    let ours = wanted.gateway.ours;
    if ours.is_ipv6() {
        // To such an address we would come from one of the link, which is not the one to be reached.
        if Reach::of(wanted.gateway.addr) == Reach::Link {
            return Err("PCP: the router has no address beyond the link".to_owned());
        }
        let request = pcp::BaseMapRequest::new(gateway, ours, protocol, wanted.port);
        let mapped = pcp::port_mapping(request, None, None, options).await;
        return mapped.map_err(|error| format!("PCP: {error}"));
    }
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
async fn search(wanted: Wanted) -> Result<Igd, String> {
    let found = search_gateway(search_options(wanted)).await.map_err(|error| error.to_string())?;
    if found.addr.ip() == wanted.gateway.addr {
        return Ok(found);
    }
    // Somebody else was quicker.
    let mut options = search_options(wanted);
    options.broadcast_address = (wanted.gateway.addr, PORT_OF_SSDP).into();
    let found = search_gateway(options).await.map_err(|error| error.to_string())?;
    if found.addr.ip() == wanted.gateway.addr {
        Ok(found)
    } else {
        Err(format!("what answers at {} is not our router", found.addr))
    }
}

/// Where a router is over IPv6 the table of routes does not say in the words that it answers with, so the first that
/// answers from our own network is believed.
async fn search_firewall(wanted: Wanted) -> Result<Firewall, String> {
    let mut options = search_options(wanted);
    let link = wanted.gateway.link.unwrap_or(0);
    options.broadcast_address =
        SocketAddrV6::new(IPV6_SSDP_LINK_LOCAL, PORT_OF_SSDP, 0, link).into();
    options.gateway_ip_version = GatewayIpVersion::V6;
    search_ipv6_firewall_gateway(options).await.map_err(|error| error.to_string())
}

fn search_options(wanted: Wanted) -> SearchOptions {
    let mut options = SearchOptions::default();
    options.bind_addr = (wanted.gateway.ours, 0).into();
    options.timeout = Some(SEARCH_PATIENCE);
    options
}

async fn open_by_upnp(router: Firewall, wanted: Wanted) -> Result<Mapping, String> {
    let wrong = |error: PinholeError| format!("UPnP: {error}");
    let IpAddr::V6(ours) = wanted.gateway.ours else { return Err("no IPv6 address".to_owned()) };
    let port = wanted.port.get();
    let ours = SocketAddrV6::new(ours, port, 0, 0);
    let open = |protocol| router.add_pinhole(protocol, ours, LEASE_SECONDS);
    let tcp = open(PortMappingProtocol::TCP).await.map_err(wrong)?;
    let udp = match open(PortMappingProtocol::UDP).await {
        Ok(udp) => udp,
        Err(error) => {
            router.remove_pinhole(tcp).await.ok();
            return Err(wrong(error));
        }
    };
    // That it is our own address as the world sees it is not for the router to say.
    let ports = MappedPorts { by: MappingProtocol::Upnp, external_ip: None, tcp: port, udp: port };
    Ok(Mapping { ports, way: Way::Firewall { router: Box::new(router), tcp, udp } })
}

async fn map_by_upnp(router: Igd, wanted: Wanted) -> Result<Mapping, String> {
    let wrong = |error: &dyn fmt::Display| format!("UPnP: {error}");
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
    Ok(Mapping { ports, way: Way::Upnp { router: Box::new(router), wanted } })
}

/// Maps one port: the one that is wanted, or the first behind it that nobody else has.
async fn upnp_port(
    router: &Igd,
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
    fn lease(&self) -> Lease {
        let seconds = match &self.way {
            Way::Pmp { tcp, udp } => tcp.lifetime().min(udp.lifetime()),
            Way::Upnp { .. } | Way::Firewall { .. } => LEASE_SECONDS,
        };
        Lease { ports: self.ports, lifetime: Duration::from_secs(seconds.into()) }
    }

    async fn renew(&mut self) -> Result<(), String> {
        let ports = self.ports;
        match &mut self.way {
            Way::Pmp { tcp, udp } => {
                for mapping in [&mut *tcp, &mut *udp] {
                    mapping.renew().await.map_err(|error| error.to_string())?;
                }
                let (tcp, udp) = (tcp.external_port().get(), udp.external_port().get());
                self.ports = MappedPorts { tcp, udp, ..ports };
            }
            Way::Upnp { router, wanted } => {
                let wrong = |error: AddPortError| error.to_string();
                let (tcp, udp) = (PortMappingProtocol::TCP, PortMappingProtocol::UDP);
                let tcp = upnp_port(router, tcp, ports.tcp, *wanted).await.map_err(wrong)?;
                let udp = upnp_port(router, udp, ports.udp, *wanted).await.map_err(wrong)?;
                self.ports = MappedPorts { tcp, udp, ..ports };
            }
            Way::Firewall { router, tcp, udp } => {
                for id in [*tcp, *udp] {
                    let renewed = router.update_pinhole(id, LEASE_SECONDS).await;
                    renewed.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    async fn take_back(self) {
        let trouble = match self.way {
            Way::Pmp { tcp, udp } => {
                let (tcp, udp) = tokio::join!(tcp.try_drop(), udp.try_drop());
                tcp.and(udp).err().map(|(error, _)| error.to_string())
            }
            Way::Upnp { router, .. } => {
                let (tcp, udp) = tokio::join!(
                    router.remove_port(PortMappingProtocol::TCP, self.ports.tcp),
                    router.remove_port(PortMappingProtocol::UDP, self.ports.udp),
                );
                tcp.and(udp).err().map(|error| error.to_string())
            }
            Way::Firewall { router, tcp, udp } => {
                let (tcp, udp) =
                    tokio::join!(router.remove_pinhole(tcp), router.remove_pinhole(udp));
                tcp.and(udp).err().map(|error| error.to_string())
            }
        };
        if let Some(error) = trouble {
            tracing::debug!(error, "a mapped port is not taken back");
        }
    }
}

type Igd = igd_next::aio::Gateway<Tokio>;
type Firewall = Ipv6FirewallGateway<Tokio>;

/// An hour, so that a mapping that is left behind is gone soon.
const LEASE_SECONDS: u32 = 3600;
/// Three times, after a quarter of a second, a half, and one.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};
const SEARCH_PATIENCE: Duration = Duration::from_secs(4);
/// How long a router may take to take back what it mapped: the end of a session waits for it.
pub(crate) const FAREWELL_PATIENCE: Duration = Duration::from_millis(700);
const PORT_OF_SSDP: u16 = 1900;
const ERROR_LEN_MAX: usize = 200;
const UPNP_TRIES_MAX: u32 = 16;
const UNPRIVILEGED: u16 = 1024;
/// What people see in their router's list.
const DESCRIPTION: &str = "Flotilla";
