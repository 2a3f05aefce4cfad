//! The first line each side sends: who it is, and what it can do.
//!
//! `aemp;1;NODE;AUTHS;FRAMINGS[;KEY=VALUE…]`. Only values can be escaped, and only `;` and `%` in them.

use super::HandshakeError;
use super::error::printable;
use crate::NodeId;

/// What a side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) protocol: Protocol,
    pub(crate) node: NodeId,
    /// How the other side may prove itself, best first.
    pub(super) auths: Vec<String>,
    /// What the other side may write, best first.
    pub(super) framings: Vec<String>,
    /// All else, in the order of the line.
    pub(super) keys: Vec<(String, String)>,
}

/// What the connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Messages between two nodes.
    Aemp,
    /// A stream of its own, for two ports that agreed on `id` before.
    DataConn { id: String },
}

impl Greeting {
    /// Reads a line without its end.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, HandshakeError> {
        let text = String::from_utf8_lossy(line);
        let mut fields = text.split(';');
        let mut field = || fields.next().unwrap_or_default();
        let protocol = field();
        if protocol != AEMP && protocol != DATACONN {
            return Err(unparsable(protocol));
        }
        let version = field();
        if version != VERSION {
            return Err(HandshakeError::Version(printable(version)));
        }
        let node = field();
        // What was no UTF-8 would not be the same name when we write it.
        let node = NodeId::new(node)
            .ok()
            .filter(|node| !node.as_str().contains(char::REPLACEMENT_CHARACTER))
            .ok_or_else(|| HandshakeError::NodeId(printable(node)))?;
        let (auths, framings) = (list(field()), list(field()));
        let keys = fields.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), unescape(value))
        });
        let mut greeting =
            Self { protocol: Protocol::Aemp, node, auths, framings, keys: keys.collect() };
        if protocol == DATACONN {
            let id = greeting.value(DATACONN_ID).ok_or(HandshakeError::NoDataConnId)?.to_owned();
            greeting.keys.retain(|(key, _)| key != DATACONN_ID);
            greeting.protocol = Protocol::DataConn { id };
        }
        Ok(greeting)
    }

    /// The line, without its end.
    pub(crate) fn line(&self) -> String {
        let (protocol, id) = match &self.protocol {
            Protocol::Aemp => (AEMP, None),
            Protocol::DataConn { id } => (DATACONN, Some((DATACONN_ID, id.as_str()))),
        };
        let (auths, framings) = (self.auths.join(","), self.framings.join(","));
        let mut line = format!("{protocol};{VERSION};{};{auths};{framings}", self.node);
        for (key, value) in
            self.keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).chain(id)
        {
            line.push_str(&format!(";{key}={}", escape(value)));
        }
        line
    }

    /// What it says under a key: the last, if there are more.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let (_, value) = self.keys.iter().rfind(|(known, _)| known == key)?;
        Some(value)
    }

    /// Whether it has a certificate, and insists on TLS if we have one too.
    pub(super) fn has_tls(&self) -> bool {
        self.value("tls").is_some_and(|version| version == "1" || version.starts_with("1."))
    }

    /// Whether it is one of ours, and not a Perl node or something simple.
    pub(crate) fn is_flotilla(&self) -> bool {
        self.value("provider").is_some_and(|provider| provider.starts_with("flotilla-"))
    }
}

pub(super) fn unparsable(got: &str) -> HandshakeError {
    HandshakeError::Unparsable { expected: AEMP, got: printable(got) }
}

