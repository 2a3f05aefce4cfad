//! Both ends against each other, and against whatever else there may be.

use super::*;

const BOTH: &[Method] = &[Method::Rc4, Method::Plaintext];
const PLAIN_FIRST: &[Method] = &[Method::Plaintext, Method::Rc4];
const RC4: &[Method] = &[Method::Rc4];
const PLAINTEXT: &[Method] = &[Method::Plaintext];
const TORRENT: InfoHash = InfoHash([0xab; 20]);

fn secret(seed: u64) -> Secret {
    Secret::new(Rng::from_seed(seed).bytes())
}

fn initiator(seed: u64, methods: &'static [Method]) -> Initiator {
    let payload = b"the first words".to_vec();
    Initiator::new(secret(seed), TORRENT, methods, payload, Rng::from_seed(seed))
}

fn responder(seed: u64, methods: &'static [Method]) -> Responder {
    Responder::new(secret(!seed), methods, Rng::from_seed(!seed))
}

fn torrents() -> SkeyTable {
    let mut table = SkeyTable::default();
    (0..200).for_each(|number| table.insert(InfoHash([number; 20])));
    table
}

/// What one end has said and become.
#[derive(Debug, Default)]
struct End {
    sent: Vec<u8>,
    established: Option<Established>,
}

impl End {
    fn take(&mut self, output: Option<Output>) -> bool {
        match output {
            Some(Output::Send(mut bytes)) => self.sent.append(&mut bytes),
            Some(Output::Established(established)) => {
                assert!(self.established.replace(established).is_none(), "once");
            }
            None => return false,
        }
        true
    }

    /// What comes, to the state machine while that waits for something, and then to the ciphers.
    fn receive(
        &mut self,
        bytes: &[u8],
        handle: impl FnOnce(&[u8]) -> Result<(), MseFault>,
    ) -> Result<(), MseFault> {
        if self.established.is_none() {
            return handle(bytes);
        }
        let mut bytes = self.decrypt(bytes);
        self.established.as_mut().expect("established").received.append(&mut bytes);
        Ok(())
    }

    fn encrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Some(ciphers) = &mut self.established.as_mut().expect("established").ciphers {
            ciphers.send.apply(&mut bytes);
        }
        bytes
    }

    fn decrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Some(ciphers) = &mut self.established.as_mut().expect("established").ciphers {
            ciphers.receive.apply(&mut bytes);
        }
        bytes
    }
}

/// Carries bytes between two ends, as long as both are content and say something.
fn talk(
    mut a: Initiator,
    mut b: Responder,
    mut mutate: impl FnMut(&mut Vec<u8>),
    mut cut: impl FnMut(usize) -> usize,
) -> Result<(End, End), MseFault> {
    let torrents = torrents();
    let (mut here, mut there) = (End::default(), End::default());
    loop {
        while here.take(a.poll_output()) {}
        while there.take(b.poll_output()) {}
        if here.sent.is_empty() && there.sent.is_empty() {
            return Ok((here, there));
        }
        let (mut to_b, mut to_a) =
            (std::mem::take(&mut here.sent), std::mem::take(&mut there.sent));
        mutate(&mut to_b);
        mutate(&mut to_a);
        let (head, tail) = to_b.split_at(cut(to_b.len()));
        for part in [head, tail] {
            there.receive(part, |bytes| b.handle_bytes(bytes, &torrents))?;
            while there.take(b.poll_output()) {}
        }
        let (head, tail) = to_a.split_at(cut(to_a.len()));
        for part in [head, tail] {
            here.receive(part, |bytes| a.handle_bytes(bytes))?;
            while here.take(a.poll_output()) {}
        }
    }
}

