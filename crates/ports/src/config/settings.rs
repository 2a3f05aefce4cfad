//! A configuration that is ready for use.

use std::fmt;
use std::time::Duration;

use super::address::{Host, Role};
use super::layers::{
    AUTH, AUTH_DEFAULT, AUTH_OF_OTHERS, CONNECT_INTERVAL, FRAMINGS, FRAMINGS_OF_OTHERS, Layers,
    MONITOR_TIMEOUT,
};
use super::{ConfigError, Endpoint, Facts, Service, node_id};
use crate::NodeId;

/// What a node is to be, from arguments and file, with all defaults.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Which profile it is.
    pub profile: String,
    /// The node's name.
    pub node_id: NodeId,
    /// Whether the name holds [`unique`](Self::unique), so that no other run has it.
    pub node_id_is_unique: bool,
    /// Eleven letters and digits that no other run has; the last is no small letter.
    pub unique: String,
    /// Where to listen. `*` is not yet replaced: see [`expand`](super::expand). Nowhere if empty.
    pub binds: Vec<Endpoint>,
    /// Where other nodes may be found.
    pub seeds: Vec<Endpoint>,
    /// What to start, in this order.
    pub services: Vec<Service>,
    /// What nodes of the network share.
    pub secret: Option<Secret>,
    /// Key, certificate and authorities in PEM. If there, connections use TLS.
    pub cert: Option<Secret>,
    /// How long a silent node lives on. 30 s by default.
    pub monitor_timeout: Duration,
    /// How long an attempt to connect may take. 2 s by default.
    pub connect_interval: Duration,
    /// The framings to offer and accept, best first: `cbor`, `json`.
    pub framing_format: Vec<&'static str>,
    /// The ways to prove who we are that we may use, best first.
    pub auth_offer: Vec<&'static str>,
    /// The ways that others may use.
    pub auth_accept: Vec<&'static str>,
    /// Whether small messages may wait for one another.
    pub autocork: bool,
    /// Whether TCP may not wait. On by default.
    pub nodelay: bool,
    /// Whether other nodes are refused all calls of functions.
    pub secure: bool,
    /// A command to run last. It is only text here.
    pub eval: Option<String>,
    /// Whether to show all messages to and from other nodes.
    pub trace: bool,
}

impl Settings {
    pub(super) fn read(
        layers: &Layers<'_>,
        profile: &str,
        facts: &Facts,
    ) -> Result<Self, ConfigError> {
        let unique = node_id::unique(facts.random);
        let pattern = layers.find("nodeid").map(|given| given.text()).transpose()?;
        let own = node_id::own_id(pattern.as_deref(), profile, &unique, facts)?;
        let flag = |key, default| layers.find(key).map_or(Ok(default), |given| given.flag());
        let seconds = |key, default| layers.find(key).map_or(Ok(default), |given| given.seconds());
        let secret =
            |key| layers.find(key).map(|given| given.filled_text().map(Secret)).transpose();
        let auth = |key| match layers.find(key) {
            None => Ok(AUTH_DEFAULT.to_vec()),
            Some(given) => given.names(&AUTH, &AUTH_OF_OTHERS),
        };
        let everywhere = || vec![Endpoint { host: Host::Any, port: 0 }];
        Ok(Self {
            profile: profile.to_owned(),
            node_id: own.id,
            node_id_is_unique: own.is_unique,
            unique,
            binds: layers
                .find("binds")
                .map_or_else(|| Ok(everywhere()), |given| given.endpoints(Role::Bind, facts))?,
            seeds: layers
                .find("seeds")
                .map_or_else(|| Ok(Vec::new()), |given| given.endpoints(Role::Seed, facts))?,
            services: layers
                .find("services")
                .map_or_else(|| Ok(Vec::new()), |given| given.services())?,
            secret: secret("secret")?,
            cert: secret("cert")?,
            monitor_timeout: seconds("monitor_timeout", MONITOR_TIMEOUT)?,
            connect_interval: seconds("connect_interval", CONNECT_INTERVAL)?,
            framing_format: layers.find("framing_format").map_or_else(
                || Ok(FRAMINGS.to_vec()),
                |given| given.names(&FRAMINGS, &FRAMINGS_OF_OTHERS),
            )?,
            auth_offer: auth("auth_offer")?,
            auth_accept: auth("auth_accept")?,
            autocork: flag("autocork", false)?,
            nodelay: flag("nodelay", true)?,
            secure: flag("secure", false)?,
            eval: layers.find("eval").map(|given| given.text()).transpose()?,
            trace: facts.trace,
        })
    }
}

/// A text that is not shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
