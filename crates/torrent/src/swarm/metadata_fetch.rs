//! Getting the info dictionary from peers ([BEP 9]): which piece of it to ask of whom, and whom to believe.
//!
//! At first all peers that say the same length give pieces of one copy, the fastest way while nobody lies.
//! Should that copy have the wrong hash, nobody knows whose piece was wrong, so from then on each peer is
//! asked for a copy of its own, a few at a time: who gives a wrong one is a liar, and so is, once a right one
//! is here, whoever gave other bytes to the first.
//!
//! [BEP 9]: https://www.bittorrent.org/beps/bep_0009.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::PeerKey;
use super::metadata_copy::{MetadataCopy, Suspect, piece_len};
use crate::wire::METADATA_PIECE_LEN;
use crate::{InfoHashes, PeerFault, PeerId};

/// The metadata of one torrent, on its way.
#[derive(Debug)]
pub(super) struct MetadataFetch {
    names: InfoHashes,
    tellers: BTreeMap<PeerKey, Teller>,
    /// The copy that all work on together, once somebody has been asked.
    shared: Option<MetadataCopy>,
    /// A shared copy was wrong: each peer gives its own.
    is_each_alone: bool,
    /// Whose pieces a wrong shared copy was made of.
    suspects: Vec<Suspect>,
    is_over: bool,
}

/// A peer that says it has the metadata.
#[derive(Debug)]
struct Teller {
    ip: IpAddr,
    /// How long it says that the metadata is.
    len: u32,
    /// How many pieces it may be asked for at once.
    asked_max: usize,
    /// What it was asked for and has not sent.
    asked: Vec<(u32, Instant)>,
    /// It rejected a request or let one wait too long: nothing is asked of it until then.
    rests_until: Option<Instant>,
    /// How often it let us down.
    letdowns: u32,
    /// The copy that is made of its pieces only.
    copy: Option<MetadataCopy>,
}

/// What came of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The info dictionary, if it is whole and right.
    pub(super) metadata: Option<Vec<u8>>,
    /// Those who are proven to have sent something wrong.
    pub(super) liars: BTreeSet<IpAddr>,
}

impl MetadataFetch {
    pub(super) const fn new(names: InfoHashes) -> Self {
        Self {
            names,
            tellers: BTreeMap::new(),
            shared: None,
            is_each_alone: false,
            suspects: Vec::new(),
            is_over: false,
        }
    }

    /// A peer says how long the metadata is. Nonsense is taken as if it had said nothing.
    pub(super) fn told(&mut self, key: PeerKey, ip: IpAddr, id: PeerId, len: u32) {
        if self.tellers.get(&key).is_some_and(|teller| teller.len == len) {
            return;
        }
        self.remove(key);
        if (1..=METADATA_LEN_MAX).contains(&len) && !self.is_over {
            // rTorrent answers one of several requests, and nothing after.
            let asked_max = if id.0.starts_with(b"-lt") { 1 } else { ASKED_MAX };
            let teller = Teller {
                ip,
                len,
                asked_max,
                asked: Vec::new(),
                rests_until: None,
                letdowns: 0,
                copy: None,
            };
            self.tellers.insert(key, teller);
        }
    }

    /// A peer is gone.
    pub(super) fn remove(&mut self, key: PeerKey) {
        self.unask(key);
        self.tellers.remove(&key);
    }

    /// What came is of no use: it is asked for anew.
    pub(super) const fn start_over(&mut self) {
        self.is_over = false;
    }

    /// Whom to ask for which piece now.
    pub(super) fn requests(&mut self, now: Instant) -> Vec<(PeerKey, u32)> {
        if self.is_over {
            return Vec::new();
        }
        if self.is_each_alone { self.requests_of_each(now) } else { self.requests_of_all(now) }
    }

    fn requests_of_all(&mut self, now: Instant) -> Vec<(PeerKey, u32)> {
        let is_useful =
            |len: u32| self.tellers.values().any(|teller| teller.len == len && !teller.rests(now));
        if self.shared.as_ref().is_none_or(|copy| !is_useful(copy.len)) {
            // Pieces of a length that nobody can go on with are of no use.
            let Some(len) = self.likeliest_len(now) else { return Vec::new() };
            self.shared = Some(MetadataCopy::new(len));
            self.tellers.values_mut().for_each(|teller| teller.asked.clear());
        }
        let Some(copy) = &mut self.shared else { return Vec::new() };
        let mut requests = Vec::new();
        for (&key, teller) in &mut self.tellers {
            if teller.len != copy.len || teller.rests(now) {
                continue;
            }
            while teller.asked.len() < teller.asked_max
                && let Some(piece) = copy.ask(&teller.asked)
            {
                teller.asked.push((piece, now));
                requests.push((key, piece));
            }
        }
        requests
    }