fn list(field: &str) -> Vec<String> {
    field.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A control character has no escape that anyone reads, but a line end must not get out, whoever chose
/// the value.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ';' => text.push_str("%3b"),
            '%' => text.push_str("%25"),
            c if c.is_control() => text.push_str(&format!("%{:02x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// Once only, from the left: `%253b` is `%3b`.
fn unescape(value: &str) -> String {
    let mut pieces = value.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (c, rest) = match piece.split_at_checked(2) {
            Some(("3b" | "3B", rest)) => (';', rest),
            Some(("25", rest)) => ('%', rest),
            Some(_) | None => ('%', piece),
        };
        text.push(c);
        text.push_str(rest);
    }
    text
}

const AEMP: &str = "aemp";
const DATACONN: &str = "aemp-dataconn";
const DATACONN_ID: &str = "dataconn_id";
const VERSION: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "aemp;1;seed2;tls_sha3_512,hmac_sha3_512,tls_anon,cleartext;cbor,json,storable;\
                        mproto=1;provider=AE-2.02;gproto=1;peeraddr=127.0.0.1:52774";

    #[test]
    fn reads_a_perl_nodes_greeting_and_writes_the_same() {
        let greeting = Greeting::parse(LINE.as_bytes()).expect("a greeting");
        assert_eq!(greeting.line(), LINE);
        assert_eq!(greeting.node.as_str(), "seed2");
        assert_eq!(greeting.framings, ["cbor", "json", "storable"]);
        assert_eq!(greeting.value("peeraddr"), Some("127.0.0.1:52774"));
        assert!(!greeting.has_tls() && !greeting.is_flotilla());
    }

    #[test]
    fn nothing_but_the_node_is_needed() {
        for line in ["aemp;1;n", "aemp;1;n;", "aemp;1;n;;", "aemp;1;n;;;"] {
            let greeting = Greeting::parse(line.as_bytes()).expect(line);
            assert!(greeting.auths.is_empty() && greeting.framings.is_empty());
        }
    }

    #[test]
    fn values_can_hold_what_separates_them() {
        for value in ["", ";", "%", "a;b%c=d", "%3b", "%253b", "%%3", "ü;"] {
            let mut greeting = Greeting::parse(b"aemp;1;n").expect("a greeting");
            greeting.keys.push(("key".to_owned(), value.to_owned()));
            assert_eq!(Greeting::parse(greeting.line().as_bytes()), Ok(greeting), "{value}");
        }
        let upper = Greeting::parse(b"aemp;1;n;;;k=a%3Bb%2zc%").expect("a greeting");
        assert_eq!(upper.value("k"), Some("a;b%2zc%"));
    }

    #[test]
    fn no_value_breaks_out_of_the_line() {
        let mut greeting =
            Greeting::parse(b"aemp-dataconn;1;n;;;dataconn_id=x").expect("a greeting");
        greeting.protocol = Protocol::DataConn { id: "a\n\rb;c\u{85}".to_owned() };
        assert_eq!(greeting.line(), "aemp-dataconn;1;n;;;dataconn_id=a%0a%0db%3bc%85");
    }

    #[test]
    fn a_data_connection_says_which_one_it_is() {
        let greeting =
            Greeting::parse(b"aemp-dataconn;1;n;;;dataconn_id=ab@n").expect("a greeting");
        assert_eq!(greeting.protocol, Protocol::DataConn { id: "ab@n".to_owned() });
        assert_eq!(Greeting::parse(b"aemp-dataconn;1;n"), Err(HandshakeError::NoDataConnId));
    }

    #[test]
    fn tls_is_any_version_one() {
        for (value, has_tls) in
            [("1", true), ("1.0", true), ("1.9", true), ("0", false), ("10", false)]
        {
            let line = format!("aemp;1;n;;;tls={value}");
            assert_eq!(Greeting::parse(line.as_bytes()).map(|it| it.has_tls()), Ok(has_tls));
        }
        let last =
            Greeting::parse(b"aemp;1;n;;;tls=1.0;tls=0;provider=flotilla-9").expect("a greeting");
        assert!(!last.has_tls() && last.is_flotilla());
    }

    #[test]
    fn node_ids_with_forbidden_characters_are_refused() {
        let long = "x".repeat(256);
        for node in ["", "a#b", "a\rb", "a\0b", "a\u{7f}", &long] {
            let error = Greeting::parse(format!("aemp;1;{node};;").as_bytes());
            assert!(matches!(error, Err(HandshakeError::NodeId(_))), "{node:?}: {error:?}");
        }
        let error = Greeting::parse(b"aemp;1;a\xffb;;");
        assert!(matches!(error, Err(HandshakeError::NodeId(_))));
    }
}
