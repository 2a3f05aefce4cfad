//! The end that connects, and names the torrent.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use super::input::Input;
use super::{
    Ciphers, Established, KEY_LEN, Method, MseFault, Output, PADDING_MAX, Secret,
    VERIFICATION_CONSTANT, first_mark, greeting, name_of, padding, veil,
};
use crate::{InfoHash, Rng};

/// A handshake that we begin.
///
/// Give what is received to [`handle_bytes`](Self::handle_bytes); after its birth and after each such
/// call take everything that [`poll_output`](Self::poll_output) has.
#[derive(Debug)]
pub struct Initiator {
    state: State,
    input: Input,
    outputs: VecDeque<Output>,
    torrent: InfoHash,
    methods: &'static [Method],
    rng: Rng,
}

#[derive(Debug)]
enum State {
    /// Our key is out, and the other's is awaited. Then the payload goes out.
    AwaitingKey {
        secret: Secret,
        payload: Vec<u8>,
    },
    /// The constant is awaited, behind padding: encrypted, it is `mark`.
    AwaitingConstant {
        ciphers: Ciphers,
        mark: [u8; VERIFICATION_CONSTANT.len()],
    },
    /// The choice of a method, and the length of the padding behind it.
    AwaitingChoice {
        ciphers: Ciphers,
    },
    AwaitingPadding {
        ciphers: Ciphers,
        method: Method,
        len: usize,
    },
    /// It is established, or failed.
    Over,
}

impl Initiator {
    /// Begins. `methods` are those that the other end may choose from; `payload` is what it gets with
    /// our last words, so that it need not wait for them: at most 64 KiB are taken.
    pub fn new(
        secret: Secret,
        torrent: InfoHash,
        methods: &'static [Method],
        payload: Vec<u8>,
        mut rng: Rng,
    ) -> Self {
        let greeting = Output::Send(greeting(&secret, &mut rng));
        Self {
            state: State::AwaitingKey { secret, payload },
            input: Input::default(),
            outputs: VecDeque::from([greeting]),
            torrent,
            methods,
            rng,
        }
    }

    /// Bytes have come from the peer.
    ///
    /// # Errors
    /// Why this can become nothing. What comes later is ignored.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), MseFault> {
        self.input.push(bytes);
        while self.step()? {}
        Ok(())
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes one step, and returns whether another may be possible.
    fn step(&mut self) -> Result<bool, MseFault> {
        let before = std::mem::replace(&mut self.state, State::Over);
        let (state, has_moved) = match before {
            State::AwaitingKey { secret, payload } => match self.input.take_array() {
                Some(theirs) => (self.name_torrent(&secret, &theirs, &payload)?, true),
                None => (State::AwaitingKey { secret, payload }, false),
            },
            State::AwaitingConstant { ciphers, mark } => match self.input.skip_past(&mark)? {
                true => (State::AwaitingChoice { ciphers }, true),
                false => (State::AwaitingConstant { ciphers, mark }, false),
            },
            State::AwaitingChoice { mut ciphers } => match self.input.take_array::<6>() {
                Some(mut bytes) => {
                    ciphers.receive.apply(&mut bytes);
                    let (method, len) = self.read_choice(bytes)?;
                    (State::AwaitingPadding { ciphers, method, len }, true)
                }
                None => (State::AwaitingChoice { ciphers }, false),
            },
            State::AwaitingPadding { ciphers, method, len } => match self.input.take(len) {
                Some(padding) => {
                    self.establish(ciphers, method, padding);
                    (State::Over, false)
                }
                None => (State::AwaitingPadding { ciphers, method, len }, false),
            },
            State::Over => {
                self.input.take_all();
                (State::Over, false)
            }
        };
        self.state = state;
        Ok(has_moved)
    }

    /// With the other's key here, all can be said that there is to say.
    fn name_torrent(
        &mut self,
        secret: &Secret,
        theirs: &[u8; KEY_LEN],
        payload: &[u8],
    ) -> Result<State, MseFault> {
        let shared = secret.shared(theirs).ok_or(MseFault::WeakKey)?;
        let mut ciphers = Ciphers::new(&shared, &self.torrent, true);
        let payload_len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let padding = padding(&mut self.rng);
        let offered = self.methods.iter().fold(0, |bits, method| bits | method.bit());
        let header = [
            &VERIFICATION_CONSTANT[..],
            &offered.to_be_bytes(),
            &(padding.len() as u16).to_be_bytes(),
            &padding,
            &payload_len.to_be_bytes(),
            payload.get(..usize::from(payload_len)).unwrap_or_default(),
        ];
        let mut bytes = [first_mark(&shared), veil(name_of(&self.torrent), &shared)].concat();
        ciphers.send.append(&header.concat(), &mut bytes);
        self.outputs.push_back(Output::Send(bytes));
        let mut mark = VERIFICATION_CONSTANT;
        ciphers.receive.apply(&mut mark);
        Ok(State::AwaitingConstant { ciphers, mark })
    }

    /// The method, and the length of the padding.
    fn read_choice(&self, bytes: [u8; 6]) -> Result<(Method, usize), MseFault> {
        let [a, b, c, d, high, low] = bytes;
        let chosen = u32::from_be_bytes([a, b, c, d]);
        let method = self.methods.iter().find(|method| method.bit() == chosen);
        let method = *method.ok_or(MseFault::NoCommonMethod)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > PADDING_MAX {
            return Err(MseFault::LongPadding);
        }
        Ok((method, len))
    }

    fn establish(&mut self, mut ciphers: Ciphers, method: Method, mut padding: Vec<u8>) {
        ciphers.receive.apply(&mut padding);
        let mut received = self.input.take_all();
        let ciphers = match method {
            Method::Plaintext => None,
            Method::Rc4 => {
                ciphers.receive.apply(&mut received);
                Some(Box::new(ciphers))
            }
        };
        let info_hash = self.torrent;
        self.outputs.push_back(Output::Established(Established { info_hash, ciphers, received }));
    }
}