    fn requests_of_each(&mut self, now: Instant) -> Vec<(PeerKey, u32)> {
        let mut count = self.tellers.values().filter(|teller| teller.copy.is_some()).count();
        while count < ALONE_MAX {
            let idle = self.tellers.values_mut();
            let idle = idle.filter(|teller| teller.copy.is_none() && !teller.rests(now));
            let Some(next) = idle.min_by_key(|teller| teller.letdowns) else { break };
            next.copy = Some(MetadataCopy::new(next.len));
            count = count.saturating_add(1);
        }
        let mut requests = Vec::new();
        for (&key, teller) in &mut self.tellers {
            let Some(copy) = &mut teller.copy else { continue };
            while teller.asked.len() < teller.asked_max
                && let Some(piece) = copy.ask(&teller.asked)
            {
                teller.asked.push((piece, now));
                requests.push((key, piece));
            }
        }
        requests
    }

    /// The length that most of those say who could be asked; of several the smallest.
    fn likeliest_len(&self, now: Instant) -> Option<u32> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for teller in self.tellers.values().filter(|teller| !teller.rests(now)) {
            let count = counts.entry(teller.len).or_default();
            *count = count.saturating_add(1);
        }
        counts.into_iter().rev().max_by_key(|&(_, count)| count).map(|(len, _)| len)
    }

    /// Whether a peer was asked for a piece and has not sent it.
    pub(super) fn has_asked(&self, key: PeerKey, piece: u32) -> bool {
        let teller = self.tellers.get(&key);
        teller.is_some_and(|teller| teller.asked.iter().any(|(asked, _)| *asked == piece))
    }

    /// A piece has come. One that nobody waits for does no harm.
    ///
    /// # Errors
    /// If it is not of the length that it must have.
    pub(super) fn handle_data(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: u32,
        total_len: Option<u32>,
        data: &[u8],
    ) -> Result<Found, PeerFault> {
        let Some(teller) = self.tellers.get_mut(&key).filter(|_| !self.is_over) else {
            return Ok(Found::default());
        };
        teller.asked.retain(|(asked, _)| *asked != piece);
        if total_len.is_some_and(|len| len != teller.len) {
            // It said otherwise in its handshake.
            self.let_down(now, key);
            return Ok(Found::default());
        }
        if data.len() != piece_len(teller.len, piece) {
            return Err(PeerFault::MalformedMessage);
        }
        let ip = teller.ip;
        let copy = if self.is_each_alone { teller.copy.as_mut() } else { self.shared.as_mut() };
        let Some(copy) = copy.filter(|copy| copy.len == teller.len) else {
            return Ok(Found::default());
        };
        copy.put(piece, ip, data);
        if copy.missing > 0 {
            return Ok(Found::default());
        }
        let whole = copy.joined();
        if self.names.are_of(&whole) {
            let liars = self.proven_liars(&whole);
            self.is_over = true;
            (self.shared, self.suspects) = (None, Vec::new());
            self.tellers.clear();
            return Ok(Found { metadata: Some(whole), liars });
        }
        Ok(Found { metadata: None, liars: self.blame(key) })
    }

    /// A copy that was made with pieces of `key` is wrong.
    fn blame(&mut self, key: PeerKey) -> BTreeSet<IpAddr> {
        if self.is_each_alone {
            let liar = self.tellers.remove(&key).map(|teller| teller.ip);
            return liar.into_iter().collect();
        }
        let Some(copy) = self.shared.take() else { return BTreeSet::new() };
        self.tellers.values_mut().for_each(|teller| teller.asked.clear());
        let suspects = copy.suspects();
        let senders: BTreeSet<IpAddr> = suspects.iter().map(|suspect| suspect.ip).collect();
        if senders.len() == 1 {
            self.tellers.retain(|_, teller| !senders.contains(&teller.ip));
            return senders;
        }
        self.suspects = suspects;
        self.is_each_alone = true;
        BTreeSet::new()
    }

    /// Those of the suspects who sent something else than what is right.
    fn proven_liars(&self, right: &[u8]) -> BTreeSet<IpAddr> {
        let digests: Vec<[u8; 20]> = if self.suspects.is_empty() {
            Vec::new()
        } else {
            let pieces = right.chunks(METADATA_PIECE_LEN as usize);
            pieces.map(|piece| Sha1::digest(piece).into()).collect()
        };
        let is_wrong = |suspect: &&Suspect| {
            suspect.len as usize != right.len()
                || digests.get(suspect.piece) != Some(&suspect.digest)
        };
        self.suspects.iter().filter(is_wrong).map(|suspect| suspect.ip).collect()
    }

    /// A peer will not send a piece.
    pub(super) fn handle_reject(&mut self, now: Instant, key: PeerKey, piece: u32) {
        let Some(teller) = self.tellers.get(&key) else { return };
        // Others than those under way may be late rejects.
        if teller.asked.iter().any(|(asked, _)| *asked == piece) {
            self.let_down(now, key);
        }
    }

    /// Asks others for what has been due for too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let is_late =
            |(_, at): &(u32, Instant)| now.saturating_duration_since(*at) >= PIECE_PATIENCE;
        let late = self.tellers.iter().filter(|(_, teller)| teller.asked.iter().any(is_late));
        let late: Vec<PeerKey> = late.map(|(&key, _)| key).collect();
        late.into_iter().for_each(|key| self.let_down(now, key));
    }

    /// Nothing is asked of a peer for a while.
    fn let_down(&mut self, now: Instant, key: PeerKey) {
        self.unask(key);
        if let Some(teller) = self.tellers.get_mut(&key) {
            teller.letdowns = teller.letdowns.saturating_add(1);
            teller.copy = None;
            // It may not like several at once.
            teller.asked_max = 1;
            let rest = REST.saturating_mul(teller.letdowns).min(REST_MAX);
            teller.rests_until = now.checked_add(rest);
        }
    }

    /// What a peer was asked for, others may be asked for.
    fn unask(&mut self, key: PeerKey) {
        let Some(teller) = self.tellers.get_mut(&key) else { return };
        for (piece, _) in teller.asked.drain(..) {
            if let Some(copy) = &mut self.shared {
                copy.unask(piece);
            }
        }
    }

    /// How much is here, and how much there is by what most say, in bytes; `None` if nobody has said.
    pub(super) fn progress(&self) -> Option<(u32, u32)> {
        let alone = self.tellers.values().filter_map(|teller| teller.copy.as_ref());
        let copy = self.shared.iter().chain(alone).min_by_key(|copy| copy.missing)?;
        let missing = u32::try_from(copy.missing).unwrap_or(u32::MAX);
        let missing = missing.saturating_mul(METADATA_PIECE_LEN);
        Some((copy.len.saturating_sub(missing), copy.len))
    }

    /// How many bytes of metadata are in memory.
    #[cfg(test)]
    fn held_len(&self) -> usize {
        let alone = self.tellers.values().filter_map(|teller| teller.copy.as_ref());
        self.shared.iter().chain(alone).map(MetadataCopy::held_len).sum()
    }
}

