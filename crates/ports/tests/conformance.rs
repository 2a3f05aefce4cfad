//! What two AnyEvent::MP 2.02 nodes said to each other, said again to a node of ours by a bare socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use ports::Node;
use ports::config::{Config, Facts, RcFile};
use reactor::Reactor;
use sha3::Sha3_512;

const SECRET: &str = "geheim";
const CLIENT: &str = "client2/arjEI6p1dR";

/// The messages of the recorded client, in its order.
const REQUESTS: &str = r#"["","g_slave"]["","g_slave",{"grp1":{"client2/arjEI6p1dR#b":null},"'l":{"client2/arjEI6p1dR":["127.0.0.1:44791"]}}]["","g_find","seed2"]["","g_mon1","grp1"]["","g_slave"]["","g_db_keys","grp1","b"]["","g_db_values","grp1","c"]["","g_db_family","grp1","d"]["","kil1","nosuch","why","not"]["","g_find","nosuchnode"]["","g_upd","grp1",null,["client2/arjEI6p1dR#b"]]["","g_mon0","grp1"]["","g_upd","grp2",{"k":{"a":1}}]"#;

/// What the recorded seed answered, but for its address.
const ANSWERS: &str = r#"["","g_global"]["","g_found","seed2",["ADDRESS"]]["","g_chg1","grp1",{"client2/arjEI6p1dR#b":null}]["","g_reply","b",["client2/arjEI6p1dR#b"]]["","g_reply","c",[null]]["","g_reply","d",{"client2/arjEI6p1dR#b":null}]["","g_found","nosuchnode",null]["","g_chg2","grp1",{},["client2/arjEI6p1dR#b"]]"#;

/// Starts `seed2` and lets it run while a thread is `peer`.
fn beside<T: Send + 'static>(
    config: impl FnOnce(Config) -> Config,
    peer: impl FnOnce(String) -> T + Send + 'static,
) -> (Node, T) {
    let mut reactor = Reactor::new().expect("a loop");
    let config = config(Config::new().norc().node_id("seed2").bind("127.0.0.1:0").secret(SECRET));
    let settings = config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts"));
    let node = Node::start(&mut reactor, &settings.expect("settings")).expect("starts");
    let address = node.listeners()[0].clone();
    let (ended, end) = channel();
    let thread = thread::spawn(move || {
        let result = peer(address);
        // The other end is gone only if that side has failed.
        ended.send(()).ok();
        result
    });
    run_until(&mut reactor, &end, &thread);
    (node, thread.join().expect("the peer is content"))
}

fn run_until<T>(reactor: &mut Reactor<()>, end: &Receiver<()>, thread: &thread::JoinHandle<T>) {
    let began = Instant::now();
    while end.try_recv().is_err() && !thread.is_finished() {
        reactor.turn(&mut (), Some(Duration::from_millis(5))).expect("a turn");
        assert!(began.elapsed() < Duration::from_secs(60), "the peer waits for something");
    }
}

/// The client's side of a connection, or the seed's: both say the same kind of lines.
struct Peer {
    stream: TcpStream,
    greeting: String,
    nonce: &'static str,
}

impl Peer {
    fn new(stream: TcpStream, name: &str) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let greeting = format!(
            "aemp;1;{name};tls_sha3_512,hmac_sha3_512,tls_anon,cleartext;json;mproto=1;\
             provider=AE-2.02;gproto=1;peeraddr=127.0.0.1:4150"
        );
        let nonce = "YX20KJJedzwfAm2/5WW9SquCvtuhFKOS78D5t5gB+bc2lxNrFoeboyhYp/o1us9OvmEoATAMnDJBgOoooTbDENed";
        Self { stream, greeting, nonce }
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("it listens");
    }

    fn hear(&mut self, len: usize) -> String {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("it says so much");
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn hear_line(&mut self) -> String {
        let mut line = String::new();
        loop {
            match self.hear(1) {
                end if end == "\n" => return line,
                octet => line += &octet,
            }
        }
    }

    /// Says all of the handshake, and `behind` at once with its last line. Returns the other's greeting.
    fn shake_hands(&mut self, behind: &str) -> String {
        let ours = format!("{}\n{}\n", self.greeting, self.nonce);
        self.say(&ours);
        let greeting = self.hear_line();
        let theirs = format!("{greeting}\n{}\n", self.hear_line());
        self.say(&format!("hmac_sha3_512;{};json\n{behind}", proof(&ours, &theirs)));
        assert_eq!(self.hear_line(), format!("hmac_sha3_512;{};json", proof(&theirs, &ours)));
        greeting
    }
}

/// What whoever said `first` proves itself with to whoever said `second`.
fn proof(first: &str, second: &str) -> String {
    let mut mac = Hmac::<Sha3_512>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(first.as_bytes());
    mac.update(second.as_bytes());
    mac.finalize().into_bytes().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn a_recorded_client_gets_the_recorded_answers_byte_by_byte() {
    beside(
        |config| config,
        |address| {
            let mut peer = Peer::new(TcpStream::connect(&address).expect("it listens"), CLIENT);
            let greeting = peer.shake_hands(REQUESTS);
            assert!(greeting.starts_with("aemp;1;seed2;hmac_sha3_512;cbor,json;"), "{greeting}");
            let answers = ANSWERS.replace("ADDRESS", &address);
            assert_eq!(peer.hear(answers.len()), answers);
            // That was all: what comes next answers what is asked next.
            peer.say(r#"["","g_db_family","grp2","e"]"#);
            let answer = r#"["","g_reply","e",{"k":{"a":1}}]"#;
            assert_eq!(peer.hear(answer.len()), answer);
        },
    );
}

#[test]
fn a_recorded_seed_hears_what_the_recorded_client_said() {
    let seed = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = seed.local_addr().expect("an address").to_string();
    beside(
        move |config| config.seed(&address).set("framing_format", "json"),
        move |listener| {
            let mut peer = Peer::new(seed.accept().expect("it calls").0, "seed");
            peer.shake_hands("");
            let said = format!(
                r#"["","g_slave"]["","g_slave",{{"'l":{{"seed2":["{listener}"]}}}}]["","g_slave"]"#
            );
            let mut heard = peer.hear(said.len());
            // The request to be global is sent when it greets, and again when it is up.
            let wish = r#"["","g_slave"]"#;
            assert_eq!(heard.matches(wish).count(), 2, "{heard}");
            heard = heard.replace(wish, "");
            assert_eq!(heard, said.replace(wish, ""));
            peer.say(r#"["","g_global"]["","snd","seed#x","done"]"#);
            let echo = r#"["x","done"]"#;
            assert_eq!(peer.hear(echo.len()), echo);
        },
    );
}
