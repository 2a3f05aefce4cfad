//! uTP: a table of connections that is sent anything, by two hosts, with one stream going out and any
//! number coming in.

#![no_main]

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use torrent::Rng;
use torrent::utp::{Event, Mux, MuxConfig, Packet};

fuzz_target!(|bytes: &[u8]| {
    let mut now = Instant::now();
    let mut mux = Mux::new(now, MuxConfig::default(), Rng::from_seed(1));
    let hosts = [1, 2].map(|number| SocketAddr::from(([10, 0, 0, number], 6881)));
    mux.connect(now, hosts[0]);
    // A length, a host, a time, and a datagram; over and over.
    let mut rest = bytes;
    while let Some((&[len, host, time], behind)) = rest.split_first_chunk() {
        let (datagram, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        now += Duration::from_millis(u64::from(time) * u64::from(time));
        mux.handle_timeout(now);
        if let Some(packet) = Packet::decode(datagram) {
            let mut again = Vec::new();
            packet.encode(&mut again);
            assert!(Packet::decode(&again).is_some());
        }
        mux.handle_datagram(now, hosts[usize::from(host & 1)], datagram);
        while let Some(event) = mux.poll_event() {
            match event {
                Event::Connected(id) | Event::Accepted(id, _) => {
                    _ = mux.write(id, &[IoSlice::new(&[7; 3000])])
                }
                Event::Readable(id) => _ = mux.read(id, &mut [IoSliceMut::new(&mut [0; 500])]),
                Event::Writable(id) => mux.finish(id),
                Event::Closed(id, _) => mux.close(id),
            }
        }
        while mux.poll_output(now).is_some() {}
    }
});
