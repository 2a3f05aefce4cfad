//! The command line: texts and JSON, taken from the left.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::time::Duration;

use serde_json::Value as Json;

use super::{Failure, help};
use crate::config::{ConfigError, json_argument};
use crate::wire;
use crate::{List, NodeId, PortId, Value};

/// What is left of a command line.
#[derive(Debug)]
pub(super) struct Arguments {
    rest: VecDeque<Json>,
    /// The command whose arguments are being taken.
    command: String,
}

impl Arguments {
    /// Those of this process.
    pub(super) fn of_process() -> Result<Self, Failure> {
        Self::new(std::env::args_os().skip(1))
    }

    /// Takes one that begins with `[` for all, if it is the only one.
    pub(super) fn new(all: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let text = |argument: OsString| {
            argument.into_string().map_err(|bad| {
                Failure::died(format!("argument '{}' is not UTF-8", bad.to_string_lossy()))
            })
        };
        let all: Vec<String> = all.into_iter().map(text).collect::<Result<_, _>>()?;
        let values: Result<VecDeque<Json>, ConfigError> = match all.as_slice() {
            [only] if only.starts_with('[') => match json_argument(only)? {
                Json::Array(list) => Ok(list.into()),
                other => Ok([other].into()),
            },
            all => all.iter().map(|argument| json_argument(argument)).collect(),
        };
        Ok(Self { rest: values?, command: String::new() })
    }

    /// What follows a first argument, if that is the first.
    pub(super) fn after(&self, first: &str) -> Option<Vec<Json>> {
        let is_it = self.rest.front().and_then(Json::as_str) == Some(first);
        is_it.then(|| self.rest.iter().skip(1).cloned().collect())
    }

    /// The next command.
    pub(super) fn next_command(&mut self) -> Result<Option<String>, Failure> {
        match self.rest.pop_front() {
            None => Ok(None),
            Some(Json::String(name)) => Ok(Some(name)),
            Some(other) => Err(help::unknown(&other.to_string())),
        }
    }

    /// What follows are a command's.
    pub(super) fn begin(&mut self, command: &str) {
        self.command = command.to_owned();
    }

    /// The next argument, whatever it is.
    pub(super) fn value(&mut self, what: &str) -> Result<Json, Failure> {
        self.rest.pop_front().ok_or_else(|| self.wrong(&format!("{what} is missing")))
    }

    /// The next argument, which must be a text, or a number for one.
    pub(super) fn text(&mut self, what: &str) -> Result<String, Failure> {
        match self.value(what)? {
            Json::String(text) => Ok(text),
            Json::Number(number) => Ok(number.to_string()),
            other => Err(self.wrong(&format!("{what} must be a text, and {other} is none"))),
        }
    }

    /// The next argument, if it is that.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_it = self.rest.front().and_then(Json::as_str) == Some(text);
        if is_it {
            self.rest.pop_front();
        }
        is_it
    }

    /// The next argument as a time.
    pub(super) fn seconds(&mut self, what: &str) -> Result<Duration, Failure> {
        let text = self.text(what)?;
        let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
        seconds.ok_or_else(|| self.wrong(&format!("{what} must be a number, and '{text}' is none")))
    }

    /// The next argument as a port ID.
    pub(super) fn port(&mut self) -> Result<PortId, Failure> {
        let text = self.text("PORT")?;
        PortId::new(&text).map_err(|error| self.wrong(&error.to_string()))
    }

    /// The next argument as a node ID; of a port ID the node's part.
    pub(super) fn node(&mut self) -> Result<NodeId, Failure> {
        let text = self.text("NODE")?;
        let port = PortId::new(&text).map_err(|error| self.wrong(&error.to_string()))?;
        Ok(port.node())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All the others.
    pub(super) fn rest(&mut self) -> Vec<Json> {
        std::mem::take(&mut self.rest).into()
    }

    /// All the others as a message.
    pub(super) fn message(&mut self) -> Result<List, Failure> {
        let values = self.rest();
        values.iter().map(|value| Ok(wire::to_value(value)?)).collect()
    }

    /// All the others as a line of text: JSON where it is not text.
    pub(super) fn line(&mut self) -> Result<String, Failure> {
        let words = self.message()?;
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(words.iter().map(word).collect::<Vec<_>>().join(" "))
    }

    /// A complaint about the command's arguments.
    pub(super) fn wrong(&self, what: &str) -> Failure {
        Failure::died(format!("{0}: {what}; see 'aemp help {0}'", self.command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(all: &[&str]) -> Result<Arguments, Failure> {
        Arguments::new(all.iter().map(OsString::from))
    }

    #[test]
    fn texts_are_texts_and_json_is_json() {
        let mut all = arguments(&["snd", "a#b", "[1,2]", "{\"k\":null}", "\"[x\"", "7"]).unwrap();
        assert_eq!(all.next_command().unwrap().as_deref(), Some("snd"));
        assert_eq!(all.port().unwrap().as_str(), "a#b");
        let message = Value::List(all.message().unwrap());
        assert_eq!(message.to_string(), r#"[[1,2],{"k":null},"[x","7"]"#);
    }

    #[test]
    fn one_argument_that_is_a_list_is_all_of_them() {
        let mut all = arguments(&[r#"["nodeid", "x", "binds", [1]]"#]).unwrap();
        assert_eq!(all.next_command().unwrap().as_deref(), Some("nodeid"));
        assert_eq!(all.text("ID").unwrap(), "x");
        assert_eq!(all.rest().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_commands_name() {
        let mut all = arguments(&["snd"]).unwrap();
        all.next_command().unwrap();
        all.begin("snd");
        let failure = all.port().unwrap_err();
        assert_eq!(failure.text, "snd: PORT is missing; see 'aemp help snd'");
        assert!(arguments(&["x", "[1,"]).unwrap_err().text.contains("column"));
    }
}
