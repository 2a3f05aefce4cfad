//! Why a port ended.

use std::fmt;
use std::sync::Arc;

use crate::{NodeId, PortId, Value};

/// Why a port ended: nothing for a normal end, else a list of values, by custom an identifier and a text.
/// A clone is cheap.
#[derive(Clone, Default, PartialEq)]
pub struct Reason(Option<Arc<[Value]>>);

impl Reason {
    /// A normal end: it kills no port that is linked.
    pub const NORMAL: Self = Self(None);

    /// These values.
    pub fn of(values: Vec<Value>) -> Self {
        Self((!values.is_empty()).then(|| values.into()))
    }

    /// An identifier and what there is to say.
    pub fn new(identifier: &str, text: impl Into<Value>) -> Self {
        Self::of(vec![identifier.into(), text.into()])
    }

    /// What became of a port whose handler failed.
    pub fn die(error: impl Into<Value>) -> Self {
        Self::new("die", error)
    }

    /// What became of a port that got what it does not take.
    pub(crate) fn unhandled_message(text: impl Into<Value>) -> Self {
        Self::new("unhandled_message", text)
    }

    /// What a monitor on a port hears that is not there.
    pub fn no_such_port(port: &PortId) -> Self {
        Self::of(vec!["no_such_port".into(), "cannot monitor nonexistent port".into(), port.into()])
    }

    /// What monitors hear when a node cannot be reached, or no longer.
    pub fn transport_error(node: &NodeId, text: impl Into<Value>) -> Self {
        Self::of(vec!["transport_error".into(), node.into(), text.into()])
    }

    /// The reason as an error, for what returns errors: nothing for a normal end.
    ///
    /// # Errors
    /// What it says, unless it is normal.
    pub fn into_result(self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.is_normal() { Ok(()) } else { Err(self.to_string().into()) }
    }

    /// Whether the end was a normal one.
    pub const fn is_normal(&self) -> bool {
        self.0.is_none()
    }

    /// All of it: nothing for a normal end.
    pub fn values(&self) -> &[Value] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Its first value, if that is a text: `die`, `no_such_port`, `transport_error`.
    pub fn identifier(&self) -> Option<&str> {
        self.values().first()?.as_str()
    }
}

/// An error is a `die` with what it says.
impl<E: std::error::Error> From<E> for Reason {
    fn from(error: E) -> Self {
        Self::die(error.to_string())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_normal() {
            return f.write_str("normal");
        }
        for (index, value) in self.values().iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            match value.as_str() {
                Some(text) => write!(f, "{gap}{text}")?,
                None => write!(f, "{gap}{value}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reason({self})")
    }
}