impl Teller {
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

/// The longest metadata that is taken from peers, in bytes: that of a torrent of 800,000 pieces.
pub(super) const METADATA_LEN_MAX: u32 = 16 * 1024 * 1024;
/// Pieces that one peer is asked for at once.
const ASKED_MAX: usize = 4;
/// Copies of one peer each that are under way at once: they are in memory.
const ALONE_MAX: usize = 3;
/// How long a piece may take before others are asked for it.
const PIECE_PATIENCE: Duration = Duration::from_secs(4);
/// How long a peer that has let us down once is left in peace.
const REST: Duration = Duration::from_secs(8);
const REST_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers, and a test may panic")]

    use super::*;
    use crate::swarm::world::epoch;
    use crate::{InfoHash, Rng};

    const LEN: u32 = 5 * METADATA_PIECE_LEN + 100;

    fn metadata() -> Vec<u8> {
        (0..LEN).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn fetch() -> MetadataFetch {
        let v1 = Some(InfoHash::of(&metadata()));
        MetadataFetch::new(InfoHashes { v1, v2: None })
    }

    fn ip(host: u32) -> IpAddr {
        IpAddr::from([10, 0, 0, host as u8])
    }

    /// How a peer answers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Kind {
        Honest,
        /// Says so many bytes, and sends them.
        WrongLen(u32),
        WrongBytes,
        Silent,
        Rejects,
    }

