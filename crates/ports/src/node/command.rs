//! Commands: what `eval` may do here, instead of any code that somebody sends.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Node;
use super::context::Context;
use super::port::panic_text;
use crate::{List, NodeId, Reason, Value};

type Command = Rc<dyn Fn(&Context<'_>, List) -> Result<List, Reason>>;

/// The commands of a node, by name.
#[derive(Default)]
pub(crate) struct Commands(BTreeMap<String, (Command, String)>);

impl Node {
    /// Makes a command known, for `eval` and the tool's shell. It gets its arguments, and its values are
    /// the answer. `help` is a line for people.
    pub fn register_command(
        &self,
        name: &str,
        help: &str,
        command: impl Fn(&Context<'_>, List) -> Result<List, Reason> + 'static,
    ) {
        let command = (Rc::new(command) as Command, help.to_owned());
        let before = self.shared.commands.borrow_mut().0.insert(name.to_owned(), command);
        drop(before);
    }

    /// All commands, in order, with what they say of themselves.
    pub fn commands(&self) -> Vec<(String, String)> {
        let commands = self.shared.commands.borrow();
        commands.0.iter().map(|(name, (_, help))| (name.clone(), help.clone())).collect()
    }

    /// Does a command: its name, and arguments that are JSON or words.
    pub(crate) fn evaluate(&self, text: &str, from: &NodeId) -> Result<List, String> {
        let mut words = words(text)?.into_iter();
        let Some(name) = words.next() else { return Ok(Vec::new()) };
        let name = name.as_str().unwrap_or_default().to_owned();
        let command =
            self.shared.commands.borrow().0.get(&name).map(|(command, _)| Rc::clone(command));
        let Some(command) = command else {
            let mut known: Vec<_> = self.commands().into_iter().map(|(name, _)| name).collect();
            if known.is_empty() {
                known.push("none".to_owned());
            }
            let name: String = name.chars().take(100).collect();
            return Err(format!("{name}: no such command; there are {}", known.join(", ")));
        };
        let context = Context::of_name(self, self.id().port(), Some(from));
        let call = std::panic::AssertUnwindSafe(|| command(&context, words.collect()));
        let result = std::panic::catch_unwind(call);
        result
            .unwrap_or_else(|panic| Err(Reason::die(panic_text(&*panic))))
            .map_err(|reason| reason.to_string())
    }
}

/// Cuts a line into words, of which those that begin as JSON's lists, maps and strings do are JSON.
fn words(text: &str) -> Result<List, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if rest.starts_with(['[', '{', '"']) {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            let value = values.next().transpose().map_err(|error| format!("'{rest}': {error}"))?;
            words.push(value.unwrap_or_default());
            rest = &rest[values.byte_offset()..];
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let word = &rest[..end];
            words.push(word.parse::<i64>().map_or_else(|_| word.into(), Value::Integer));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_texts_numbers_and_json() {
        let line = " send a#b  7 -8 1.5 [1, 2]{\"k\":null}\"x y\" z ";
        let words = Value::List(words(line).unwrap());
        assert_eq!(words.to_string(), r#"["send","a#b",7,-8,"1.5",[1,2],{"k":null},"x y","z"]"#);
    }

    #[test]
    fn noise_is_words_or_an_error() {
        const LETTERS: [char; 16] = [
            '[', ']', '{', '}', '"', '\\', ',', ':', ' ', '\n', 'a', '7', '-', '\0', 'é',
            '\u{2028}',
        ];
        for seed in 1..2000_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let noise = (0..seed % 40).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                LETTERS[(state % 16) as usize]
            });
            let noise: String = noise.collect();
            if let Err(error) = words(&noise) {
                assert!(!error.is_empty(), "{noise:?}");
            }
        }
        assert!(words(&"[".repeat(1_000_000)).is_err());
    }
}
