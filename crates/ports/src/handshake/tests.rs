//! Handshakes as stories: with Perl nodes as recorded, with each other, and with strangers.

use super::*;

/// What the recorded 2.02 nodes said to each other; the secret is `geheim`.
const CLIENT: [&str; 3] = [
    "aemp;1;client2/arjEI6p1dR;tls_sha3_512,hmac_sha3_512,tls_anon,cleartext;json;mproto=1;\
     provider=AE-2.02;gproto=1;peeraddr=127.0.0.1:4150",
    "YX20KJJedzwfAm2/5WW9SquCvtuhFKOS78D5t5gB+bc2lxNrFoeboyhYp/o1us9OvmEoATAMnDJBgOoooTbDENed",
    "hmac_sha3_512;9ac5eeeb10c45a2a446115b520a41fea6c8bda3f9a24e545bf26490e8d4b2320345156c8f965121\
     c38080dc1162f8e7d109e70f271e539f3143e0bb637712188;json",
];
const SEED: [&str; 3] = [
    "aemp;1;seed2;tls_sha3_512,hmac_sha3_512,tls_anon,cleartext;cbor,json,storable;mproto=1;\
     provider=AE-2.02;gproto=1;peeraddr=127.0.0.1:52774",
    "/suEqIl0NIhANWTgcgauhzNSUrwo2NGLIwHi/bKzBrfZ7EeJx8BY1QR86hWdQOMLwjhio7ndEOhKtTNL6r8bpDdk",
    "hmac_sha3_512;7448825cb992b4301f2e4d64584c6e9f8d951c7e9beb8bb30a0b866c00ba1dabc4a26f680f71540\
     0d7706e0f441c47ce10aef36aeda41ef50ab49c0774617356;json",
];

fn settings(node: &str) -> Settings {
    Settings {
        node: NodeId::new(node).expect("a node ID"),
        secret: Secret::new(b"geheim"),
        auth_offer: Auth::DEFAULT.to_vec(),
        auth_accept: Auth::DEFAULT.to_vec(),
        framings: vec![Framing::Cbor, Framing::Json],
        has_tls: false,
    }
}

/// A handshake of `settings` whose nonce is of this octet only.
fn shake(settings: &Settings, nonce: u8) -> Handshake {
    let opening = if nonce == 0 { Opening::Listen } else { Opening::Dial };
    Handshake::new(Arc::new(settings.clone()), opening, "peer:1", [nonce; NONCE_LEN])
}

/// A handshake that says what the recorded node did.
fn replay(lines: [&str; 3]) -> Handshake {
    let greeting = Greeting::parse(lines[0].as_bytes()).expect("a greeting");
    let mut settings = settings(greeting.node.as_str());
    settings.framings.retain(|framing| greeting.framings.iter().any(|name| name == framing.name()));
    Handshake::with_lines(Arc::new(settings), Opening::Listen, &greeting, lines[1])
}

/// Takes what is to be sent; a peer that is named is accepted.
fn drain(handshake: &mut Handshake) -> (Vec<u8>, Option<TlsRole>, Option<Established>) {
    let mut all = (Vec::new(), None, None);
    while let Some(output) = handshake.poll_output() {
        match output {
            Output::Send(bytes) => all.0.extend(bytes),
            Output::Peer(_) => handshake.accept(),
            Output::StartTls(role) => all.1 = Some(role),
            Output::Done(established) => all.2 = Some(established),
        }
    }
    all
}

/// What was sent, what was agreed on, and what was left.
type Fed<'a> = (Vec<u8>, Option<Established>, &'a [u8]);

/// Gives it all the `bytes` it will take, and accepts the peer on the way.
fn feed<'a>(handshake: &mut Handshake, mut bytes: &'a [u8]) -> Result<Fed<'a>, HandshakeError> {
    let mut all = (Vec::new(), None);
    loop {
        let (sent, _, established) = drain(handshake);
        all.0.extend(sent);
        all.1 = all.1.or(established);
        let count = handshake.handle_bytes(bytes)?;
        bytes = &bytes[count..];
        if count == 0 {
            return Ok((all.0, all.1, bytes));
        }
    }
}

