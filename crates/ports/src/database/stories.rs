//! Stories of few nodes, step by step.

use super::harness::{Network, id};
use super::{
    Answer, Database, DatabaseError, Difference, Fault, Kind, Output, SUBSCRIPTIONS_MAX,
    VALUE_WEIGHT_MAX,
};
use crate::{List, NodeId, Value};

/// A seed and two slaves, all connected.
fn trio() -> Network {
    let mut network = Network::default();
    network.global("seed");
    network.slave("a", &["seed"]);
    network.slave("b", &["seed"]);
    network.heal();
    network
}

fn value_of(network: &Network, node: &str, family: &str, key: &str) -> Option<Value> {
    network.nodes[&id(node)].database.family(family)?.get(key).cloned()
}

fn difference(added: &[&str], changed: &[&str], deleted: &[&str]) -> Difference {
    let owned = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
    Difference { added: owned(added), changed: owned(changed), deleted: owned(deleted) }
}

#[test]
fn the_conversation_of_a_perl_client_with_a_perl_seed_word_for_word() {
    let client = "client2/arjEI6p1dR";
    let port = "client2/arjEI6p1dR#b";
    let mut network = Network::default();
    network.global("seed2");
    network.on("seed2", |seed| seed.set_listeners(&["127.0.0.1:4140".into()])).unwrap();
    network.slave(client, &["seed2"]);
    network.on(client, |client| client.set("grp1", port, ())).unwrap();
    network.on(client, |client| client.set_listeners(&["127.0.0.1:44791".into()])).unwrap();
    network.on(client, |client| client.find(&id("seed2")));
    let monitor = network.monitor(client, "grp1");
    network.heal();
    for kind in [Kind::Keys, Kind::Values, Kind::Family] {
        network.ask(client, kind, "grp1");
    }
    network.find(client, "nosuchnode");
    network.on(client, |client| client.delete("grp1", &[port])).unwrap();
    network.run();
    network.unmonitor(client, monitor);
    let value = Value::Map([("a".to_owned(), 1.into())].into());
    network.on(client, |client| client.set("grp2", "k", value)).unwrap();
    network.run();

    let said = |from: &NodeId| -> Vec<&str> {
        network
            .sent
            .iter()
            .filter(|(sender, ..)| sender == from)
            .map(|(.., text)| text.as_str())
            .collect()
    };
    assert_eq!(
        said(&id(client)),
        [
            r#"["","g_slave"]"#,
            r#"["","g_slave",{"'l":{"client2/arjEI6p1dR":["127.0.0.1:44791"]},"grp1":{"client2/arjEI6p1dR#b":null}}]"#,
            r#"["","g_find","seed2"]"#,
            r#"["","g_mon1","grp1"]"#,
            r#"["","g_slave"]"#,
            r#"["","g_db_keys","grp1","b"]"#,
            r#"["","g_db_values","grp1","c"]"#,
            r#"["","g_db_family","grp1","d"]"#,
            r#"["","g_find","nosuchnode"]"#,
            r#"["","g_upd","grp1",null,["client2/arjEI6p1dR#b"]]"#,
            r#"["","g_mon0","grp1"]"#,
            r#"["","g_upd","grp2",{"k":{"a":1}}]"#,
        ]
    );
    assert_eq!(
        said(&id("seed2")),
        [
            r#"["","g_global"]"#,
            r#"["","g_found","seed2",["127.0.0.1:4140"]]"#,
            r#"["","g_chg1","grp1",{"client2/arjEI6p1dR#b":null}]"#,
            r#"["","g_reply","b",["client2/arjEI6p1dR#b"]]"#,
            r#"["","g_reply","c",[null]]"#,
            r#"["","g_reply","d",{"client2/arjEI6p1dR#b":null}]"#,
            r#"["","g_found","nosuchnode",null]"#,
            r#"["","g_chg2","grp1",{},["client2/arjEI6p1dR#b"]]"#,
        ]
    );
}