#[test]
fn both_ends_agree_and_understand_each_other() {
    for (offered, accepted, expected) in [
        (BOTH, BOTH, Some(Method::Rc4)),
        (BOTH, PLAIN_FIRST, Some(Method::Plaintext)),
        (BOTH, RC4, Some(Method::Rc4)),
        (RC4, PLAIN_FIRST, Some(Method::Rc4)),
        (PLAINTEXT, BOTH, Some(Method::Plaintext)),
        (PLAINTEXT, RC4, None),
        (RC4, PLAINTEXT, None),
    ] {
        let done = talk(initiator(1, offered), responder(1, accepted), |_| {}, |len| len);
        let Some(expected) = expected else {
            assert_eq!(done.unwrap_err(), MseFault::NoCommonMethod);
            continue;
        };
        let (mut a, mut b) = done.expect("agreed");
        for end in [&a, &b] {
            let established = end.established.as_ref().expect("established");
            assert_eq!((established.info_hash, established.method()), (TORRENT, expected));
        }
        assert_eq!(b.established.as_ref().expect("established").received, b"the first words");
        assert_eq!(b.decrypt(&a.encrypt(b"there")), b"there");
        assert_eq!(a.decrypt(&b.encrypt(b"and back")), b"and back");
        let on_wire = a.encrypt(b"what follows");
        assert_eq!(on_wire == b"what follows", expected == Method::Plaintext);
    }
}

#[test]
fn the_stream_may_be_cut_anywhere() {
    for methods in [RC4, PLAINTEXT] {
        for at in (0..700).step_by(3) {
            let (a, b) = (initiator(at as u64, methods), responder(at as u64, methods));
            let (a, b) = talk(a, b, |_| {}, |len| at.min(len)).expect("agreed");
            assert!(a.established.is_some());
            assert_eq!(b.established.expect("established").received, b"the first words");
        }
    }
}

#[test]
fn bytes_may_come_one_by_one_and_payload_right_behind() {
    for methods in [RC4, PLAINTEXT] {
        let (mut a, mut b) = (initiator(1, methods), responder(1, methods));
        let torrents = torrents();
        let (mut here, mut there) = (End::default(), End::default());
        while here.take(a.poll_output()) {}
        while !here.sent.is_empty() || !there.sent.is_empty() {
            for byte in std::mem::take(&mut here.sent) {
                there.receive(&[byte], |bytes| b.handle_bytes(bytes, &torrents)).expect("fine");
                while there.take(b.poll_output()) {}
            }
            if there.established.is_some() {
                break;
            }
            for byte in std::mem::take(&mut there.sent) {
                here.receive(&[byte], |bytes| a.handle_bytes(bytes)).expect("fine");
                while here.take(a.poll_output()) {}
            }
        }
        let received = &there.established.as_ref().expect("established").received;
        assert_eq!(received, b"the first words");
        let mut answer = std::mem::take(&mut there.sent);
        answer.append(&mut there.encrypt(b"said at once"));
        a.handle_bytes(&answer).expect("fine");
        while here.take(a.poll_output()) {}
        assert_eq!(here.established.expect("established").received, b"said at once");
    }
}

/// Computed from the specification by other means.
#[test]
fn says_what_the_specification_has_it_say() {
    let (ours, theirs): ([u8; 20], [u8; 20]) =
        (std::array::from_fn(|at| at as u8 + 1), std::array::from_fn(|at| at as u8 + 101));
    let (a, b) = (Secret::new(ours), Secret::new(theirs));
    let shared = a.shared(&b.public_key()).expect("shared");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&a.public_key()), YA);
    assert_eq!(hex(&shared), S);
    assert_eq!(hex(&first_mark(&shared)), MARK);
    assert_eq!(hex(&veil(name_of(&TORRENT), &shared)), VEILED);
    let mut ciphers = Ciphers::new(&shared, &TORRENT, true);
    let mut stream = [[0; 16]; 2];
    ciphers.send.apply(&mut stream[0]);
    ciphers.receive.apply(&mut stream[1]);
    assert_eq!(stream.map(|stream| hex(&stream)), STREAMS);
}

