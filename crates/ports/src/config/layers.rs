//! Where a setting's value comes from: arguments, the global part of the file, a profile and its parents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::given::Given;
use super::{ConfigError, RcFile};

/// Values by key, each from the highest place that has it.
#[derive(Default)]
pub(super) struct Layers<'a>(BTreeMap<&'a str, (Place<'a>, &'a Json)>);

/// Where a value stands.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Arguments,
    Global(&'a Path),
    Profile(&'a Path, &'a str),
}

impl<'a> Layers<'a> {
    /// Lays values over those that are there.
    pub(super) fn put(&mut self, place: Place<'a>, values: &'a Map<String, Json>) {
        self.0.extend(values.iter().map(|(key, value)| (key.as_str(), (place, value))));
    }

    /// Lays the global part of the file and then a profile over it, its oldest ancestor first.
    pub(super) fn put_file(
        &mut self,
        file: &'a RcFile,
        profile: &'a str,
    ) -> Result<(), ConfigError> {
        self.put(Place::Global(file.path()), file.global());
        for name in NOT_FOR_GLOBAL {
            self.0.remove(name);
        }
        for name in chain(file, profile)?.into_iter().rev() {
            if let Some(values) = file.profile(name) {
                self.put(Place::Profile(file.path(), name), values);
            }
        }
        for name in ARGUMENTS_ONLY {
            if self.0.get(name).is_some_and(|(place, _)| !matches!(place, Place::Arguments)) {
                self.0.remove(name);
            }
        }
        Ok(())
    }

    /// The value of a key, unless it is null, which asks for the default.
    pub(super) fn find(&self, key: &'a str) -> Option<Given<'a>> {
        let (place, value) = *self.0.get(key)?;
        (!value.is_null()).then_some(Given::new(place, key, value))
    }

    /// All that holds, with the defaults, and without what only says how it came about.
    pub(super) fn into_effective(self) -> Json {
        let mut all = json!({
            "binds": ["*"],
            "monitor_timeout": MONITOR_TIMEOUT.as_secs(),
            "connect_interval": CONNECT_INTERVAL.as_secs(),
            "framing_format": FRAMINGS,
            "auth_offer": AUTH_DEFAULT,
            "auth_accept": AUTH_DEFAULT,
            "autocork": false,
            "nodelay": true,
            "secure": false,
        });
        for (key, (_place, value)) in self.0 {
            if !(value.is_null() || HOW_IT_CAME_ABOUT.contains(&key)) {
                all[key] = value.clone();
            }
        }
        all
    }
}

/// A profile and its ancestors, itself first. A parent that does not exist ends it.
///
/// # Errors
/// If one is its own ancestor.
pub(super) fn chain<'a>(file: &'a RcFile, profile: &'a str) -> Result<Vec<&'a str>, ConfigError> {
    let mut names = vec![profile];
    let mut seen = BTreeSet::from([profile]);
    let mut name = profile;
    while let Some(parent) = file.profile(name).and_then(|values| values.get("parent")) {
        let place = Place::Profile(file.path(), name);
        name = match parent {
            Json::Null => break,
            Json::String(parent) => parent,
            Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                return Given::new(place, "parent", parent).wrong("the name of a profile");
            }
        };
        names.push(name);
        if !seen.insert(name) {
            return Err(circle(file, &names));
        }
    }
    Ok(names)
}

fn circle(file: &RcFile, names: &[&str]) -> ConfigError {
    let shown = names.get(..CIRCLE_SHOWN_MAX).unwrap_or(names).join(" -> ");
    let rest = if names.len() > CIRCLE_SHOWN_MAX { " -> …" } else { "" };
    ConfigError::ParentCircle {
        place: file.path().display().to_string(),
        chain: format!("{shown}{rest}"),
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments => f.write_str("the arguments"),
            Self::Global(path) => write!(f, "{}, global part", path.display()),
            Self::Profile(path, name) => {
                write!(f, "{}, profile '{}'", path.display(), name.escape_debug())
            }
        }
    }
}

/// Whether arguments and profiles may give that key.
pub(super) fn is_setting(key: &str) -> bool {
    SCALARS.contains(&key) || is_list(key)
}

/// Whether the value of that key is a list.
pub(super) fn is_list(key: &str) -> bool {
    LISTS.contains(&key)
}

/// The value as it is kept: one text for a list is cut at its commas.
pub(super) fn listed(key: &str, value: Json) -> Json {
    match value {
        Json::String(text) if is_list(key) => {
            text.split(',').filter(|part| !part.is_empty()).collect()
        }
        other => other,
    }
}

const SCALARS: [&str; 9] = [
    "nodeid",
    "secret",
    "cert",
    "monitor_timeout",
    "connect_interval",
    "autocork",
    "nodelay",
    "secure",
    "eval",
];
const LISTS: [&str; 6] =
    ["binds", "seeds", "services", "framing_format", "auth_offer", "auth_accept"];
/// At the top level of the file these are no settings.
const NOT_FOR_GLOBAL: [&str; 3] = ["profile", "version", "parent"];
/// Files must not say that files do not count.
const ARGUMENTS_ONLY: [&str; 2] = ["norc", "force"];
const HOW_IT_CAME_ABOUT: [&str; 4] = ["profile", "parent", "norc", "force"];

/// The framings that we know, in the order in which they are preferred.
pub(super) const FRAMINGS: [&str; 2] = ["cbor", "json"];
/// Perl's own, which only Perl can read safely, if that.
pub(super) const FRAMINGS_OF_OTHERS: [&str; 1] = ["storable"];
pub(super) const AUTH: [&str; 4] = ["tls_sha3_512", "hmac_sha3_512", "tls_anon", "cleartext"];
pub(super) const AUTH_DEFAULT: [&str; 2] = ["tls_sha3_512", "hmac_sha3_512"];
/// What version 1 has in its place.
pub(super) const AUTH_OF_OTHERS: [&str; 2] = ["tls_md6_64_256", "hmac_md6_64_256"];
pub(super) const MONITOR_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const CONNECT_INTERVAL: Duration = Duration::from_secs(2);
/// How many profiles of a circle are named.
const CIRCLE_SHOWN_MAX: usize = 20;