/// The whole of a handshake against a peer that says only `text`.
fn hear(
    settings: &Settings,
    text: impl AsRef<[u8]>,
) -> Result<Option<Established>, HandshakeError> {
    feed(&mut shake(settings, 0), text.as_ref()).map(|(_, established, _)| established)
}

type Outcome = Result<(Established, Established, Option<TlsRole>), HandshakeError>;

/// Two of ours with each other; the role is that of the first.
fn connect(one: &Settings, other: &Settings) -> Outcome {
    let mut ends = [shake(one, 1), shake(other, 2)];
    let (mut done, mut role) = ([None, None], None);
    let mut arriving = [Vec::new(), Vec::new()];
    for turn in 0..12 {
        let end = turn % 2;
        let (sent, tls, established) = drain(&mut ends[end]);
        arriving[1 - end].extend(sent);
        if end == 0 {
            role = role.or(tls);
        }
        done[end] = done[end].take().or(established);
        let count = ends[end].handle_bytes(&arriving[end])?;
        arriving[end].drain(..count);
    }
    let [Some(one), Some(other)] = done else { panic!("both are done") };
    Ok((one, other, role))
}

/// The lines of a peer that knows the secret, in answer to a `shake(settings, 0)`.
fn proper_lines(node: &str, method: &str, framing: &str) -> String {
    let ours = settings("us").greeting(&Opening::Listen, "peer:1").line();
    let ours = Lines { greeting: ours.into(), nonce: base64::encode(&[0; NONCE_LEN]).into() };
    let greeting = format!("aemp;1;{node};hmac_sha3_512;json");
    let theirs = Lines { greeting: greeting.clone().into(), nonce: b"nonce".to_vec() };
    let proof = Auth::from_name(method)
        .and_then(|auth| {
            auth.proof(false, Secret::new(b"geheim").as_ref(), &transcript(&theirs, &ours))
        })
        .unwrap_or_default();
    format!("{greeting}\nnonce\n{method};{proof};{framing}\n")
}

fn text(lines: [&str; 3], end: &str) -> String {
    lines.map(|line| format!("{line}{end}")).concat()
}

#[test]
fn says_what_perl_nodes_said_and_believes_what_they_said() {
    for (us, them) in [(CLIENT, SEED), (SEED, CLIENT)] {
        for end in ["\n", "\r\n"] {
            let arriving = text(them, end) + "[\"\",1]";
            let mut handshake = replay(us);
            let (sent, done, rest) =
                feed(&mut handshake, arriving.as_bytes()).expect("a handshake");
            assert_eq!(String::from_utf8_lossy(&sent), text(us, "\n"));
            assert_eq!(rest, b"[\"\",1]");
            let done = done.expect("done");
            assert_eq!(done.peer.line(), them[0]);
            assert_eq!((done.framing_out, done.framing_in), (Framing::Json, Framing::Json));
            assert!(!done.is_untrusted && !done.peer.is_flotilla());
        }
    }
}

#[test]
fn where_the_reads_end_changes_nothing() {
    for (us, them) in [(CLIENT, SEED), (SEED, CLIENT)] {
        let mut handshake = replay(us);
        let (mut sent, _, _) = drain(&mut handshake);
        let mut done = None;
        for octet in text(them, "\r\n").bytes() {
            assert_eq!(handshake.handle_bytes(&[octet]), Ok(1));
            let (more, _, established) = drain(&mut handshake);
            sent.extend(more);
            done = done.or(established);
        }
        assert_eq!(String::from_utf8_lossy(&sent), text(us, "\n"));
        assert!(done.is_some());
        assert_eq!(handshake.handle_bytes(b"["), Ok(0), "frames are not for it");
    }
}

#[test]
fn greets_before_it_has_heard_anything() {
    let mut settings = settings("us");
    settings.has_tls = true;
    let mut handshake = Handshake::new(Arc::new(settings), Opening::Dial, "h:1", [0; NONCE_LEN]);
    let expected = format!(
        "aemp;1;us;tls_sha3_512,hmac_sha3_512;cbor,json;provider=flotilla-{};peeraddr=h:1;tls=1.0;\
         mproto=1;gproto=1\n{}\n",
        env!("CARGO_PKG_VERSION"),
        "A".repeat(88)
    );
    assert_eq!(String::from_utf8_lossy(&drain(&mut handshake).0), expected);
}