#[test]
fn a_stranger_hears_a_key_and_nothing_more() {
    let torrents = torrents();
    for (torrent, is_known) in [(TORRENT, true), (InfoHash([0xee; 20]), false)] {
        let mut a = Initiator::new(secret(1), torrent, BOTH, Vec::new(), Rng::from_seed(1));
        let mut b = responder(1, BOTH);
        let (mut here, mut there) = (End::default(), End::default());
        while here.take(a.poll_output()) {}
        assert_eq!(b.handle_bytes(&std::mem::take(&mut here.sent), &torrents), Ok(()));
        while there.take(b.poll_output()) {}
        a.handle_bytes(&std::mem::take(&mut there.sent)).expect("fine");
        while here.take(a.poll_output()) {}
        let result = b.handle_bytes(&here.sent, &torrents);
        assert_eq!(result, if is_known { Ok(()) } else { Err(MseFault::UnknownTorrent) });
        assert_eq!(b.poll_output().is_some(), is_known);
        assert!(result.is_ok_and(|()| true) || result.unwrap_err().is_of_stranger());
        if !is_known {
            assert_eq!(
                b.handle_bytes(&[0; 5000], &torrents),
                Ok(()),
                "what comes later is ignored"
            );
            assert!(b.poll_output().is_none());
        }
    }
}

#[test]
fn an_end_of_padding_is_awaited_as_far_as_padding_may_go() {
    let (key, torrents) = (secret(5).public_key(), torrents());
    let mut b = responder(1, BOTH);
    b.handle_bytes(&key, &torrents).expect("a key");
    b.handle_bytes(&[0; 531], &torrents).expect("it may still come");
    assert_eq!(b.handle_bytes(&[0], &torrents), Err(MseFault::NoSync));
    let mut a = initiator(1, BOTH);
    a.handle_bytes(&key).expect("a key");
    a.handle_bytes(&[0; 519]).expect("it may still come");
    assert_eq!(a.handle_bytes(&[0]), Err(MseFault::NoSync));
}

#[test]
fn who_answers_sees_to_it_that_what_is_shared_has_no_zeros_in_front() {
    let theirs = secret(1).public_key();
    let shared = |key: &[u8; KEY_LEN]| secret(1).shared(key).expect("shared");
    let is_short = |seed: &u64| shared(&secret(!seed).public_key())[0] == 0;
    let seed = (0..).find(is_short).expect("one of 256");
    let (mut b, mut there) = (responder(seed, BOTH), End::default());
    b.handle_bytes(&theirs, &torrents()).expect("a key");
    while there.take(b.poll_output()) {}
    assert_ne!(shared(there.sent.first_chunk().expect("a key"))[0], 0);
    let (a, _) =
        talk(initiator(1, BOTH), responder(seed, BOTH), |_| {}, |len| len).expect("agreed");
    assert!(a.established.is_some());
}

#[test]
fn a_key_that_makes_no_secret_is_refused() {
    let key = [0; KEY_LEN];
    assert_eq!(responder(1, BOTH).handle_bytes(&key, &torrents()), Err(MseFault::WeakKey));
    assert_eq!(initiator(1, BOTH).handle_bytes(&key), Err(MseFault::WeakKey));
}

/// An initiator made by hand: it encrypts `header` in place of what it should.
fn offer(header: &[u8]) -> Result<(), MseFault> {
    let torrents = torrents();
    let mut b = responder(1, RC4);
    let mut there = End::default();
    b.handle_bytes(&secret(1).public_key(), &torrents)?;
    while there.take(b.poll_output()) {}
    let shared = secret(1).shared(there.sent.first_chunk().expect("a key")).expect("shared");
    let mut bytes = [first_mark(&shared), veil(name_of(&TORRENT), &shared)].concat();
    Ciphers::new(&shared, &TORRENT, true).send.append(header, &mut bytes);
    b.handle_bytes(&bytes, &torrents)
}

