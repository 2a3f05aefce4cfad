//! Messages from the specifications, there and back, and noise.

use super::*;
use crate::Rng;

const OURS: NodeId = NodeId(*b"abcdefghij0123456789");
const THEIRS: NodeId = NodeId(*b"mnopqrstuvwxyz123456");

#[test]
fn the_messages_of_the_specification_are_read() {
    let query = |question| Body::Query(Query { id: OURS, want: Want::default(), question });
    let reply = |reply| Body::Reply(reply);
    let with_nodes = Reply {
        nodes: vec![Contact { id: OURS, addr: ([1, 2, 3, 4], 258).into() }],
        ..Reply::of(THEIRS)
    };
    let with_peers = Reply {
        token: Some(b"aoeusnth"),
        peers: vec![([97, 120, 106, 101], 0x2e75).into(), ([105, 100, 104, 116], 0x6e6d).into()],
        ..Reply::of(OURS)
    };
    let announce = Question::AnnouncePeer {
        info_hash: THEIRS,
        port: 6881,
        is_implied: false,
        is_seed: false,
        token: b"aoeusnth",
    };
    let cases: [(&[u8], Body<'_>); 8] = [
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", query(Question::Ping)),
        (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", reply(Reply::of(THEIRS))),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            query(Question::FindNode { target: THEIRS }),
        ),
        (
            b"d1:rd2:id20:mnopqrstuvwxyz1234565:nodes26:abcdefghij0123456789\x01\x02\x03\x04\x01\x02e1:t2:aa1:y1:re",
            reply(with_nodes),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            query(Question::GetPeers { info_hash: THEIRS, is_noseed: false, is_scrape: false }),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
            reply(with_peers),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            query(announce),
        ),
        (
            b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
            Body::Error { code: 201, text: b"A Generic Error Ocurred" },
        ),
    ];
    for (datagram, body) in cases {
        let message = Message::decode(datagram).expect("a message");
        assert_eq!((message.transaction, &message.body), (&b"aa"[..], &body));
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn everything_that_can_be_said_comes_back() {
    let signed = Signed { key: &[1; 32], salt: b"salt", seq: -5, signature: &[2; 64] };
    let questions = [
        Question::AnnouncePeer {
            info_hash: THEIRS,
            port: 0,
            is_implied: true,
            is_seed: true,
            token: b"t",
        },
        Question::GetPeers { info_hash: THEIRS, is_noseed: true, is_scrape: true },
        Question::SampleInfohashes { target: THEIRS },
        Question::Get { target: THEIRS, seq: Some(i64::MAX) },
        Question::Put { token: b"t", value: b"d1:ai1ee", signed: Some(signed), cas: Some(3) },
        Question::Put { token: b"", value: b"2:hi", signed: None, cas: None },
    ];
    for question in questions {
        let want = Want { v4: true, v6: true };
        let body = Body::Query(Query { id: OURS, want, question });
        round_trip(&Message { transaction: b"\0", body, is_read_only: true, external: None });
    }
    let v6: SocketAddr = "[2001:db8::1]:9".parse().expect("an address");
    let reply = Reply {
        id: THEIRS,
        nodes: vec![
            Contact { id: OURS, addr: ([9, 8, 7, 6], 5).into() },
            Contact { id: OURS, addr: v6 },
        ],
        peers: vec![v6],
        token: Some(b"token"),
        value: Some(b"le"),
        key: Some(&[3; 32]),
        seq: Some(i64::MIN),
        signature: Some(&[4; 64]),
        samples: Some(Samples { interval_secs: 60, total: 1000, packed: &[7; 40] }),
        scrape: Some(Filters { seeds: &[5; 256], downloaders: &[6; 256] }),
    };
    let external = Some(([1, 2, 3, 4], 5).into());
    let body = Body::Reply(reply);
    round_trip(&Message { transaction: b"1234", body, is_read_only: false, external });
}

fn round_trip(message: &Message<'_>) {
    let datagram = message.encode();
    assert_eq!(Message::decode(&datagram).as_ref(), Ok(message));
    crate::bencode::decode(&datagram).expect("canonical bencode");
}

#[test]
fn a_question_that_makes_no_sense_can_be_refused() {
    let code = |datagram: &[u8]| match Message::decode(datagram) {
        Err(Malformed::Query { transaction: b"aa", code }) => Some(code),
        Err(Malformed::Query { .. } | Malformed::Noise) | Ok(_) => None,
    };
    let unknown = b"d1:ad2:id20:abcdefghij0123456789e1:q4:pong1:t2:aa1:y1:qe";
    assert_eq!(code(unknown), Some(ErrorCode::MethodUnknown));
    let no_target = b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe";
    assert_eq!(code(no_target), Some(ErrorCode::Protocol));
    assert_eq!(code(b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe"), Some(ErrorCode::Protocol));
    assert_eq!(code(b"d1:t2:aa1:y1:qe"), Some(ErrorCode::Protocol));
    let no_port = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:ae1:q13:announce_peer1:t2:aa1:y1:qe";
    assert_eq!(code(no_port), Some(ErrorCode::Protocol));
    assert_eq!(Message::decode(b"d1:rd2:id2:abe1:t2:aa1:y1:re"), Err(Malformed::Noise));
    assert_eq!(Message::decode(b"de"), Err(Malformed::Noise));
    assert_eq!(Message::decode(b""), Err(Malformed::Noise));
    let long = [b"d1:t40:".as_slice(), &[b'x'; 40], b"1:y1:qe"].concat();
    assert_eq!(Message::decode(&long), Err(Malformed::Noise));
}

#[test]
fn a_question_of_tomorrow_about_a_place_is_one_for_nodes() {
    let datagram =
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q4:find1:t2:aa1:y1:qe";
    let message = Message::decode(datagram).expect("a message");
    let Body::Query(query) = message.body else { panic!("a query") };
    assert_eq!(query.question, Question::FindNode { target: THEIRS });
}

#[test]
fn more_than_anyone_needs_is_left_out() {
    let nodes = vec![Contact { id: OURS, addr: ([1, 1, 1, 1], 1).into() }; NODES_MAX + 5];
    let reply = Reply { nodes, ..Reply::of(THEIRS) };
    let message = Message {
        transaction: b"aa",
        body: Body::Reply(reply),
        is_read_only: false,
        external: None,
    };
    let datagram = message.encode();
    let Ok(Message { body: Body::Reply(read), .. }) = Message::decode(&datagram) else {
        panic!("a reply")
    };
    assert_eq!(read.nodes.len(), NODES_MAX);
    let long = [datagram.as_slice(), &[0; DATAGRAM_LEN_MAX]].concat();
    assert_eq!(Message::decode(&long), Err(Malformed::Noise));
}

#[test]
fn survives_any_datagram() {
    let whole = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
    for seed in 0..3000 {
        let mut rng = Rng::from_seed(seed);
        let mut datagram = whole.to_vec();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(datagram.len());
            datagram[at] = rng.u32() as u8;
        }
        if rng.below(3) == 0 {
            datagram.truncate(rng.below(datagram.len()));
        }
        if let Ok(message) = Message::decode(&datagram) {
            round_trip(&message);
        }
    }
}
