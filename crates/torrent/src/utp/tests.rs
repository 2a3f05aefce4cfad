//! Stories of two ends and what is between them.

use std::net::SocketAddr;
use std::time::Duration;

use super::link::{Link, World, epoch};
use super::packet::{Header, Packet, PacketKind};
use super::{CloseReason, Event, Mux, MuxConfig};
use crate::Rng;

#[test]
fn fills_an_empty_link_and_lets_little_wait() {
    for delay in [25, 50] {
        let mut world = World::new(1, &Link::new(100, delay, 400));
        world.ends[0].to_write = u64::MAX;
        world.run_for(Duration::from_secs(3));
        let before = world.ends[1].read;
        world.run_for(Duration::from_secs(7));
        let rate = (world.ends[1].read - before) * 8 / 7;
        // Headers of IP, UDP and uTP are 48 of 1500 bytes.
        let most = 100_000_000 * (1472 - 20) / 1500;
        assert!(rate * 100 >= most * 95, "{rate} of {most} bits a second at {delay} ms");
        let waited = world.links[0].waited_max;
        assert!(waited < Duration::from_millis(110), "{waited:?} at {delay} ms");
    }
}

#[test]
fn gives_way_to_tcp_and_takes_the_link_back_after() {
    let mut world = World::new(2, &Link::new(20, 25, 200));
    world.ends[0].to_write = u64::MAX;
    world.run_for(Duration::from_secs(10));
    let alone = world.ends[1].read / 10;
    world.reno.is_on = true;
    world.run_for(Duration::from_secs(10));
    let before = world.ends[1].read;
    world.run_for(Duration::from_secs(40));
    let beside = (world.ends[1].read - before) / 40;
    let link = world.links[0].rate;
    assert!(beside * 4 < link, "{beside} of {link} bytes a second beside TCP");
    world.reno.is_on = false;
    world.run_for(Duration::from_secs(8));
    let before = world.ends[1].read;
    world.run_for(Duration::from_secs(10));
    let after = (world.ends[1].read - before) / 10;
    assert!(after * 10 >= alone * 9, "{after} after, {alone} before");
}

#[test]
fn a_short_queue_is_no_excuse_to_starve() {
    let mut world = World::new(3, &Link::new(50, 20, 30));
    world.ends[0].to_write = u64::MAX;
    world.run_for(Duration::from_secs(20));
    let rate = world.ends[1].read / 20;
    assert!(rate * 10 >= world.links[0].rate * 7, "{rate}");
}

#[test]
fn every_byte_arrives_whatever_the_network_does() {
    for seed in 0..60 {
        let mut rng = Rng::from_seed(seed);
        let mut link = Link::new(1 + rng.below(50) as u64, 1 + rng.below(100) as u64, 100);
        link.queue_max = link.queue_max.max(5_000);
        (link.losses, link.late, link.twice) = (rng.below(60), rng.below(50), rng.below(30));
        if seed % 5 == 0 {
            link.len_max = 500 + rng.below(1000);
        }
        let mut world = World::new(seed, &link);
        world.ends[1].ahead = Duration::from_micros(rng.u64() >> 24);
        let lens = [100_000 + rng.below(400_000) as u64, rng.below(200_000) as u64];
        world.ends[0].write_and_finish(lens[0]);
        world.ends[1].write_and_finish(lens[1]);
        let is_done = |world: &World| world.ends.iter().all(|end| end.has_read_end);
        world.run_until(is_done);
        assert_eq!([world.ends[1].read, world.ends[0].read], lens, "seed {seed}");
        world.run_until(|world| world.ends.iter().all(|end| end.closed.is_some()));
        assert_eq!(world.ends[0].closed, Some(CloseReason::Finished), "seed {seed}");
    }
}

#[test]
fn clocks_that_are_set_or_run_apart_and_numbers_that_wrap_do_no_harm() {
    let mut world = World::new(4, &Link::new(20, 20, 300));
    world.ends[0].to_write = u64::MAX;
    // The clock of the far end wraps after a few seconds, later it is set, and then it runs too fast.
    world.ends[1].ahead = Duration::from_micros((1 << 32) - 3_000_000);
    world.run_for(Duration::from_secs(6));
    world.ends[1].ahead += Duration::from_secs(1000);
    world.run_for(Duration::from_secs(4));
    for _ in 0..100 {
        world.ends[1].ahead += Duration::from_micros(20);
        world.run_for(Duration::from_millis(100));
    }
    let rate = world.ends[1].read / 20;
    assert!(rate * 10 >= world.links[0].rate * 8, "{rate}");
    assert!(world.links[0].waited_max < Duration::from_millis(150), "{:?}", world.links[0]);
}

