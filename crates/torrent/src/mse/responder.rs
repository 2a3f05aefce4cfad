//! The end that is connected to, and finds out which torrent is meant.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use super::input::Input;
use super::{
    Ciphers, Established, HASH_LEN, KEY_LEN, Method, MseFault, Output, PADDING_MAX, Secret,
    SkeyTable, VERIFICATION_CONSTANT, first_mark, greeting, padding, veil,
};
use crate::{InfoHash, Rng};

/// A handshake that somebody begins with us.
///
/// Give what is received to [`handle_bytes`](Self::handle_bytes), and after each such call take
/// everything that [`poll_output`](Self::poll_output) has. It says nothing before a whole key is here,
/// and nothing more to those who do not know a torrent.
#[derive(Debug)]
pub struct Responder {
    state: State,
    input: Input,
    outputs: VecDeque<Output>,
    methods: &'static [Method],
    rng: Rng,
}

#[derive(Debug)]
enum State {
    AwaitingKey {
        secret: Secret,
    },
    /// Our key is out. The end of the padding is awaited.
    AwaitingMark {
        shared: [u8; KEY_LEN],
        mark: [u8; HASH_LEN],
    },
    AwaitingName {
        shared: [u8; KEY_LEN],
    },
    /// The constant, the methods to choose from, the length of the padding.
    AwaitingOffer {
        torrent: InfoHash,
        ciphers: Ciphers,
    },
    /// The padding, and the length of the first payload.
    AwaitingPadding {
        torrent: InfoHash,
        ciphers: Ciphers,
        method: Method,
        len: usize,
    },
    /// All has been said; the first payload is encrypted, though what follows is not.
    AwaitingPayload {
        torrent: InfoHash,
        ciphers: Ciphers,
        len: usize,
    },
    /// It is established, or failed.
    Over,
}

impl Responder {
    /// Waits for somebody to begin. `methods` are those that suit us, the best first.
    pub fn new(secret: Secret, methods: &'static [Method], rng: Rng) -> Self {
        Self {
            state: State::AwaitingKey { secret },
            input: Input::default(),
            outputs: VecDeque::new(),
            methods,
            rng,
        }
    }

    /// Bytes have come from the peer, who may mean one of `torrents`.
    ///
    /// # Errors
    /// Why this can become nothing. What comes later is ignored.
    pub fn handle_bytes(&mut self, bytes: &[u8], torrents: &SkeyTable) -> Result<(), MseFault> {
        self.input.push(bytes);
        while self.step(torrents)? {}
        Ok(())
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes one step, and returns whether another may be possible.
    fn step(&mut self, torrents: &SkeyTable) -> Result<bool, MseFault> {
        let before = std::mem::replace(&mut self.state, State::Over);
        let (state, has_moved) = match before {
            State::AwaitingKey { secret } => match self.input.take_array() {
                Some(theirs) => (self.answer(secret, &theirs)?, true),
                None => (State::AwaitingKey { secret }, false),
            },
            State::AwaitingMark { shared, mark } => match self.input.skip_past(&mark)? {
                true => (State::AwaitingName { shared }, true),
                false => (State::AwaitingMark { shared, mark }, false),
            },
            State::AwaitingName { shared } => match self.input.take_array() {
                Some(name) => {
                    let torrent = torrents.find(&veil(name, &shared));
                    let torrent = torrent.ok_or(MseFault::UnknownTorrent)?;
                    let ciphers = Ciphers::new(&shared, &torrent, false);
                    (State::AwaitingOffer { torrent, ciphers }, true)
                }
                None => (State::AwaitingName { shared }, false),
            },
            State::AwaitingOffer { torrent, mut ciphers } => match self.input.take_array() {
                Some(mut offer) => {
                    ciphers.receive.apply(&mut offer);
                    let (method, len) = self.read_offer(offer)?;
                    (State::AwaitingPadding { torrent, ciphers, method, len }, true)
                }
                None => (State::AwaitingOffer { torrent, ciphers }, false),
            },
            State::AwaitingPadding { torrent, mut ciphers, method, len } => {
                match self.input.take(len.saturating_add(2)) {
                    Some(mut bytes) => {
                        ciphers.receive.apply(&mut bytes);
                        let (_, len) = bytes.split_last_chunk().unwrap_or((&[], &[0; 2]));
                        let payload_len = usize::from(u16::from_be_bytes(*len));
                        (self.choose(torrent, ciphers, method, payload_len), true)
                    }
                    None => (State::AwaitingPadding { torrent, ciphers, method, len }, false),
                }
            }
            State::AwaitingPayload { torrent, mut ciphers, len } => match self.input.take(len) {
                Some(mut payload) => {
                    ciphers.receive.apply(&mut payload);
                    payload.append(&mut self.input.take_all());
                    self.establish(torrent, None, payload);
                    (State::Over, false)
                }
                None => (State::AwaitingPayload { torrent, ciphers, len }, false),
            },
            State::Over => {
                self.input.take_all();
                (State::Over, false)
            }
        };
        self.state = state;
        Ok(has_moved)
    }

    /// To a key, whosever it is, with ours.
    fn answer(&mut self, secret: Secret, theirs: &[u8; KEY_LEN]) -> Result<State, MseFault> {
        let (secret, shared) = secret.shared_in_full(theirs).ok_or(MseFault::WeakKey)?;
        self.outputs.push_back(Output::Send(greeting(&secret, &mut self.rng)));
        Ok(State::AwaitingMark { mark: first_mark(&shared), shared })
    }

    /// The best of the methods that are offered, and the length of the padding.
    fn read_offer(&self, bytes: [u8; OFFER_LEN]) -> Result<(Method, usize), MseFault> {
        let [constant @ .., a, b, c, d, high, low] = bytes;
        if constant != VERIFICATION_CONSTANT {
            return Err(MseFault::BadConstant);
        }
        let offered = u32::from_be_bytes([a, b, c, d]);
        let method = self.methods.iter().find(|method| offered & method.bit() != 0);
        let method = *method.ok_or(MseFault::NoCommonMethod)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > PADDING_MAX {
            return Err(MseFault::LongPadding);
        }
        Ok((method, len))
    }

    /// Says which method it shall be. With RC4 the first payload is as what follows it.
    fn choose(
        &mut self,
        torrent: InfoHash,
        mut ciphers: Ciphers,
        method: Method,
        payload_len: usize,
    ) -> State {
        let padding = padding(&mut self.rng);
        let choice = [
            &VERIFICATION_CONSTANT[..],
            &method.bit().to_be_bytes(),
            &(padding.len() as u16).to_be_bytes(),
            &padding,
        ];
        let mut bytes = Vec::new();
        ciphers.send.append(&choice.concat(), &mut bytes);
        self.outputs.push_back(Output::Send(bytes));
        match method {
            Method::Plaintext => State::AwaitingPayload { torrent, ciphers, len: payload_len },
            Method::Rc4 => {
                let mut received = self.input.take_all();
                ciphers.receive.apply(&mut received);
                self.establish(torrent, Some(Box::new(ciphers)), received);
                State::Over
            }
        }
    }

    fn establish(&mut self, info_hash: InfoHash, ciphers: Option<Box<Ciphers>>, received: Vec<u8>) {
        self.outputs.push_back(Output::Established(Established { info_hash, ciphers, received }));
    }
}

const OFFER_LEN: usize = VERIFICATION_CONSTANT.len() + 4 + 2;
