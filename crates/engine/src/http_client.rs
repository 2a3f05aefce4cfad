//! Clients for HTTP, each made when first needed: by any way that is wanted, and not to where nobody may send us.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use torrent::locality::is_local;
use torrent::proxy::ProxyUrl;

use crate::http::HttpError;

/// Who asks, and which way. The default tells nobody who we are, and leaves the way to the system.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// What servers are told that we are; `None` says nothing.
    pub user_agent: Option<String>,
    /// The address to come from.
    pub bind: Option<IpAddr>,
    /// The one network interface to use.
    pub interface: Option<String>,
    /// The proxy to go through; it looks up all names.
    pub proxy: Option<ProxyUrl>,
}

/// Where a document may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Not on this machine or its own network, nor may one that is asked send us there.
    World,
    /// If it is on this machine or its network, then from the start: nobody outside may send us there.
    Home,
    /// As `Home`, but there only at a path that a tracker has.
    HomeTracker,
    /// Wherever it is.
    Anywhere,
}

/// Which addresses of a server to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Any; IPv4 if it has both, and what it is asked again is [`Second`](Self::Second).
    First,
    /// IPv6, if it has both.
    Second,
}

/// What a client may come across.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Realm {
    /// The world, and it may not lead us home.
    World,
    /// Our own network, at an address of a stranger's: it leads nowhere but to a tracker of the same host.
    Home,
    /// Wherever it leads.
    Anywhere,
}

/// What distinguishes one client from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    realm: Realm,
    /// For documents that come in parts: it follows no redirect, and takes everything as it is.
    is_in_parts: bool,
    is_ipv6: Option<bool>,
}

/// All clients that were made so far.
#[derive(Clone, Debug)]
pub(crate) struct Clients(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: HttpOptions,
    made: Mutex<BTreeMap<Kind, Client>>,
}

impl Clients {
    pub(crate) fn new(options: HttpOptions) -> Self {
        Self(Arc::new(Shared { options, made: Mutex::default() }))
    }

    /// The client to ask for a whole document with, and whether it asks over IPv6.
    ///
    /// # Errors
    /// [`HttpError::Local`] if it may not be where it is, or there is no second family.
    pub(crate) async fn for_document(
        &self,
        url: &str,
        bounds: Bounds,
        family: Family,
    ) -> Result<(Client, bool), HttpError> {
        let url = parsed(url)?;
        let found = self.look_up(&url).await?;
        let has = |is_ipv6| found.iter().any(|ip| ip.is_ipv6() == is_ipv6);
        let is_v6_alone =
            self.0.options.bind.map_or_else(|| !has(false) && has(true), |ip| ip.is_ipv6());
        let has_both = self.0.options.bind.is_none() && has(false) && has(true);
        let is_ipv6 = match (has_both, family) {
            (true, Family::First) => Some(false),
            (true, Family::Second) => Some(true),
            (false, Family::First) => None,
            (false, Family::Second) => return Err(HttpError::OneFamily),
        };
        let realm = realm(&url, bounds, &found)?;
        let client = self.client(Kind { realm, is_in_parts: false, is_ipv6 })?;
        Ok((client, is_ipv6.unwrap_or(is_v6_alone)))
    }

    /// The same client, that uses whichever address it likes, after IPv4 led nowhere.
    pub(crate) async fn by_any_way(
        &self,
        url: &str,
        bounds: Bounds,
    ) -> Result<(Client, bool), HttpError> {
        let url = parsed(url)?;
        let found = self.look_up(&url).await?;
        let is_over_v6 = self
            .0
            .options
            .bind
            .map_or_else(|| found.iter().any(IpAddr::is_ipv6), |ip| ip.is_ipv6());
        let realm = realm(&url, bounds, &found)?;
        Ok((self.client(Kind { realm, is_in_parts: false, is_ipv6: None })?, is_over_v6))
    }

    /// The client to ask for a part of a document with, and where its server may be.
    ///
    /// # Errors
    /// [`HttpError::Local`] if it may not be where it is.
    pub(crate) async fn for_part(
        &self,
        url: &str,
        bounds: Bounds,
    ) -> Result<(Client, Vec<IpAddr>), HttpError> {
        let url = parsed(url)?;
        let found = self.look_up(&url).await?;
        let realm = realm(&url, bounds, &found)?;
        Ok((self.client(Kind { realm, is_in_parts: true, is_ipv6: None })?, found))
    }