#[test]
fn finds_out_how_long_packets_may_be() {
    let paths = [(1472, 1472), (1400, 1384), (1300, 1284)];
    for ((len_max, least), never_cuts) in
        paths.into_iter().flat_map(|path| [(path, false), (path, true)])
    {
        let mut world = World::new(5, &Link { len_max, never_cuts, ..Link::new(50, 5, 100) });
        world.ends[0].to_write = u64::MAX;
        world.run_for(Duration::from_secs(5));
        let end = &world.ends[0];
        let info = end.mux.info(end.stream.unwrap()).unwrap();
        assert!((least..=len_max).contains(&info.packet_len), "{info:?}");
        // However it is done, what is too long holds up nothing.
        assert!(world.ends[1].read > world.links[0].rate * 4, "{}", world.ends[1].read);
    }
}

#[test]
fn nobody_answers() {
    let mut world = World::new(6, &Link { queue_max: 0, ..Link::new(1, 10, 100) });
    world.run_until(|world| world.ends[0].closed.is_some());
    assert_eq!(world.ends[0].closed, Some(CloseReason::TimedOut));
    let took = world.now - world.start;
    assert!((5..10).contains(&took.as_secs()), "{took:?}");
    assert!(world.ends[1].mux.is_empty());
}

#[test]
fn a_link_that_is_cut_ends_the_stream_after_about_a_minute() {
    let mut world = World::new(7, &Link::new(10, 10, 100));
    world.ends[0].to_write = u64::MAX;
    world.run_for(Duration::from_secs(2));
    world.links.iter_mut().for_each(|link| link.queue_max = 0);
    let cut_at = world.now;
    world.run_until(|world| world.ends[0].closed.is_some());
    assert_eq!(world.ends[0].closed, Some(CloseReason::TimedOut));
    let took = world.now - cut_at;
    assert!((30..200).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn who_accepts_nothing_refuses_and_who_knows_nothing_resets() {
    let config = MuxConfig { accepts: false, ..MuxConfig::default() };
    let mut world = World::with_config(8, &Link::new(10, 10, 100), &config);
    world.run_until(|world| world.ends[0].closed.is_some());
    assert_eq!(world.ends[0].closed, Some(CloseReason::Refused));

    let mut world = World::new(9, &Link::new(10, 10, 100));
    world.ends[0].to_write = u64::MAX;
    world.run_for(Duration::from_secs(1));
    // The far end begins anew, as after a crash.
    let fresh = World::new(10, &Link::new(10, 10, 100));
    let [_, far] = fresh.ends;
    world.ends[1] = far;
    world.run_until(|world| world.ends[0].closed.is_some());
    assert_eq!(world.ends[0].closed, Some(CloseReason::Reset));
}

#[test]
fn who_does_not_read_is_not_sent_more_than_there_is_room_for() {
    let config = MuxConfig { window: 64 * 1024, ..MuxConfig::default() };
    let mut world = World::with_config(11, &Link::new(50, 10, 100), &config);
    world.ends[0].to_write = u64::MAX;
    world.run_for(Duration::from_secs(1));
    let (reader, read) = (world.ends[1].stream.take().unwrap(), world.ends[1].read);
    // For so long that it has to be asked again and again whether there is room.
    world.run_for(Duration::from_secs(120));
    assert!(world.ends[1].mux.buffered <= 64 * 1024 + 4096);
    assert_eq!((world.ends[1].read, world.ends[0].closed), (read, None));
    world.ends[1].stream = Some(reader);
    world.run_for(Duration::from_secs(40));
    assert!(world.ends[1].read > read + 10_000_000, "{} {read}", world.ends[1].read);
}

#[test]
fn an_acknowledgement_that_was_overtaken_does_not_close_the_window() {
    let mut world = World::new(14, &Link::new(10, 10, 100));
    world.ends[0].to_write = 200_000;
    world.run_until(|world| world.ends[1].read > 100_000);
    let mut late = world.under_way(0).pop().unwrap();
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.ends[1].read, 200_000);
    late[12..16].fill(0);
    world.inject(0, &late);
    world.ends[0].to_write += 1000;
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.ends[1].read, 201_000);
}

