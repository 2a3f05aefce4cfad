//! What can be sent.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can be sent: any type of serde's that owns what it holds.
///
/// On the wire a message is a list of values. An enum's variant, or a struct's name, is the first of them,
/// the *tag*, in small letters; the fields follow.
///
/// ```
/// use ports::{PortId, Value, wire};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum Chat {
///     Join { client: PortId, nick: String },
///     Part,
/// }
///
/// let join = Chat::Join { client: PortId::new("node#port")?, nick: "anna".to_owned() };
/// assert_eq!(wire::to_list(&join)?, ["join".into(), "node#port".into(), "anna".into()] as [Value; 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Within a node a message is moved, not copied, from its sender to the port, if that takes this type.
pub trait Message: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Message for T {}
