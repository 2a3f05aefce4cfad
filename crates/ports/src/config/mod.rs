//! What a node is to be: arguments of the program, the settings file, and what both come to.
//!
//! [`Config`] is what a program asks for, [`RcFile`] what stands in the file, [`Facts`] what the machine says. From
//! them come [`Settings`]. The file beats the program, so that whoever runs a program decides what it is in the
//! network: from weak to strong, defaults, arguments, global part of the file, the profile's oldest ancestor … its
//! parent, the profile itself.
//!
//! `relaxed` reads the file's kind of JSON, `change` edits the file, `layers` knows what comes before what, `given`
//! which values will do; `address`, `node_id` and `service` are the three little languages in it.

mod address;
mod change;
mod error;
mod facts;
mod given;
mod interface;
mod layers;
mod node_id;
mod rc_file;
mod relaxed;
mod service;
mod settings;

use std::fmt;

use serde_json::{Map, Value as Json};

pub use address::{AddressError, ENDPOINTS_MAX, Endpoint, Host, Role};
pub use change::Change;
pub use error::ConfigError;
pub use facts::Facts;
pub use interface::{InterfaceAddress, expand, interface_addresses};
pub use rc_file::RcFile;
pub use service::Service;
pub use settings::{Secret, Settings};

use layers::{Layers, Place};

/// What a program asks its node to be. The file can have it otherwise.
///
/// ```
/// use ports::config::{Config, Facts, RcFile};
///
/// # fn main() -> Result<(), ports::config::ConfigError> {
/// let config = Config::new().profile("chat").node_id("chat/%n/%u").bind("*:4040").seed("10.0.0.1");
/// let settings = config.resolve(&RcFile::empty(), &Facts::of_machine()?)?;
/// assert_eq!(settings.seeds[0].to_string(), "10.0.0.1:4040");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Config {
    arguments: Map<String, Json>,
}

impl Config {
    /// Asks for nothing: everything is as the file and the defaults have it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `[PROFILE] KEY VALUE KEY VALUE …`, each a text or JSON. One text for a list is cut at its commas.
    ///
    /// # Errors
    /// If a key is no text, or no setting.
    pub fn from_args<I>(args: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item: Into<Json>>,
    {
        let mut args: Vec<Json> = args.into_iter().map(Into::into).collect();
        if args.len() % 2 == 1 {
            args.insert(0, "profile".into());
        }
        let mut config = Self::new();
        let mut args = args.into_iter();
        while let (Some(key), Some(value)) = (args.next(), args.next()) {
            let Json::String(key) = key else {
                return Err(ConfigError::Arguments(short(&key.to_string())));
            };
            config = config.set(&key, value);
        }
        config.check_keys()?;
        Ok(config)
    }

    /// Gives any setting a value, by the name that it has in the file.
    pub fn set(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.arguments.insert(key.to_owned(), layers::listed(key, value.into()));
        self
    }

    fn add(mut self, key: &str, element: Json) -> Self {
        match self.arguments.get_mut(key) {
            Some(Json::Array(list)) => list.push(element),
            Some(_) | None => {
                self.arguments.insert(key.to_owned(), vec![element].into());
            }
        }
        self
    }

    /// Which profile of the file counts. By default the one that is called like the machine.
    pub fn profile(self, name: &str) -> Self {
        self.set("profile", name)
    }

    /// The node's name: `%n` in it becomes the machine's, `%u` and a `/` at the end something unique. By default the
    /// profile's name and a `/`.
    pub fn node_id(self, pattern: &str) -> Self {
        self.set("nodeid", pattern)
    }

    /// One more address to listen on. By default the node listens on all, on a free port.
    pub fn bind(self, address: &str) -> Self {
        self.add("binds", address.into())
    }

    /// Listen nowhere.
    pub fn no_binds(self) -> Self {
        self.set("binds", Vec::<Json>::new())
    }

    /// One more address to find other nodes at.
    pub fn seed(self, address: &str) -> Self {
        self.add("seeds", address.into())
    }

    /// One more thing to start: see [`Service`].
    pub fn service(self, service: impl Into<Json>) -> Self {
        self.add("services", service.into())
    }

    /// What all nodes of the network share.
    pub fn secret(self, secret: &str) -> Self {
        self.set("secret", secret)
    }

    /// Key, certificate and authorities in PEM.
    pub fn cert(self, pem: &str) -> Self {
        self.set("cert", pem)
    }

    /// How long a silent node lives on.
    pub fn monitor_timeout(self, time: std::time::Duration) -> Self {
        self.set("monitor_timeout", time.as_secs_f64())
    }

    /// How long an attempt to connect may take.
    pub fn connect_interval(self, time: std::time::Duration) -> Self {
        self.set("connect_interval", time.as_secs_f64())
    }

    /// Other nodes may not call functions here.
    pub fn secure(self) -> Self {
        self.set("secure", true)
    }

    /// The file does not count.
    pub fn norc(self) -> Self {
        self.set("norc", true)
    }

    /// What is asked for here beats the file.
    pub fn force(self) -> Self {
        self.set("force", true)
    }

    /// What it all comes to.
    ///
    /// # Errors
    /// If a value is of a wrong type or out of range, or parents of profiles go in a circle.
    pub fn resolve(&self, file: &RcFile, facts: &Facts) -> Result<Settings, ConfigError> {
        let profile = self.profile_name(facts)?;
        Settings::read(&self.layers(file, &profile)?, &profile, facts)
    }

    /// What it all comes to on this machine, with the file that the environment names: all that `configure` looks at.
    ///
    /// # Errors
    /// As [`RcFile::of_environment`], [`Facts::of_machine`] and [`resolve`](Self::resolve).
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let file = if self.asks("norc")? { RcFile::empty() } else { RcFile::of_environment()? };
        self.resolve(&file, &Facts::of_machine()?)
    }

