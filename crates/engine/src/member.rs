//! How a torrent was added, remembered for the next session: the torrent file is beside it.
//!
//! A bencoded dictionary with a version. What is older or newer, or makes no sense, is refused as a
//! whole, and the torrent stays in the database for a program that understands it.

use std::collections::BTreeMap;

use torrent::bencode::{self, Dict, OwnedValue, Value};
use torrent::metainfo::{Metainfo, MetainfoError};
use torrent::swarm::SelectorKind;
use torrent::{InfoHash, Magnet};

use crate::resume::{ResumeRecord, path_bytes, path_from};
use crate::settings::{AddOptions, WhenKnown};
use crate::store::Rows;

/// A torrent of an earlier session.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its place in the order in which the torrents were added.
    pub(crate) number: u64,
    pub(crate) what: What,
    pub(crate) options: AddOptions,
    /// What was verified; `None` if nothing is known.
    pub(crate) record: Option<ResumeRecord>,
}

/// What is known of a torrent.
#[derive(Debug)]
pub(crate) enum What {
    /// All of it.
    Torrent(Box<Metainfo>),
    /// The link that named it.
    Link(Box<Magnet>),
}

/// Why a torrent is not brought back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("another version of this program wrote it")]
    Version,
    #[error("what it was added with makes no sense")]
    Options,
    #[error("its torrent file is missing")]
    NoTorrentFile,
    #[error("its torrent file is damaged: {0}")]
    TorrentFile(#[from] MetainfoError),
    #[error("its torrent file is that of another, {0}")]
    OtherTorrent(InfoHash),
}

impl Member {
    pub(crate) fn read(rows: Rows<'_>) -> Result<Self, Unusable> {
        let (number, options, magnet) = decode(rows.options)?;
        // Without it, what is on disk is hashed: nothing is lost.
        let record = rows.record.and_then(ResumeRecord::decode);
        let Some(torrent_file) = rows.torrent_file else {
            let magnet = magnet.ok_or(Unusable::NoTorrentFile)?;
            if magnet.info_hashes.first() != rows.info_hash {
                return Err(Unusable::OtherTorrent(magnet.info_hashes.first()));
            }
            return Ok(Self { number, what: What::Link(Box::new(magnet)), options, record });
        };
        let metainfo = Metainfo::parse(torrent_file)?;
        if metainfo.info_hash() != rows.info_hash {
            return Err(Unusable::OtherTorrent(metainfo.info_hash()));
        }
        let files = metainfo.layout().files().len();
        if !options.priorities.is_empty() && options.priorities.len() != files {
            return Err(Unusable::Options);
        }
        Ok(Self { number, what: What::Torrent(Box::new(metainfo)), options, record })
    }
}

/// What is to be remembered of `options`. Peers are not: those of the last run are in the record.
pub(crate) fn encode(number: u64, options: &AddOptions, magnet: Option<&Magnet>) -> Vec<u8> {
    let integer = |number: u64| OwnedValue::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let flag = |flag: bool| flag.then_some(OwnedValue::Integer(1));
    let tier = |urls: &Vec<String>| {
        OwnedValue::List(urls.iter().map(|url| OwnedValue::from(url.as_str())).collect())
    };
    // A link, as it is written, has no tiers.
    let tiers = magnet.map(|magnet| &magnet.trackers);
    let tiers = tiers.filter(|tiers| tiers.iter().any(|tier| tier.len() > 1));
    let trackers = options.trackers.as_ref().or(tiers);
    let entries: [(&str, Option<OwnedValue>); 18] = [
        ("dir", Some(OwnedValue::Bytes(path_bytes(&options.dir)))),
        ("download limit", options.download_limit.map(integer)),
        ("magnet", magnet.map(|magnet| OwnedValue::Bytes(magnet.to_string().into()))),
        ("number", Some(integer(number))),
        ("pause when known", flag(options.when_known == WhenKnown::Pause)),
        ("paused", flag(options.is_paused)),
        ("peers max", options.peers_max.map(|count| integer(count as u64))),
        ("preallocate", flag(options.preallocate)),
        ("priorities", Some(OwnedValue::Bytes(options.priorities.clone()))),
        ("selector", Some(OwnedValue::from(options.selector.name()))),
        ("stop when known", flag(options.when_known == WhenKnown::Stop)),
        ("stopped", flag(options.is_stopped)),
        ("super seeding", flag(options.super_seeding)),
        ("trackers", trackers.map(|tiers| OwnedValue::List(tiers.iter().map(tier).collect()))),
        ("upload limit", options.upload_limit.map(integer)),
        ("upload slots", options.upload_slots.map(|count| integer(count as u64))),
        ("version", Some(OwnedValue::Integer(VERSION))),
        ("web seeds", (!options.web_seeds.is_empty()).then(|| tier(&options.web_seeds))),
    ];
    let dict: BTreeMap<Vec<u8>, OwnedValue> = entries
        .into_iter()
        .filter_map(|(key, value)| Some((key.as_bytes().to_vec(), value?)))
        .collect();
    bencode::encode(&OwnedValue::Dict(dict))
}

