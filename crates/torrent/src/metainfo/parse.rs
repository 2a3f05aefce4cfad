//! Bencode to [`Metainfo`], with every check.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Arc;

use bytes::Bytes;

use super::file_tree::{FileTree, read_layers};
use super::{FileEntry, FileLayout, Metainfo, MetainfoError, RelativePath};
use crate::bencode::{Dict, Limits, Value, decode_prefix};
use crate::{InfoHash, InfoHashV2, InfoHashes};

pub(super) fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
    if bytes.len() > FILE_LEN_MAX {
        return Err(MetainfoError::TooLong);
    }
    let (root, end) = decode_prefix(bytes, limits())?;
    let bytes = bytes.get(..end).unwrap_or_default();
    let root = root.as_dict().ok_or(MetainfoError::NotADictionary)?;
    let info = root.get(b"info").and_then(Value::as_dict).ok_or(MetainfoError::Field("info"))?;
    let info_bytes = root.raw(b"info").ok_or(MetainfoError::Field("info"))?;
    let range_of = |part: &[u8]| {
        let start = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
        start..start.saturating_add(part.len())
    };

    let name = utf8_or_raw(info, b"name.utf-8", b"name").ok_or(MetainfoError::Field("name"))?;
    let piece_len = integer(info, b"piece length").ok_or(MetainfoError::Field("piece length"))?;
    let piece_len = u32::try_from(piece_len).ok().ok_or(MetainfoError::PieceLen(piece_len))?;
    let tree = match integer(info, b"meta version") {
        None | Some(1) => None,
        Some(2) => Some(FileTree::read(info, name)?),
        Some(other) => return Err(MetainfoError::Version(other)),
    };
    let has_v1 = [&b"pieces"[..], b"files", b"length"].iter().any(|key| info.get(key).is_some());
    let (layout, pieces, layers) = match tree {
        Some(tree) if !has_v1 => {
            let layers = tree.alone(piece_len)?;
            refuse_collisions(layers.layout().files())?;
            (Arc::clone(layers.layout()), None, Some(layers))
        }
        tree => {
            let (layout, pieces) = list(info, name, piece_len)?;
            let layers = tree.map(|tree| tree.beside(Arc::clone(&layout))).transpose()?;
            (layout, Some(pieces), layers)
        }
    };
    let owned = Bytes::copy_from_slice(bytes);
    if let Some(layers) = &layers {
        read_layers(layers, &layout, root, |layer| owned.slice(range_of(layer)))?;
    }
    Ok(Metainfo {
        info_hashes: InfoHashes {
            v1: pieces.is_some().then(|| InfoHash::of(info_bytes)),
            v2: layers.is_some().then(|| InfoHashV2::of(info_bytes)),
        },
        name: text(name),
        layout,
        is_private: integer(info, b"private") == Some(1),
        trackers: trackers(root),
        web_seeds: strings(root.get(b"url-list")),
        http_seeds: strings(root.get(b"httpseeds")),
        nodes: nodes(root),
        comment: utf8_or_raw(root, b"comment.utf-8", b"comment").map(text),
        created_by: root.get(b"created by").and_then(Value::as_bytes).map(text),
        creation_date: integer(root, b"creation date"),
        source: info.get(b"source").and_then(Value::as_bytes).map(text),
        similar: similar(info, root),
        collections: collections(info, root),
        update_url: info.get(b"update-url").and_then(Value::as_str).map(str::to_owned),
        has_originator: info.get(b"originator").is_some(),
        encoding: root.get(b"encoding").and_then(Value::as_bytes).map(text),
        bytes: owned,
        info_range: range_of(info_bytes),
        hashes_range: pieces.map(range_of),
        layers: layers.map(Arc::new),
    })
}

/// How a torrent file may be written.
pub(super) fn limits() -> Limits {
    Limits { keys_in_order: false, depth: DEPTH_MAX, ..Limits::default() }
}

