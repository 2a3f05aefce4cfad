//! TLS between two nodes, whichever of them has the lower nonce.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ports::config::Config;
use ports::{Context, gencert};
use reactor::simulated::WorldOptions;

use crate::net::{Net, config};
use crate::raw::{keep_log, log};

/// How many of 200 messages each way came, of nodes of these settings.
fn talk(seed: u64, configs: [Config; 2]) -> [usize; 2] {
    let options =
        WorldOptions { partial_share: 0.3, segment_len_max: 700, ..WorldOptions::default() };
    let mut net = Net::new(seed, options);
    for config in configs {
        net.add(config);
    }
    let counts: [Rc<Cell<usize>>; 2] = Default::default();
    let ports = [0, 1].map(|index: usize| {
        let shared = Rc::clone(&counts[index]);
        let count = move |_: &Context<'_>, _: (u64, Vec<u8>)| shared.set(shared.get() + 1);
        net.node(index).port(count).id()
    });
    for index in [0, 1] {
        // They go out right behind the proof.
        for number in 0..200u64 {
            net.node(1 - index).send(&ports[index], (number, vec![7u8; 100]));
        }
    }
    net.run(Duration::from_secs(1));
    counts.map(|count| count.get())
}

fn with_cert(name: &str, seed: usize, cert: &str) -> Config {
    Config::new().norc().node_id(name).cert(cert).seed(&crate::net::address(seed))
}

#[test]
fn two_nodes_of_one_certificate_need_no_secret() {
    let cert = gencert().expect("a certificate");
    keep_log();
    for seed in 0..24 {
        let configs = [with_cert("a", 1, &cert), with_cert("b", 0, &cert)];
        assert_eq!(talk(seed, configs), [200, 200], "{seed}: {:#?}", log());
    }
}

#[test]
fn a_node_without_a_certificate_is_let_in_by_the_secret() {
    let cert = gencert().expect("a certificate");
    for seed in 0..4 {
        let configs = [with_cert("a", 1, &cert).secret("geheim"), config("b", &[0])];
        assert_eq!(talk(seed, configs), [200, 200], "{seed}");
    }
}

#[test]
fn nodes_of_different_certificates_do_not_talk_even_if_they_share_a_secret() {
    let certs = [0; 2].map(|_| gencert().expect("a certificate"));
    for seed in 0..4 {
        let configs = [
            with_cert("a", 1, &certs[0]).secret("geheim"),
            with_cert("b", 0, &certs[1]).secret("geheim"),
        ];
        assert_eq!(talk(seed, configs), [0, 0], "{seed}");
    }
}
