//! Doors for the fuzz targets to what is private. No part of the interface.

use std::sync::Arc;

use crate::NodeId;
use crate::handshake::{Auth, Greeting, Handshake, Opening, Output, Secret, Settings};
use crate::wire::Framing;

/// A greeting that can be read is written so that it reads the same, except for control characters.
pub fn greeting(bytes: &[u8]) {
    let line = bytes.split(|&octet| octet == b'\n').next().unwrap_or_default();
    let Ok(greeting) = Greeting::parse(line) else { return };
    let written = greeting.line();
    assert!(!written.contains('\n'));
    if !String::from_utf8_lossy(line).chars().any(char::is_control) {
        assert_eq!(Greeting::parse(written.as_bytes()), Ok(greeting));
    }
}

/// Nothing that a stranger says in place of a proof lets it in, however it arrives.
pub fn auth_line(bytes: &[u8], len_of_read: u8) {
    let settings = Settings {
        node: NodeId::new("us").expect("a node ID"),
        secret: Secret::new(b"geheim"),
        auth_offer: Auth::DEFAULT.to_vec(),
        auth_accept: vec![Auth::HmacSha3_512, Auth::TlsSha3_512, Auth::TlsAnon],
        framings: vec![Framing::Cbor, Framing::Json],
        has_tls: false,
    };
    let mut handshake = Handshake::new(Arc::new(settings), Opening::Listen, "peer:1", [7; 66]);
    let greeting = b"aemp;1;n;hmac_sha3_512;json\nnonce\n";
    assert_eq!(handshake.handle_bytes(greeting), Ok(greeting.len()));
    handshake.accept();
    let _taken = bytes
        .chunks(usize::from(len_of_read).max(1))
        .try_for_each(|read| handshake.handle_bytes(read).map(|_| ()));
    while let Some(output) = handshake.poll_output() {
        assert!(!matches!(output, Output::Done(_)), "a stranger has been let in");
    }
}