/// A responder made by hand, likewise.
fn choice(header: &[u8]) -> Result<(), MseFault> {
    let mut a = initiator(1, RC4);
    let mut here = End::default();
    while here.take(a.poll_output()) {}
    let shared = secret(2).shared(here.sent.first_chunk().expect("a key")).expect("shared");
    let mut bytes = secret(2).public_key().to_vec();
    Ciphers::new(&shared, &TORRENT, false).send.append(header, &mut bytes);
    a.handle_bytes(&bytes)
}

#[test]
fn lengths_constants_and_methods_are_looked_at() {
    assert_eq!(offer(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0]), Ok(()));
    assert_eq!(offer(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 1]), Err(MseFault::LongPadding));
    assert_eq!(offer(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]), Err(MseFault::BadConstant));
    assert_eq!(offer(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), Err(MseFault::NoCommonMethod));
    assert_eq!(offer(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 3, 0, 0, 0xff, 0xff]), Ok(()));
    assert_eq!(choice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0]), Ok(()));
    assert_eq!(choice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 1]), Err(MseFault::LongPadding));
    // One that was not offered, none, and both.
    for method in [1, 0, 3] {
        let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, method, 0, 0];
        assert_eq!(choice(&header), Err(MseFault::NoCommonMethod));
    }
}

#[test]
fn survives_noise() {
    let torrents = torrents();
    let key = secret(3).public_key();
    for seed in 0..1000 {
        let mut rng = Rng::from_seed(seed);
        let (mut a, mut b) = (initiator(seed, BOTH), responder(seed, BOTH));
        // Half of the time behind a key that makes sense.
        if seed % 2 == 0 {
            a.handle_bytes(&key).expect("a key");
            b.handle_bytes(&key, &torrents).expect("a key");
        }
        for _ in 0..8 {
            let noise: Vec<u8> = (0..rng.below(300)).map(|_| rng.u32() as u8).collect();
            // What follows a fault is ignored.
            a.handle_bytes(&noise).ok();
            b.handle_bytes(&noise, &torrents).ok();
        }
        for output in std::iter::from_fn(|| a.poll_output().or_else(|| b.poll_output())) {
            assert!(matches!(output, Output::Send(_)), "seed {seed}: noise agrees with nobody");
        }
    }
}

#[test]
fn a_byte_that_changes_on_its_way_is_noticed_or_harmless() {
    for seed in 0..1000 {
        let mut rng = Rng::from_seed(seed);
        let mut changes = 0;
        let mutate = |bytes: &mut Vec<u8>| {
            if changes == 0 && !bytes.is_empty() && rng.below(3) == 0 {
                changes += 1;
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
        };
        // Padding may change, and payload; the rest leads to a fault, or to a wait that goes on.
        if let Ok((a, b)) =
            talk(initiator(seed, BOTH), responder(seed, BOTH), mutate, |len| len / 2)
            && let (Some(a), Some(b)) = (a.established, b.established)
        {
            assert_eq!((a.info_hash, a.method()), (b.info_hash, b.method()), "seed {seed}");
            assert_eq!(a.info_hash, TORRENT, "seed {seed}");
        }
    }
}

const YA: &str = concat!(
    "96e112dab29e8c5272accb9b17b26887ce54a144a4e3b697c7d159b7a817e556",
    "b0918db2b4c658e02a87f7e5fb14b18a553e084cbf3dad2d30f16596ccb982d4",
    "06258c61b30c5c1dae2ddc60bdbd48d79896312aad63238c39e1a633821eb693",
);
const S: &str = concat!(
    "d05ed96a95215a89b44073afe5d0b1626289ac01cff7849392948b2470b34654",
    "7e944d7562a897ae86976bc389999083ec09572dbdc8ed7f6a0a86a1aa42a3ca",
    "04209b72d8239890360435640643b76479ed7836f1857963fcc7cb72084c3ab4",
);
const MARK: &str = "78fffb0f23055a793ff7609f359e04e383ec3505";
const VEILED: &str = "e5fbae2f45ff1faeeb3b4df70d17236225f91856";
const STREAMS: [&str; 2] = ["797d6a1321ba40078573efd44dd10e2c", "7e728a8530bb77a2a6ca8d34f524b133"];