    /// Plays until the metadata is here. Returns how long it took in seconds, and who was banned.
    fn play(kinds: &[Kind], seed: u64) -> Option<(u64, BTreeSet<IpAddr>)> {
        let (right, mut rng) = (metadata(), Rng::from_seed(seed));
        let (mut fetch, mut now, mut liars) = (fetch(), epoch(), BTreeSet::new());
        for (host, kind) in (0..).zip(kinds) {
            let len = if let Kind::WrongLen(len) = kind { *len } else { LEN };
            fetch.told(PeerKey(host), ip(host), ANY, len);
        }
        let mut wires: Vec<(PeerKey, u32)> = Vec::new();
        for second in 0..600 {
            fetch.handle_timeout(now);
            wires.extend(fetch.requests(now));
            assert!(fetch.held_len() <= (1 + ALONE_MAX) * LEN as usize * 2);
            rng.shuffle(&mut wires);
            while let Some((key, piece)) = wires.pop() {
                let kind = kinds[key.0 as usize];
                let mut data = right
                    .chunks(METADATA_PIECE_LEN as usize)
                    .nth(piece as usize)
                    .unwrap_or_default()
                    .to_vec();
                let len = match kind {
                    Kind::Silent => continue,
                    Kind::Rejects => {
                        fetch.handle_reject(now, key, piece);
                        wires.extend(fetch.requests(now));
                        continue;
                    }
                    Kind::WrongLen(len) => {
                        data = vec![1; piece_len(len, piece)];
                        len
                    }
                    Kind::WrongBytes => {
                        data[0] ^= 1;
                        LEN
                    }
                    Kind::Honest => LEN,
                };
                let found = fetch.handle_data(now, key, piece, Some(len), &data).expect("in form");
                for &liar in &found.liars {
                    (0..)
                        .zip(kinds)
                        .filter(|(host, _)| ip(*host) == liar)
                        .for_each(|(host, _)| fetch.remove(PeerKey(host)));
                }
                liars.extend(found.liars);
                if let Some(found) = found.metadata {
                    assert_eq!(found, right);
                    return Some((second, liars));
                }
                wires.extend(fetch.requests(now));
            }
            now += Duration::from_secs(1);
        }
        None
    }

    const ANY: PeerId = PeerId(*b"-XX0000-abcdefghijkl");

    #[test]
    fn who_answers_one_request_at_a_time_is_asked_so() {
        let (mut fetch, now) = (fetch(), epoch());
        fetch.told(PeerKey(0), ip(0), PeerId(*b"-lt0D80-abcdefghijkl"), LEN);
        assert_eq!(fetch.requests(now), [(PeerKey(0), 0)]);
        let first = &metadata()[..METADATA_PIECE_LEN as usize];
        assert!(fetch.handle_data(now, PeerKey(0), 0, Some(LEN), first).is_ok());
        assert_eq!(fetch.requests(now), [(PeerKey(0), 1)]);
    }

    #[test]
    fn all_peers_are_asked_at_once_and_the_last_pieces_twice() {
        let (mut fetch, now) = (fetch(), epoch());
        assert_eq!((fetch.requests(now), fetch.progress()), (vec![], None));
        fetch.told(PeerKey(0), ip(0), ANY, LEN);
        let first: Vec<u32> = fetch.requests(now).into_iter().map(|(_, piece)| piece).collect();
        assert_eq!(first, [0, 1, 2, 3]);
        fetch.told(PeerKey(1), ip(1), ANY, LEN);
        let second: Vec<u32> = fetch.requests(now).into_iter().map(|(_, piece)| piece).collect();
        assert_eq!(second, [4, 5, 0, 1]);
        fetch.told(PeerKey(1), ip(1), ANY, LEN);
        assert_eq!(fetch.requests(now), [], "said twice is said once");
        assert_eq!(fetch.progress(), Some((0, LEN)));
        assert_eq!(play(&[Kind::Honest], 1), Some((0, BTreeSet::new())));
    }

