//! What a node remembers from one run to the next: its names, and nodes to begin with.

use std::collections::BTreeMap;

use super::krpc::contacts;
use super::node_id::{Contact, NodeId};
use crate::bencode::{Limits, OwnedValue, decode_prefix, encode};
use crate::compact;

/// What the next run begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Our names in the networks of IPv4 and IPv6.
    pub ids: [Option<NodeId>; 2],
    /// The port that these belong to: several nodes of one machine are not to have one name.
    pub port: u16,
    /// Nodes that were there; at most 512.
    pub nodes: Vec<Contact>,
}

impl State {
    /// As bytes to be written to a file.
    pub fn encode(&self) -> Vec<u8> {
        let mut dict = BTreeMap::new();
        for (key, id) in KEYS.iter().zip(self.ids) {
            if let Some(id) = id {
                dict.insert(key.to_vec(), OwnedValue::Bytes(id.0.to_vec()));
            }
        }
        dict.insert(b"port".to_vec(), OwnedValue::Integer(self.port.into()));
        let [mut v4, mut v6] = [Vec::new(), Vec::new()];
        for node in self.nodes.iter().take(NODES_MAX) {
            let packed = if node.addr.is_ipv4() { &mut v4 } else { &mut v6 };
            packed.extend_from_slice(&node.id.0);
            let (mut addr4, mut addr6) = (Vec::new(), Vec::new());
            compact::append(node.addr, &mut addr4, &mut addr6);
            packed.extend(addr4.into_iter().chain(addr6));
        }
        dict.insert(b"nodes".to_vec(), OwnedValue::Bytes(v4));
        dict.insert(b"nodes6".to_vec(), OwnedValue::Bytes(v6));
        encode(&OwnedValue::Dict(dict))
    }

    /// From bytes of a file; `None` if they make no sense.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let limits = Limits { depth: 2, items: 100, keys_in_order: false };
        let (value, _) = decode_prefix(bytes, limits).ok()?;
        let dict = value.as_dict()?;
        let packed = |key| dict.get(key).and_then(|value| value.as_bytes()).unwrap_or_default();
        let nodes = contacts::<26>(packed(b"nodes")).chain(contacts::<38>(packed(b"nodes6")));
        Some(Self {
            ids: KEYS.map(|key| packed(key).try_into().ok().map(NodeId)),
            port: dict.get(b"port")?.as_integer()?.try_into().ok()?,
            nodes: nodes.take(NODES_MAX).collect(),
        })
    }
}

const KEYS: [&[u8]; 2] = [b"id", b"id6"];
pub(super) const NODES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn there_and_back_and_noise_is_nothing_or_something_small() {
        let mut rng = Rng::from_seed(1);
        let node = |addr: &str, rng: &mut Rng| Contact {
            id: NodeId::random(rng),
            addr: addr.parse().expect("an address"),
        };
        let state = State {
            ids: [Some(NodeId([1; 20])), None],
            port: 6881,
            nodes: vec![node("1.2.3.4:5", &mut rng), node("[2001:db8::1]:6", &mut rng)],
        };
        assert_eq!(State::decode(&state.encode()), Some(state.clone()));
        assert_eq!(State::decode(b""), None);
        for seed in 0..1000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = state.encode();
            for _ in 0..3 {
                let at = rng.below(bytes.len());
                bytes[at] = rng.u32() as u8;
            }
            bytes.truncate(rng.below(bytes.len() + 1).max(40));
            if let Some(read) = State::decode(&bytes) {
                assert!(read.nodes.len() <= 4);
            }
        }
        let many = State { nodes: vec![state.nodes[0]; 2000], ..State::default() };
        assert_eq!(State::decode(&many.encode()).map(|state| state.nodes.len()), Some(NODES_MAX));
    }
}