#[test]
fn a_simple_peer_needs_three_lines() {
    let done = hear(&settings("us"), proper_lines("py/1", "hmac_sha3_512", "json")).expect("right");
    assert_eq!(done.expect("done").peer.node.as_str(), "py/1");
}

#[test]
fn two_of_ours_agree_on_cbor() {
    let (one, other, role) = connect(&settings("one"), &settings("other")).expect("a handshake");
    assert_eq!((one.framing_out, other.framing_out), (Framing::Cbor, Framing::Cbor));
    assert_eq!((one.framing_in, other.framing_in), (Framing::Cbor, Framing::Cbor));
    assert!(one.peer.is_flotilla() && other.peer.is_flotilla());
    assert_eq!(role, None);
}

#[test]
fn each_direction_has_the_framing_its_reader_likes_best() {
    let (one, mut other) = (settings("one"), settings("other"));
    other.framings.reverse();
    let (one, other, _) = connect(&one, &other).expect("a handshake");
    assert_eq!((one.framing_out, one.framing_in), (Framing::Json, Framing::Cbor));
    assert_eq!((other.framing_out, other.framing_in), (Framing::Cbor, Framing::Json));
}

#[test]
fn nothing_is_said_to_a_peer_that_the_driver_does_not_want() {
    let mut handshake = replay(SEED);
    drain(&mut handshake);
    let lines = text(CLIENT, "\n");
    let count = handshake.handle_bytes(lines.as_bytes()).expect("two good lines");
    assert_eq!(&lines[count..], format!("{}\n", CLIENT[2]));
    let Some(Output::Peer(peer)) = handshake.poll_output() else { panic!("a peer is named") };
    assert_eq!(peer.node.as_str(), "client2/arjEI6p1dR");
    assert!(handshake.poll_output().is_none());
    assert_eq!(handshake.handle_bytes(lines.as_bytes()), Ok(0));
}

#[test]
fn the_lower_nonce_is_the_tls_client() {
    let (mut one, mut other) = (settings("one"), settings("other"));
    (one.has_tls, other.has_tls) = (true, true);
    (one.secret, other.secret) = (None, None);
    let (first, _, role) = connect(&one, &other).expect("a handshake");
    assert_eq!(role, Some(TlsRole::Client));
    assert!(!first.is_untrusted);

    // Whatever a peer with an empty nonce is, it is the client.
    let mut handshake = shake(&one, 0);
    let hello = b"aemp;1;n;tls_sha3_512;json;tls=1.0\n\n\x16\x03\x01";
    let (_, _, _) = drain(&mut handshake);
    assert_eq!(handshake.handle_bytes(hello), Ok(hello.len() - 3), "the rest is for TLS");
    let (auth_line, role, _) = drain(&mut handshake);
    assert_eq!(role, Some(TlsRole::Server));
    assert!(auth_line.starts_with(b"tls_sha3_512;"));
}

#[test]
fn tls_comes_before_the_proof() {
    let mut ours = settings("us");
    ours.has_tls = true;
    let mut handshake = shake(&ours, 1);
    handshake.handle_bytes(b"aemp;1;n;tls_sha3_512;json;tls=1.0\n\n").expect("two good lines");
    assert!(matches!(handshake.poll_output(), Some(Output::Send(_))));
    assert!(matches!(handshake.poll_output(), Some(Output::Peer(_))));
    handshake.accept();
    assert!(matches!(handshake.poll_output(), Some(Output::StartTls(_))));
    assert!(matches!(handshake.poll_output(), Some(Output::Send(_))));
    assert!(handshake.poll_output().is_none());
}

#[test]
fn without_tls_on_both_sides_the_secret_decides() {
    let (mut one, other) = (settings("one"), settings("other"));
    one.has_tls = true;
    let (_, _, role) = connect(&one, &other).expect("a handshake");
    assert_eq!(role, None);
    one.secret = None;
    let error = hear(&one, "aemp;1;n;tls_sha3_512,hmac_sha3_512;json\n\n");
    assert_eq!(error, Err(HandshakeError::NoSecret));
}

