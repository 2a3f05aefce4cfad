//! Changes to the file, as the tool makes them.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::given::{self, Given};
use super::layers::{self, Layers, Place};
use super::settings::Settings;
use super::{ConfigError, Facts, RcFile};

/// A change to the settings of a file, in a profile or, without one, in the global part. A profile is made if it
/// is needed.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// Give a key a value. One text for a list is cut at its commas.
    Set {
        /// Where.
        profile: Option<String>,
        /// Which setting, or `parent`.
        key: String,
        /// What.
        value: Json,
    },
    /// Take a key away, so that it is inherited again.
    Delete {
        /// Where.
        profile: Option<String>,
        /// Which setting, also one that we do not know.
        key: String,
    },
    /// Put an element at the end of a list. If `binds` or `seeds` have it already it moves there.
    Add {
        /// Where.
        profile: Option<String>,
        /// Which list.
        key: String,
        /// What.
        element: Json,
    },
    /// Take an element from a list: the first equal one of `services`, all equal ones of others.
    Remove {
        /// Where.
        profile: Option<String>,
        /// Which list.
        key: String,
        /// What.
        element: Json,
    },
    /// Make a profile, if it is not there.
    MakeProfile(String),
    /// Take a profile away, if it is there.
    DeleteProfile(String),
}

impl Change {
    /// Changes the content of a file.
    pub(super) fn perform(
        &self,
        root: &mut Map<String, Json>,
        path: &Path,
    ) -> Result<(), ConfigError> {
        match self {
            Self::Set { profile, key, value } => {
                check_key(profile.as_deref(), key)?;
                let value = layers::listed(key, value.clone());
                section_made(root, profile.as_deref()).insert(key.clone(), value);
            }
            Self::Delete { profile, key } => {
                if profile.is_none() && matches!(key.as_str(), "profile" | "version") {
                    return Err(ConfigError::UnknownKey(key.clone()));
                }
                if let Some(section) = section(root, profile.as_deref()) {
                    section.remove(key);
                }
            }
            Self::Add { profile, key, element } => {
                check_list(key)?;
                section_made(root, profile.as_deref());
                let list = list(root, profile.as_deref(), key, path)?;
                if key != SERVICES {
                    list.retain(|old| !same(old, element));
                }
                list.push(element.clone());
            }
            Self::Remove { profile, key, element } => {
                check_list(key)?;
                let has_list = section(root, profile.as_deref())
                    .is_some_and(|section| section.contains_key(key));
                if !has_list {
                    return Ok(());
                }
                let list = list(root, profile.as_deref(), key, path)?;
                if key != SERVICES {
                    list.retain(|old| !same(old, element));
                } else if let Some(index) = list.iter().position(|old| same(old, element)) {
                    list.remove(index);
                }
            }
            Self::MakeProfile(name) => {
                section_made(root, Some(name));
            }
            Self::DeleteProfile(name) => {
                if let Some(profiles) = root.get_mut(PROFILE).and_then(Json::as_object_mut) {
                    profiles.remove(name);
                }
            }
        }
        Ok(())
    }

    /// Whether what came out of it can be used.
    pub(super) fn check(&self, file: &RcFile) -> Result<(), ConfigError> {
        match self {
            Self::Set { profile: Some(profile), key, .. } if key == PARENT => {
                layers::chain(file, profile).map(|_chain| ())
            }
            Self::Set { profile, key, .. } | Self::Add { profile, key, .. } => {
                let place = match profile {
                    None => Place::Global(file.path()),
                    Some(name) => Place::Profile(file.path(), name),
                };
                let Some(value) = file.value(profile.as_deref(), key) else { return Ok(()) };
                let only = Map::from_iter([(key.clone(), value.clone())]);
                let mut layers = Layers::default();
                layers.put(place, &only);
                Settings::read(&layers, "checked", &Facts::of_no_machine()).map(|_settings| ())
            }
            // What is wrong must be possible to take away.
            Self::Delete { .. }
            | Self::Remove { .. }
            | Self::MakeProfile(_)
            | Self::DeleteProfile(_) => Ok(()),
        }
    }
}

/// Without values, since they may be secret.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, profile, key) = match self {
            Self::Set { profile, key, .. } => ("Set", profile.as_deref(), key.as_str()),
            Self::Delete { profile, key } => ("Delete", profile.as_deref(), key.as_str()),
            Self::Add { profile, key, .. } => ("Add", profile.as_deref(), key.as_str()),
            Self::Remove { profile, key, .. } => ("Remove", profile.as_deref(), key.as_str()),
            Self::MakeProfile(name) => ("MakeProfile", Some(name.as_str()), ""),
            Self::DeleteProfile(name) => ("DeleteProfile", Some(name.as_str()), ""),
        };
        f.debug_tuple(verb).field(&profile).field(&key).finish()
    }
}

fn section<'a>(
    root: &'a mut Map<String, Json>,
    profile: Option<&str>,
) -> Option<&'a mut Map<String, Json>> {
    match profile {
        None => Some(root),
        Some(name) => root.get_mut(PROFILE)?.get_mut(name)?.as_object_mut(),
    }
}

fn section_made<'a>(
    root: &'a mut Map<String, Json>,
    profile: Option<&str>,
) -> &'a mut Map<String, Json> {
    let Some(name) = profile else { return root };
    let profiles = root.entry(PROFILE).or_insert_with(|| Map::new().into());
    let profiles = profiles.as_object_mut().expect("the file was refused otherwise");
    let section = profiles.entry(name).or_insert_with(|| Map::new().into());
    section.as_object_mut().expect("the file was refused otherwise")
}

fn list<'a>(
    root: &'a mut Map<String, Json>,
    profile: Option<&'a str>,
    key: &'a str,
    path: &'a Path,
) -> Result<&'a mut Vec<Json>, ConfigError> {
    let value = section_made(root, profile).entry(key).or_insert(Json::Null);
    if value.is_null() {
        *value = Json::Array(Vec::new());
    }
    let place = profile.map_or(Place::Global(path), |name| Place::Profile(path, name));
    match value {
        Json::Array(list) => Ok(list),
        other => Given::new(place, key, other).wrong("a list"),
    }
}

/// Whether two elements are the same to Perl, which does not tell numbers from texts.
fn same(a: &Json, b: &Json) -> bool {
    a == b || given::scalar_text(a).is_some_and(|text| given::scalar_text(b) == Some(text))
}

fn check_key(profile: Option<&str>, key: &str) -> Result<(), ConfigError> {
    let fits = layers::is_setting(key) || (key == PARENT && profile.is_some());
    if fits { Ok(()) } else { Err(ConfigError::UnknownKey(key.into())) }
}

fn check_list(key: &str) -> Result<(), ConfigError> {
    if layers::is_list(key) { Ok(()) } else { Err(ConfigError::UnknownKey(key.into())) }
}

const PROFILE: &str = "profile";
const PARENT: &str = "parent";
const SERVICES: &str = "services";
