//! Messages: the `g_*` tags of the node port, taken apart once and put together.

use super::entry::{Entries, Families, NAME_LEN_MAX, check_entry, entry_weight};
use super::query::Kind;
use super::shard::Change;
use super::{Fault, Limit};
use crate::{List, NodeId, Value};

/// A message of another node's database, checked.
#[derive(Debug)]
pub(super) enum Message {
    /// "I am global."
    Global,
    /// "Be global", or with entries, "be my master".
    Slave(Option<Families>),
    /// What the slaves of a global node have, all of it.
    Set(Families),
    Update {
        family: String,
        change: Change,
    },
    /// Asks for the addresses of a node. Some nodes ask for what is no node ID.
    Find(String),
    Found {
        node: NodeId,
        addresses: Option<Vec<String>>,
    },
    Query {
        kind: Kind,
        family: String,
        id: String,
    },
    Reply {
        id: String,
        result: Value,
    },
    Monitor(String),
    Unmonitor(String),
    /// A monitored family, all of it.
    Content {
        family: String,
        entries: Entries,
    },
    /// What has changed in a monitored family.
    Changed {
        family: String,
        change: Change,
    },
}

/// The tags that [`handle_message`](super::Database::handle_message) takes.
pub const TAGS: [&str; 14] = [
    G_GLOBAL,
    G_SLAVE,
    G_SET,
    G_UPD,
    G_FIND,
    G_FOUND,
    "g_db_family",
    "g_db_keys",
    "g_db_values",
    G_REPLY,
    G_MON1,
    G_MON0,
    G_CHG1,
    G_CHG2,
];

pub(super) const G_GLOBAL: &str = "g_global";
pub(super) const G_SLAVE: &str = "g_slave";
pub(super) const G_SET: &str = "g_set";
pub(super) const G_UPD: &str = "g_upd";
pub(super) const G_FIND: &str = "g_find";
pub(super) const G_FOUND: &str = "g_found";
pub(super) const G_REPLY: &str = "g_reply";
pub(super) const G_MON1: &str = "g_mon1";
pub(super) const G_MON0: &str = "g_mon0";
pub(super) const G_CHG1: &str = "g_chg1";
pub(super) const G_CHG2: &str = "g_chg2";

impl Message {
    /// Takes apart what came behind a tag. More arguments than expected are ignored, as Perl nodes do.
    pub(super) fn parse(tag: &str, args: List) -> Result<Self, Fault> {
        let mut args = args.into_iter();
        let mut next = || args.next();
        Ok(match tag {
            G_GLOBAL => Self::Global,
            G_SLAVE => Self::Slave(next().map(|value| families(G_SLAVE, value)).transpose()?),
            G_SET => Self::Set(families(G_SET, next().unwrap_or_default())?),
            G_UPD => Self::Update {
                family: name(G_UPD, next())?,
                change: change(G_UPD, next(), next())?,
            },
            G_FIND => Self::Find(name(G_FIND, next())?),
            G_FOUND => Self::Found { node: node(next())?, addresses: found(next())? },
            G_REPLY => {
                Self::Reply { id: name(G_REPLY, next())?, result: next().unwrap_or_default() }
            }
            G_MON1 => Self::Monitor(name(G_MON1, next())?),
            G_MON0 => Self::Unmonitor(name(G_MON0, next())?),
            G_CHG1 => {
                Self::Content { family: name(G_CHG1, next())?, entries: entries(G_CHG1, next())? }
            }
            G_CHG2 => Self::Changed {
                family: name(G_CHG2, next())?,
                change: change(G_CHG2, next(), next())?,
            },
            _ => {
                let kind = Kind::from_tag(tag).ok_or(Fault::UnknownTag)?;
                let tag = kind.tag();
                Self::Query { kind, family: name(tag, next())?, id: name(tag, next())? }
            }
        })
    }
}

/// `[F, {K: V} | null, [K…]]`, without what is empty at the end, as Perl nodes send it.
pub(super) fn update(family: &str, change: Change) -> List {
    let mut args = vec![family.into()];
    args.push(if change.set.is_empty() { Value::Null } else { Value::Map(change.set) });
    if !change.deleted.is_empty() {
        args.push(keys(change.deleted));
    }
    args
}

/// `[F, {K: V}, [K…]]`, always all three.
pub(super) fn changed(family: &str, change: Change) -> List {
    vec![family.into(), Value::Map(change.set), keys(change.deleted)]
}

pub(super) fn families_value(families: Families) -> Value {
    Value::Map(
        families.into_iter().map(|(family, entries)| (family, Value::Map(entries))).collect(),
    )
}

/// Addresses, if the value is what an entry of `'l` should be and there are any.
pub(super) fn addresses(value: &Value) -> Option<Vec<String>> {
    let Value::List(list) = value else { return None };
    if list.is_empty() {
        return None;
    }
    list.iter().map(|address| address.as_str().map(str::to_owned)).collect()
}