#[test]
fn an_anonymous_peer_is_let_in_if_configured_and_not_trusted() {
    let (mut one, mut other) = (settings("one"), settings("other"));
    for settings in [&mut one, &mut other] {
        settings.has_tls = true;
        settings.secret = None;
    }
    other.auth_offer = vec![Auth::TlsAnon];
    assert!(matches!(connect(&one, &other), Err(HandshakeError::NoCommonAuth(_))));
    one.auth_accept.push(Auth::TlsAnon);
    let (one, other, _) = connect(&one, &other).expect("a handshake");
    assert!(one.is_untrusted && !other.is_untrusted);
}

#[test]
fn cleartext_is_neither_said_nor_heard_unless_configured() {
    let error = hear(&settings("us"), proper_lines("n", "cleartext", "json"));
    assert_eq!(error, Err(HandshakeError::AuthMethod("cleartext".to_owned())));
    let error = hear(&settings("us"), "aemp;1;n;cleartext;json\n\n");
    assert_eq!(error, Err(HandshakeError::NoCommonAuth("cleartext".to_owned())));

    let (mut one, mut other) = (settings("one"), settings("other"));
    one.auth_accept = vec![Auth::Cleartext];
    other.auth_offer = vec![Auth::Cleartext];
    assert!(connect(&one, &other).is_ok());
    other.secret = Secret::new(b"Geheim");
    assert_eq!(connect(&one, &other).err(), Some(HandshakeError::Mismatch));
}

#[test]
fn only_methods_that_can_be_used_are_listed() {
    let mut all = settings("us");
    all.auth_accept = vec![Auth::TlsSha3_512, Auth::HmacSha3_512, Auth::TlsAnon, Auth::Cleartext];
    let listed = |settings: &Settings| settings.greeting(&Opening::Dial, "p").auths.join(",");
    assert_eq!(listed(&all), "hmac_sha3_512,cleartext");
    all.secret = None;
    assert_eq!(listed(&all), "");
    all.has_tls = true;
    assert_eq!(listed(&all), "tls_sha3_512,tls_anon");
}

#[test]
fn a_method_that_needs_tls_is_refused_without() {
    let mut ours = settings("us");
    ours.auth_accept.push(Auth::TlsAnon);
    for method in ["tls_sha3_512", "tls_anon", "hmac_md6_64_256", "", "x"] {
        let error = hear(&ours, format!("aemp;1;n;hmac_sha3_512;json\n\n{method};;json\n"));
        assert_eq!(error, Err(HandshakeError::AuthMethod(method.to_owned())));
    }
}

#[test]
fn a_data_connection_goes_to_whoever_listens() {
    let ends = |one: Opening, other: Opening| {
        let mut one = Handshake::new(Arc::new(settings("one")), one, "p", [1; NONCE_LEN]);
        let mut other = Handshake::new(Arc::new(settings("other")), other, "p", [2; NONCE_LEN]);
        let (to_other, to_one) = (drain(&mut one).0, drain(&mut other).0);
        (feed(&mut one, &to_one).map(|_| ()), feed(&mut other, &to_other).map(|_| ()), other)
    };
    let dial = || Opening::DialData { id: "ab;c@one".to_owned() };
    let (one, other, listener) = ends(dial(), Opening::Listen);
    assert_eq!((one, other), (Ok(()), Ok(())));
    let State::Auth(choice) = listener.state else { panic!("it waits for the proof") };
    assert_eq!(choice.peer.protocol, Protocol::DataConn { id: "ab;c@one".to_owned() });
    for opening in [dial(), Opening::Dial] {
        let (_, error, _) = ends(dial(), opening);
        let error = error.expect_err("nobody listens").to_string();
        assert_eq!(error, "unparsable greeting, expected 'aemp', got 'aemp-dataconn'");
    }
}

#[test]
fn what_was_recorded_is_worth_nothing_later() {
    // A stranger who has heard everything, against both sides, whose nonces are new.
    for (us, them) in [(CLIENT, SEED), (SEED, CLIENT)] {
        let fresh = base64::encode(&[7; NONCE_LEN]);
        let recorded = text(them, "\n");
        let error = feed(&mut replay([us[0], &fresh, us[2]]), recorded.as_bytes());
        assert_eq!(error.err(), Some(HandshakeError::Mismatch));
    }
}