type Decoded = (u64, AddOptions, Option<Magnet>);

fn decode(bytes: &[u8]) -> Result<Decoded, Unusable> {
    let value = bencode::decode(bytes).ok();
    let dict = value.as_ref().and_then(Value::as_dict).ok_or(Unusable::Options)?;
    match dict.get(b"version").and_then(Value::as_integer) {
        Some(VERSION) => options(dict).ok_or(Unusable::Options),
        Some(_) => Err(Unusable::Version),
        None => Err(Unusable::Options),
    }
}

fn options(dict: &Dict<'_>) -> Option<Decoded> {
    let number = |key: &[u8]| match dict.get(key) {
        Some(value) => u64::try_from(value.as_integer()?).ok().map(Some),
        None => Some(None),
    };
    let flag = |key: &[u8]| dict.get(key).is_some_and(|value| value.as_integer() == Some(1));
    let tier = |tier: &Value<'_>| {
        let urls = tier.as_list()?.iter();
        urls.map(|url| url.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
    };
    let trackers = match dict.get(b"trackers") {
        Some(tiers) => Some(tiers.as_list()?.iter().map(tier).collect::<Option<_>>()?),
        None => None,
    };
    let web_seeds = match dict.get(b"web seeds") {
        Some(urls) => tier(urls)?,
        None => Vec::new(),
    };
    let options = AddOptions {
        dir: path_from(dict.get(b"dir")?.as_bytes()?),
        priorities: dict.get(b"priorities")?.as_bytes()?.to_vec(),
        selector: SelectorKind::from_name(dict.get(b"selector")?.as_str()?)?,
        preallocate: flag(b"preallocate"),
        is_stopped: flag(b"stopped"),
        is_paused: flag(b"paused"),
        when_known: match (flag(b"pause when known"), flag(b"stop when known")) {
            (_, true) => WhenKnown::Stop,
            (true, false) => WhenKnown::Pause,
            (false, false) => WhenKnown::GoOn,
        },
        super_seeding: flag(b"super seeding"),
        download_limit: number(b"download limit")?,
        upload_limit: number(b"upload limit")?,
        peers_max: number(b"peers max")?.and_then(|count| usize::try_from(count).ok()),
        upload_slots: number(b"upload slots")?.and_then(|count| usize::try_from(count).ok()),
        trackers,
        web_seeds,
        ..AddOptions::default()
    };
    let magnet = match dict.get(b"magnet") {
        Some(link) => {
            let link: Magnet = link.as_str()?.parse().ok()?;
            let tiers = options.trackers.clone().unwrap_or_default();
            let is_same = tiers.iter().flatten().eq(link.trackers.iter().flatten());
            Some(if is_same { Magnet { trackers: tiers, ..link } } else { link })
        }
        None => None,
    };
    Some((number(b"number")??, options, magnet))
}

const VERSION: i64 = 1;

#[cfg(test)]
mod tests {
    use torrent::Rng;
    use torrent::metainfo::create::Builder;

    use super::*;

