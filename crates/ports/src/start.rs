//! How a node comes to be.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use reactor::Reactor;

use crate::certificate::{Certificate, CertificateError};
use crate::config::{self, Endpoint, Host, Service};
use crate::database::{Database, DatabaseError};
use crate::handshake::{self, Auth};
use crate::mesh::{Limits, Mesh};
use crate::node::context::Context;
use crate::node::name;
use crate::node::registry::FunctionError;
use crate::wire::Framing;
use crate::{Node, NodeId, Reason};

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program listens there, or nobody may.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// A name that has no address.
    #[error("cannot listen on {name}: {error}")]
    UnknownHost {
        /// The name.
        name: String,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// The addresses of this machine could not be had.
    #[error("the addresses of this machine: {0}")]
    Interfaces(#[source] std::io::Error),
    /// The key or a certificate is none.
    #[error("cert: {0}")]
    Certificate(#[from] CertificateError),
    /// Too many addresses.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a service could not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ServiceError {
    /// No module of that name was registered.
    #[error("service {0}: there is no such module")]
    NoModule(String),
    /// No function of that name was registered.
    #[error("service {0}: there is no such function")]
    NoFunction(String),
    /// It failed.
    #[error("service {0}: {1}")]
    Failed(String, Reason),
}

/// How much may wait to be sent to a node.
const UNSENT_BYTES_MAX: usize = 64 << 20;

impl Node {
    /// A node that is alone: its ports talk to each other, and to no other node.
    #[expect(clippy::missing_panics_doc, reason = "the name is letters, digits and a slash")]
    pub fn alone(reactor: &mut Reactor<()>) -> Self {
        let unique = name::unique(|| reactor.random());
        let id = NodeId::new(&format!("anon/{unique}")).expect("letters, digits and a slash");
        let settings = handshake::Settings {
            node: id.clone(),
            secret: None,
            auth_offer: Vec::new(),
            auth_accept: Vec::new(),
            framings: vec![Framing::Cbor, Framing::Json],
            has_tls: false,
        };
        let limits = Limits {
            unsent_bytes: UNSENT_BYTES_MAX.into(),
            monitor_timeout: std::time::Duration::from_secs(30),
            connect_interval: std::time::Duration::from_secs(2),
            has_nodelay: true,
            is_secure: false,
            has_trace: false,
        };
        let mesh = Mesh::new(settings, None, limits, Database::global(id.clone()));
        Self::with_mesh(id, reactor, mesh)
    }

    /// A node as it is configured. It listens when this returns, and looks for its seeds when the loop
    /// runs. Register what services need, then [start](Self::start_services) those.
    ///
    /// # Errors
    /// If it cannot listen, or the certificate is none.
    pub fn start(
        reactor: &mut Reactor<()>,
        settings: &config::Settings,
    ) -> Result<Self, StartError> {
        let id = settings.node_id.clone();
        let cert = settings.cert.as_ref().map(|cert| Certificate::from_pem(cert.as_str()));
        let cert = cert.transpose()?;
        if cert.is_none() && settings.secret.is_none() {
            tracing::warn!(
                "{id}: neither a secret nor a certificate is configured: other nodes will not talk to this one"
            );
        }
        let auths =
            |names: &[&str]| names.iter().filter_map(|name| Auth::from_name(name)).collect();
        let handshake = handshake::Settings {
            node: id.clone(),
            secret: settings
                .secret
                .as_ref()
                .and_then(|secret| handshake::Secret::new(secret.as_str().as_bytes())),
            auth_offer: auths(&settings.auth_offer),
            auth_accept: auths(&settings.auth_accept),
            framings: settings
                .framing_format
                .iter()
                .filter_map(|name| Framing::from_name(name))
                .collect(),
            has_tls: cert.is_some(),
        };
        let limits = Limits {
            unsent_bytes: UNSENT_BYTES_MAX.into(),
            monitor_timeout: settings.monitor_timeout,
            connect_interval: settings.connect_interval,
            has_nodelay: settings.nodelay,
            is_secure: settings.secure,
            has_trace: settings.trace,
        };
        let database = match settings.seeds.is_empty() {
            true => Database::global(id.clone()),
            false => Database::slave(id.clone()),
        };
        let node = Self::with_mesh(id, reactor, Mesh::new(handshake, cert, limits, database));
        node.register_looking_commands();
        node.bind(&settings.binds, reactor)?;
        let addresses = node.shared.mesh.addresses();
        node.with_database(|database| database.set_listeners(&addresses))?;
        tracing::info!("node {} starting up, listens on {addresses:?}", node.id());
        // A node that listens on `*` does not do so on the loopback address, so that is not where to look.
        let seeds = expand_here(&settings.seeds)?;
        let seeds = seeds.iter().map(|seed| (host_of(&seed.host), seed.port)).collect();
        node.begin_seeding(seeds);
        Ok(node)
    }

    fn bind(&self, binds: &[Endpoint], reactor: &mut Reactor<()>) -> Result<(), StartError> {
        for bind in expand_here(binds)? {
            let addresses = match &bind.host {
                Host::Ip(ip) => vec![SocketAddr::new(*ip, bind.port)],
                Host::Any => vec![SocketAddr::new(IpAddr::from([0, 0, 0, 0]), bind.port)],
                Host::Name(name) => {
                    let found = (name.as_str(), bind.port).to_socket_addrs();
                    let unknown = |error| StartError::UnknownHost { name: name.clone(), error };
                    found.map_err(unknown)?.collect()
                }
            };
            for address in addresses {
                let listening = self
                    .listen(address, reactor)
                    .map_err(|error| StartError::Bind { address, error })?;
                self.publish_all(listening)?;
            }
        }
        Ok(())
    }

    /// Has others told where we listen. What stands for all addresses of the machine is no address to them.
    fn publish_all(&self, listening: SocketAddr) -> Result<(), StartError> {
        if !listening.ip().is_unspecified() {
            self.publish(listening);
            return Ok(());
        }
        let everywhere = Endpoint { host: Host::Any, port: listening.port() };
        for endpoint in expand_here(&[everywhere])? {
            if let Host::Ip(ip) = endpoint.host
                && ip.is_ipv4() == listening.is_ipv4()
            {
                self.publish(SocketAddr::new(ip, endpoint.port));
            }
        }
        Ok(())
    }

    /// Starts services, in order: loads modules, and calls functions.
    ///
    /// # Errors
    /// If one cannot be started; those before it have been.
    pub fn start_services(&self, services: &[Service]) -> Result<(), ServiceError> {
        for service in services {
            match service {
                Service::Module(name) => {
                    let loaded = self.load_module(name.strip_suffix("::").unwrap_or(name));
                    if !loaded.map_err(|reason| ServiceError::Failed(name.clone(), reason))? {
                        return Err(ServiceError::NoModule(name.clone()));
                    }
                }
                Service::Call { function, args } => {
                    let found = self.function(function).map_err(|error| match error {
                        FunctionError::Unknown(_) => ServiceError::NoFunction(function.clone()),
                        FunctionError::Module(_, reason) => {
                            ServiceError::Failed(function.clone(), reason)
                        }
                    })?;
                    let context = Context::of_name(self, self.id().port(), None);
                    context
                        .call_function(&found, args.clone())
                        .map_err(|reason| ServiceError::Failed(function.clone(), reason))?;
                }
                Service::Exec { program, args } => self.start_program_service(program, args)?,
            }
        }
        Ok(())
    }

    /// The addresses that this node listens on: `host:port`.
    pub fn listeners(&self) -> Vec<String> {
        self.shared.mesh.addresses()
    }

    /// Has the loop end, with this turn: `reactor.run` returns.
    pub fn stop(&self) {
        self.shared.remote.stop();
    }

    /// Ends all ports normally, listens no more, and ends the node's connections. What was sent before goes
    /// out.
    pub fn shut_down(&self) {
        self.stop_programs();
        self.with_reactor(|node, reactor| {
            node.end_all_ports();
            node.mesh_turn(reactor);
            node.close_mesh(reactor);
        });
    }
}

/// Puts this machine's addresses in the place of each `*`.
fn expand_here(endpoints: &[Endpoint]) -> Result<Vec<Endpoint>, StartError> {
    let interfaces = match endpoints.iter().any(|endpoint| endpoint.host == Host::Any) {
        true => config::interface_addresses().map_err(StartError::Interfaces)?,
        false => Vec::new(),
    };
    Ok(config::expand(endpoints, &interfaces))
}

fn host_of(host: &Host) -> String {
    match host {
        Host::Any => "localhost".to_owned(),
        Host::Name(name) => name.clone(),
        Host::Ip(ip) => ip.to_string(),
    }
}