    /// What it all comes to, as it stands in the file, without `profile` and `parent`: for people to look at.
    ///
    /// # Errors
    /// If parents of profiles go in a circle.
    pub fn effective(&self, file: &RcFile, facts: &Facts) -> Result<Json, ConfigError> {
        let profile = self.profile_name(facts)?;
        Ok(self.layers(file, &profile)?.into_effective())
    }

    fn profile_name(&self, facts: &Facts) -> Result<String, ConfigError> {
        let given = self.arguments_alone();
        given.find("profile").map_or_else(|| Ok(facts.nodename.clone()), |given| given.text())
    }

    fn layers<'a>(&'a self, file: &'a RcFile, profile: &'a str) -> Result<Layers<'a>, ConfigError> {
        self.check_keys()?;
        let mut layers = self.arguments_alone();
        if self.asks("norc")? {
            return Ok(layers);
        }
        layers.put_file(file, profile)?;
        if self.asks("force")? {
            layers.put(Place::Arguments, &self.arguments);
        }
        Ok(layers)
    }

    fn asks(&self, key: &str) -> Result<bool, ConfigError> {
        self.arguments_alone().find(key).map_or(Ok(false), |given| given.flag())
    }

    fn arguments_alone(&self) -> Layers<'_> {
        let mut layers = Layers::default();
        layers.put(Place::Arguments, &self.arguments);
        layers
    }

    /// A misspelt name would be passed over without a word.
    fn check_keys(&self) -> Result<(), ConfigError> {
        let known =
            |key: &str| layers::is_setting(key) || matches!(key, "profile" | "norc" | "force");
        match self.arguments.keys().find(|key| !known(key)) {
            Some(key) => Err(ConfigError::UnknownKey(short(key))),
            None => Ok(()),
        }
    }
}

/// Without values, since they may be secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Config").field(&self.arguments.keys().collect::<Vec<_>>()).finish()
    }
}

/// An argument of the command line: JSON if it begins with `[`, `{` or `"`, else a text. An address in brackets is a
/// text all the same.
///
/// # Errors
/// If it begins like JSON and is none.
pub fn json_argument(text: &str) -> Result<Json, ConfigError> {
    if !text.starts_with(['[', '{', '"']) {
        return Ok(text.into());
    }
    relaxed::parse(text.as_bytes()).or_else(|fault| {
        if Endpoint::parse_list(text, Role::Bind, &Facts::of_no_machine()).is_ok() {
            return Ok(text.into());
        }
        Err(ConfigError::Json {
            argument: short(text),
            column: fault.column,
            problem: fault.problem,
        })
    })
}

fn short(text: &str) -> String {
    text.chars().take(ARGUMENT_SHOWN_CHARS).collect()
}

/// More of an argument is not repeated in an error.
const ARGUMENT_SHOWN_CHARS: usize = 60;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod tests;