#[test]
fn a_reader_that_rests_with_room_for_less_than_a_packet_is_waited_for() {
    let mut world = World::new(15, &Link::new(10, 10, 100));
    world.ends[0].to_write = 50_000;
    world.run_for(Duration::from_secs(1));
    // From now on the far end is one that drops what it has no room for.
    world.links.iter_mut().for_each(|link| link.losses = 1000);
    world.ends[0].to_write += 50_000;
    let (next, received) = world.connection(0).numbers();
    let id = world.connection(0).receive_id;
    let kind = PacketKind::State;
    let mut full = datagram(kind, id, received.wrapping_add(1), next.wrapping_sub(1), b"");
    full[12..16].copy_from_slice(&300_u32.to_be_bytes());
    for _ in 0..600 {
        world.run_for(Duration::from_millis(500));
        world.inject(0, &full);
    }
    assert_eq!(world.ends[0].closed, None);
}

/// What the loss of the last `lost` of `packets` costs, in milliseconds, beside the way there; at 50 ms there and back.
fn cost_of_losing_the_last(packets: u64, lost: u64) -> u128 {
    let mut world = World::new(16, &Link::new(100, 25, 100));
    world.ends[0].to_write = 300_000;
    world.run_for(Duration::from_secs(3));
    let sent = world.links[0].sent;
    let payload = world.connection(0).packet_len() - Header::LEN;
    world.links[0].lost = sent + packets - lost..sent + packets;
    world.ends[0].to_write += packets * payload as u64;
    let (start, all) = (world.now, world.ends[0].to_write);
    world.run_until(|world| world.ends[1].read == all);
    assert!(lost == 0 || world.links[0].sent > sent + packets);
    (world.now - start).as_millis().saturating_sub(25)
}

#[test]
fn losing_the_last_packets_costs_a_few_round_trips_and_no_timeout() {
    assert!(cost_of_losing_the_last(8, 0) < 10);
    for (packets, lost, most) in [(8, 1, 220), (8, 2, 190), (8, 5, 190), (1, 1, 220), (2, 1, 220)] {
        let cost = cost_of_losing_the_last(packets, lost);
        assert!(cost <= most, "{lost} of {packets}: {cost} ms");
    }
}

#[test]
fn a_flood_of_requests_fills_no_more_than_its_table_and_is_forgotten() {
    let start = epoch();
    let mut mux = Mux::new(start, MuxConfig::default(), Rng::from_seed(1));
    for number in 0..5000_u16 {
        let from = SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], number));
        mux.handle_datagram(start, from, &datagram(PacketKind::Syn, number, 1, 0, b""));
    }
    assert_eq!(mux.len(), MuxConfig::default().half_open_max);
    let mut answers = 0;
    while mux.poll_output(start).is_some() {
        answers += 1;
    }
    assert_eq!(answers, mux.len());
    assert_eq!(mux.poll_event(), None);
    mux.handle_timeout(start + Duration::from_secs(11));
    assert!(mux.is_empty() && mux.poll_timeout().is_none() && mux.half_open.is_empty());
}

#[test]
fn who_comes_back_gets_in_though_the_table_is_full_of_those_who_do_not() {
    let config = MuxConfig { streams_max: 40, half_open_max: 20, ..MuxConfig::default() };
    let start = epoch();
    let mut mux = Mux::new(start, config, Rng::from_seed(1));
    let host = |number: u16| SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 1));
    let syn = |number| datagram(PacketKind::Syn, number, 1, 0, b"");
    (0..500).for_each(|number| mux.handle_datagram(start, host(number), &syn(number)));
    let at = start + Duration::from_millis(1);
    mux.handle_datagram(at, host(600), &syn(600));
    (700..715).for_each(|number| mux.handle_datagram(at, host(number), &syn(number)));
    let mut said = None;
    while let Some(transmit) = mux.poll_output(at) {
        let packet = Packet::decode(transmit.bytes).unwrap();
        said = if transmit.to == host(600) { Some(packet.header.sequence) } else { said };
    }
    let acknowledged = said.expect("an answer").wrapping_sub(1);
    mux.handle_datagram(at, host(600), &datagram(PacketKind::Data, 601, 2, acknowledged, b"hi"));
    assert!(matches!(mux.poll_event(), Some(Event::Accepted(_, from)) if from == host(600)));
    assert_eq!((mux.len(), mux.half_open.len()), (20, 19));
}

