//! Sessions and a torrent between them, over loopback.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{GUARD, Payload, config, fetch, seed, session};

#[test]
fn all_files_come_over_whatever_the_family() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let payload = Payload::new();
        let seeder = session(ip);
        seed(&seeder, &payload);
        let dir = tempfile::tempdir().unwrap();
        let (leecher, _) = fetch(&payload, seeder.listen_addrs()[0], config(ip), dir.path());
        leecher.shutdown(GUARD);
        payload.assert_equals(dir.path());
    }
}