#[test]
fn what_we_say_on_one_connection_proves_nothing_on_another() {
    let ours = settings("us");
    let (mut one, mut other) = (shake(&ours, 1), shake(&ours, 2));
    let said = drain(&mut one).0;
    assert_eq!(other.handle_bytes(&said), Err(HandshakeError::Myself));
    let said = drain(&mut other).0;
    assert_eq!(other.handle_bytes(&said), Ok(0), "it has finished");
    assert_eq!(one.handle_bytes(&drain(&mut shake(&ours, 1)).0), Err(HandshakeError::Echo));
    // As another's greeting, with our nonce.
    let echo = format!("aemp;1;n;hmac_sha3_512;json\n{}\n", base64::encode(&[0; NONCE_LEN]));
    assert_eq!(hear(&ours, echo), Err(HandshakeError::Echo));
    // Nor does a proof sent back.
    let mut handshake = replay(SEED);
    let lines = format!("{}\n{}\n{}\n", CLIENT[0], CLIENT[1], SEED[2]);
    assert_eq!(feed(&mut handshake, lines.as_bytes()).err(), Some(HandshakeError::Mismatch));
}

#[test]
fn any_change_of_what_was_said_is_noticed() {
    let lines = text(CLIENT, "\n");
    for at in 0..lines.len() {
        let mut changed = lines.clone().into_bytes();
        changed[at] ^= 1;
        let outcome = feed(&mut replay(SEED), &changed);
        // The framing it will write is not covered by the proof; it must be one we know.
        let is_done = outcome.is_ok_and(|(_, done, _)| done.is_some());
        assert!(!is_done, "octet {at} was changed");
    }
}

#[test]
fn a_long_line_is_refused_wherever_it_stands_and_however_it_arrives() {
    let long = "x".repeat(5000);
    let lines = [
        format!("aemp;1;n;hmac_sha3_512;json;k={long}\n"),
        format!("aemp;1;n;hmac_sha3_512;json\n{long}\n"),
        format!("aemp;1;n;hmac_sha3_512;json\n\nhmac_sha3_512;{long};json\n"),
        long,
    ];
    for line in lines {
        assert_eq!(hear(&settings("us"), &line), Err(HandshakeError::LineTooLong));
        let mut handshake = shake(&settings("us"), 0);
        let mut feed_octets = || {
            line.bytes().try_for_each(|octet| {
                handshake.handle_bytes(&[octet])?;
                drain(&mut handshake);
                assert!(handshake.partial.len() <= LINE_MAX);
                Ok(())
            })
        };
        assert_eq!(feed_octets(), Err(HandshakeError::LineTooLong));
    }
    let edge = format!("aemp;1;n;hmac_sha3_512;json\n{}\n", "x".repeat(LINE_MAX - 1));
    assert_eq!(hear(&settings("us"), edge), Ok(None));
}