#[test]
fn resets_for_what_is_not_known_are_few() {
    let start = epoch();
    let mut mux = Mux::new(start, MuxConfig::default(), Rng::from_seed(1));
    let from = SocketAddr::from(([10, 0, 0, 9], 9));
    for number in 0..5000 {
        mux.handle_datagram(start, from, &datagram(PacketKind::Data, number, 1, 0, b"x"));
    }
    let mut answers = 0;
    while let Some(transmit) = mux.poll_output(start) {
        let packet = Packet::decode(transmit.bytes).unwrap();
        assert_eq!((packet.header.kind, packet.header.acknowledged), (PacketKind::Reset, 1));
        answers += 1;
    }
    assert_eq!(answers, 50);
}

#[test]
fn who_acknowledges_what_was_never_sent_is_not_heard() {
    let mut world = World::new(12, &Link::new(10, 10, 100));
    world.ends[0].to_write = u64::MAX;
    world.run_until(|world| world.ends[1].read > 1_000_000);
    let genuine = world.under_way(0);
    let last = Packet::decode(genuine.last().unwrap()).unwrap();
    let id = last.header.connection_id;
    let before = world.ends[0].mux.info(world.ends[0].stream.unwrap());
    for ahead in [2_000_u16, 10_000, 30_000, 50_000] {
        let acknowledged = last.header.acknowledged.wrapping_add(ahead);
        let sequence = last.header.sequence;
        for kind in [PacketKind::State, PacketKind::Data, PacketKind::Fin] {
            world.inject(0, &datagram(kind, id, sequence, acknowledged, b"poison"));
        }
        if ahead < 50_000 {
            world.inject(0, &datagram(PacketKind::Reset, id, sequence, acknowledged, b""));
        }
    }
    assert_eq!(world.ends[0].mux.info(world.ends[0].stream.unwrap()), before);
    // Bits for what was never sent.
    let mut lie = Vec::new();
    Packet { header: last.header, selective: &[0xff; 252], payload: &[] }.encode(&mut lie);
    world.inject(0, &lie);
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.ends[0].closed, world.ends[0].read), (None, 0));
}

#[test]
fn data_out_of_the_window_is_dropped() {
    let mut world = World::new(13, &Link::new(10, 10, 100));
    world.ends[0].to_write = u64::MAX;
    world.run_until(|world| world.ends[1].read > 1_000_000);
    let genuine = world.under_way(1);
    let first = Packet::decode(genuine.first().unwrap()).unwrap().header;
    for ahead in [2048, 5_000, 32_767, 32_768, 60_000, 65_000] {
        let sequence = first.sequence.wrapping_add(ahead);
        let (id, acknowledged) = (first.connection_id, first.acknowledged);
        world.inject(1, &datagram(PacketKind::Data, id, sequence, acknowledged, b"poison"));
        world.inject(1, &datagram(PacketKind::Fin, id, sequence, acknowledged, b""));
    }
    let before = world.ends[1].read;
    world.run_for(Duration::from_secs(5));
    assert!(world.ends[1].read > before + 1_000_000);
}

#[test]
fn noise_does_no_more_than_end_a_stream() {
    for seed in 0..1000 {
        let mut rng = Rng::from_seed(seed);
        let mut world = World::new(seed, &Link::new(10, 5, 100));
        world.ends[0].to_write = 50_000;
        world.run_for(Duration::from_millis(40));
        for _ in 0..30 {
            let to = rng.below(2);
            let Some(mut bytes) = world.under_way(to).pop() else { break };
            // Most of a real packet, so that it comes far.
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len().min(30));
                bytes[at] = rng.u32() as u8;
            }
            bytes.truncate(1 + rng.below(bytes.len()));
            world.inject(to, &bytes);
        }
        for end in &mut world.ends {
            while end.mux.poll_output(world.now).is_some() {}
            while !matches!(end.mux.poll_event(), None | Some(Event::Closed(..))) {}
        }
    }
}

fn datagram(
    kind: PacketKind,
    connection_id: u16,
    sequence: u16,
    acknowledged: u16,
    payload: &[u8],
) -> Vec<u8> {
    let header = Header {
        kind,
        connection_id,
        timestamp: 1,
        timestamp_difference: 1,
        window: 100_000,
        sequence,
        acknowledged,
    };
    let mut bytes = Vec::new();
    Packet { header, selective: &[], payload }.encode(&mut bytes);
    bytes
}
