//! SOCKS5 from the client's side: greeting, login, one request.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::target::Decoded;
use super::{Login, ProxyFault, SocksReply, Target};

/// One connection to a SOCKS5 proxy, until it does what was asked.
#[derive(Debug)]
pub(super) struct SocksConversation {
    state: State,
    login: Option<Login>,
    request: Vec<u8>,
    /// What is to be sent.
    transmit: Option<Vec<u8>>,
    /// What has come of the answer that is awaited; at most [`ANSWER_LEN_MAX`].
    received: Vec<u8>,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Connect = 1,
    Associate = 3,
}

#[derive(Debug)]
enum State {
    /// We have said which ways of logging in we know.
    Greeted,
    /// We have said who we are.
    LoggingIn,
    /// We have said what we want.
    Asked,
    /// It is done, and this is the address at the proxy's other side.
    Over(Target),
}

impl SocksConversation {
    pub(super) fn new(command: Command, target: &Target, login: Option<Login>) -> Self {
        // A proxy may choose to do without a login, even if we have one.
        let greeting = match &login {
            Some(_) => vec![VERSION, 2, METHOD_NONE, METHOD_PASSWORD],
            None => vec![VERSION, 1, METHOD_NONE],
        };
        let mut request = vec![VERSION, command as u8, 0];
        target.encode(&mut request);
        Self {
            state: State::Greeted,
            login,
            request,
            transmit: Some(greeting),
            received: Vec::new(),
        }
    }

    pub(super) const fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// Where the proxy has bound, once it has done what was asked.
    pub(super) const fn bound(&self) -> Option<&Target> {
        match &self.state {
            State::Over(bound) => Some(bound),
            State::Greeted | State::LoggingIn | State::Asked => None,
        }
    }

    /// Takes one byte after the other, so that not one of those behind the answer is touched: the answer is
    /// short, and its length is known only as it comes.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<usize, ProxyFault> {
        let mut used: usize = 0;
        for &byte in bytes {
            if self.bound().is_some() {
                break;
            }
            self.received.push(byte);
            used = used.saturating_add(1);
            self.handle_answer()?;
        }
        Ok(used)
    }

    /// Goes on if the answer that is awaited is whole.
    fn handle_answer(&mut self) -> Result<(), ProxyFault> {
        match (&self.state, &self.received[..]) {
            (State::Greeted, &[version, ..]) if version != VERSION => {
                return Err(ProxyFault::WrongProtocol);
            }
            (State::Greeted, &[_, method]) => self.chosen(method)?,
            (State::LoggingIn, &[_, status]) => {
                // The version of this answer is 1, but some send 5.
                if status != 0 {
                    return Err(ProxyFault::LoginRefused);
                }
                self.ask();
            }
            (State::Asked, &[version, ..]) if version != VERSION => {
                return Err(ProxyFault::WrongProtocol);
            }
            (State::Asked, &[_, code, _, ref target @ ..]) => {
                // Some say no more than the code if it is a bad one.
                if let Some(reply) = SocksReply::of_code(code) {
                    return Err(ProxyFault::Refused(reply));
                }
                match Target::decode(target) {
                    Decoded::Whole(bound, _) => self.state = State::Over(bound),
                    Decoded::Short => {}
                    Decoded::Malformed => return Err(ProxyFault::WrongProtocol),
                }
            }
            _ => {}
        }
        assert!(self.received.len() <= ANSWER_LEN_MAX, "an answer of SOCKS5 has an end");
        Ok(())
    }

    fn chosen(&mut self, method: u8) -> Result<(), ProxyFault> {
        match (method, &self.login) {
            (METHOD_NONE, _) => {
                self.ask();
                Ok(())
            }
            (METHOD_PASSWORD, Some(login)) => {
                self.transmit = Some(login.encode());
                self.received.clear();
                self.state = State::LoggingIn;
                Ok(())
            }
            (METHOD_NO_OTHER, None) => Err(ProxyFault::LoginWanted),
            (METHOD_NO_OTHER, Some(_)) => Err(ProxyFault::LoginRefused),
            _ => Err(ProxyFault::WrongProtocol),
        }
    }

    fn ask(&mut self) {
        self.transmit = Some(std::mem::take(&mut self.request));
        self.received.clear();
        self.state = State::Asked;
    }
}

