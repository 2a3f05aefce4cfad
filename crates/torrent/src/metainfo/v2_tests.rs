//! Torrents of version 2 and hybrids, made and read.

use sha2::{Digest, Sha256};

use super::create::{Builder, Format, NewFile, PieceHashes};
use super::merkle::{self, Hash};
use super::*;
use crate::{BLOCK_LEN, InfoHashV2, Rng};

const PIECE_LEN: u32 = 32 * 1024;

/// Files of these names and lengths, each filled with a byte of its own.
fn builder(format: Format, files: &[(&str, u64)]) -> Builder {
    let file = |(path, len): &(&str, u64)| -> NewFile {
        (path.split('/').map(|name| name.as_bytes().to_vec()).collect(), *len)
    };
    Builder {
        format,
        name: b"t".to_vec(),
        files: files.iter().map(file).collect(),
        piece_len: Some(PIECE_LEN),
        ..Builder::default()
    }
}

/// The tree over the blocks of a piece, each byte of which is `fill`.
fn piece_root(layout: &FileLayout, piece: PieceIndex, fill: u8) -> Hash {
    let (len, height) = layout.tree_shape(piece);
    let lens = (0..len).step_by(BLOCK_LEN as usize).map(|at| BLOCK_LEN.min(len - at));
    let blocks: Vec<Hash> =
        lens.map(|len| Sha256::digest(vec![fill; len as usize]).into()).collect();
    merkle::root(&blocks, 0, height)
}

fn hashes(builder: &Builder) -> PieceHashes {
    let layout = builder.layout().expect("fits");
    let pieces = || (0..layout.piece_count()).map(PieceIndex);
    let fill = |piece| layout.file_at(piece).expect("there") as u8;
    let v1 = pieces().map(|piece| [piece.0 as u8; 20]);
    let v2 = pieces().map(|piece| piece_root(&layout, piece, fill(piece)));
    PieceHashes {
        v1: if builder.format.has_v1() { v1.collect() } else { Vec::new() },
        v2: if builder.format.has_v2() { v2.collect() } else { Vec::new() },
    }
}

fn made(builder: &Builder) -> Vec<u8> {
    builder.finish_as(&hashes(builder)).expect("fits")
}

const FILES: [(&str, u64); 5] =
    [("b/long", 100_000), ("a", 10), ("b/empty", 0), ("c", 40_000), ("b/exact", 65_536)];

#[test]
fn a_torrent_of_version_2_has_each_file_begin_with_a_piece() {
    let builder = builder(Format::V2, &FILES);
    let metainfo = Metainfo::parse(&made(&builder)).expect("readable");
    let hashes = metainfo.info_hashes();
    let name = InfoHashV2::of(metainfo.info_bytes());
    assert_eq!((hashes.v1, hashes.v2), (None, Some(name)));
    assert_eq!(metainfo.info_hash(), name.truncated());
    let layout = metainfo.layout();
    let files: Vec<String> = layout.files().iter().map(|file| file.path.to_string()).collect();
    assert_eq!(files, ["t/a", "t/b/empty", "t/b/exact", "t/b/long", "t/c"]);
    let pieces: Vec<_> = (0..5).map(|file| layout.file_pieces(file)).collect();
    assert_eq!(pieces, [0..1, 0..0, 1..3, 3..7, 7..9]);
    assert_eq!((layout.total_len(), layout.piece_count()), (205_546, 9));
    let lens: Vec<u32> = (0..10).map(|piece| layout.len_of(PieceIndex(piece))).collect();
    assert_eq!(lens, [10, 32_768, 32_768, 32_768, 32_768, 32_768, 1696, 32_768, 7232, 0]);
    let spans: Vec<Span> = layout.spans(PieceIndex(6), 0, PIECE_LEN).collect();
    assert_eq!(spans, [Span { file: 3, offset: 98_304, len: 1696 }]);
    assert_eq!(layout.len_of_all(&crate::Bitfield::all(9)), layout.total_len());
    assert_eq!(**layout, builder.layout().expect("fits"));
}

#[test]
fn a_file_has_room_for_hashes_of_pieces_even_if_there_are_none() {
    let whole = made(&builder(Format::V2, &[("a", 10), ("b", 20_000)]));
    let whole = Metainfo::parse(&whole).expect("readable");
    let bare = [b"d4:info", whole.info_bytes(), b"e"].concat();
    let bare = Metainfo::parse(&bare).expect("readable");
    assert_eq!(bare.to_file(), [b"d4:info", whole.info_bytes(), b"12:piece layersdee"].concat());
    let long = Metainfo::parse(&made(&builder(Format::V2, &FILES))).expect("readable");
    let bare = [b"d4:info", long.info_bytes(), b"e"].concat();
    assert_eq!(Metainfo::parse(&bare).expect("readable").to_file(), bare, "some are missing");
}

