//! zenoh, from peer to peer over TCP, without discovery.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ports_peers::{Latencies, Meter, Words, fail};
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::{Config, Session, Wait};

fn main() {
    let mut words = Words::of_command_line();
    let express = words.flag("--express");
    let test: String = words.next("the name of a test");
    match test.as_str() {
        "serve" => serve(&words.option::<String>("--listen"), express),
        "remote-flood" => flood(&connect(&mut words, express), words.next("N"), words.next("SIZE")),
        "remote-pingpong" => {
            pingpong(&connect(&mut words, express), words.next("N"), words.next("SIZE"))
        }
        other => fail(format_args!("no test {other}")),
    }
}

/// Answers each ping, and the last message of a flood.
fn serve(address: &str, express: bool) {
    let session = open("listen", address);
    let pong = publisher(&session, ANSWER, express);
    let answer = publisher(&session, ANSWER, express);
    session
        .declare_subscriber(PING)
        .callback(move |sample| pong.put(sample.payload().clone()).wait().expect("a pong goes out"))
        .background()
        .wait()
        .expect("a subscription");
    let expected = AtomicU64::new(ANY);
    session
        .declare_subscriber(FLOOD)
        .callback(move |sample| {
            let payload = sample.payload().to_bytes();
            let left =
                u64::from_le_bytes(payload[..8].try_into().expect("eight bytes are eight bytes"));
            let expected = expected.swap(left.wrapping_sub(1), Ordering::Relaxed);
            assert!(left == expected || expected == ANY, "out of order: {left} left");
            if left == 0 {
                answer.put(&payload[..8]).wait().expect("the answer goes out");
            }
        })
        .background()
        .wait()
        .expect("a subscription");
    println!("listening {address}");
    loop {
        std::thread::park();
    }
}

/// The side that measures.
struct Client {
    session: Session,
    answers: Receiver<()>,
    express: bool,
}

fn connect(words: &mut Words, express: bool) -> Client {
    let session = open("connect", &words.option::<String>("--connect"));
    let (sender, answers) = channel();
    session
        .declare_subscriber(ANSWER)
        .callback(move |_| sender.send(()).unwrap_or(()))
        .background()
        .wait()
        .expect("a subscription");
    let ping = publisher(&session, PING, express);
    // What is said before the subscriptions are known on both sides is lost.
    for _ in 0..500 {
        ping.put([0; 8]).wait().expect("a ping goes out");
        if answers.recv_timeout(Duration::from_millis(10)).is_ok() {
            while answers.recv_timeout(Duration::from_millis(50)).is_ok() {}
            return Client { session, answers, express };
        }
    }
    fail("nobody answers");
}

fn flood(client: &Client, count: u64, size: usize) {
    let flood = publisher(&client.session, FLOOD, client.express);
    let mut payload = vec![0; size];
    let meter = Meter::start();
    for left in (0..count).rev() {
        payload[..8].copy_from_slice(&left.to_le_bytes());
        flood.put(payload.as_slice()).wait().expect("a message goes out");
    }
    client.answers.recv().expect("the last message is answered");
    meter.finish("remote-flood", count);
}

fn pingpong(client: &Client, count: u64, size: usize) {
    let ping = publisher(&client.session, PING, client.express);
    let payload = vec![0; size];
    let mut latencies = Latencies::default();
    let meter = Meter::start();
    for _ in 0..count {
        let start = Instant::now();
        ping.put(payload.as_slice()).wait().expect("a ping goes out");
        client.answers.recv().expect("each ping is answered");
        latencies.note(start.elapsed());
    }
    meter.finish_with("remote-pingpong", count, &latencies.fields());
}

fn open(how: &str, address: &str) -> Session {
    let config = format!(
        "{{mode: \"peer\", {how}: {{endpoints: [\"tcp/{address}\"]}}, \
         scouting: {{multicast: {{enabled: false}}, gossip: {{enabled: false}}}}}}"
    );
    zenoh::open(Config::from_json5(&config).expect("a configuration")).wait().expect("a session")
}

/// One that waits when the network does, rather than drop what does not fit.
fn publisher(session: &Session, key: &'static str, express: bool) -> Publisher<'static> {
    session
        .declare_publisher(key)
        .congestion_control(CongestionControl::Block)
        .express(express)
        .wait()
        .expect("a publisher")
}

const PING: &str = "bench/ping";
const FLOOD: &str = "bench/flood";
const ANSWER: &str = "bench/answer";

/// No flood has begun. What comes before its last message, with none left, is this too.
const ANY: u64 = u64::MAX;
