//! Torrents that a magnet link named ([BEP 9]): what stands for one until its info dictionary is here, and
//! the whole of it then.
//!
//! [BEP 9]: https://www.bittorrent.org/beps/bep_0009.html

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FileLayout, Metainfo, MetainfoError};
use crate::Magnet;
use crate::bencode::{self, OwnedValue};

impl Metainfo {
    /// What stands for a torrent until its metadata is here: its names, trackers and web seeds as the link
    /// says, no files, no pieces. If the link has no name, the info hash is taken for one.
    ///
    /// # Panics
    /// If the link has no info hash at all: none that was read is so.
    pub fn stand_in(magnet: &Magnet) -> Self {
        let layout = FileLayout::new(crate::BLOCK_LEN, Vec::new()).expect("nothing always fits");
        Self {
            info_hashes: magnet.info_hashes,
            name: magnet.name.clone().unwrap_or_else(|| magnet.info_hashes.first().to_string()),
            layout: Arc::new(layout),
            trackers: magnet.trackers.clone(),
            web_seeds: magnet.web_seeds.clone(),
            ..Self::parse(NOTHING).expect("a torrent file")
        }
    }

    /// The torrent that has this info dictionary, with the trackers and web seeds of the link that named
    /// it. Whether it is the one that the link meant is for the caller to see.
    ///
    /// # Errors
    /// [`MetainfoError`], as for a torrent file.
    pub fn from_info(info: &[u8], magnet: &Magnet) -> Result<Self, MetainfoError> {
        let list = |items: &[String]| {
            OwnedValue::List(items.iter().map(|item| OwnedValue::from(item.as_str())).collect())
        };
        let tiers = magnet.trackers.iter().map(|tier| list(tier)).collect();
        let entries = [
            ("announce", magnet.trackers.iter().flatten().next().map(|url| url.as_str().into())),
            ("announce-list", (!magnet.trackers.is_empty()).then_some(OwnedValue::List(tiers))),
            ("info", Some(OwnedValue::Raw(info.to_vec()))),
            ("url-list", (!magnet.web_seeds.is_empty()).then(|| list(&magnet.web_seeds))),
        ];
        let entries = entries
            .into_iter()
            .filter_map(|(key, value): (&str, Option<OwnedValue>)| {
                Some((key.as_bytes().to_vec(), value?))
            })
            .collect::<BTreeMap<_, _>>();
        let made = Self::parse(&bencode::encode(&OwnedValue::Dict(entries)))?;
        // What is more than one value would lie beside the dictionary, not in it.
        if made.info_bytes() == info { Ok(made) } else { Err(MetainfoError::Field("info")) }
    }
}

/// A torrent of one file without a byte.
const NOTHING: &[u8] = b"d4:infod6:lengthi0e4:name1:-12:piece lengthi16384e6:pieces0:ee";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::create::Builder;

    fn magnet(metainfo: &Metainfo) -> Magnet {
        Magnet {
            trackers: vec![vec!["http://a/".to_owned()], vec!["udp://b:1".to_owned()]],
            web_seeds: vec!["http://w/".to_owned()],
            ..Magnet::of(metainfo)
        }
    }

    fn metainfo() -> Metainfo {
        let files = vec![(Vec::new(), 20_000)];
        let builder = Builder {
            name: b"a name".to_vec(),
            files,
            piece_len: Some(16 * 1024),
            ..Builder::default()
        };
        Metainfo::parse(&builder.finish(&[[1; 20], [2; 20]]).expect("fits")).expect("readable")
    }

    #[test]
    fn an_info_dictionary_and_a_link_make_a_torrent_file() {
        let whole = metainfo();
        let link = magnet(&whole);
        let made = Metainfo::from_info(whole.info_bytes(), &link).expect("a torrent");
        assert_eq!((made.info_hash(), made.name()), (whole.info_hash(), "a name"));
        assert_eq!((made.trackers(), made.web_seeds()), (&link.trackers[..], &link.web_seeds[..]));
        let again = Metainfo::parse(made.as_bytes()).expect("a torrent file");
        assert_eq!(again.info_bytes(), whole.info_bytes());
        assert_eq!(Magnet::of(&again), link);
        let bare = Magnet::new(link.info_hashes);
        let made = Metainfo::from_info(whole.info_bytes(), &bare).expect("a torrent");
        assert!(made.trackers().is_empty() && made.web_seeds().is_empty());
    }

    #[test]
    fn what_is_no_info_dictionary_is_refused() {
        let (whole, link) = (metainfo(), magnet(&metainfo()));
        for info in [
            &b"de"[..],
            b"i1e",
            b"",
            b"d4:name",
            b"de4:infode",
            &[whole.info_bytes(), b"1:xi1e"].concat(),
        ] {
            assert!(Metainfo::from_info(info, &link).is_err(), "{}", String::from_utf8_lossy(info));
        }
    }

    #[test]
    fn what_stands_for_a_torrent_has_its_names_and_nothing_else() {
        let link = magnet(&metainfo());
        let stand_in = Metainfo::stand_in(&link);
        assert_eq!((stand_in.info_hash(), stand_in.name()), (link.info_hashes.first(), "a name"));
        assert_eq!(stand_in.trackers(), link.trackers);
        assert_eq!((stand_in.layout().piece_count(), stand_in.layout().files().len()), (0, 0));
        let unnamed = Metainfo::stand_in(&Magnet::new(link.info_hashes));
        assert_eq!(unnamed.name(), link.info_hashes.first().to_string());
    }
}