#[test]
fn a_node_without_seeds_has_a_database_for_itself() {
    let mut network = Network::default();
    network.global("alone");
    let monitor = network.monitor("alone", "f");
    assert_eq!(network.view("alone", monitor).calls, [Difference::default()]);
    network.on("alone", |node| node.set("f", "k", 1)).unwrap();
    network.on("alone", |node| node.set("f", "k", 1)).unwrap();
    network.on("alone", |node| node.set("f", "k", 2)).unwrap();
    network.on("alone", |node| node.delete("f", &["k", "unknown"])).unwrap();
    let calls = &network.view("alone", monitor).calls[1..];
    let expected =
        [difference(&["k"], &[], &[]), difference(&[], &["k"], &[]), difference(&[], &[], &["k"])];
    assert_eq!(calls, expected);
    assert!(network.sent.is_empty());
}

#[test]
fn nothing_is_sent_if_nothing_is_changed() {
    let mut network = trio();
    network.on("a", |node| node.set("f", "k", "v")).unwrap();
    network.run();
    let count = network.sent.len();
    network.on("a", |node| node.set("f", "k", "v")).unwrap();
    network.on("a", |node| node.delete("f", &["other"])).unwrap();
    assert_eq!(network.sent.len(), count);
}

#[test]
fn a_query_waits_until_there_is_a_master() {
    let mut network = Network::default();
    network.global("seed");
    network.slave("a", &["seed"]);
    network.on("a", |node| node.set("f", "k", "v")).unwrap();
    let query = network.on("a", |node| node.query(Kind::Values, "f")).unwrap();
    let monitor = network.monitor("a", "f");
    network.on("a", |node| node.find(&id("a")));
    assert!(network.nodes[&id("a")].answers.is_empty());
    network.heal();
    assert_eq!(network.nodes[&id("a")].answers[&query], Ok(Answer::Values(vec!["v".into()])));
    assert_eq!(network.nodes[&id("a")].found[&id("a")], None);
    assert_eq!(network.view("a", monitor).calls, [difference(&["k"], &[], &[])]);
}

#[test]
fn a_second_monitor_hears_all_there_is_and_the_first_nothing_of_it() {
    let mut network = trio();
    let first = network.monitor("a", "f");
    network.run();
    assert_eq!(network.view("a", first).calls, [Difference::default()]);
    network.on("b", |node| node.set("f", "k", 1)).unwrap();
    network.run();
    let second = network.monitor("a", "f");
    network.run();
    assert_eq!(network.view("a", first).calls.len(), 2);
    assert_eq!(network.view("a", second).calls, [difference(&["k"], &[], &[])]);
    network.unmonitor("a", first);
    network.on("b", |node| node.set("f", "k", 2)).unwrap();
    network.run();
    assert_eq!(network.view("a", second).calls[1..], [difference(&[], &["k"], &[])]);
}

#[test]
fn an_ended_monitor_that_begins_anew_is_not_misled_by_what_was_under_way() {
    let mut network = trio();
    network.on("b", |node| node.set("f", "old", 1)).unwrap();
    network.run();
    let monitor = network.monitor("a", "f");
    network.unmonitor("a", monitor);
    let monitor = network.monitor("a", "f");
    network.on("b", |node| node.set("f", "new", 1)).unwrap();
    network.run();
    assert_eq!(network.view("a", monitor).entries.len(), 2);
}

#[test]
fn a_key_of_two_slaves_stays_with_the_value_of_the_other() {
    let mut network = trio();
    let monitor = network.monitor("b", "f");
    network.on("a", |node| node.set("f", "same", "of a")).unwrap();
    network.run();
    network.on("b", |node| node.set("f", "same", "of b")).unwrap();
    network.run();
    assert_eq!(value_of(&network, "seed", "f", "same"), Some("of b".into()));
    network.on("b", |node| node.delete("f", &["same"])).unwrap();
    network.run();
    assert_eq!(value_of(&network, "b", "f", "same"), Some("of a".into()));
    assert_eq!(network.view("b", monitor).calls.last(), Some(&difference(&[], &["same"], &[])));
    network.stop("a", |_| 0);
    network.run();
    assert_eq!(network.view("b", monitor).calls.last(), Some(&difference(&[], &[], &["same"])));
}

