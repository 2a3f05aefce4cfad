//! Noise: whatever other nodes send, nothing panics, and what must hold of a database does.

use super::harness::{Dice, id};
use super::{Database, Kind, Output, TAGS};
use crate::{List, Value};

#[test]
fn a_database_survives_any_message() {
    for seed in 0..2000 {
        let mut dice = Dice::new(seed);
        let mut database = Database::slave(id("own"));
        database.seed_greeted(&id("b"));
        for peer in ["a", "b", "c"] {
            database.node_up(&id(peer));
        }
        for _ in 0..60 {
            act(&mut database, &mut dice);
            while let Some(output) = database.poll_output() {
                if let Output::Changed { family, .. } = output {
                    assert!(database.family(&family).is_some());
                }
            }
            database.assert_is_consistent();
        }
    }
}

#[test]
fn a_fault_changes_nothing() {
    for seed in 0..2000 {
        let mut dice = Dice::new(seed);
        let mut database = Database::global(id("own"));
        database.node_up(&id("a"));
        for _ in 0..40 {
            while database.poll_output().is_some() {}
            let before = format!("{database:?}");
            let tag = TAGS[dice.below(TAGS.len())];
            if database.handle_message(&id("a"), tag, arguments(&mut dice)).is_err() {
                assert_eq!(format!("{database:?}"), before);
            }
        }
    }
}

fn act(database: &mut Database, dice: &mut Dice) {
    let peer = id(["a", "b", "c", "own2"][dice.below(4)]);
    match dice.below(30) {
        0 => database.node_down(&peer),
        1 => database.node_up(&peer),
        2 => drop(database.monitor("f").unwrap()),
        3 => drop(database.query(Kind::Keys, "f").unwrap()),
        4 => database.find(&peer),
        5 => database.set("f", "k", value(dice, 2)).unwrap(),
        6 => database.delete("f", &["k"]).unwrap(),
        7 if dice.below(10) == 0 => database.become_global(),
        _ => {
            let tag = match dice.below(40) {
                0 => "g_nonsense",
                // It would be global soon and for ever, so not too often.
                1..38 => TAGS[2 + dice.below(TAGS.len() - 2)],
                _ => TAGS[dice.below(2)],
            };
            let (Ok(()) | Err(_)) = database.handle_message(&peer, tag, arguments(dice));
        }
    }
}

/// Mostly of the right shape.
fn arguments(dice: &mut Dice) -> List {
    match dice.below(10) {
        0 => (0..dice.below(4)).map(|_| value(dice, 3)).collect(),
        1 => vec![text(dice), text(dice)],
        2 => vec![text(dice), Value::List(vec![text(dice)])],
        3 => vec![map(dice, 2)],
        4 => Vec::new(),
        _ => vec![text(dice), map(dice, 1), Value::List(vec![text(dice), text(dice)])],
    }
}

/// Maps in maps in values of any kind.
fn map(dice: &mut Dice, levels: usize) -> Value {
    let entry = |dice: &mut Dice| {
        let key = text(dice).as_str().unwrap_or_default().to_owned();
        (key, if levels > 1 { map(dice, levels - 1) } else { value(dice, 2) })
    };
    Value::Map((0..dice.below(3)).map(|_| entry(dice)).collect())
}

fn value(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 7 } else { 9 }) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => Value::Integer(-7),
        3 => Value::Unsigned(u64::MAX),
        4 => Value::Float(0.5),
        5 | 6 => text(dice),
        7 => Value::List((0..dice.below(3)).map(|_| value(dice, depth - 1)).collect()),
        _ => map(dice, 2),
    }
}

fn text(dice: &mut Dice) -> Value {
    match dice.below(24) {
        0 => "".into(),
        1 => "x".repeat(1025).into(),
        2 => Value::Bytes(vec![0xff, b'f'].into()),
        3 => 12.into(),
        4 => "c".into(),
        _ => ["f", "k", "b", "a", "own", "'l", "'g", "g#x"][dice.below(8)].into(),
    }
}