#[test]
fn every_piece_has_a_tree_as_high_as_its_file_needs() {
    let builder = builder(Format::V2, &FILES);
    let metainfo = Metainfo::parse(&made(&builder)).expect("readable");
    assert!(metainfo.layers().expect("of version 2").is_whole());
    for (piece, expected) in (0..).map(PieceIndex).zip(hashes(&builder).v2) {
        let check = metainfo.piece_check(piece);
        let tree = check.v2.expect("known");
        assert_eq!((check.v1, tree.root), (None, expected));
        assert_eq!(tree.len, metainfo.layout().len_of(piece));
        assert_eq!(tree.height, u32::from(piece.0 != 0));
    }
    let short = metainfo.piece_check(PieceIndex(0)).v2.expect("known");
    assert!(short.matches(&[Sha256::digest([0; 10]).into()]));
    assert!(!short.matches(&[Sha256::digest([1; 10]).into()]));
}

#[test]
fn a_hybrid_has_both_names_and_the_same_pieces_in_both_versions() {
    let builder = builder(Format::Hybrid, &FILES);
    let metainfo = Metainfo::parse(&made(&builder)).expect("readable");
    assert!(metainfo.info_hashes().is_hybrid());
    assert_eq!(metainfo.info_hash(), InfoHash::of(metainfo.info_bytes()));
    let layout = metainfo.layout();
    let files: Vec<(String, u64)> =
        layout.files().iter().map(|file| (file.path.to_string(), file.len)).collect();
    let expected = [
        ("t/a", 10),
        ("t/.pad/32758", 32_758),
        ("t/b/empty", 0),
        ("t/b/exact", 65_536),
        ("t/b/long", 100_000),
        ("t/.pad/31072", 31_072),
        ("t/c", 40_000),
        ("t/.pad/25536", 25_536),
    ];
    assert_eq!(files, expected.map(|(path, len)| (path.to_owned(), len)));
    let alone = self::builder(Format::V2, &FILES);
    let alone = Metainfo::parse(&made(&alone)).expect("readable");
    let layers = metainfo.layers().expect("of version 2");
    for file in (0..layout.files().len()).filter(|&file| layers.root(file).is_some()) {
        let path = &layout.files()[file].path;
        let other = alone.layout().files().iter().position(|file| file.path == *path);
        let other = other.expect("the same files");
        assert_eq!(alone.layout().file_pieces(other), layout.file_pieces(file), "{path}");
    }
    let check = metainfo.piece_check(PieceIndex(6));
    assert_eq!((check.v1, check.v2.map(|tree| tree.len)), (Some([6; 20]), Some(1696)));
    assert_eq!(layout.len_of(PieceIndex(6)), PIECE_LEN);
}

#[test]
fn a_single_file_is_not_padded_and_lies_in_no_folder() {
    for format in [Format::V2, Format::Hybrid] {
        let builder = Builder { files: vec![(Vec::new(), 40_000)], ..builder(format, &[]) };
        let metainfo = Metainfo::parse(&made(&builder)).expect("readable");
        let files = metainfo.layout().files();
        assert_eq!((files.len(), files[0].path.to_string()), (1, "t".to_owned()));
    }
}

#[test]
fn without_the_hashes_of_pieces_these_are_missing_until_they_are_put() {
    let whole = made(&builder(Format::V2, &FILES));
    let known = Metainfo::parse(&whole).expect("readable");
    let bare = [b"d4:info", known.info_bytes(), b"e"].concat();
    let metainfo = Metainfo::parse(&bare).expect("readable");
    assert_eq!(metainfo.info_hashes(), known.info_hashes());
    let (layers, theirs) = (metainfo.layers().expect("v2"), known.layers().expect("v2"));
    assert_eq!(layers.missing().collect::<Vec<_>>(), [2, 3, 4]);
    assert!(metainfo.piece_check(PieceIndex(0)).v2.is_some());
    assert!(metainfo.piece_check(PieceIndex(1)).is_unknown());
    for file in [2, 3, 4] {
        let layer = theirs.layer(file).concat();
        let mut lie = layer.clone();
        lie[40] ^= 1;
        let longer = [&layer[..], &[0; 32]].concat();
        for wrong in [lie, longer, layer[..32].to_vec(), layer[..33].to_vec(), Vec::new()] {
            assert!(!layers.put(file, wrong.into()));
        }
        assert!(layers.put(file, layer.into()));
    }
    assert!(
        layers.is_whole() && !layers.put(0, vec![0; 32].into()) && !layers.put(9, Bytes::new())
    );
    assert_eq!(metainfo.piece_check(PieceIndex(1)), known.piece_check(PieceIndex(1)));
    let file = Metainfo::parse(&metainfo.to_file()).expect("readable");
    assert!(file.layers().expect("v2").is_whole());
    assert_eq!(file.info_hashes(), known.info_hashes());
    assert_eq!(known.to_file(), whole);
}

