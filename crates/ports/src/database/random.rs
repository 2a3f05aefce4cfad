//! Random networks: whatever happened, when all is quiet again every node sees the same.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::{Dice, Network, id};
use super::{Answer, Database, Kind, MonitorId};
use crate::Value;

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const FAMILIES: [&str; 2] = ["f", "g"];
const KEYS: [&str; 5] = ["k0", "k1", "k2", "k3", "k4"];

/// What each node has set: node, family, key.
type Model = BTreeMap<(&'static str, &'static str, &'static str), Value>;

struct Story {
    network: Network,
    dice: Dice,
    names: &'static [&'static str],
    seeds: &'static [&'static str],
    model: Model,
    monitors: Vec<(&'static str, MonitorId)>,
}

#[test]
fn when_all_is_quiet_every_node_sees_what_all_nodes_have_set() {
    for seed in 0..500 {
        let told = std::panic::catch_unwind(|| Story::new(seed).tell());
        assert!(told.is_ok(), "seed {seed}");
    }
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let names = &NAMES[..2 + dice.below(6)];
        let seeds = &names[..1 + dice.below(2)];
        let mut story = Self {
            network: Network::default(),
            dice,
            names,
            seeds,
            model: Model::new(),
            monitors: Vec::new(),
        };
        for name in names {
            story.start(name);
        }
        story
    }

    fn tell(&mut self) {
        for _ in 0..120 {
            self.act();
        }
        self.network.heal();
        self.check();
        let last = self.names[self.names.len() - 1];
        if !self.seeds.contains(&last) {
            self.stop(last);
            self.names = &self.names[..self.names.len() - 1];
            self.network.run();
            self.check();
        }
    }

    fn start(&mut self, name: &'static str) {
        let is_global = self.seeds.contains(&name) || self.dice.below(4) == 0;
        let database =
            if is_global { Database::global(id(name)) } else { Database::slave(id(name)) };
        self.network.start(database, self.seeds);
        self.network
            .on(name, |database| database.set_listeners(&[format!("{name}:4040")]))
            .unwrap();
    }

    fn stop(&mut self, name: &str) {
        self.network.stop(name, |under_way| self.dice.below(under_way + 1));
        self.model.retain(|(node, ..), _| *node != name);
        self.monitors.retain(|(node, _)| *node != name);
    }

    fn act(&mut self) {
        let name = self.pick(self.names);
        let other = self.pick(self.names);
        let (family, key) = (self.pick(&FAMILIES), self.pick(&KEYS));
        match self.dice.below(100) {
            0..25 => {
                let value = Value::from(format!("{name}{}", self.dice.below(3)));
                self.network.on(name, |database| database.set(family, key, value.clone())).unwrap();
                self.model.insert((name, family, key), value);
            }
            25..38 => {
                self.network.on(name, |database| database.delete(family, &[key])).unwrap();
                self.model.remove(&(name, family, key));
            }
            38..43 => {
                let monitor = self.network.monitor(name, family);
                self.monitors.push((name, monitor));
            }
            43..46 if !self.monitors.is_empty() => {
                let (name, monitor) =
                    self.monitors.swap_remove(self.dice.below(self.monitors.len()));
                self.network.unmonitor(name, monitor);
            }
            46..48 => {
                self.network.on(name, |database| database.query(Kind::Family, family)).unwrap();
            }
            48..50 => self.network.on(name, |database| database.find(&id(other))),
            50 => self.network.on(name, Database::become_global),
            51..53 => {
                self.stop(name);
                self.start(name);
            }
            53..60 => {
                let lost = |under_way| self.dice.below(under_way + 1);
                self.network.cut(&id(name), &id(other), lost);
            }
            60..70 if name != other => self.network.connect(name, other),
            _ => {
                for _ in 0..self.dice.below(8) {
                    let choice = self.dice.below(1000);
                    self.network.step(choice);
                }
            }
        }
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.dice.below(from.len())]
    }

    fn check(&mut self) {
        let names = self.names;
        for &name in names {
            for family in FAMILIES {
                let Answer::Family(entries) = self.network.ask(name, Kind::Family, family) else {
                    panic!("not a family")
                };
                self.check_entries(family, &entries);
                assert_eq!(
                    self.network.keys(name, family),
                    entries.keys().cloned().collect::<Vec<_>>()
                );
                let values = Answer::Values(entries.into_values().collect());
                assert_eq!(self.network.ask(name, Kind::Values, family), values);
            }
            let databases =
                || self.network.nodes.iter().map(|(name, node)| (name.to_string(), node));
            let globals: Vec<_> = databases()
                .filter(|(_, node)| node.database.is_global())
                .map(|(name, _)| name)
                .collect();
            assert_eq!(self.network.keys(name, "'g"), globals);
            assert_eq!(self.network.keys(name, "'l"), names);
            for other in NAMES {
                let addresses = names.contains(&other).then(|| vec![format!("{other}:4040")]);
                assert_eq!(self.network.find(name, other), addresses);
            }
            assert!(self.network.nodes[&id(name)].database.queries.is_empty());
        }
        for &(name, monitor) in &self.monitors {
            let view = self.network.view(name, monitor);
            assert!(!view.calls.is_empty(), "a monitor of {name} was never called");
            self.check_entries(&view.family, &view.entries);
        }
    }

    fn check_entries(&self, family: &str, entries: &BTreeMap<String, Value>) {
        let set = self.model.iter().filter(|((_, of, _), _)| *of == family);
        let keys: BTreeSet<_> = set.clone().map(|((.., key), _)| (*key).to_owned()).collect();
        assert_eq!(entries.keys().cloned().collect::<BTreeSet<_>>(), keys);
        for (key, value) in entries {
            assert!(
                set.clone().any(|((.., of), set)| of == key && set == value),
                "{key} is {value}"
            );
        }
    }
}