const VERSION: u8 = 5;
const METHOD_NONE: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
/// The proxy knows none of the ways that we do.
const METHOD_NO_OTHER: u8 = 0xff;
/// Version, code, reserved, kind, a name of 255 bytes with its length, port.
const ANSWER_LEN_MAX: usize = 262;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn target() -> Target {
        Target::new("192.0.2.1", 6881).expect("valid")
    }

    fn login() -> Option<Login> {
        Some(Login::new("me".to_owned(), "secret".to_owned()).expect("short"))
    }

    #[test]
    fn connects_without_a_login() {
        let mut socks = SocksConversation::new(Command::Connect, &target(), None);
        assert_eq!(socks.poll_transmit(), Some(vec![5, 1, 0]));
        assert_eq!(socks.handle_bytes(&[5, 0]), Ok(2));
        assert_eq!(socks.poll_transmit(), Some(vec![5, 1, 0, 1, 192, 0, 2, 1, 0x1a, 0xe1]));
        assert_eq!(socks.handle_bytes(&[5, 0, 0, 1, 10, 0, 0, 1, 0, 9, 77, 77]), Ok(10));
        assert_eq!(socks.bound(), Some(&Target::new("10.0.0.1", 9).expect("valid")));
        assert_eq!(socks.handle_bytes(&[77]), Ok(0), "that is the peer's");
    }

    #[test]
    fn logs_in_if_it_is_asked_to() {
        let name = Target::new("tracker.example", 80).expect("valid");
        let mut socks = SocksConversation::new(Command::Associate, &name, login());
        assert_eq!(socks.poll_transmit(), Some(vec![5, 2, 0, 2]));
        assert_eq!(socks.handle_bytes(&[5, 2]), Ok(2));
        assert_eq!(socks.poll_transmit().as_deref(), Some(&b"\x01\x02me\x06secret"[..]));
        assert_eq!(socks.handle_bytes(&[1, 0]), Ok(2));
        let request = socks.poll_transmit().expect("the request");
        assert_eq!(request, b"\x05\x03\x00\x03\x0ftracker.example\x00\x50");
        for byte in [5, 0, 0, 3, 1, b'x', 0, 7] {
            assert!(socks.bound().is_none());
            assert_eq!(socks.handle_bytes(&[byte]), Ok(1));
        }
        assert_eq!(socks.bound(), Some(&Target::Name("x".to_owned(), 7)));
    }

    #[test]
    fn tells_what_is_wrong() {
        let answered = |login, answers: &[&[u8]]| {
            let mut socks = SocksConversation::new(Command::Connect, &target(), login);
            answers.iter().find_map(|answer| socks.handle_bytes(answer).err())
        };
        assert_eq!(answered(None, &[b"HTTP/1.1 400"]), Some(ProxyFault::WrongProtocol));
        assert_eq!(answered(None, &[&[5, 0xff]]), Some(ProxyFault::LoginWanted));
        assert_eq!(answered(None, &[&[5, 2]]), Some(ProxyFault::WrongProtocol));
        assert_eq!(answered(login(), &[&[5, 0xff]]), Some(ProxyFault::LoginRefused));
        assert_eq!(answered(login(), &[&[5, 2], &[1, 1]]), Some(ProxyFault::LoginRefused));
        let refused = Some(ProxyFault::Refused(SocksReply::ConnectionRefused));
        assert_eq!(answered(None, &[&[5, 0], &[5, 5, 0]]), refused);
        assert_eq!(answered(None, &[&[5, 0], &[5, 0, 0, 9]]), Some(ProxyFault::WrongProtocol));
    }

    #[test]
    fn survives_any_proxy() {
        for seed in 0..2000 {
            let mut noise = Rng::from_seed(seed);
            let mut socks = SocksConversation::new(Command::Connect, &target(), login());
            // Half of the time get to where addresses are parsed.
            if seed % 2 == 0 {
                socks.handle_bytes(&[5, 0, 5, 0, 0]).expect("as it should be");
            }
            for _ in 0..20 {
                let bytes: Vec<u8> =
                    (0..noise.u32() % 64).map(|_| (noise.u32() % 8) as u8).collect();
                match socks.handle_bytes(&bytes) {
                    Ok(used) => assert!(used <= bytes.len()),
                    Err(_) => break,
                }
            }
        }
    }
}