#[test]
fn equal_files_share_their_hashes() {
    let builder = builder(Format::V2, &[("a", 70_000), ("b", 70_000), ("c", 70_001)]);
    let layout = builder.layout().expect("fits");
    let v2 = (0..layout.piece_count()).map(|piece| piece_root(&layout, PieceIndex(piece), 7));
    let hashes = PieceHashes { v1: Vec::new(), v2: v2.collect() };
    let known = Metainfo::parse(&builder.finish_as(&hashes).expect("fits")).expect("readable");
    let bare = [b"d4:info", known.info_bytes(), b"e"].concat();
    let metainfo = Metainfo::parse(&bare).expect("readable");
    let layers = metainfo.layers().expect("v2");
    assert_eq!(layers.file_of(&layers.root(1).expect("not empty")), Some(0));
    assert_eq!(layers.file_of(&[9; 32]), None);
    assert!(layers.put(1, known.layers().expect("v2").layer(1).concat().into()));
    assert_eq!(layers.missing().collect::<Vec<_>>(), [2]);
}

#[test]
fn hashes_of_pieces_that_lie_are_refused() {
    let whole = made(&builder(Format::V2, &FILES));
    let layer = Metainfo::parse(&whole).expect("readable");
    let layer = layer.layers().expect("v2").layer(3).concat();
    let at = whole.windows(layer.len()).position(|window| window == layer).expect("there");
    let mut lie = whole.clone();
    lie[at + 100] ^= 1;
    let refused = MetainfoError::PieceLayer("t/b/long".to_owned());
    assert_eq!(Metainfo::parse(&lie).err(), Some(refused.clone()));
    let text = format!("{}:", layer.len()).into_bytes();
    let start = at - text.len();
    for shorter in [32, 33, layer.len()] {
        let kept = &layer[shorter..];
        let head = format!("{}:", kept.len()).into_bytes();
        let bytes = [&whole[..start], &head, kept, &whole[at + layer.len()..]].concat();
        assert_eq!(Metainfo::parse(&bytes).err(), Some(refused.clone()));
    }
}

#[test]
fn a_hybrid_that_describes_two_torrents_is_refused() {
    let text = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
    let bytes = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
    let hybrid = text(&made(&builder(Format::Hybrid, &[("a", 10), ("b", 40_000), ("c", 3)])));
    let differs = |from: &str, to: &str| {
        assert!(hybrid.contains(from), "{from}");
        Metainfo::parse(&bytes(&hybrid.replacen(from, to, 1))).err()
    };
    let at = |path: &str| Some(MetainfoError::Inconsistent(format!("t/{path}")));
    // In the list of version 1, which comes behind the tree: another name, length, order, padding.
    assert_eq!(differs("4:pathl1:bee", "4:pathl1:xee"), at("x"));
    assert_eq!(differs("6:lengthi40000e4:path", "6:lengthi39999e4:path"), at("b"));
    assert_eq!(differs("d4:attr1:p6:lengthi32758e", "d4:attr1:p6:lengthi32757e"), at("b"));
    let swapped = hybrid.replacen("4:pathl1:aee", "4:pathl1:zee", 1);
    let swapped = swapped.replacen("4:pathl1:cee", "4:pathl1:aee", 1);
    assert_eq!(Metainfo::parse(&bytes(&swapped)).err(), at("z"));
    let missing = "d6:lengthi3e4:pathl1:cee";
    assert_eq!(differs(missing, &missing.replace("d6", "d4:attr1:p6")), at("c"));
    assert_eq!(differs("6:pieces", "6:piecex"), Some(MetainfoError::Field("pieces")));
    assert_eq!(differs("9:file tree", "9:file treX"), Some(MetainfoError::Field("file tree")));
}

