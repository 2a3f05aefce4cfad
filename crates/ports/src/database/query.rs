//! Queries: questions about one family that the master answers once.

use std::collections::BTreeMap;
use std::fmt;

use super::entry::{Entries, entry_weight};
use crate::Value;

/// What is asked about a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its keys with their values.
    Family,
    /// Its keys.
    Keys,
    /// The values of its keys.
    Values,
}

/// What was asked for. A family that nobody has set anything in is empty.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Keys with their values.
    Family(BTreeMap<String, Value>),
    /// Keys, in order if the master is one of ours.
    Keys(Vec<String>),
    /// Values, in the order of their keys if the master is one of ours.
    Values(Vec<Value>),
}

/// The master has an answer but does not give it, in its words: it is too large for a message.
/// A monitor gets it all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query was refused: {0}")]
pub struct Refused(pub String);

/// A query that has been asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(pub(super) u64);

impl Kind {
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::Family => "g_db_family",
            Self::Keys => "g_db_keys",
            Self::Values => "g_db_values",
        }
    }

    pub(super) fn from_tag(tag: &str) -> Option<Self> {
        [Self::Family, Self::Keys, Self::Values].into_iter().find(|kind| kind.tag() == tag)
    }

    /// What `entries` answer.
    pub(super) fn ask(self, entries: Option<&Entries>) -> Answer {
        let entries = entries.into_iter().flatten();
        match self {
            Self::Family => Answer::Family(entries.map(|(k, v)| (k.clone(), v.clone())).collect()),
            Self::Keys => Answer::Keys(entries.map(|(key, _)| key.clone()).collect()),
            Self::Values => Answer::Values(entries.map(|(_, value)| value.clone()).collect()),
        }
    }

    /// What `entries` answer, for another node: a text in place of what would fit no message.
    pub(super) fn ask_for_other(self, entries: Option<&Entries>) -> Value {
        let weight: usize =
            entries.into_iter().flatten().map(|(key, value)| entry_weight(key, value)).sum();
        if weight > REPLY_WEIGHT_MAX {
            return "the family is too large for one message: monitor it instead".into();
        }
        match self.ask(entries) {
            Answer::Family(entries) => Value::Map(entries),
            Answer::Keys(keys) => Value::List(keys.into_iter().map(Value::Text).collect()),
            Answer::Values(values) => Value::List(values),
        }
    }

    /// Reads a reply. Nothing if it is none to such a query.
    pub(super) fn read(self, reply: Value) -> Option<Result<Answer, Refused>> {
        Some(match (self, reply) {
            (_, Value::Text(text)) => Err(Refused(text)),
            (Self::Family, Value::Map(entries)) => Ok(Answer::Family(entries)),
            (Self::Keys, Value::List(keys)) => {
                let keys = keys.iter().map(|key| match key {
                    Value::Integer(number) => Some(number.to_string()),
                    key => key.as_str().map(str::to_owned),
                });
                Ok(Answer::Keys(keys.collect::<Option<_>>()?))
            }
            (Self::Values, Value::List(values)) => Ok(Answer::Values(values)),
            (kind, Value::Null) => Ok(kind.ask(None)),
            (Self::Family | Self::Keys | Self::Values, _) => return None,
        })
    }
}

impl QueryId {
    /// The ID as it goes over the wire: letters, counted as Perl counts them: a … z, aa, ab …
    pub(super) fn letters(self) -> String {
        let mut letters = Vec::new();
        let mut left = self.0;
        while let Some(above) = left.checked_sub(1) {
            letters.push(char::from(b'a' + u8::try_from(above % 26).expect("less than 26")));
            left = above / 26;
        }
        letters.iter().rev().collect()
    }

    pub(super) fn from_letters(letters: &str) -> Option<Self> {
        letters
            .bytes()
            .try_fold(0_u64, |sum, letter| {
                let digit = u64::from(letter.checked_sub(b'a').filter(|&digit| digit < 26)?) + 1;
                sum.checked_mul(26)?.checked_add(digit)
            })
            .map(Self)
    }
}

impl fmt::Debug for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueryId({})", self.letters())
    }
}

/// The most that what a reply holds may weigh: a frame is 16 MiB at most.
const REPLY_WEIGHT_MAX: usize = 15 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_ids_count_in_letters() {
        for (number, letters) in [(1, "a"), (2, "b"), (26, "z"), (27, "aa"), (703, "aaa")] {
            assert_eq!(QueryId(number).letters(), letters);
            assert_eq!(QueryId::from_letters(letters), Some(QueryId(number)));
        }
        assert_eq!(QueryId::from_letters(&QueryId(u64::MAX).letters()), Some(QueryId(u64::MAX)));
        for letters in ["A", "a1", "é", &"z".repeat(20)] {
            assert_eq!(QueryId::from_letters(letters), None);
        }
    }

    #[test]
    fn a_family_too_large_for_a_reply_is_refused_in_words() {
        let big = Value::from("x".repeat(4 << 20));
        let entries: Entries = (0..4).map(|n| (n.to_string(), big.clone())).collect();
        let reply = Kind::Keys.ask_for_other(Some(&entries));
        assert!(matches!(Kind::Keys.read(reply), Some(Err(Refused(_)))));
    }
}
