//! Who is connected with whom: nodes are asked one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::talk::Talk;
use super::{Failure, STATUS_FAILED, output};
use crate::node::standard::UP_NODES;
use crate::{NodeId, Value};

/// How long a node may take to answer.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(15));

/// More nodes are not asked.
const NODES_MAX: usize = 10_000;

pub(super) async fn trace(talk: &Talk, first: NodeId) -> Result<u8, Failure> {
    let mut seen = BTreeSet::from([talk.node.id().clone(), first.clone()]);
    let mut next = VecDeque::from([first]);
    let mut found = BTreeMap::new();
    let mut status = 0;
    while let Some(node) = next.pop_front() {
        let neighbours = match talk.eval(&node, UP_NODES, PATIENCE).await {
            Ok(values) => values,
            Err(failure) => {
                output::complain(&format!("{node}: {}", failure.text));
                status = STATUS_FAILED;
                continue;
            }
        };
        let ids = neighbours.iter().filter_map(|id| NodeId::new(id.as_str()?).ok());
        let ids: BTreeSet<NodeId> = ids.filter(|id| id != talk.node.id()).collect();
        if !talk.is_json {
            let names: Vec<&str> = ids.iter().map(NodeId::as_str).collect();
            output::line(format!("{node} -> {}", names.join(" ")).trim_end());
        }
        for id in &ids {
            if seen.len() < NODES_MAX && seen.insert(id.clone()) {
                next.push_back(id.clone());
            }
        }
        let ids: Vec<Value> = ids.iter().map(Value::from).collect();
        found.insert(node.to_string(), Value::List(ids));
    }
    if talk.is_json {
        output::line(&Value::Map(found).to_string());
    }
    Ok(status)
}