#[test]
fn refuses_trees_that_make_no_sense() {
    let parse = |tree: &str, piece_len: u32| {
        let info =
            format!("d9:file tree{tree}12:meta versioni2e4:name1:t12:piece lengthi{piece_len}ee");
        Metainfo::parse(format!("d4:info{info}e").as_bytes()).err()
    };
    let root = format!("11:pieces root32:{}", "r".repeat(32));
    let file = |name: &str, len: i64| format!("{}:{name}d0:d6:lengthi{len}e{root}ee", name.len());
    let tree = |files: &[String]| format!("d{}e", files.concat());
    assert_eq!(parse(&tree(&[file("a", 5), file("b", 6)]), 16_384), None);
    assert_eq!(parse("de", 16_384), Some(MetainfoError::NoFiles));
    assert_eq!(parse("le", 16_384), Some(MetainfoError::Field("file tree")));
    assert_eq!(parse("d1:ai1ee", 16_384), Some(MetainfoError::Field("file tree")));
    for piece_len in [8192, 16_385, 3 << 14] {
        let error = MetainfoError::PieceLenV2(piece_len);
        assert_eq!(parse(&tree(&[file("a", 5)]), piece_len), Some(error));
    }
    let named = |name: &str| parse(&tree(&[file("a", 1), file(name, 5)]), 16_384);
    for name in ["..", ".", "x/y", "c:x"] {
        assert!(matches!(named(name), Some(MetainfoError::UnsafePath { .. })), "{name}");
    }
    assert_eq!(named("b"), None);
    let both = format!("d1:ad0:d6:lengthi5e{root}e1:bd0:d6:lengthi0eeeee");
    assert!(matches!(parse(&both, 16_384), Some(MetainfoError::DuplicatePath(_))));
    let rootless = "d1:ad0:d6:lengthi5eeee";
    assert_eq!(parse(rootless, 16_384), Some(MetainfoError::Field("pieces root")));
    assert_eq!(parse(&tree(&[file("a", i64::MAX)]), 16_384), Some(MetainfoError::TooBig));
    assert!(matches!(
        parse(&tree(&[file("a", -1)]), 16_384),
        Some(MetainfoError::FileLen { len: -1, .. })
    ));
    let link = format!("d1:ad0:d4:attr1:l6:lengthi5e{root}eee");
    assert!(matches!(parse(&link, 16_384), Some(MetainfoError::Symlink(_))));
    let deep = format!("{}{}", "d1:a".repeat(200), "e".repeat(200));
    assert!(matches!(parse(&deep, 16_384), Some(MetainfoError::NotBencode(_))));
}

#[test]
fn a_file_that_is_also_a_folder_makes_no_torrent() {
    for format in [Format::V2, Format::Hybrid] {
        for files in [[("a", 1), ("a/b", 1)], [("a/b", 1), ("a", 1)], [("a", 1), ("a", 2)]] {
            let builder = builder(format, &files);
            let made = builder.finish_as(&hashes(&builder));
            assert!(matches!(made, Err(MetainfoError::DuplicatePath(_))), "{files:?}");
        }
    }
    let odd = Builder { piece_len: Some(40_000), ..builder(Format::V2, &FILES) };
    assert_eq!(odd.layout(), Err(MetainfoError::PieceLenV2(40_000)));
    let v2 = builder(Format::V2, &FILES);
    assert!(matches!(v2.finish(&[[0; 20]; 9]), Err(MetainfoError::PieceCount { .. })));
}

#[test]
fn survives_noise_and_mutations() {
    let whole = [Format::V2, Format::Hybrid].map(|format| made(&builder(format, &FILES)));
    for seed in 0..4000 {
        let mut rng = Rng::from_seed(seed);
        let mut bytes = whole[seed as usize % 2].clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] = rng.u32() as u8;
        }
        let Ok(metainfo) = Metainfo::parse(&bytes) else { continue };
        let layout = metainfo.layout();
        let lens =
            (0..layout.piece_count()).map(|piece| u64::from(layout.len_of(PieceIndex(piece))));
        assert_eq!(lens.sum::<u64>(), layout.total_len(), "seed {seed}");
        for piece in (0..layout.piece_count()).map(PieceIndex) {
            let check = metainfo.piece_check(piece);
            assert!(check.v2.is_none_or(|tree| tree.len <= layout.len_of(piece)), "seed {seed}");
        }
        let again = Metainfo::parse(&metainfo.to_file()).expect("what was accepted is again");
        assert_eq!(again.info_hashes(), metainfo.info_hashes());
    }
}
