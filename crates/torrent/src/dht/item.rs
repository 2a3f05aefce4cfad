//! Small things that anyone may keep in the DHT ([BEP 44]): a value under its own hash, or one that
//! changes, under the public key of who signs it.
//!
//! [BEP 44]: https://www.bittorrent.org/beps/bep_0044.html

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha1::{Digest, Sha1};

use super::krpc::{ErrorCode, Signed};
use super::node_id::{NodeId, holder};
use crate::bencode;

/// A value with the right to be where it is: its hash or its signature has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    value: Vec<u8>,
    signed: Option<Box<SignedPart>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SignedPart {
    key: [u8; 32],
    salt: Vec<u8>,
    seq: i64,
    signature: [u8; 64],
}

/// Why something cannot be an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// More than 1,000 bytes.
    #[error("the value is longer than 1,000 bytes, bencoded")]
    ValueTooLong,
    /// More than 64 bytes.
    #[error("the salt is longer than 64 bytes")]
    SaltTooLong,
    /// The value is no bencode, or not in its one canonical form.
    #[error("the value is not bencode in its canonical form")]
    NotBencode,
    /// The signature is not one of this key over this value.
    #[error("the signature is wrong")]
    BadSignature,
}

impl ItemError {
    pub(super) const fn code(self) -> ErrorCode {
        match self {
            Self::ValueTooLong => ErrorCode::ValueTooLong,
            Self::SaltTooLong => ErrorCode::SaltTooLong,
            Self::NotBencode => ErrorCode::Protocol,
            Self::BadSignature => ErrorCode::BadSignature,
        }
    }
}

impl Item {
    /// A value that never changes; `value` is bencode.
    ///
    /// # Errors
    /// If it is too long, or not bencode.
    pub fn immutable(value: Vec<u8>) -> Result<Self, ItemError> {
        check(&value)?;
        Ok(Self { value, signed: None })
    }

    /// Signs a value with a secret key (the 32 bytes of seed that RFC 8032 calls private key). `seq` must
    /// be higher than that of what is there.
    ///
    /// # Errors
    /// If value or salt are too long, or the value is not bencode.
    pub fn sign(
        secret: &[u8; 32],
        salt: &[u8],
        seq: i64,
        value: Vec<u8>,
    ) -> Result<Self, ItemError> {
        check(&value)?;
        if salt.len() > SALT_LEN_MAX {
            return Err(ItemError::SaltTooLong);
        }
        let secret = SigningKey::from_bytes(secret);
        let signature = secret.sign(&signed_bytes(salt, seq, &value)).to_bytes();
        let key = secret.verifying_key().to_bytes();
        let signed = SignedPart { key, salt: salt.to_vec(), seq, signature };
        Ok(Self { value, signed: Some(Box::new(signed)) })
    }

    /// An item that someone else has signed.
    ///
    /// # Errors
    /// If it is none.
    pub fn verify(value: Vec<u8>, signed: &Signed<'_>) -> Result<Self, ItemError> {
        check(&value)?;
        if signed.salt.len() > SALT_LEN_MAX {
            return Err(ItemError::SaltTooLong);
        }
        let bytes = signed_bytes(signed.salt, signed.seq, &value);
        let signature = Signature::from_bytes(signed.signature);
        VerifyingKey::from_bytes(signed.key)
            .and_then(|key| key.verify_strict(&bytes, &signature))
            .map_err(|_wrong| ItemError::BadSignature)?;
        let signed = SignedPart {
            key: *signed.key,
            salt: signed.salt.to_vec(),
            seq: signed.seq,
            signature: *signed.signature,
        };
        Ok(Self { value, signed: Some(Box::new(signed)) })
    }

    /// Where it belongs.
    pub fn target(&self) -> NodeId {
        target(&self.value, self.signed().as_ref())
    }

    /// The value, bencoded.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Its number, if it can change: the higher one is the newer.
    pub fn seq(&self) -> Option<i64> {
        self.signed.as_ref().map(|signed| signed.seq)
    }

    /// Who signed it, and how, if it can change.
    pub fn signed(&self) -> Option<Signed<'_>> {
        let SignedPart { key, salt, seq, signature } = &**self.signed.as_ref()?;
        Some(Signed { key, salt, seq: *seq, signature })
    }
}

/// Where a value belongs that may or may not be an item.
pub(super) fn target(value: &[u8], signed: Option<&Signed<'_>>) -> NodeId {
    match signed {
        None => NodeId(Sha1::digest(value).into()),
        Some(signed) => mutable_target(signed.key, signed.salt),
    }
}