#[test]
fn every_error_says_what_perl_says() {
    let mut poor = settings("us");
    poor.secret = None;
    let ours = settings("us");
    let long = "y".repeat(1000);
    let cases: [(&Settings, &str, &str); 17] = [
        (&ours, "http;1;n\n", "unparsable greeting, expected 'aemp', got 'http'"),
        (&ours, "GET / HTTP/1.1\r\n", "unparsable greeting, expected 'aemp', got 'GET / HTTP/1.1'"),
        (&ours, "\n", "unparsable greeting, expected 'aemp', got ''"),
        (&ours, "aemp-x;1;n\n", "unparsable greeting, expected 'aemp', got 'aemp-x'"),
        (&ours, "\x1b[2J\n", "unparsable greeting, expected 'aemp', got '\u{fffd}[2J'"),
        (&ours, "aemp;0;n;;\n", "version mismatch (we: 1, they: 0)"),
        (&ours, "aemp\n", "version mismatch (we: 1, they: )"),
        (&ours, "aemp;1;a#b;;\n", "'a#b' in the greeting is no node ID"),
        (&ours, "aemp-dataconn;1;n;;\n", "a data connection without a dataconn_id"),
        (&ours, "aemp;1;us;hmac_sha3_512;json\n\n", "I refuse to talk to myself"),
        (
            &ours,
            "aemp;1;n;tls_md6_64_256,hmac_md6_64_256;json\n\n",
            "tls_md6_64_256,hmac_md6_64_256: no common auth type supported",
        ),
        (&ours, "aemp;1;n;tls_sha3_512;json\n\n", "tls_sha3_512: no common auth type supported"),
        (
            &ours,
            "aemp;1;n;hmac_sha3_512;storable\n\n",
            "storable: no common framing method supported",
        ),
        (
            &poor,
            "aemp;1;n;hmac_sha3_512;json\n\n",
            "unable to handshake TLS and no shared secret configured",
        ),
        (
            &ours,
            "aemp;1;n;hmac_sha3_512;json\n\nhmac_x;;json\n",
            "hmac_x: fatal, selected unsupported rcv auth method",
        ),
        (
            &ours,
            "aemp;1;n;hmac_sha3_512;json\n\nhmac_sha3_512;00;json\n",
            "authentication failure/shared secret mismatch",
        ),
        (
            &ours,
            "aemp;1;n;hmac_sha3_512;json\n\nhmac_sha3_512\n",
            "authentication failure/shared secret mismatch",
        ),
    ];
    for (settings, heard, says) in cases {
        let error = hear(settings, heard).expect_err(heard);
        assert_eq!(error.to_string(), says);
    }
    let error = hear(&ours, proper_lines("n", "hmac_sha3_512", "storable")).expect_err("storable");
    assert_eq!(error.to_string(), "storable: unusable remote framing");
    let error = hear(&ours, format!("{long};1\n")).expect_err("no greeting");
    assert!(error.to_string().len() < 300, "it is short");
    assert_eq!(HandshakeError::Echo.to_string(), "authentication error, echo attack?");
    assert_eq!(
        HandshakeError::LineTooLong.to_string(),
        "a handshake line of more than 4096 octets"
    );
    let node = NodeId::new("n").expect("a node ID");
    assert_eq!(
        HandshakeError::AlreadyConnected(node).to_string(),
        "n already connected, not connecting again."
    );
}

#[test]
fn a_framing_that_we_did_not_list_is_refused() {
    let mut ours = settings("us");
    ours.framings = vec![Framing::Json];
    let error = hear(&ours, "aemp;1;n;hmac_sha3_512;cbor\n\n");
    assert_eq!(error, Err(HandshakeError::NoCommonFraming("cbor".to_owned())));
}

#[test]
fn noise_never_gets_in() {
    for seed in 1..=2000 {
        let mut noise = Noise(seed);
        let bytes: Vec<u8> = (0..noise.below(300)).map(|_| noise.below(256) as u8).collect();
        assert!(!matches!(hear(&settings("us"), bytes), Ok(Some(_))), "seed {seed}");
    }
}

#[test]
fn mutated_lines_never_get_in() {
    for seed in 1..=2000 {
        let mut noise = Noise(seed);
        let (us, them) = if seed % 2 == 0 { (CLIENT, SEED) } else { (SEED, CLIENT) };
        let mut bytes = text(them, "\n").into_bytes();
        for _ in 0..=noise.below(4) {
            let at = noise.below(bytes.len());
            match noise.below(4) {
                0 => bytes[at] = noise.below(256) as u8,
                1 => bytes.insert(at, b";,=%\n\r\0#"[noise.below(8)]),
                2 => drop(bytes.remove(at)),
                _ => {
                    let piece = bytes[at..bytes.len().min(at + noise.below(40))].to_vec();
                    let to = noise.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        // A CR before an LF changes nothing, nor do further fields and whatever follows the last line.
        let said = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        let is_same = said.starts_with(text(them, "\n").trim_end());
        let is_in = matches!(feed(&mut replay(us), &bytes), Ok((_, Some(_), _)));
        assert!(!is_in || is_same, "seed {seed}: {}", String::from_utf8_lossy(&bytes));
    }
}

/// Xorshift; not for anything but tests.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}
