//! One value of a setting, read as what it must be, or a complaint that says where it stands.

use std::time::Duration;

use serde_json::Value as Json;

use super::address::{self, ENDPOINTS_MAX, Role};
use super::layers::Place;
use super::{ConfigError, Endpoint, Facts, Service};

/// A value, with what a complaint about it must name.
pub(super) struct Given<'a> {
    place: Place<'a>,
    key: &'a str,
    value: &'a Json,
}

impl<'a> Given<'a> {
    pub(super) const fn new(place: Place<'a>, key: &'a str, value: &'a Json) -> Self {
        Self { place, key, value }
    }
}

impl Given<'_> {
    /// A text, or a number for one: Perl does not tell them apart.
    pub(super) fn text(&self) -> Result<String, ConfigError> {
        scalar_text(self.value).ok_or_else(|| self.unlike("a text"))
    }

    /// A text that says something.
    pub(super) fn filled_text(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        if text.is_empty() { Err(self.unlike("a text that is not empty")) } else { Ok(text) }
    }

    /// Yes or no, also as a number or what Perl's tool writes for it.
    pub(super) fn flag(&self) -> Result<bool, ConfigError> {
        match self.value {
            Json::Bool(value) => Ok(*value),
            Json::Number(number) => Ok(number.as_f64() != Some(0.0)),
            Json::String(text) => match text.trim() {
                "1" | "true" | "yes" | "on" => Ok(true),
                "" | "0" | "false" | "no" | "off" => Ok(false),
                _ => Err(self.unlike("0 or 1")),
            },
            Json::Null | Json::Array(_) | Json::Object(_) => Err(self.unlike("0 or 1")),
        }
    }

    /// A time in seconds, more than none and at most a year.
    pub(super) fn seconds(&self) -> Result<Duration, ConfigError> {
        let number = match self.value {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => text.trim().parse().ok(),
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
        };
        number
            .and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
            .filter(|time| !time.is_zero() && *time <= TIME_MAX)
            .ok_or_else(|| self.unlike("seconds, more than 0 and at most a year (31536000)"))
    }

    /// Addresses, each element of the list one or several.
    pub(super) fn endpoints(
        &self,
        role: Role,
        facts: &Facts,
    ) -> Result<Vec<Endpoint>, ConfigError> {
        let mut endpoints = Vec::new();
        for element in self.list("a list of addresses")? {
            let text = scalar_text(element).ok_or_else(|| self.unlike("addresses as texts"))?;
            address::add_list(&mut endpoints, &text, role, facts).map_err(|source| {
                ConfigError::Address { place: self.place.to_string(), key: self.key.into(), source }
            })?;
        }
        Ok(endpoints)
    }

    /// What to start.
    pub(super) fn services(&self) -> Result<Vec<Service>, ConfigError> {
        self.list("a list of services")?
            .iter()
            .map(|element| Service::from_json(element).map_err(|expected| self.unlike(expected)))
            .collect()
    }

    /// Those that we know of a list of names, in its order. What other versions know is passed over.
    pub(super) fn names(
        &self,
        known: &[&'static str],
        of_others: &[&str],
    ) -> Result<Vec<&'static str>, ConfigError> {
        let expected = || self.unlike(&format!("a list of {}", known.join(", ")));
        let mut names = Vec::new();
        for element in self.list("a list of names")? {
            let text = element.as_str().ok_or_else(expected)?;
            match known.iter().find(|name| **name == text) {
                Some(name) if names.contains(name) => {}
                Some(name) => names.push(*name),
                None if of_others.contains(&text) => {
                    tracing::warn!(
                        "{}: key '{}': '{text}' is not supported and passed over",
                        self.place,
                        self.key
                    );
                }
                None => return Err(expected()),
            }
        }
        if names.is_empty() { Err(expected()) } else { Ok(names) }
    }

    fn list(&self, expected: &str) -> Result<&[Json], ConfigError> {
        match self.value {
            Json::Array(list) if list.len() <= ENDPOINTS_MAX => Ok(list),
            Json::Array(_) => {
                Err(self.unlike(&format!("{expected} with at most {ENDPOINTS_MAX} elements")))
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => {
                Err(self.unlike(expected))
            }
        }
    }

    /// Refuses the value.
    pub(super) fn wrong<T>(&self, expected: &str) -> Result<T, ConfigError> {
        Err(self.unlike(expected))
    }

    /// The complaint. It tells of a text only that it is one, for it may be a secret.
    fn unlike(&self, expected: &str) -> ConfigError {
        let found = match self.value {
            Json::Null => "null".into(),
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => number.to_string(),
            Json::String(text) if text.is_empty() => "an empty text".into(),
            Json::String(_) => "another text".into(),
            Json::Array(list) if list.is_empty() => "an empty list".into(),
            Json::Array(list) => format!("a list of {}", list.len()),
            Json::Object(_) => "a map".into(),
        };
        ConfigError::Value {
            place: self.place.to_string(),
            key: self.key.into(),
            expected: expected.into(),
            found,
        }
    }
}

/// Texts, and numbers as texts.
pub(super) fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