/// Where the items of a public key are, one for each salt.
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
}

/// The public key that belongs to a secret one.
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(secret).verifying_key().to_bytes()
}

fn check(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > VALUE_LEN_MAX {
        return Err(ItemError::ValueTooLong);
    }
    bencode::decode(value).map(|_| ()).map_err(|_not| ItemError::NotBencode)
}

fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VALUE_LEN_MAX);
    if !salt.is_empty() {
        bytes.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        bytes.extend_from_slice(salt);
    }
    bytes.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The items that others have given us to keep. When it is full the oldest goes; whoever has given us more than a
/// share loses the oldest of those.
#[derive(Debug, Default)]
pub(super) struct ItemStore {
    items: BTreeMap<NodeId, Kept>,
    /// Exactly those of `items`.
    by_age: BTreeSet<(Instant, NodeId)>,
    /// How many of them each [`holder`] gave last.
    by_holder: BTreeMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Kept {
    item: Item,
    at: Instant,
    holder: IpAddr,
}

impl ItemStore {
    pub(super) fn get(&mut self, now: Instant, target: &NodeId) -> Option<&Item> {
        self.expire(now);
        self.items.get(target).map(|kept| &kept.item)
    }

    /// Keeps an item, if it is not older than what is there, and that has the number `cas`.
    pub(super) fn put(
        &mut self,
        now: Instant,
        item: Item,
        cas: Option<i64>,
        from: IpAddr,
    ) -> Result<(), ErrorCode> {
        self.expire(now);
        let target = item.target();
        let mut holder = holder(from);
        if let Some(Kept { item: there, holder: before, .. }) = self.items.get(&target) {
            if cas.is_some_and(|cas| there.seq() != Some(cas)) {
                return Err(ErrorCode::CasMismatch);
            }
            if item.seq() < there.seq() || (item.seq() == there.seq() && item.value != there.value)
            {
                return Err(ErrorCode::SeqTooOld);
            }
            if item.seq() == there.seq() {
                // Who just says it again, as anybody can, does not take it over to push it out.
                holder = *before;
            }
            self.remove(&target);
        }
        let is_greedy = self.by_holder.get(&holder).is_some_and(|n| *n >= ITEMS_PER_HOLDER_MAX);
        if is_greedy || self.items.len() >= ITEMS_MAX {
            let may_go = |target: &&NodeId| !is_greedy || self.items[*target].holder == holder;
            let oldest = self.by_age.iter().map(|(_, target)| target).find(may_go).copied();
            oldest.iter().for_each(|oldest| self.remove(oldest));
        }
        self.items.insert(target, Kept { item, at: now, holder });
        self.by_age.insert((now, target));
        *self.by_holder.entry(holder).or_default() += 1;
        Ok(())
    }

    fn remove(&mut self, target: &NodeId) {
        let Some(Kept { at, holder, .. }) = self.items.remove(target) else { return };
        self.by_age.remove(&(at, *target));
        if let Some(count) = self.by_holder.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                self.by_holder.remove(&holder);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Forgets what has not been stored again for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(at, target)) = self.by_age.first()
            && now.saturating_duration_since(at) >= EXPIRE_AFTER
        {
            self.remove(&target);
        }
    }
}