    fn everything() -> AddOptions {
        AddOptions {
            dir: "/some/where".into(),
            priorities: vec![0, 7],
            selector: SelectorKind::Linear,
            upload_slots: Some(3),
            peers_max: Some(9),
            preallocate: true,
            is_stopped: true,
            is_paused: true,
            when_known: WhenKnown::Stop,
            super_seeding: true,
            download_limit: Some(1000),
            upload_limit: Some(0),
            trackers: Some(vec![vec!["udp://a:1".to_owned(), "b".to_owned()], Vec::new()]),
            web_seeds: vec!["http://a/".to_owned()],
            ..AddOptions::default()
        }
    }

    fn shown(decoded: Result<Decoded, Unusable>) -> String {
        format!("{decoded:?}")
    }

    #[test]
    fn options_are_read_as_they_were_written() {
        let link: Magnet =
            format!("magnet:?xt=urn:btih:{}&dn=a%20b", InfoHash([7; 20])).parse().expect("a link");
        for (number, options, magnet) in
            [(1, AddOptions::default(), None), (u64::MAX >> 1, everything(), Some(link))]
        {
            let bytes = encode(number, &options, magnet.as_ref());
            assert_eq!(shown(decode(&bytes)), shown(Ok((number, options, magnet))));
        }
    }

    #[test]
    fn a_link_keeps_the_tiers_of_its_trackers() {
        let link = format!("magnet:?xt=urn:btih:{}&tr.1=http://a&tr.1=http://b", InfoHash([7; 20]));
        let link: Magnet = link.parse().expect("a link");
        assert_eq!(link.trackers.len(), 1);
        let decoded = decode(&encode(1, &AddOptions::default(), Some(&link)));
        let (_, options, Some(read)) = decoded.expect("read") else { panic!("no link") };
        assert_eq!((options.trackers.as_ref(), &read), (Some(&link.trackers), &link));
    }

    #[test]
    fn a_newer_or_mangled_entry_is_refused() {
        let link = Magnet::from_info_hash(&"1".repeat(40));
        let bytes = encode(1, &everything(), link.as_ref());
        let newer = String::from_utf8_lossy(&bytes).replace("versioni1e", "versioni2e");
        assert!(matches!(decode(newer.as_bytes()), Err(Unusable::Version)));
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let mut mangled = bytes.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(mangled.len());
                mangled[at] = rng.u32() as u8;
            }
            // It may be something else, but must not panic.
            drop(decode(&mangled));
        }
    }

    #[test]
    fn a_torrent_file_that_does_not_fit_is_refused() {
        let files = vec![(Vec::new(), 5)];
        let builder = Builder { name: b"t".to_vec(), files, ..Builder::default() };
        let file = builder.finish(&[[7; 20]]).expect("a torrent");
        let info_hash = Metainfo::parse(&file).expect("valid").info_hash();
        let options = encode(1, &AddOptions::default(), None);
        let rows =
            Rows { info_hash, options: &options, torrent_file: Some(&file), record: Some(b"junk") };
        assert!(Member::read(rows).expect("usable").record.is_none());
        let refused = |rows: Rows<'_>| Member::read(rows).expect_err("refused");
        let other = Rows { info_hash: InfoHash([1; 20]), ..rows };
        assert_eq!(refused(other), Unusable::OtherTorrent(info_hash));
        assert_eq!(refused(Rows { torrent_file: None, ..rows }), Unusable::NoTorrentFile);
        let cut = Rows { torrent_file: Some(&file[..20]), ..rows };
        assert!(matches!(refused(cut), Unusable::TorrentFile(_)));
        let for_two = encode(1, &everything(), None);
        assert_eq!(refused(Rows { options: &for_two, ..rows }), Unusable::Options);
        // Of a link the torrent file is still to come.
        let link = Magnet::from_info_hash(&info_hash.to_string());
        let named = encode(1, &AddOptions::default(), link.as_ref());
        let no_file = Rows { torrent_file: None, options: &named, ..rows };
        assert!(matches!(Member::read(no_file).expect("usable").what, What::Link(_)));
        let with_file = Rows { torrent_file: Some(&file), ..no_file };
        assert!(matches!(Member::read(with_file).expect("usable").what, What::Torrent(_)));
        let other = Rows { info_hash: InfoHash([1; 20]), ..no_file };
        assert_eq!(refused(other), Unusable::OtherTorrent(info_hash));
    }
}
