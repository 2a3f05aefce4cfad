//! What is asked of the machine and the environment.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{ConfigError, address};

/// What a configuration depends on besides arguments and file.
#[derive(Clone)]
pub struct Facts {
    /// The machine's name, as `uname -n` has it.
    pub nodename: String,
    /// Chance, for what makes names unique.
    pub random: [u8; 16],
    /// Whether the environment asks to show messages.
    pub trace: bool,
    /// The port of a service's name: `http` → 80.
    pub port_of_service: fn(&str) -> Option<u16>,
}

impl Facts {
    /// Asks the machine.
    ///
    /// # Errors
    /// If it has no name or no randomness.
    pub fn of_machine() -> Result<Self, ConfigError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| ConfigError::Machine {
            what: "random numbers",
            source: io::Error::other(error),
        })?;
        let nodename = nodename()
            .map_err(|source| ConfigError::Machine { what: "the machine's name", source })?;
        let trace = trace(&environment);
        Ok(Self { nodename, random, trace, port_of_service: address::port_of_service })
    }

    /// For checks of values that no node comes from.
    pub(super) fn of_no_machine() -> Self {
        Self {
            nodename: "localhost".into(),
            random: [0; 16],
            trace: false,
            port_of_service: address::port_of_service,
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        let port_of_service = |name: &str| (name == "http").then_some(80);
        Self { nodename: "here".into(), random: [7; 16], trace: false, port_of_service }
    }
}

/// All but the randomness, from which ports' names come.
impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("nodename", &self.nodename)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// Where the file is, according to the environment.
pub(super) fn rc_path(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let filled = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    filled("PERL_ANYEVENT_MP_RC")
        .or_else(|| filled("AE_MP_RC"))
        .or_else(|| filled("HOME").map(|home| home.join(".perl-anyevent-mp")))
        .or_else(|| filled("APPDATA").map(|folder| folder.join("perl-anyevent-mp")))
}

/// Whether messages are to be shown: anything that Perl takes for true.
fn trace(variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    variable("PERL_ANYEVENT_MP_TRACE")
        .or_else(|| variable("AE_MP_TRACE"))
        .is_some_and(|value| !(value.is_empty() || value == "0"))
}

pub(super) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn nodename() -> io::Result<String> {
    let system = nix::sys::utsname::uname()?;
    let name = system.nodename().to_string_lossy();
    if name.is_empty() { Err(io::Error::other("it has none")) } else { Ok(name.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_where_the_environment_says() {
        let all = [
            ("PERL_ANYEVENT_MP_RC", "/rc"),
            ("AE_MP_RC", "/alias"),
            ("HOME", "/home/x"),
            ("APPDATA", "/data"),
        ];
        for (from, path) in [
            (0, Some("/rc")),
            (1, Some("/alias")),
            (2, Some("/home/x/.perl-anyevent-mp")),
            (3, Some("/data/perl-anyevent-mp")),
            (4, None),
        ] {
            assert_eq!(rc_path(&of(&all[from..])), path.map(PathBuf::from));
        }
        let empty = [("PERL_ANYEVENT_MP_RC", ""), ("HOME", "/home/x")];
        assert_eq!(rc_path(&of(&empty)), Some("/home/x/.perl-anyevent-mp".into()));
    }

    #[test]
    fn messages_are_shown_if_the_environment_says_something_true() {
        for (variables, shown) in [
            (&[][..], false),
            (&[("PERL_ANYEVENT_MP_TRACE", "1")], true),
            (&[("PERL_ANYEVENT_MP_TRACE", "yes")], true),
            (&[("PERL_ANYEVENT_MP_TRACE", "0")], false),
            (&[("PERL_ANYEVENT_MP_TRACE", "")], false),
            (&[("AE_MP_TRACE", "1")], true),
            (&[("AE_MP_TRACE", "1"), ("PERL_ANYEVENT_MP_TRACE", "0")], false),
        ] {
            assert_eq!(trace(&of(variables)), shown, "{variables:?}");
        }
    }

    #[test]
    fn the_machine_tells_its_name_and_other_chance_each_time() {
        let facts = Facts::of_machine().expect("facts");
        assert!(!facts.nodename.is_empty());
        assert_ne!(facts.random, Facts::of_machine().expect("facts").random);
    }

    fn of<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }
}