/// What version 1 says: the files, and the hashes of pieces.
fn list<'a>(
    info: &Dict<'a>,
    name: &[u8],
    piece_len: u32,
) -> Result<(Arc<FileLayout>, &'a [u8]), MetainfoError> {
    let pieces = info.get(b"pieces").and_then(Value::as_bytes);
    let pieces = pieces.ok_or(MetainfoError::Field("pieces"))?;
    let (piece_hashes, rest) = pieces.as_chunks::<20>();
    if !rest.is_empty() {
        return Err(MetainfoError::PiecesLen(pieces.len()));
    }
    let layout = FileLayout::new(piece_len, files(info, name)?)?;
    if layout.piece_count() as usize != piece_hashes.len() {
        return Err(MetainfoError::PieceCount {
            hashes: piece_hashes.len(),
            pieces: layout.piece_count(),
        });
    }
    Ok((Arc::new(layout), pieces))
}

/// The files, their paths checked against each other.
fn files(info: &Dict<'_>, name: &[u8]) -> Result<Vec<FileEntry>, MetainfoError> {
    let Some(list) = info.get(b"files") else {
        return Ok(vec![file(info, vec![name.to_vec()])?]);
    };
    let list = list.as_list().ok_or(MetainfoError::Field("files"))?;
    if list.len() > FILES_MAX {
        return Err(MetainfoError::TooManyFiles);
    }
    if list.is_empty() {
        return Err(MetainfoError::NoFiles);
    }
    let mut files = Vec::with_capacity(list.len());
    for entry in list {
        let entry = entry.as_dict().ok_or(MetainfoError::Field("files"))?;
        let mut components = vec![name.to_vec()];
        components.extend(path(entry).ok_or(MetainfoError::Field("path"))?);
        files.push(file(entry, components)?);
    }
    refuse_collisions(&files)?;
    Ok(files)
}

pub(super) fn file(entry: &Dict<'_>, components: Vec<Vec<u8>>) -> Result<FileEntry, MetainfoError> {
    let shown = text(&components.join(&b'/'));
    let attr = entry.get(b"attr").and_then(Value::as_bytes).unwrap_or_default();
    let len = integer(entry, b"length").ok_or(MetainfoError::Field("length"))?;
    let len = u64::try_from(len)
        .ok()
        .ok_or_else(|| MetainfoError::FileLen { path: shown.clone(), len })?;
    if attr.contains(&b'l') {
        return Err(MetainfoError::Symlink(shown));
    }
    // A name without a component below the torrent's own would be the folder itself.
    let path = RelativePath::from_components(components)
        .map_err(|why| MetainfoError::UnsafePath { path: shown, why })?;
    Ok(FileEntry {
        path,
        len,
        is_pad: attr.contains(&b'p'),
        is_executable: attr.contains(&b'x'),
        is_hidden: attr.contains(&b'h'),
    })
}

/// The names below the torrent's own; at least one.
fn path(entry: &Dict<'_>) -> Option<Vec<Vec<u8>>> {
    let names = |key: &[u8]| -> Option<Vec<Vec<u8>>> {
        let list = entry.get(key)?.as_list()?;
        list.iter().map(|name| name.as_bytes().map(<[u8]>::to_vec)).collect()
    };
    let utf8 = names(b"path.utf-8")
        .filter(|names| names.iter().all(|name| std::str::from_utf8(name).is_ok()));
    utf8.or_else(|| names(b"path")).filter(|names| !names.is_empty())
}

/// No two files at one path, and no file where another needs a folder. Padding is never written.
///
/// Of sorted paths, those that begin with another follow it directly, so neighbours are all there is to
/// compare. A set of every folder would do too, but a torrent of a thousand files two thousand folders
/// deep would keep it busy for a minute.
fn refuse_collisions(files: &[FileEntry]) -> Result<(), MetainfoError> {
    let mut paths: Vec<&RelativePath> =
        files.iter().filter(|file| !file.is_pad).map(|file| &file.path).collect();
    paths.sort_unstable();
    let clash = paths.iter().zip(paths.iter().skip(1)).find(|(path, next)| {
        path.components().eq(next.components().take(path.components().count()))
    });
    clash.map_or(Ok(()), |(_, next)| Err(MetainfoError::DuplicatePath(next.to_string())))
}