    /// Where a server is; nothing if a proxy is to find out.
    async fn look_up(&self, url: &Url) -> Result<Vec<IpAddr>, HttpError> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        if self.0.options.proxy.is_some() {
            return Ok(Vec::new());
        }
        let found = tokio::net::lookup_host((host, 0)).await;
        let found = found.map_err(|error| HttpError::Unreachable(error.to_string()))?;
        Ok(found.map(|addr| addr.ip()).collect())
    }

    fn client(&self, kind: Kind) -> Result<Client, HttpError> {
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&kind) {
            return Ok(client.clone());
        }
        let client = new_client(&self.0.options, kind);
        let client = client.map_err(|error| HttpError::Unreachable(error.to_string()))?;
        made.insert(kind, client.clone());
        Ok(client)
    }
}

fn parsed(url: &str) -> Result<Url, HttpError> {
    let url = Url::parse(url).map_err(|_error| HttpError::BadUrl)?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(HttpError::BadUrl) }
}

/// What a client for a document that is there may come across.
///
/// A name with addresses at home and in the world is the world's: the client for that leaves the others out.
fn realm(url: &Url, bounds: Bounds, found: &[IpAddr]) -> Result<Realm, HttpError> {
    let is_at_home = !found.is_empty() && found.iter().copied().all(is_local);
    match bounds {
        Bounds::Anywhere => Ok(Realm::Anywhere),
        Bounds::World if is_at_home => Err(HttpError::Local),
        Bounds::HomeTracker if is_at_home && !is_tracker(url) => Err(HttpError::Local),
        Bounds::Home | Bounds::HomeTracker if is_at_home => Ok(Realm::Home),
        Bounds::World | Bounds::Home | Bounds::HomeTracker => Ok(Realm::World),
    }
}

/// Whether the path is one that a tracker has.
fn is_tracker(url: &Url) -> bool {
    let last = url.path_segments().and_then(Iterator::last).unwrap_or_default();
    TRACKER_PATHS.iter().any(|start| last.starts_with(start))
}

fn new_client(options: &HttpOptions, kind: Kind) -> io::Result<Client> {
    // To come from no address of a family in particular is to use that family alone.
    let any = kind.is_ipv6.map(|is_ipv6| match is_ipv6 {
        true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    });
    let mut client = Client::builder()
        .local_address(options.bind.or(any))
        .connect_timeout(CONNECT_PATIENCE)
        .pool_max_idle_per_host(1)
        .redirect(redirects(kind));
    if kind.is_in_parts {
        client = client.no_gzip();
    }
    if let Some(user_agent) = &options.user_agent {
        client = client.user_agent(user_agent);
    }
    if let Some(interface) = &options.interface {
        client = client.interface(interface);
    }
    if let Some(proxy) = &options.proxy {
        let proxy = reqwest::Proxy::all(proxy.to_secret_url()).map_err(io::Error::other)?;
        // No exceptions, whatever the environment says.
        client = client.no_proxy().proxy(proxy);
    } else if kind.realm == Realm::World {
        client = client.dns_resolver(Arc::new(WorldOnly));
    }
    client.build().map_err(io::Error::other)
}

fn redirects(kind: Kind) -> Policy {
    if kind.is_in_parts {
        return Policy::none();
    }
    Policy::custom(move |attempt| {
        let host = attempt.url().host_str().unwrap_or_default().trim_matches(['[', ']']);
        let before = attempt.previous().last();
        let may_follow = match kind.realm {
            // A name is looked up by one who leaves such addresses out.
            Realm::World => !host.parse().is_ok_and(is_local),
            Realm::Home => {
                let is_same = before.is_some_and(|url| url.host() == attempt.url().host());
                is_same && is_tracker(attempt.url())
            }
            Realm::Anywhere => true,
        };
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error(HttpError::Unreachable("too many redirects".to_owned()))
        } else if may_follow {
            attempt.follow()
        } else {
            attempt.error(HttpError::Local)
        }
    })
}

/// Looks up names, and leaves out what leads to our own network.
#[derive(Debug)]
struct WorldOnly;

impl Resolve for WorldOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (local, world): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|addr| is_local(addr.ip()));
            if world.is_empty() && !local.is_empty() {
                return Err(HttpError::Local.into());
            }
            Ok(Box::new(world.into_iter()) as Addrs)
        })
    }
}

/// How the last part of a tracker's path begins.
const TRACKER_PATHS: [&str; 2] = ["announce", "scrape"];
const REDIRECTS_MAX: usize = 5;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