#[test]
fn a_key_of_slaves_of_two_masters_stays_with_the_value_of_the_other_everywhere() {
    let mut network = Network::default();
    network.start(Database::global(id("s")), &["t"]);
    network.global("t");
    network.slave("a", &["s"]);
    network.slave("b", &["t"]);
    network.heal();
    for (node, value) in [("a", "of a"), ("b", "of b")] {
        network.on(node, |database| database.set("f", "same", value)).unwrap();
        network.run();
    }
    let count = network.sent.len();
    network.on("b", |node| node.delete("f", &["same"])).unwrap();
    network.run();
    for global in ["s", "t"] {
        assert_eq!(value_of(&network, global, "f", "same"), Some("of a".into()), "{global}");
    }
    let told: Vec<_> = network.sent[count..].iter().map(|(.., text)| text.as_str()).collect();
    assert_eq!(told, [r#"["","g_upd","f",null,["same"]]"#; 2]);
}

#[test]
fn what_a_slave_deletes_is_set_for_other_globals_if_another_slave_has_it() {
    let mut network = trio();
    network.global("t");
    network.connect("seed", "t");
    network.heal();
    for (node, value) in [("a", "of a"), ("b", "of b")] {
        network.on(node, |database| database.set("f", "same", value)).unwrap();
        network.run();
    }
    network.stop("b", |_| 0);
    network.run();
    assert_eq!(network.sent.last().unwrap().2, r#"["","g_upd","f",{"same":"of a"}]"#);
    assert_eq!(value_of(&network, "t", "f", "same"), Some("of a".into()));
}

#[test]
fn everything_a_node_has_goes_with_it() {
    let mut network = trio();
    network.global("t");
    network.connect("seed", "t");
    network.on("a", |node| node.set("f", "k", 1)).unwrap();
    network.on("a", |node| node.set_listeners(&["a:1".into()])).unwrap();
    network.on("t", |node| node.set_listeners(&["t:1".into()])).unwrap();
    network.heal();
    assert_eq!(network.keys("b", "f"), ["k"]);
    assert_eq!(network.keys("b", "'g"), ["seed", "t"]);
    assert_eq!(network.find("b", "t"), Some(vec!["t:1".into()]));
    network.stop("a", |_| 0);
    network.stop("t", |_| 0);
    network.run();
    assert_eq!(network.keys("b", "f"), [""; 0]);
    assert_eq!(network.keys("b", "'g"), ["seed"]);
    assert_eq!(network.keys("b", "'l"), [""; 0]);
    assert_eq!(network.find("b", "t"), None);
}

#[test]
fn global_nodes_find_one_another_through_one_they_all_know() {
    let mut network = Network::default();
    network.global("hub");
    for name in ["x", "y", "z"] {
        network.start(Database::global(id(name)), &["hub"]);
        network.on(name, |node| node.set_listeners(&[format!("{name}:1")])).unwrap();
    }
    network.heal();
    let met = |from: &str, to: &str| {
        network.sent.iter().any(|(a, b, text)| {
            *a == id(from) && *b == id(to) && text.starts_with(r#"["","g_set","#)
        })
    };
    assert!(met("x", "y") && met("y", "z") && met("z", "x"));
    assert_eq!(network.find("x", "z"), Some(vec!["z:1".into()]));
}

#[test]
fn where_a_global_node_listens_is_handed_on_though_it_came_late_and_goes_with_it() {
    let mut network = Network::default();
    network.global("hub");
    network.start(Database::global(id("x")), &["hub"]);
    network.heal();
    network.on("x", |node| node.set_listeners(&["x:1".into()])).unwrap();
    network.run();
    network.global("y");
    network.connect("hub", "y");
    network.run();
    let addresses = Some(Value::List(vec!["x:1".into()]));
    assert_eq!(value_of(&network, "y", "'l", "x"), addresses);
    network.stop("x", |_| 0);
    network.run();
    assert_eq!(value_of(&network, "y", "'l", "x"), None);
    assert_eq!(value_of(&network, "hub", "'l", "x"), None);
}

#[test]
fn a_slave_that_loses_its_master_goes_on_with_another_and_hears_only_of_real_differences() {
    let mut network = Network::default();
    network.global("s");
    network.start(Database::global(id("t")), &["s"]);
    network.slave("a", &["s", "t"]);
    network.slave("b", &["t"]);
    network.heal();
    assert_eq!(network.nodes[&id("a")].database.master(), Some(&id("s")));
    for key in ["kept", "gone"] {
        network.on("b", |node| node.set("f", key, 1)).unwrap();
    }
    network.on("s", |node| node.set("f", "of s", 1)).unwrap();
    network.on("a", |node| node.set("f", "own", 1)).unwrap();
    let monitor = network.monitor("a", "f");
    network.run();
    assert_eq!(network.view("a", monitor).entries.len(), 4);

    let query = network.on("a", |node| node.query(Kind::Keys, "f")).unwrap();
    network.stop("s", |under_way| under_way);
    network.on("b", |node| node.delete("f", &["gone"])).unwrap();
    network.run();
    assert_eq!(network.nodes[&id("a")].database.master(), Some(&id("t")));
    let Ok(Answer::Keys(keys)) = &network.nodes[&id("a")].answers[&query] else {
        panic!("no answer")
    };
    assert!(keys.contains(&"own".to_owned()));
    let mut deleted: Vec<_> = Vec::new();
    for call in &network.view("a", monitor).calls[1..] {
        assert!(call.changed.is_empty());
        deleted.extend(call.deleted.iter().map(String::as_str));
    }
    assert!(!deleted.contains(&"kept"));
    assert_eq!(network.keys("a", "f"), ["kept", "own"]);
}

#[test]
fn a_monitor_keeps_what_it_knows_while_there_is_no_master() {
    let mut network = trio();
    network.on("b", |node| node.set("f", "k", 1)).unwrap();
    network.run();
    let monitor = network.monitor("a", "f");
    network.run();
    network.cut(&id("a"), &id("seed"), |_| 0);
    network.run();
    assert_eq!(network.nodes[&id("a")].database.master(), None);
    assert_eq!(network.view("a", monitor).entries.len(), 1);
    network.heal();
    assert_eq!(network.view("a", monitor).calls.len(), 1);
}

#[test]
fn a_node_that_hears_g_slave_is_global_from_then_on() {
    let mut network = Network::default();
    network.slave("s", &["elsewhere"]);
    let query = network.on("s", |node| node.query(Kind::Keys, "f")).unwrap();
    network.slave("a", &["s"]);
    network.on("a", |node| node.set("f", "k", 1)).unwrap();
    network.heal();
    assert!(network.nodes[&id("s")].database.is_global());
    assert!(network.nodes[&id("s")].answers.contains_key(&query));
    assert_eq!(network.keys("s", "f"), ["k"]);
}

#[test]
fn a_node_that_is_its_own_seed_is_global() {
    let mut node = Database::slave(id("s"));
    node.seed_greeted(&id("s"));
    assert_eq!(node.poll_output(), Some(Output::BecameGlobal));
    assert_eq!(node.master(), Some(&id("s")));
}

#[test]
fn a_slave_that_becomes_global_takes_its_entries_with_it() {
    let mut network = trio();
    network.on("a", |node| node.set("f", "of a", 1)).unwrap();
    network.on("b", |node| node.set("f", "of b", 1)).unwrap();
    let monitor = network.monitor("a", "f");
    network.run();
    network.on("a", Database::become_global);
    network.heal();
    assert_eq!(network.keys("b", "f"), ["of a", "of b"]);
    assert_eq!(network.keys("b", "'g"), ["a", "seed"]);
    assert_eq!(network.view("a", monitor).entries.len(), 2);
}

#[test]
fn only_the_master_is_believed() {
    let mut network = trio();
    let monitor = network.monitor("a", "f");
    network.connect("a", "b");
    network.heal();
    network.on("a", |node| {
        let wrong = Value::Map([("k".to_owned(), 1.into())].into());
        for tag in ["g_chg1", "g_chg2"] {
            node.handle_message(&id("b"), tag, vec!["f".into(), wrong.clone(), Value::Null])
                .unwrap();
        }
    });
    assert_eq!(network.view("a", monitor).calls.len(), 1);
}

#[test]
fn a_hundred_thousand_keys_reach_everyone() {
    let mut network = trio();
    network.is_large = true;
    network.global("t");
    for number in 0..100_000 {
        network.on("a", |node| node.set("f", &format!("key{number}"), number)).unwrap();
    }
    network.connect("seed", "t");
    network.heal();
    let monitor = network.monitor("b", "f");
    network.run();
    assert_eq!(network.view("b", monitor).entries.len(), 100_000);
    assert_eq!(network.keys("t", "f").len(), 100_000);
    network.stop("a", |_| 0);
    network.run();
    assert!(network.view("b", monitor).entries.is_empty());
    assert!(network.keys("t", "f").is_empty());
    network.is_large = false;
    network.on("seed", |_| {});
}

#[test]
fn what_does_not_fit_one_message_arrives_all_the_same() {
    let mut network = trio();
    network.is_large = true;
    let large = "x".repeat(VALUE_WEIGHT_MAX - 100);
    network.cut(&id("a"), &id("seed"), |_| 0);
    for key in ["1", "2", "3", "4", "5"] {
        network.on("a", |node| node.set("f", key, large.as_str())).unwrap();
    }
    network.global("t");
    network.connect("seed", "t");
    network.heal();
    let monitor = network.monitor("b", "f");
    network.run();
    assert_eq!(network.view("b", monitor).entries.len(), 5);
    assert_eq!(network.keys("t", "f").len(), 5);
    let query = network.on("b", |node| node.query(Kind::Family, "f")).unwrap();
    network.run();
    let refused = network.nodes[&id("b")].answers[&query].clone().unwrap_err();
    assert!(refused.to_string().contains("monitor it instead"));
}

#[test]
fn what_a_program_cannot_set_is_an_error_that_says_why() {
    let mut node = Database::global(id("n"));
    assert!(matches!(node.set("'l", "k", 1), Err(DatabaseError::Family(_))));
    assert!(matches!(node.query(Kind::Keys, "a b"), Err(DatabaseError::Family(_))));
    assert!(matches!(node.set("f", "", 1), Err(DatabaseError::EmptyKey(_))));
    let error = node.set("f", "k", "x".repeat(VALUE_WEIGHT_MAX)).unwrap_err();
    assert_eq!(error.to_string(), "too many bytes in a value: at most 4194304 are allowed");
}

#[test]
fn a_message_of_the_wrong_shape_is_a_fault_that_says_what_was_expected() {
    let mut node = Database::global(id("n"));
    node.node_up(&id("a"));
    let mut fault =
        |tag, args: List| node.handle_message(&id("a"), tag, args).unwrap_err().to_string();
    assert_eq!(fault("g_upd", vec![]), "a g_upd message without a name that is not empty");
    assert_eq!(
        fault("g_upd", vec!["f".into(), 1.into()]),
        "a g_upd message without a map of keys and values"
    );
    assert_eq!(
        fault("g_upd", vec!["f".into(), Value::Null, "k".into()]),
        "a g_upd message without a list of keys to delete"
    );
    assert_eq!(
        fault("g_slave", vec![1.into()]),
        "a g_slave message without a map of families, each a map of keys and values"
    );
    assert_eq!(fault("g_what", vec![]), "a database message with an unknown tag");
}

#[test]
fn a_slave_that_monitors_too_much_or_asks_a_slave_is_at_fault() {
    let mut node = Database::global(id("n"));
    node.node_up(&id("a"));
    for number in 0..SUBSCRIPTIONS_MAX {
        node.handle_message(&id("a"), "g_mon1", vec![format!("f{number}").into()]).unwrap();
    }
    let fault = node.handle_message(&id("a"), "g_mon1", vec!["one more".into()]);
    assert!(matches!(fault, Err(Fault::Limit(_))));
    assert!(node.handle_message(&id("a"), "g_mon1", vec!["f1".into()]).is_ok());

    let mut slave = Database::slave(id("s"));
    slave.node_up(&id("a"));
    let fault = slave.handle_message(&id("a"), "g_find", vec!["x".into()]);
    assert_eq!(fault, Err(Fault::NotGlobal));
}