/// BEP 38: hashes in the info dictionary, and beside it; each once.
fn similar(info: &Dict<'_>, root: &Dict<'_>) -> Vec<InfoHash> {
    let lists = [info, root].into_iter().filter_map(|dict| dict.get(b"similar")?.as_list());
    let hashes = lists.flatten().filter_map(|hash| hash.as_bytes()?.try_into().ok().map(InfoHash));
    let mut similar = Vec::new();
    for hash in hashes.take(SIMILAR_MAX) {
        if !similar.contains(&hash) {
            similar.push(hash);
        }
    }
    similar
}

/// BEP 38: names in the info dictionary, and beside it; each once.
fn collections(info: &Dict<'_>, root: &Dict<'_>) -> Vec<String> {
    let lists = [info, root].into_iter().filter_map(|dict| dict.get(b"collections"));
    let mut collections = Vec::new();
    for name in lists.flat_map(|list| strings(Some(list))).take(SIMILAR_MAX) {
        if !collections.contains(&name) {
            collections.push(name);
        }
    }
    collections
}

/// BEP 12: the list of tiers if there is one with anything in it, else the one tracker.
fn trackers(root: &Dict<'_>) -> Vec<Vec<String>> {
    let tiers = root.get(b"announce-list").and_then(Value::as_list).unwrap_or_default();
    let mut tiers: Vec<Vec<String>> =
        tiers.iter().take(TRACKERS_MAX).map(|tier| strings(Some(tier))).collect();
    tiers.retain(|tier| !tier.is_empty());
    if tiers.is_empty() {
        tiers.extend(Some(strings(root.get(b"announce"))).filter(|tier| !tier.is_empty()));
    }
    tiers
}

/// A string, or a list of strings; what is empty or no text is left out.
fn strings(value: Option<&Value<'_>>) -> Vec<String> {
    let of = |value: &Value<'_>| {
        value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    match value {
        Some(Value::List(items)) => items.iter().take(TRACKERS_MAX).filter_map(of).collect(),
        Some(value) => of(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn nodes(root: &Dict<'_>) -> Vec<(String, u16)> {
    let list = root.get(b"nodes").and_then(Value::as_list).unwrap_or_default();
    let node = |value: &Value<'_>| match value.as_list()? {
        [host, port] => Some((host.as_str()?.to_owned(), u16::try_from(port.as_integer()?).ok()?)),
        _ => None,
    };
    list.iter().take(NODES_MAX).filter_map(node).collect()
}

fn utf8_or_raw<'a>(dict: &Dict<'a>, utf8: &[u8], raw: &[u8]) -> Option<&'a [u8]> {
    let text =
        dict.get(utf8).and_then(Value::as_str).map(str::as_bytes).filter(|text| !text.is_empty());
    text.or_else(|| dict.get(raw).and_then(Value::as_bytes))
}