/// Cuts a change into such as fit a message each.
pub(super) fn pieces(change: Change) -> Vec<Change> {
    let mut pieces = vec![Change::default()];
    let mut room = Room::default();
    for (key, value) in change.set {
        room.take(entry_weight(&key, &value), &mut pieces).set.insert(key, value);
    }
    for key in change.deleted {
        room.take(entry_weight(&key, &Value::Null), &mut pieces).deleted.insert(key);
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Cuts families into those that fit one message, and what is to follow it.
pub(super) fn cut(families: Families) -> (Families, Vec<(String, Change)>) {
    let mut weight = 0;
    let mut first = Families::new();
    let mut rest = Vec::new();
    for (family, entries) in families {
        weight += entry_weight(&family, &Value::Null);
        let (mut now, mut later) = (Entries::new(), Change::default());
        for (key, value) in entries {
            weight += entry_weight(&key, &value);
            let part = if weight <= MESSAGE_WEIGHT_MAX { &mut now } else { &mut later.set };
            part.insert(key, value);
        }
        rest.extend(pieces(later).into_iter().map(|piece| (family.clone(), piece)));
        if !now.is_empty() {
            first.insert(family, now);
        }
    }
    (first, rest)
}

/// How full the last piece is.
#[derive(Default)]
struct Room {
    weight: usize,
    entries: usize,
}

impl Room {
    /// The piece that takes one more entry: the last, or a new one if that is full.
    fn take<'a>(&mut self, weight: usize, pieces: &'a mut Vec<Change>) -> &'a mut Change {
        if self.entries == PIECE_ENTRIES_MAX || self.weight + weight > MESSAGE_WEIGHT_MAX {
            *self = Self::default();
            pieces.push(Change::default());
        }
        self.weight += weight;
        self.entries += 1;
        pieces.last_mut().expect("there is always one")
    }
}

fn families(tag: &'static str, value: Value) -> Result<Families, Fault> {
    let shape = Fault::Shape { tag, expected: "a map of families, each a map of keys and values" };
    let families = match value {
        Value::Null => return Ok(Families::new()),
        Value::Map(families) => families,
        _ => return Err(shape),
    };
    let mut good = Families::new();
    for (family, value) in families {
        let entries = entries(tag, Some(value))?;
        let family = name(tag, Some(Value::Text(family)))?;
        if !entries.is_empty() {
            good.insert(family, entries);
        }
    }
    Ok(good)
}

fn entries(tag: &'static str, value: Option<Value>) -> Result<Entries, Fault> {
    let entries = match value {
        None | Some(Value::Null) => return Ok(Entries::new()),
        Some(Value::Map(entries)) => entries,
        Some(_) => return Err(Fault::Shape { tag, expected: "a map of keys and values" }),
    };
    for (key, value) in &entries {
        if key.is_empty() {
            return Err(Fault::Shape { tag, expected: NAME });
        }
        check_entry(key, value)?;
    }
    Ok(entries)
}

/// A key that is both set and deleted is deleted: Perl nodes do it in that order.
fn change(tag: &'static str, set: Option<Value>, deleted: Option<Value>) -> Result<Change, Fault> {
    let mut change = Change { set: entries(tag, set)?, ..Change::default() };
    let deleted = match deleted {
        None | Some(Value::Null) => List::new(),
        Some(Value::List(deleted)) => deleted,
        Some(_) => return Err(Fault::Shape { tag, expected: "a list of keys to delete" }),
    };
    for key in deleted {
        let key = name(tag, Some(key))?;
        change.set.remove(&key);
        change.deleted.insert(key);
    }
    Ok(change)
}

/// The name of a family, or a key. Perl may send one as a number that looks like it.
fn name(tag: &'static str, value: Option<Value>) -> Result<String, Fault> {
    let name = match value {
        Some(Value::Text(text)) => text,
        Some(value @ Value::Bytes(_)) => value.as_str().unwrap_or_default().to_owned(),
        Some(Value::Integer(number)) => number.to_string(),
        _ => String::new(),
    };
    match name.len() {
        0 => Err(Fault::Shape { tag, expected: NAME }),
        1..=NAME_LEN_MAX => Ok(name),
        _ => Err(Limit { what: "bytes in a name", max: NAME_LEN_MAX }.into()),
    }
}

fn node(value: Option<Value>) -> Result<NodeId, Fault> {
    let shape = Fault::Shape { tag: G_FOUND, expected: "a node ID" };
    value.as_ref().and_then(Value::as_str).and_then(|text| NodeId::new(text).ok()).ok_or(shape)
}

fn found(value: Option<Value>) -> Result<Option<Vec<String>>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::List(list)) if list.is_empty() => Ok(None),
        Some(value) => match addresses(&value) {
            None => Err(Fault::Shape { tag: G_FOUND, expected: "a list of addresses" }),
            known => Ok(known),
        },
    }
}

fn keys(keys: impl IntoIterator<Item = String>) -> Value {
    Value::List(keys.into_iter().map(Value::Text).collect())
}

const NAME: &str = "a name that is not empty";

/// The most that the entries of one message may weigh, which leaves room for one more of the largest in a
/// frame of 16 MiB.
pub(super) const MESSAGE_WEIGHT_MAX: usize = 8 << 20;

/// The most entries in a message that follows one with all that it could hold, so that other messages come
/// in between.
const PIECE_ENTRIES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_message_cannot_hold_follows_in_pieces() {
        let big = "x".repeat(3 << 20);
        let entries: Entries = (0..5).map(|n| (format!("k{n}"), big.as_str().into())).collect();
        let (first, rest) = cut([("f".to_owned(), entries)].into());
        let count = |change: &Change| change.set.len();
        assert_eq!(first["f"].len(), 2);
        assert_eq!(rest.iter().map(|(_, piece)| count(piece)).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_hundred_thousand_small_entries_go_in_one_message_and_their_deletion_in_pieces() {
        let entries: Entries = (0..100_000).map(|n| (format!("key{n}"), Value::Null)).collect();
        let deleted = entries.keys().cloned().collect();
        let (first, rest) = cut([("f".to_owned(), entries)].into());
        assert_eq!((first["f"].len(), rest.len()), (100_000, 0));
        let pieces = pieces(Change { deleted, ..Change::default() });
        assert!(pieces.iter().all(|piece| piece.deleted.len() <= PIECE_ENTRIES_MAX));
        assert_eq!(pieces.iter().map(|piece| piece.deleted.len()).sum::<usize>(), 100_000);
    }
}
