//! Messages there and back, and what strangers may send instead.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::fuzzing::{Frame, Splitter};
use super::*;
use crate::{NodeId, PortId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Chat {
    Join {
        client: PortId,
        nick: String,
    },
    Data(u16, Bytes),
    Text(String),
    Optional {
        a: Option<i32>,
        b: Inner,
    },
    Stop,
    #[serde(rename = "g_slave")]
    Slave(BTreeMap<String, Vec<f64>>),
    WriteFile(Vec<Inner>, (bool, char)),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Inner {
    Unit,
    Number(i64),
    Pair(u64, f32),
    Named { x: i8, y: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ping {
    port: PortId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SetSpeed(f64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Move(i32, i32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bye;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Hidden(Chat);

const FRAMINGS: [Framing; 2] = [Framing::Cbor, Framing::Json];

fn frame<M: Serialize + ?Sized>(framing: Framing, port_name: &str, message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    encode(framing, port_name, message, &mut out).expect("a message");
    out
}

fn json<M: Serialize + ?Sized>(message: &M) -> String {
    String::from_utf8(frame(Framing::Json, "p", message)).expect("JSON is UTF-8")
}

fn port(text: &str) -> PortId {
    PortId::new(text).expect("a port ID")
}

/// There and back in both framings, as a list, and from one framing to the other.
fn comes_back<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &M) {
    for framing in FRAMINGS {
        let bytes = frame(framing, "p", message);
        assert_eq!(Splitter::new(framing).next(&bytes), Ok(Some(bytes.len())));
        let frame = Frame::open(framing, &bytes).expect("a frame");
        assert_eq!(frame.port(), "p");
        assert_eq!(&frame.message::<M>().expect("the message"), message);
    }
    let list = to_list(message).expect("a list");
    assert_eq!(&from_list::<M>(list).expect("the message"), message);
    let mut as_json = Vec::new();
    transcode(&frame(Framing::Cbor, "p", message), &mut as_json).expect("JSON");
    let frame = Frame::open(Framing::Json, &as_json).expect("a frame");
    assert_eq!(&frame.message::<M>().expect("the message"), message);
}

#[test]
fn a_type_is_a_message_with_its_name_as_tag() {
    let client = port("n#c");
    let join = Chat::Join { client: client.clone(), nick: "bob".into() };
    assert_eq!(json(&join), r#"["p","join","n#c","bob"]"#);
    assert_eq!(json(&Chat::Stop), r#"["p","stop"]"#);
    assert_eq!(
        json(&Chat::Data(7, Bytes::from_static(b"a\"\n\xff"))),
        "[\"p\",\"data\",7,\"a\\\"\\u000aÿ\"]"
    );
    assert_eq!(json(&Chat::WriteFile(vec![], (true, 'x'))), r#"["p","write_file",[],[true,"x"]]"#);
    assert_eq!(json(&Chat::Slave(BTreeMap::new())), r#"["p","g_slave",{}]"#);
    assert_eq!(json(&Ping { port: client }), r#"["p","ping","n#c"]"#);
    assert_eq!(json(&SetSpeed(1.5)), r#"["p","set_speed",1.5]"#);
    assert_eq!(json(&Move(1, -1)), r#"["p","move",1,-1]"#);
    assert_eq!(json(&Bye), r#"["p","bye"]"#);
    assert_eq!(json(&Hidden(Chat::Stop)), r#"["p","stop"]"#);
    assert_eq!(json(&("a", 1)), r#"["p","a",1]"#);
    assert_eq!(json(&["a", "b"][..]), r#"["p","a","b"]"#);
    assert_eq!(json(&()), r#"["p"]"#);
    assert_eq!(json(&5), r#"["p",5]"#);
    assert_eq!(json("x"), r#"["p","x"]"#);
    assert_eq!(json(&None::<u8>), r#"["p",null]"#);
    assert_eq!(json(&BTreeMap::from([("k", 1)])), r#"["p",{"k":1}]"#);
    assert_eq!(json(&f64::NAN), r#"["p",null]"#);
}

#[test]
fn what_is_sent_comes_back() {
    comes_back(&Chat::Join { client: port("n#c"), nick: "bøb".into() });
    comes_back(&Chat::Data(7, Bytes::from((0..=255).collect::<Vec<u8>>())));
    comes_back(&Chat::Text(String::new()));
    comes_back(&Chat::Optional { a: None, b: Inner::Named { x: -128, y: None } });
    comes_back(&Chat::Stop);
    comes_back(&Chat::Slave(BTreeMap::from([("ü".into(), vec![0.1, -0.0, 1e300])])));
    comes_back(&Chat::WriteFile(
        vec![Inner::Unit, Inner::Number(i64::MIN), Inner::Pair(u64::MAX, 0.1)],
        (true, 'ß'),
    ));
    comes_back(&Ping { port: port("n") });
    comes_back(&SetSpeed(0.1));
    comes_back(&Move(1, -1));
    comes_back(&Bye);
    comes_back(&Hidden(Chat::Stop));
    comes_back(&("a".to_owned(), 1, Some(2), None::<u8>));
    comes_back(&());
    comes_back(&vec![1_u8, 2, 3]);
    comes_back(&Some(5));
    comes_back(&"x".to_owned());
    comes_back(&BTreeMap::from([(1, "x".to_owned()), (-2, "y".to_owned())]));
    comes_back(&NodeId::new("n").expect("a node"));
}

fn list(framing: Framing, bytes: &[u8]) -> Result<List, DecodeError> {
    Frame::open(framing, bytes)?.list()
}

fn message<M: DeserializeOwned>(text: &str) -> Result<M, DecodeError> {
    Frame::open(Framing::Json, text.as_bytes())?.message()
}

fn fault<M: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
    let from_json = message::<M>(text).expect_err("an error").to_string();
    let values = serde_json::from_str::<List>(text).expect("a list").split_off(1);
    let from_values = from_list::<M>(values).expect_err("an error").to_string();
    assert_eq!(from_json, from_values);
    from_json
}

#[test]
fn a_message_of_another_shape_is_told_what_was_expected() {
    let tags = "one of `join`, `data`, `text`, `optional`, `stop`, `g_slave`, `write_file`";
    assert_eq!(fault::<Chat>(r#"["","nix"]"#), format!("unknown variant `nix`, expected {tags}"));
    assert_eq!(
        fault::<Chat>(r#"[""]"#),
        format!("invalid length 0, expected a message with the tag {tags}")
    );
    assert_eq!(
        fault::<Chat>(r#"["",7]"#),
        format!("invalid type: integer `7`, expected a message with the tag {tags}")
    );
    assert_eq!(
        fault::<Chat>(r#"["","join","n#c"]"#),
        "invalid length 1, expected struct variant Chat::Join with 2 elements"
    );
    assert_eq!(
        fault::<Chat>(r#"["","join","n#c","bob",3,4]"#),
        "invalid length 5, expected a message of 3 values"
    );
    assert_eq!(fault::<Chat>(r#"["","text"]"#), "invalid length 1, expected a message of 2 values");
    assert_eq!(
        fault::<Chat>(r#"["","stop",1]"#),
        "invalid length 2, expected a message of 1 value"
    );
    assert_eq!(fault::<Chat>(r#"["","text",[]]"#), "invalid type: sequence, expected a string");
    assert_eq!(fault::<Chat>(r#"["","data","x","y"]"#), "invalid type: string \"x\", expected u16");
    assert_eq!(
        fault::<Ping>(r#"["","pong","n"]"#),
        "invalid value: string \"pong\", expected a message with the tag `ping`"
    );
    assert!(fault::<Ping>(r#"["","ping","n;"]"#).contains("node ID"));
    assert_eq!(fault::<Bye>(r#"["","bye",1]"#), "invalid length 2, expected a message of 1 value");
    assert_eq!(fault::<u8>(r#"["",1,2]"#), "invalid length 2, expected a message of 1 value");
    assert_eq!(fault::<()>(r#"["",1,2]"#), "invalid length 2, expected a message of 0 values");
    assert_eq!(fault::<u8>(r#"["",256]"#), "invalid value: integer `256`, expected u8");
}

#[test]
fn a_field_that_may_be_left_out_on_the_wire_breaks_no_place() {
    #[derive(Serialize)]
    struct Gap {
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: u8,
    }
    let mut out = b"before".to_vec();
    for framing in FRAMINGS {
        let error = encode(framing, "p", &Gap { first: None, second: 2 }, &mut out);
        assert!(error.expect_err("an error").to_string().contains("`first`"));
        assert_eq!(out, b"before");
    }
    assert!(to_list(&Gap { first: Some(1), second: 2 }).is_ok());
}

#[test]
fn variants_have_other_names_and_one_may_catch_the_rest() {
    #[derive(Debug, PartialEq, Deserialize)]
    enum Call {
        #[serde(alias = "begin", alias = "Los")]
        Start(u8),
        #[serde(rename = "END")]
        End,
        #[serde(skip)]
        #[expect(dead_code, reason = "must not shift the others")]
        Never,
        Last,
        #[serde(other)]
        Other,
    }
    for tag in ["start", "Start", "begin", "los", "Los"] {
        assert_eq!(message(&format!(r#"["","{tag}",1]"#)), Ok(Call::Start(1)), "{tag}");
    }
    assert_eq!(message(r#"["","END"]"#), Ok(Call::End));
    assert_eq!(message(r#"["","last"]"#), Ok(Call::Last));
    assert_eq!(message(r#"["","never",1,{"a":[]}]"#), Ok(Call::Other));
    assert!(message::<Call>(r#"["","last",1]"#).is_err());
}

#[test]
fn a_field_with_a_default_may_be_missing_at_the_end() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Ask {
        what: String,
        #[serde(default)]
        times: u8,
    }
    assert_eq!(message(r#"["","ask","x"]"#), Ok(Ask { what: "x".into(), times: 0 }));
    assert_eq!(message(r#"["","ask","x",3]"#), Ok(Ask { what: "x".into(), times: 3 }));
}

#[test]
fn the_tag_of_a_message_is_found_without_the_rest() {
    #[derive(Serialize)]
    enum Trap {
        #[serde(rename = "trap")]
        Renamed(Never),
        LongTrap {
            _never: Never,
        },
    }
    struct Never;
    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("nobody asked for the content")
        }
    }
    assert_eq!(tag(&Trap::Renamed(Never)).as_deref(), Some("trap"));
    assert_eq!(tag(&Trap::LongTrap { _never: Never }).as_deref(), Some("long_trap"));
    assert_eq!(tag(&Bye).as_deref(), Some("bye"));
    assert_eq!(tag(&("x", 1)).as_deref(), Some("x"));
    assert_eq!(tag(&vec![Value::from(b"x".to_vec()), Value::Null]).as_deref(), Some("x"));
    assert_eq!(tag("x").as_deref(), Some("x"));
    assert_eq!(tag(&List::new()), None);
    assert_eq!(tag(&(1, "x")).as_deref(), Some("1"));
    assert_eq!(tag(&(true, "x")), None);
    assert_eq!(tag(&BTreeMap::from([("x", 1)])), None);
    assert!(with_tag(&Chat::Stop, |tag| tag == Some("stop")));
    for message in [Chat::Stop, Chat::Text("x".into()), Chat::Slave(BTreeMap::new())] {
        let list = to_list(&message).expect("a list");
        assert_eq!(tag(&message).as_deref(), list.first().and_then(Value::as_str));
    }
}

#[test]
fn a_tag_in_capitals_is_sent_as_it_is() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Irc {
        #[serde(rename = "PRIVMSG")]
        Privmsg(String),
        A,
        E2,
    }
    let message = Irc::Privmsg("hi".to_owned());
    let list = to_list(&message).expect("a list");
    assert_eq!(list, ["PRIVMSG".into(), "hi".into()] as [Value; 2]);
    assert_eq!(from_list::<Irc>(list), Ok(message));
    from_list::<Irc>(vec!["p_r_i_v_m_s_g".into(), "hi".into()]).expect_err("not that tag");
    assert_eq!((tag(&Irc::A).as_deref(), tag(&Irc::E2).as_deref()), (Some("a"), Some("e2")));
}

#[test]
fn a_tag_of_any_length_is_in_snake_case() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Long {
        HTTPGet,
        AVeryLongNameThatGoesOnAndOnUntilThereIsNoRoomForItInAnyBufferOfTheUsualLength,
        Größe,
    }
    assert_eq!(json(&Long::HTTPGet), r#"["p","h_t_t_p_get"]"#);
    let very_long =
        Long::AVeryLongNameThatGoesOnAndOnUntilThereIsNoRoomForItInAnyBufferOfTheUsualLength;
    assert!(json(&very_long).contains("a_very_long_name_that_goes_on_and_on_until_there_is_no"));
    comes_back(&Long::HTTPGet);
    comes_back(&very_long);
    comes_back(&Long::Größe);
}

#[test]
fn reads_what_perl_nodes_send() {
    let cbor = |bytes: &[u8]| list(Framing::Cbor, bytes).expect("a list");
    let g_slave = b"\x82\x40\x47g_slave";
    let frame = Frame::open(Framing::Cbor, g_slave).expect("a frame");
    assert_eq!(frame.port(), "");
    assert_eq!(frame.list().expect("a list")[0].as_str(), Some("g_slave"));
    // 1.5 as a single, a list and a map without lengths, a string in pieces, a tag, null and undefined.
    assert_eq!(cbor(b"\x82\x40\xfa\x3f\xc0\x00\x00"), [Value::Float(1.5)]);
    assert_eq!(cbor(b"\x9f\x40\x01\x9f\x02\xff\xff"), [1.into(), Value::List(vec![2.into()])]);
    assert_eq!(
        cbor(b"\x82\x40\xbf\x41k\x01\xff"),
        [Value::Map(BTreeMap::from([("k".into(), 1.into())]))]
    );
    assert_eq!(cbor(b"\x82\x40\x7f\x61a\x61b\xff"), ["ab".into()]);
    assert_eq!(cbor(b"\x82\x40\xc1\x1a\x00\x00\x00\x01"), [1.into()]);
    assert_eq!(cbor(b"\x83\x40\xf6\xf7"), [Value::Null, Value::Null]);
    assert_eq!(cbor(b"\x82\x40\x41\xfc"), [Value::Bytes(Bytes::from_static(b"\xfc"))]);
    assert_eq!(cbor(b"\x82\x40\x1b\xff\xff\xff\xff\xff\xff\xff\xff"), [u64::MAX.into()]);
    assert_eq!(cbor(b"\x82\x40\x3b\xff\xff\xff\xff\xff\xff\xff\xff"), [(-(2_f64.powi(64))).into()]);
    // Whoever has nothing to say says it to the node.
    for empty in [&b"\x80"[..], b"\x81\xf6", b"\x9f\xff", b"\xd9\xd9\xf7\x80"] {
        let frame = Frame::open(Framing::Cbor, empty).expect("a frame");
        assert_eq!((frame.port(), frame.list()), ("", Ok(vec![])), "{empty:?}");
    }
    for empty in ["[]", "[null]", " [ ] ", "[\"\"]"] {
        let frame = Frame::open(Framing::Json, empty.as_bytes()).expect("a frame");
        assert_eq!((frame.port(), frame.list()), ("", Ok(vec![])), "{empty:?}");
    }
    let escaped = Frame::open(Framing::Json, br#"["\u0061b",1]"#).expect("a frame");
    assert_eq!((escaped.port(), escaped.list()), ("ab", Ok(vec![1.into()])));
    let number = Frame::open(Framing::Json, b"[1,2]").expect("a frame");
    assert_eq!((number.port(), number.list()), ("1", Ok(vec![2.into()])));
    for none in ["[[]]", "[{}]", "[true]", "[-]"] {
        assert_eq!(
            Frame::open(Framing::Json, none.as_bytes()).expect_err("no name"),
            FrameError::NoPortName
        );
    }
    assert_eq!(
        Frame::open(Framing::Cbor, b"\x81\x41\xfc").expect_err("no name"),
        FrameError::NoPortName
    );
}

#[test]
fn bytes_are_text_and_text_is_bytes_where_asked() {
    let join = b"\x84\x40\x44join\x43n#c\x43bob";
    let frame = Frame::open(Framing::Cbor, join).expect("a frame");
    assert_eq!(frame.message(), Ok(Chat::Join { client: port("n#c"), nick: "bob".into() }));
    let frame = Frame::open(Framing::Cbor, b"\x83\x40\x44text\x41\xfc").expect("a frame");
    // Perl writes a text without characters above 255 so.
    assert_eq!(frame.message(), Ok(Chat::Text("ü".into())));
    let keys = Frame::open(Framing::Cbor, b"\x82\x40\xa1\x41\xfc\x41\xfc").expect("a frame");
    let map = BTreeMap::from([("ü".to_owned(), Value::Bytes(Bytes::from_static(b"\xfc")))]);
    assert_eq!(keys.list(), Ok(vec![Value::Map(map)]));
    let frame = Frame::open(Framing::Cbor, b"\x84\x40\x44data\x417\x62\xc3\xbc").expect("a frame");
    assert_eq!(frame.message(), Ok(Chat::Data(7, Bytes::from_static("ü".as_bytes()))));
    // Variants and fields below the top, as byte strings.
    let nested = b"\x84\x40\x48optional\x4212\xa1\x45Named\xa2\x41x\x41\x33\x41y\xf6";
    let frame = Frame::open(Framing::Cbor, nested).expect("a frame");
    let expected = Chat::Optional { a: Some(12), b: Inner::Named { x: 3, y: None } };
    assert_eq!(frame.message(), Ok(expected));
    let frame = Frame::open(Framing::Cbor, b"\x84\x40\x48optional\xf6\x44Unit").expect("a frame");
    assert_eq!(frame.message(), Ok(Chat::Optional { a: None, b: Inner::Unit }));
    assert_eq!(message(r#"["","data",7,"ü"]"#), Ok(Chat::Data(7, Bytes::from_static(b"\xfc"))));
    assert_eq!(
        message(r#"["","data",7,"ü€"]"#),
        Ok(Chat::Data(7, Bytes::from_static("ü€".as_bytes())))
    );
}

#[test]
fn numbers_and_truths_are_read_as_perl_means_them() {
    assert_eq!(message(r#"["","12"]"#), Ok(12_u8));
    assert_eq!(message(r#"["","-12"]"#), Ok(-12_i128));
    assert_eq!(message(r#"["","18446744073709551615"]"#), Ok(u64::MAX));
    assert_eq!(message(r#"["","1.5"]"#), Ok(1.5_f64));
    assert_eq!(message(r#"["",2]"#), Ok(2.0_f64));
    for text in ["true", "1", r#""1""#] {
        assert_eq!(message(&format!(r#"["",{text}]"#)), Ok(true));
    }
    for text in ["false", "0", r#""0""#, r#""""#] {
        assert_eq!(message(&format!(r#"["",{text}]"#)), Ok(false));
    }
    for text in ["2", "null", r#""true""#, "[]"] {
        assert!(message::<bool>(&format!(r#"["",{text}]"#)).is_err());
    }
    assert!(message::<u8>(r#"["","1x"]"#).is_err());
    assert!(message::<u8>(r#"["",""]"#).is_err());
    assert!(message::<f64>(r#"["",null]"#).is_err());
    assert_eq!(
        from_value::<Vec<bool>>(vec![Value::from("1"), 0.into()].into()),
        Ok(vec![true, false])
    );
    let keys =
        from_value::<BTreeMap<u8, u8>>(to_value(&BTreeMap::from([(1, "2")])).expect("a map"));
    assert_eq!(keys, Ok(BTreeMap::from([(1, 2)])));
}

#[test]
fn of_the_same_key_the_last_counts() {
    let last = [Value::Map(BTreeMap::from([("k".into(), 2.into())]))];
    assert_eq!(list(Framing::Json, br#"["",{"k":1,"k":2}]"#).expect("a list"), last);
    assert_eq!(list(Framing::Cbor, b"\x82\x40\xa2\x41k\x01\x61k\x02").expect("a list"), last);
    // A key that is a number has a name too.
    let number = [Value::Map(BTreeMap::from([("1".into(), 2.into())]))];
    assert_eq!(list(Framing::Cbor, b"\x82\x40\xa1\x01\x02").expect("a list"), number);
}

#[test]
fn json_of_people_is_told_where_it_is_wrong() {
    let value = from_json("{\"a\": [1, 2.5, null, true, \"ü\"]}").expect("JSON");
    assert_eq!(to_json(&value), "{\"a\":[1,2.5,null,true,\"ü\"]}");
    assert_eq!(from_json(&to_json_pretty(&value)), Ok(value.clone()));
    assert!(to_json_pretty(&value).contains("\n    2.5,\n"));
    assert_eq!(value.to_string(), to_json(&value));
    assert_eq!(
        to_json(&Value::from(b"a\\\"\x07\x7f\xe9".to_vec())),
        "\"a\\\\\\\"\\u0007\\u007fé\""
    );
    let Err(DecodeError::Json { line, column, text }) = from_json("{\n \"a\": nix}") else {
        panic!("not JSON")
    };
    assert_eq!((line, column, text.as_str()), (2, 8, "expected ident"));
}

#[test]
fn what_nests_too_deep_is_neither_sent_nor_read() {
    let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    for framing in FRAMINGS {
        let deepest = vec![nested(63)];
        let bytes = frame(framing, "", &deepest);
        assert_eq!(Splitter::new(framing).next(&bytes), Ok(Some(bytes.len())));
        assert_eq!(list(framing, &bytes), Ok(deepest));
        let mut out = b"before".to_vec();
        let deeper = encode(framing, "", &[nested(64)], &mut out);
        assert_eq!((deeper, out.as_slice()), (Err(EncodeError::TooDeep), &b"before"[..]));
    }
    for bomb in [&b"\x81"[..], b"\x9f", b"\x81\xa1\x00", b"\x81\xc0", b"\x81\xbf\x00"] {
        let bomb = bomb.repeat(100_000);
        assert_eq!(Splitter::new(Framing::Cbor).next(&bomb), Err(FrameError::TooDeep));
        let bomb = [b"\x82\x40", &bomb[..]].concat();
        assert_eq!(list(Framing::Cbor, &bomb), Err(FrameError::TooDeep.into()));
    }
    for bomb in ["[", "[{\"\":", "[[],["] {
        let bomb = bomb.repeat(100_000);
        assert_eq!(Splitter::new(Framing::Json).next(bomb.as_bytes()), Err(FrameError::TooDeep));
        assert!(list(Framing::Json, format!("[\"\",{bomb}").as_bytes()).is_err());
    }
}

#[test]
fn lengths_that_nobody_can_mean_cost_nothing() {
    let too_long = Err(FrameError::TooLong { max: FRAME_LEN_MAX });
    for head in [0x9b, 0xbb, 0x5b, 0x7b] {
        for len in [1 << 60, u64::MAX, 1 << 25] {
            let bytes = [&[0x82, 0x40, head][..], &u64::to_be_bytes(len)].concat();
            assert_eq!(Splitter::new(Framing::Cbor).next(&bytes), too_long, "{bytes:02x?}");
            assert_eq!(list(Framing::Cbor, &bytes), Err(FrameError::Truncated.into()));
        }
    }
    let max = 100;
    let mut splitter = Splitter::new(Framing::Json).frame_len_max(max);
    assert_eq!(splitter.next(&[b' '; 100]), Ok(None));
    assert_eq!(splitter.next(&[b' '; 101]), Err(FrameError::TooLong { max }));
    let many = [b"\x9f".to_vec(), vec![0xf6; FRAME_LEN_MAX]].concat();
    assert_eq!(Splitter::new(Framing::Cbor).next(&many), Err(FrameError::TooManyValues));
    let many = format!("[{}", "1,".repeat(FRAME_LEN_MAX / 2 - 1));
    assert_eq!(Splitter::new(Framing::Json).next(many.as_bytes()), Err(FrameError::TooManyValues));
    let long = Value::from(vec![0; FRAME_LEN_MAX]);
    for framing in FRAMINGS {
        let mut out = Vec::new();
        let sent = encode(framing, "", &long, &mut out);
        assert!(matches!(sent, Err(EncodeError::TooLong { .. })) && out.is_empty());
    }
}

#[test]
fn what_is_no_frame_is_refused_at_once() {
    use FrameError::{BadPiece, NotAList, Reserved, StrayBreak};
    let fault = |framing, bytes: &[u8]| Splitter::new(framing).next(bytes).expect_err("no frame");
    for bytes in [&b"\xa0"[..], b"\x40", b"\x00", b"\xf6", b"\xff", b"\xc0\xa0"] {
        assert_eq!(fault(Framing::Cbor, bytes), NotAList, "{bytes:02x?}");
    }
    for bytes in [&b"{"[..], b"1", b" null", b"]", b",[]", b"\xef\xbb\xbf[]", b"\""] {
        assert_eq!(fault(Framing::Json, bytes), NotAList, "{bytes:02x?}");
    }
    assert_eq!(fault(Framing::Cbor, b"\x81\xff"), StrayBreak);
    assert_eq!(fault(Framing::Cbor, b"\x9f\xbf\x01\xff"), StrayBreak);
    assert_eq!(fault(Framing::Cbor, b"\x9f\xc0\xff"), StrayBreak);
    assert_eq!(fault(Framing::Cbor, b"\x9f\x5f\x61a"), BadPiece);
    assert_eq!(fault(Framing::Cbor, b"\x9f\x7f\x7f"), BadPiece);
    assert_eq!(fault(Framing::Cbor, b"\x9f\x7f\xc0\x61a"), BadPiece);
    assert_eq!(fault(Framing::Cbor, b"\x81\x1c"), Reserved(0x1c));
    assert_eq!(list(Framing::Cbor, b"\x81\x40\x00"), Err(DecodeError::Frame(FrameError::Trailing)));
    assert!(list(Framing::Json, b"[\"\"] 1").expect_err("more").is_malformed());
    assert!(list(Framing::Json, b"[\"\",}").expect_err("broken").is_malformed());
    assert!(list(Framing::Json, b"[\"\",\"\xff\"]").expect_err("no UTF-8").is_malformed());
    assert!(list(Framing::Cbor, b"\x82\x40\x61\xff").expect_err("no UTF-8").is_malformed());
    assert!(!fault_of_shape().is_malformed());
}

fn fault_of_shape() -> DecodeError {
    message::<Chat>(r#"["","nix"]"#).expect_err("an unknown tag")
}

#[test]
fn a_frame_that_is_cut_off_is_waited_for() {
    let message = Chat::Slave(BTreeMap::from([("ü".into(), vec![0.1]), ("x".into(), vec![])]));
    for framing in FRAMINGS {
        let bytes = frame(framing, "port", &message);
        for len in 0..bytes.len() {
            assert_eq!(Splitter::new(framing).next(&bytes[..len]), Ok(None));
            let cut = Frame::open(framing, &bytes[..len]);
            assert!(cut.map_or(true, |frame| frame.message::<Chat>().is_err()));
        }
        if framing == Framing::Cbor {
            let mut out = b"before".to_vec();
            assert!(transcode(&bytes[..bytes.len() - 1], &mut out).is_err());
            assert_eq!(out, b"before");
        }
    }
}

/// All frames that a splitter finds when fed `step` bytes at a time, and how it ended.
fn split(framing: Framing, stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut splitter = Splitter::new(framing);
    let (mut frames, mut start) = (Vec::new(), 0);
    for end in (0..stream.len()).step_by(step).skip(1).chain([stream.len()]) {
        loop {
            match splitter.next(&stream[start..end]) {
                Ok(Some(len)) => {
                    frames.push(stream[start..start + len].to_vec());
                    start += len;
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

#[test]
fn it_does_not_matter_in_what_pieces_frames_arrive() {
    let messages = [
        Chat::Stop,
        Chat::Data(1, Bytes::from(vec![b'"'; 300])),
        Chat::Text("\\\"[{\\".into()),
        Chat::Slave(BTreeMap::from([("]".into(), vec![1.0])])),
    ];
    for framing in FRAMINGS {
        let mut stream = Vec::new();
        for message in &messages {
            encode(framing, "p", message, &mut stream).expect("a message");
        }
        for step in [1, 2, 3, 7, 100, 10_000] {
            let (frames, error) = split(framing, &stream, step);
            assert_eq!((frames.concat(), error), (stream.clone(), None));
            let read = frames.iter().map(|bytes| Frame::open(framing, bytes)?.message());
            assert_eq!(
                read.collect::<Result<Vec<Chat>, DecodeError>>().as_deref(),
                Ok(&messages[..])
            );
        }
    }
}

/// A small generator of noise: the same seed, the same noise.
struct Noise(u64);

impl Noise {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[test]
fn noise_is_refused_or_understood_the_same_in_any_pieces() {
    let valid = Chat::Optional { a: Some(1000), b: Inner::Named { x: 1, y: Some("é".into()) } };
    for seed in 1..=2000 {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for framing in FRAMINGS {
            let mut bytes = frame(framing, "p", &valid);
            for _ in 0..noise.below(4) {
                let place = noise.below(bytes.len());
                match noise.below(3) {
                    0 => bytes[place] = noise.next() as u8,
                    1 => bytes.insert(place, noise.next() as u8),
                    _ => bytes.truncate(place.max(1)),
                }
            }
            survives(framing, &bytes);
            let len = noise.below(64);
            let letters = br#"[]{},:"\0eu null"#;
            let bytes: Vec<u8> = match framing {
                Framing::Cbor => {
                    [0x84, 0x40].into_iter().chain((0..len).map(|_| noise.next() as u8)).collect()
                }
                Framing::Json => {
                    b"[".iter().copied().chain((0..len).map(|_| letters[noise.below(16)])).collect()
                }
            };
            survives(framing, &bytes);
        }
    }
}

fn survives(framing: Framing, bytes: &[u8]) {
    let whole = split(framing, bytes, bytes.len());
    assert_eq!(whole, split(framing, bytes, 1));
    for frame in &whole.0 {
        let Ok(values) = list(framing, frame) else { continue };
        let again = self::frame(framing, "", &values);
        // Not by `==`, to which NaN is not itself.
        let again = list(framing, &again).expect("what was read can be sent");
        assert_eq!(format!("{again:?}"), format!("{values:?}"));
    }
    // What is not whole is no worse.
    Frame::open(framing, bytes).map(|frame| frame.message::<Chat>().is_ok()).ok();
    Frame::open(framing, bytes).map(|frame| frame.list().is_ok()).ok();
}

fn any_value(is_json: bool) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(move |bytes| { if is_json { Value::Null } else { Value::from(bytes) } }),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(".{0,9}", inner, 0..6).prop_map(Value::from),
        ]
    })
}

fn any_inner() -> impl Strategy<Value = Inner> {
    prop_oneof![
        Just(Inner::Unit),
        any::<i64>().prop_map(Inner::Number),
        (any::<u64>(), -1e30_f32..1e30).prop_map(|(a, b)| Inner::Pair(a, b)),
        (any::<i8>(), proptest::option::of(".{0,9}")).prop_map(|(x, y)| Inner::Named { x, y }),
    ]
}

fn any_chat() -> impl Strategy<Value = Chat> {
    prop_oneof![
        ".{0,30}".prop_map(|nick| Chat::Join { client: port("n#c"), nick }),
        (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..400))
            .prop_map(|(number, bytes)| Chat::Data(number, bytes.into())),
        (any::<Option<i32>>(), any_inner()).prop_map(|(a, b)| Chat::Optional { a, b }),
        (proptest::collection::vec(any_inner(), 0..30), any::<(bool, char)>())
            .prop_map(|(inner, pair)| Chat::WriteFile(inner, pair)),
    ]
}

proptest! {
    #[test]
    fn any_values_come_back_as_cbor(values in proptest::collection::vec(any_value(false), 0..6)) {
        let bytes = frame(Framing::Cbor, "p", &values);
        prop_assert_eq!(Splitter::new(Framing::Cbor).next(&bytes), Ok(Some(bytes.len())));
        prop_assert_eq!(list(Framing::Cbor, &bytes), Ok(values.clone()));
        prop_assert_eq!(to_list(&values), Ok(values.clone()));
        prop_assert_eq!(from_list(values.clone()), Ok(values));
    }

    #[test]
    fn any_values_come_back_as_json(values in proptest::collection::vec(any_value(true), 0..6)) {
        let bytes = frame(Framing::Json, "p", &values);
        prop_assert_eq!(Splitter::new(Framing::Json).next(&bytes), Ok(Some(bytes.len())));
        prop_assert_eq!(list(Framing::Json, &bytes), Ok(values.clone()));
        let value = Value::List(values);
        prop_assert_eq!(from_json(&to_json_pretty(&value)), Ok(value));
    }

    #[test]
    fn any_message_comes_back(message in any_chat()) {
        comes_back(&message);
    }
}