    #[test]
    fn a_wrong_length_or_hash_costs_time_and_the_liar_its_place() {
        for seed in 0..300 {
            let (seconds, liars) =
                play(&[Kind::WrongBytes, Kind::Honest, Kind::Honest], seed).expect("it comes");
            assert!(seconds < 2, "seed {seed}: {seconds} s");
            assert!(liars.iter().all(|liar| *liar == ip(0)), "seed {seed}: {liars:?}");
            // More liars than honest ones, of one mind.
            let kinds =
                [Kind::WrongLen(1000), Kind::WrongLen(1000), Kind::WrongLen(1000), Kind::Honest];
            let (seconds, liars) = play(&kinds, seed).expect("it comes");
            assert!(seconds < 2 && !liars.contains(&ip(3)), "seed {seed}: {seconds} s, {liars:?}");
            let kinds = [
                Kind::WrongLen(METADATA_LEN_MAX),
                Kind::WrongLen(METADATA_LEN_MAX + 1),
                Kind::WrongLen(0),
                Kind::Honest,
            ];
            if seed < 1 {
                assert!(play(&kinds, seed).is_some_and(|(_, liars)| !liars.contains(&ip(3))));
            }
        }
    }

    #[test]
    fn whoever_is_silent_or_rejects_is_passed_over() {
        for seed in 0..100 {
            let (seconds, liars) =
                play(&[Kind::Silent, Kind::Rejects, Kind::Honest], seed).expect("it comes");
            assert!(seconds <= 5 && liars.is_empty(), "seed {seed}: {seconds} s, {liars:?}");
        }
        assert_eq!(play(&[Kind::Silent, Kind::Rejects], 1), None);
    }

    #[test]
    fn one_honest_peer_among_any_others_is_enough() {
        let any = [
            Kind::Honest,
            Kind::WrongLen(7),
            Kind::WrongLen(LEN + 1),
            Kind::WrongBytes,
            Kind::Silent,
            Kind::Rejects,
        ];
        for seed in 0..200 {
            let mut rng = Rng::from_seed(seed);
            let mut kinds: Vec<Kind> =
                (0..rng.below(9)).map(|_| any[rng.below(any.len())]).collect();
            kinds.push(Kind::Honest);
            let (_, liars) = play(&kinds, seed).expect("it comes");
            for (host, kind) in (0..).zip(&kinds) {
                let is_liar = matches!(kind, Kind::WrongLen(_) | Kind::WrongBytes);
                assert!(is_liar || !liars.contains(&ip(host)), "seed {seed}: {kinds:?}, {liars:?}");
            }
        }
    }

    #[test]
    fn a_piece_of_another_length_is_a_fault_and_one_past_the_end_too() {
        let (mut fetch, now) = (fetch(), epoch());
        fetch.told(PeerKey(0), ip(0), ANY, LEN);
        drop(fetch.requests(now));
        let mut data = |piece, len| fetch.handle_data(now, PeerKey(0), piece, None, &vec![0; len]);
        assert!(data(0, METADATA_PIECE_LEN as usize).is_ok() && data(5, 100).is_ok());
        for (piece, len) in [(0, 0), (1, 16_383), (5, 99), (5, 16_384), (6, 1), (u32::MAX, 16_384)]
        {
            assert_eq!(
                data(piece, len),
                Err(PeerFault::MalformedMessage),
                "{len} bytes of {piece}"
            );
        }
        assert_eq!(
            fetch.handle_data(now, PeerKey(9), 0, None, b"x"),
            Ok(Found::default()),
            "of a stranger"
        );
    }

    #[test]
    fn both_hashes_of_a_hybrid_must_be_right() {
        let (right, now) = (b"d1:ai1ee", epoch());
        let v1 = Some(InfoHash::of(right));
        for (v2, is_right) in
            [(crate::InfoHashV2::of(right), true), (crate::InfoHashV2([0; 32]), false)]
        {
            let mut fetch = MetadataFetch::new(InfoHashes { v1, v2: Some(v2) });
            fetch.told(PeerKey(0), ip(0), ANY, right.len() as u32);
            assert_eq!(fetch.requests(now), [(PeerKey(0), 0)]);
            let found = fetch.handle_data(now, PeerKey(0), 0, None, right).expect("in form");
            assert_eq!((found.metadata.is_some(), found.liars.is_empty()), (is_right, is_right));
        }
    }
}
