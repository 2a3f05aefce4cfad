//! Names of nodes and ports.
//!
//! A port ID is `NODE#PORT`; a node ID alone, or with nothing behind the `#`, is the node's own port.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a node. It is not empty, and holds no `#`, `;`, or control characters, since it stands as
/// it is in greetings. At most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

/// The name of a port: `NODE#PORT`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId {
    /// In its full form, with the `#`, also for a node's own port.
    text: Arc<str>,
    node_len: u8,
}

/// Why a text is no node ID or port ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing before the `#`.
    #[error("'{0}' names no node: a port ID is NODE#PORT")]
    NoNode(String),
    /// A node ID of more than 255 bytes.
    #[error("a node ID of {0} bytes: at most 255 are allowed")]
    NodeTooLong(usize),
    /// A port name of more than [`PORT_NAME_MAX`] bytes.
    #[error("a port name of {0} bytes: at most {PORT_NAME_MAX} are allowed")]
    PortTooLong(usize),
    /// What may not stand in a node ID.
    #[error("the node ID '{0}' holds a '#', a ';' or a control character")]
    BadCharacter(String),
}

/// The longest name of a port, in bytes.
pub const PORT_NAME_MAX: usize = 1024;

/// The longest node ID, in bytes.
const NODE_ID_MAX: usize = 255;

impl NodeId {
    /// Takes a text for a node ID.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::NoNode(String::new()));
        }
        if text.len() > NODE_ID_MAX {
            return Err(IdError::NodeTooLong(text.len()));
        }
        if text.chars().any(|c| c == '#' || c == ';' || c.is_control()) {
            return Err(IdError::BadCharacter(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The node's own port.
    pub fn port(&self) -> PortId {
        PortId::of(self, "")
    }
}

impl PortId {
    /// The port of that name on a node.
    #[expect(clippy::missing_panics_doc, reason = "node IDs are short")]
    pub fn of(node: &NodeId, name: &str) -> Self {
        let node_len = u8::try_from(node.0.len()).expect("node IDs are short");
        Self { text: format!("{node}#{name}").into(), node_len }
    }

    /// Takes a text for a port ID: everything before the first `#` is the node.
    ///
    /// # Errors
    /// If that is no node ID, or the name is too long.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let (node, name) = text.split_once('#').unwrap_or((text, ""));
        if node.is_empty() {
            return Err(IdError::NoNode(text.chars().take(100).collect()));
        }
        if name.len() > PORT_NAME_MAX {
            return Err(IdError::PortTooLong(name.len()));
        }
        let node = NodeId::new(node)?;
        Ok(Self::of(&node, name))
    }

    /// The node that it is on.
    pub fn node(&self) -> NodeId {
        NodeId(self.node_str().into())
    }

    /// The text of [`node`](Self::node).
    pub fn node_str(&self) -> &str {
        &self.text[..usize::from(self.node_len)]
    }

    /// The name on that node: empty for the node's own port.
    pub fn name(&self) -> &str {
        &self.text[usize::from(self.node_len) + 1..]
    }

    /// Whether it is a node's own port.
    pub fn is_node(&self) -> bool {
        self.name().is_empty()
    }

    /// The text: `NODE#PORT`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<&Self> for PortId {
    fn from(port: &Self) -> Self {
        port.clone()
    }
}

impl From<NodeId> for PortId {
    fn from(node: NodeId) -> Self {
        node.port()
    }
}

impl From<&NodeId> for PortId {
    fn from(node: &NodeId) -> Self {
        node.port()
    }
}

macro_rules! is_text {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", stringify!($type)))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        <$type>::new(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

is_text!(NodeId);
is_text!(PortId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_id_is_cut_at_the_first_hash() {
        let port = PortId::new("aemp/host#a#b").expect("a port ID");
        assert_eq!((port.node_str(), port.name()), ("aemp/host", "a#b"));
        assert_eq!(port.to_string(), "aemp/host#a#b");
    }

    #[test]
    fn a_node_id_alone_is_the_nodes_own_port() {
        assert_eq!(PortId::new("seed1"), PortId::new("seed1#"));
        assert!(PortId::new("seed1").expect("a node").is_node());
    }

    #[test]
    fn what_could_break_a_greeting_is_no_node_id() {
        for text in ["", "a#b", "a;b", "a\nb", "a\rb", "a\0b"] {
            assert!(NodeId::new(text).is_err(), "{text:?}");
        }
        assert_eq!(NodeId::new(&"x".repeat(256)), Err(IdError::NodeTooLong(256)));
        assert!(PortId::new("#name").is_err());
        assert!(PortId::new(&format!("n#{}", "x".repeat(PORT_NAME_MAX + 1))).is_err());
    }
}