const VALUE_LEN_MAX: usize = 1000;
const SALT_LEN_MAX: usize = 64;
/// Some two megabytes.
const ITEMS_MAX: usize = 2000;
const ITEMS_PER_HOLDER_MAX: usize = 200;
/// Whoever wants it kept stores it every hour.
const EXPIRE_AFTER: Duration = Duration::from_secs(2 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::swarm::tests::epoch;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
    }

    #[test]
    fn items_are_those_of_the_specification() {
        let value = b"12:Hello World!".to_vec();
        let key = hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548");
        let plain = hex(
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        );
        let salted = hex(
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17ddf9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
        );
        let item = |salt, signature| {
            Item::verify(value.clone(), &Signed { key: &key, salt, seq: 1, signature })
        };
        let target = |item: Result<Item, ItemError>| item.map(|item| item.target().to_string());
        assert_eq!(
            target(item(b"", &plain)).as_deref(),
            Ok("4a533d47ec9c7d95b1ad75f576cffc641853b750")
        );
        assert_eq!(
            target(item(b"foobar", &salted)).as_deref(),
            Ok("411eba73b6f087ca51a3795d9c8c938d365e32c1")
        );
        assert_eq!(item(b"foobaz", &salted), Err(ItemError::BadSignature));
        assert_eq!(
            target(Item::immutable(value.clone())).as_deref(),
            Ok("e5f96f6f38320f0f33959cb4d3d656452117aadb")
        );
    }

    #[test]
    fn what_is_signed_verifies_and_what_was_changed_does_not() {
        let secret = [7; 32];
        let item = Item::sign(&secret, b"salt", -3, b"i42e".to_vec()).expect("fits");
        let signed = item.signed().expect("mutable");
        assert_eq!(*signed.key, public_key(&secret));
        assert_eq!(Item::verify(b"i42e".to_vec(), &signed), Ok(item.clone()));
        assert_eq!(Item::verify(b"i43e".to_vec(), &signed), Err(ItemError::BadSignature));
        let later = Signed { seq: 4, ..signed };
        assert_eq!(Item::verify(b"i42e".to_vec(), &later), Err(ItemError::BadSignature));
        let mut rng = Rng::from_seed(1);
        for _ in 0..200 {
            let (key, signature) = (rng.bytes(), [rng.bytes::<32>(), rng.bytes()].concat());
            let signature = signature.as_slice().try_into().expect("64 bytes");
            let noise = Signed { key: &key, salt: b"", seq: 1, signature };
            assert!(Item::verify(b"le".to_vec(), &noise).is_err());
        }
    }

    #[test]
    fn what_is_too_long_or_no_bencode_is_no_item() {
        let bytes = |len: usize| [format!("{len}:").as_bytes(), &vec![0; len]].concat();
        assert!(Item::immutable(bytes(996)).is_ok());
        assert_eq!(Item::immutable(bytes(997)), Err(ItemError::ValueTooLong));
        assert_eq!(Item::immutable(b"hello".to_vec()), Err(ItemError::NotBencode));
        assert_eq!(Item::immutable(b"i1ei2e".to_vec()), Err(ItemError::NotBencode));
        let salted = Item::sign(&[1; 32], &[0; 65], 1, b"le".to_vec());
        assert_eq!(salted, Err(ItemError::SaltTooLong));
    }

    #[test]
    fn newer_items_replace_older_ones_and_nothing_else_does() {
        let mut store = ItemStore::default();
        let item = |seq: i64, value: &[u8]| Item::sign(&[1; 32], b"", seq, value.to_vec()).unwrap();
        let target = item(1, b"i1e").target();
        let from = IpAddr::from([9, 9, 9, 9]);
        assert_eq!(store.put(epoch(), item(5, b"i5e"), None, from), Ok(()));
        assert_eq!(store.put(epoch(), item(4, b"i4e"), None, from), Err(ErrorCode::SeqTooOld));
        assert_eq!(store.put(epoch(), item(5, b"i6e"), None, from), Err(ErrorCode::SeqTooOld));
        assert_eq!(store.put(epoch(), item(5, b"i5e"), None, from), Ok(()), "kept for longer");
        assert_eq!(store.put(epoch(), item(6, b"i6e"), Some(4), from), Err(ErrorCode::CasMismatch));
        assert_eq!(store.put(epoch(), item(6, b"i6e"), Some(5), from), Ok(()));
        assert_eq!(store.get(epoch(), &target).map(Item::value), Some(&b"i6e"[..]));
        assert_eq!(store.get(epoch() + EXPIRE_AFTER, &target), None);
        for number in 0..ITEMS_MAX + 10 {
            let item = Item::immutable(format!("i{number}e").into_bytes()).expect("fits");
            let from = IpAddr::from([9, 8, (number / 100) as u8, 1]);
            store.put(epoch(), item, None, from).expect("kept");
        }
        assert_eq!((store.len(), store.by_age.len()), (ITEMS_MAX, ITEMS_MAX));
    }

    #[test]
    fn nobody_alone_pushes_out_what_others_have_stored() {
        let mut store = ItemStore::default();
        let item = |number: usize| Item::immutable(format!("i{number}e").into_bytes()).unwrap();
        store.put(epoch(), item(0), None, [1, 1, 1, 1].into()).expect("kept");
        // Not even by saying the same first.
        store.put(epoch(), item(0), None, [9, 9, 9, 9].into()).expect("kept");
        for number in 1..3000 {
            store.put(epoch(), item(number), None, [9, 9, 9, 9].into()).expect("kept");
        }
        assert_eq!(store.len(), 1 + ITEMS_PER_HOLDER_MAX);
        assert!(store.get(epoch(), &item(0).target()).is_some());
        assert!(store.get(epoch(), &item(2999).target()).is_some());
        assert_eq!(store.get(epoch() + EXPIRE_AFTER, &item(0).target()), None);
        assert!(store.by_age.is_empty() && store.by_holder.is_empty());
    }
}