fn integer(dict: &Dict<'_>, key: &[u8]) -> Option<i64> {
    dict.get(key).and_then(Value::as_integer)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const FILE_LEN_MAX: usize = 64 * 1024 * 1024;
pub(super) const FILES_MAX: usize = 1_000_000;
/// Folders nest as deep in a file tree; the lists of version 1 do not need it.
const DEPTH_MAX: usize = 128;
const TRACKERS_MAX: usize = 1000;
/// Hashes of similar torrents, and names of collections.
const SIMILAR_MAX: usize = 100;
const NODES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::super::UnsafeName;
    use super::*;
    use crate::Rng;
    use crate::bencode::DecodeErrorKind;

    fn single(rest: &str) -> Vec<u8> {
        format!("d4:infod6:lengthi5e4:name5:a.txt12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaa{rest}ee").into()
    }

    /// A torrent of files with these paths, a byte each.
    fn multi(paths: &[&[&str]]) -> Vec<u8> {
        let string = |text: &str| format!("{}:{text}", text.len());
        let files: String = paths
            .iter()
            .map(|path| {
                format!(
                    "d6:lengthi1e4:pathl{}ee",
                    path.iter().map(|name| string(name)).collect::<String>()
                )
            })
            .collect();
        format!("d4:infod5:filesl{files}e4:name1:t12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee").into()
    }

    fn error(bytes: &[u8]) -> MetainfoError {
        parse(bytes).expect_err("refused")
    }

    #[test]
    fn reads_a_plain_torrent_and_what_follows_it_does_not_matter() {
        let mut bytes = single("");
        let metainfo = parse(&bytes).expect("valid");
        assert_eq!(metainfo.name(), "a.txt");
        assert_eq!(metainfo.layout().files()[0].path.to_string(), "a.txt");
        assert_eq!(metainfo.info_hash(), InfoHash::of(&bytes[7..bytes.len() - 1]));
        assert_eq!(metainfo.info_bytes(), &bytes[7..bytes.len() - 1]);
        bytes.push(b'\n');
        assert_eq!(parse(&bytes).expect("valid").info_hash(), metainfo.info_hash());
    }

    #[test]
    fn the_info_hash_is_of_the_bytes_as_they_are() {
        // Keys out of order, and one that nobody knows.
        let info =
            b"d4:name1:a3:zzzi7e6:lengthi5e12:piece lengthi8e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
        let bytes = [b"d4:info", &info[..], b"e"].concat();
        assert_eq!(parse(&bytes).expect("valid").info_hash(), InfoHash::of(info));
    }

    #[test]
    fn trackers_come_in_tiers() {
        let with = |prefix: &str, suffix: &str| {
            let bytes = [
                b"d".to_vec(),
                prefix.into(),
                single("")[1..single("").len() - 1].to_vec(),
                suffix.into(),
                b"e".to_vec(),
            ];
            parse(&bytes.concat()).expect("valid")
        };
        let list = "8:announce3:a:113:announce-listll3:b:13:c:1el3:d:1ee";
        assert_eq!(
            with(list, "").trackers(),
            [vec!["b:1".to_owned(), "c:1".to_owned()], vec!["d:1".to_owned()]]
        );
        assert_eq!(
            with("8:announce3:a:113:announce-listllee", "").trackers(),
            [vec!["a:1".to_owned()]]
        );
        assert_eq!(with("", "").trackers(), Vec::<Vec<String>>::new());
        let rest = with("", "5:nodesll9:127.0.0.1i1024eel1:xi-1eee8:url-list9:http://x/");
        assert_eq!(rest.nodes(), [("127.0.0.1".to_owned(), 1024)]);
        assert_eq!(rest.web_seeds(), ["http://x/"]);
    }

    #[test]
    fn relatives_are_named_in_the_info_dictionary_or_beside_it() {
        let relatives = |hash: char, name: &str| {
            format!(
                "11:collectionsl{}:{name}e7:similarl20:{}5:shorte",
                name.len(),
                [hash; 20].iter().collect::<String>()
            )
        };
        let inside = format!("{}10:update-url9:http://u/10:originator0:", relatives('i', "one"));
        let text = String::from_utf8(single(&inside)).expect("text");
        let text = format!("d{}{}", relatives('r', "two"), &text[1..]);
        let metainfo = parse(text.as_bytes()).expect("valid");
        assert_eq!(metainfo.similar(), [InfoHash([b'i'; 20]), InfoHash([b'r'; 20])]);
        assert_eq!(metainfo.collections(), ["one", "two"]);
        assert_eq!((metainfo.update_url(), metainfo.has_originator()), (Some("http://u/"), true));
        let many =
            format!("7:similarl{}e", (0..500).map(|at| format!("20:{at:020}")).collect::<String>());
        assert_eq!(parse(&single(&many)).expect("valid").similar().len(), SIMILAR_MAX);
    }

    #[test]
    fn refuses_what_is_not_a_torrent() {
        assert_eq!(error(b"le"), MetainfoError::NotADictionary);
        assert!(
            matches!(error(b"<html>"), MetainfoError::NotBencode(error) if error.kind == DecodeErrorKind::NotBencode)
        );
        assert!(
            matches!(error(&single("")[..50]), MetainfoError::NotBencode(error) if error.kind == DecodeErrorKind::Truncated)
        );
        assert_eq!(error(b"de"), MetainfoError::Field("info"));
        assert_eq!(
            error(b"d4:infod6:lengthi5e4:name1:a12:piece lengthi9eee"),
            MetainfoError::Field("pieces")
        );
        assert_eq!(error(&single("12:meta versioni3e")), MetainfoError::Version(3));
        assert_eq!(error(&vec![b'd'; FILE_LEN_MAX + 1]), MetainfoError::TooLong);
    }

    #[test]
    fn refuses_a_torrent_cut_off_anywhere_and_whatever_is_no_dictionary() {
        let whole = multi(&[&["a"], &["b", "c"]]);
        assert!(parse(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(parse(&whole[..len]).is_err(), "{len} bytes of {}", whole.len());
        }
        for other in [&b"i1e"[..], b"0:", b"4:text", b"le", b"l4:infodee"] {
            assert_eq!(error(other), MetainfoError::NotADictionary);
        }
    }

    #[test]
    fn refuses_hashes_whose_length_is_no_multiple_of_20() {
        for len in [1, 19, 21, 39, 41] {
            let hashes = format!("pieces{len}:{}", "a".repeat(len));
            let text = String::from_utf8(single("")).expect("text");
            let text = text.replace("pieces20:aaaaaaaaaaaaaaaaaaaa", &hashes);
            assert_eq!(error(text.as_bytes()), MetainfoError::PiecesLen(len));
        }
        let none = String::from_utf8(single("")).expect("text");
        let none = none.replace("pieces20:aaaaaaaaaaaaaaaaaaaa", "pieces0:");
        assert_eq!(error(none.as_bytes()), MetainfoError::PieceCount { hashes: 0, pieces: 1 });
    }

    #[test]
    fn refuses_numbers_that_do_not_fit() {
        let with = |from: &str, to: &str| {
            error(String::from_utf8(single("")).expect("text").replace(from, to).as_bytes())
        };
        assert_eq!(
            with("pieces20:aaaaaaaaaaaaaaaaaaaa", "pieces19:aaaaaaaaaaaaaaaaaaa"),
            MetainfoError::PiecesLen(19)
        );
        assert_eq!(
            with("lengthi5e4", "lengthi50000e4"),
            MetainfoError::PieceCount { hashes: 1, pieces: 4 }
        );
        assert_eq!(
            with("lengthi5e4", "lengthi0e4"),
            MetainfoError::PieceCount { hashes: 1, pieces: 0 }
        );
        assert_eq!(
            with("lengthi5e4", "lengthi-5e4"),
            MetainfoError::FileLen { path: "a.txt".to_owned(), len: -5 }
        );
        assert_eq!(with("lengthi5e4", "lengthi9000000000000000e4"), MetainfoError::TooBig);
        assert_eq!(with("i16384e", "i0e"), MetainfoError::PieceLen(0));
        assert_eq!(with("i16384e", "i-1e"), MetainfoError::PieceLen(-1));
        assert_eq!(with("i16384e", "i4294967296e"), MetainfoError::PieceLen(1 << 32));
    }

    #[test]
    fn refuses_names_that_lead_elsewhere() {
        let why = |path: &[&str]| match error(&multi(&[path])) {
            MetainfoError::UnsafePath { why, .. } => why,
            other => panic!("{other}"),
        };
        assert_eq!(why(&["..", "..", "etc", "passwd"]), UnsafeName::Dots);
        assert_eq!(why(&["/etc/passwd"]), UnsafeName::Separator);
        assert_eq!(why(&["C:\\x"]), UnsafeName::Separator);
        assert_eq!(why(&["C:x"]), UnsafeName::Drive);
        assert_eq!(why(&[""]), UnsafeName::Empty);
        assert_eq!(error(&multi(&[&[]])), MetainfoError::Field("path"));
        let renamed = String::from_utf8(single("")).expect("text").replace("5:a.txt", "2:..");
        assert!(matches!(
            error(renamed.as_bytes()),
            MetainfoError::UnsafePath { why: UnsafeName::Dots, .. }
        ));
    }

    #[test]
    fn refuses_two_files_at_one_path() {
        assert_eq!(
            error(&multi(&[&["a"], &["a"]])),
            MetainfoError::DuplicatePath("t/a".to_owned())
        );
        assert_eq!(
            error(&multi(&[&["a"], &["a", "b"]])),
            MetainfoError::DuplicatePath("t/a/b".to_owned())
        );
        assert_eq!(
            error(&multi(&[&["a", "b", "c"], &["a"]])),
            MetainfoError::DuplicatePath("t/a/b/c".to_owned())
        );
        assert!(parse(&multi(&[&["a", "b"], &["a", "c"], &["b"]])).is_ok());
    }

    #[test]
    fn a_thousand_paths_that_differ_only_at_their_far_ends_are_soon_compared() {
        let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        let paths: Vec<Vec<&str>> =
            names.iter().map(|name| [&["a"; 2030][..], &[name]].concat()).collect();
        let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
        // With every folder in a set this took many seconds.
        assert_eq!(parse(&multi(&paths)).expect("valid").layout().files().len(), 300);
    }

    #[test]
    fn padding_is_known_and_links_are_refused() {
        let with_attr = |attr: &str| {
            String::from_utf8(multi(&[&["a"], &["b"]])).expect("text").replacen(
                "d6:length",
                &format!("d4:attr{attr}6:length"),
                1,
            )
        };
        assert!(parse(with_attr("1:p").as_bytes()).expect("valid").layout().files()[0].is_pad);
        assert!(
            parse(with_attr("2:xh").as_bytes()).expect("valid").layout().files()[0].is_executable
        );
        assert_eq!(error(with_attr("1:l").as_bytes()), MetainfoError::Symlink("t/a".to_owned()));
    }

    #[test]
    fn the_utf8_name_is_preferred_if_it_is_one() {
        let named = |utf8: &[u8]| {
            let text =
                [&b"4:name1:x10:name.utf-8"[..], format!("{}:", utf8.len()).as_bytes(), utf8]
                    .concat();
            let plain = single("");
            let at = plain.windows(6).position(|window| window == b"4:name").expect("there");
            let bytes = [&plain[..at], &text, &plain[at + 13..]].concat();
            parse(&bytes).expect("valid").name().to_owned()
        };
        assert_eq!(named("é".as_bytes()), "é");
        assert_eq!(named(b"\xff"), "x");
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = multi(&[&["a", "b"], &["c"], &["d"]]);
        let alphabet = b"ilde0123456789:infopathname";
        for seed in 0..4000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = valid.clone();
            if seed % 4 == 0 {
                bytes.fill_with(|| alphabet[rng.below(alphabet.len())]);
            }
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.u32() as u8;
            }
            if let Ok(metainfo) = parse(&bytes) {
                assert!(
                    bytes
                        .windows(metainfo.info_bytes().len())
                        .any(|slice| slice == metainfo.info_bytes())
                );
                for file in metainfo.layout().files() {
                    let path = file.path.to_path_buf();
                    assert!(
                        path.components()
                            .all(|part| matches!(part, std::path::Component::Normal(_)))
                    );
                }
            }
        }
    }
}
