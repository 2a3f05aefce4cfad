//! What to ask a web seed for: a run of the torrent as requests for parts of files or of pieces.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::WebSeedKind;
use crate::metainfo::FileLayout;
use crate::percent::push_encoded;
use crate::swarm::WebRun;
use crate::{InfoHash, PieceIndex};

/// A document to get, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebRequest {
    /// Where it is.
    pub url: String,
    /// The bytes to ask for with a `Range` header; `None` is all of it.
    pub range: Option<RangeInclusive<u64>>,
    /// The server has sent us there: nobody but it has chosen the address.
    pub is_redirected: bool,
}

/// A part of a run, in the order of the torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Padding ([BEP 47]): zeros that nobody is asked for.
    ///
    /// [BEP 47]: https://www.bittorrent.org/beps/bep_0047.html
    Pad { len: u64 },
    /// Bytes of a file.
    File { file: usize, offset: u64, len: u64 },
    /// Bytes of a piece.
    Piece { piece: PieceIndex, offset: u32, len: u64 },
}

impl Part {
    /// The last `len` bytes of it, of those that can come in pieces: parts of files.
    pub(super) fn last(self, len: u64) -> Option<Self> {
        match self {
            Self::File { file, offset, len: whole } if len > 0 => {
                let offset = offset.saturating_add(whole.saturating_sub(len));
                Some(Self::File { file, offset, len })
            }
            Self::File { .. } | Self::Pad { .. } | Self::Piece { .. } => None,
        }
    }

    #[cfg(test)]
    pub(super) const fn len(self) -> u64 {
        match self {
            Self::Pad { len } | Self::File { len, .. } | Self::Piece { len, .. } => len,
        }
    }
}

/// The parts of a run. Those for a server of files are as long as files allow, those for a server of
/// pieces as pieces do.
pub(super) fn parts(layout: &FileLayout, kind: WebSeedKind, run: WebRun) -> VecDeque<Part> {
    let mut parts = VecDeque::new();
    let end = run.start.saturating_add(run.len).min(layout.total_len());
    let piece_len = u64::from(layout.piece_len());
    let mut at = run.start;
    while at < end {
        let piece = PieceIndex(u32::try_from(at.checked_div(piece_len).unwrap_or(0)).unwrap_or(0));
        let mut offset = u32::try_from(at.checked_rem(piece_len).unwrap_or(0)).unwrap_or(0);
        let rest =
            end.saturating_sub(at).min(u64::from(layout.len_of(piece).saturating_sub(offset)));
        for span in layout.spans(piece, offset, u32::try_from(rest).unwrap_or(u32::MAX)) {
            let len = u64::from(span.len);
            let is_pad = layout.files().get(span.file).is_some_and(|file| file.is_pad);
            push(
                &mut parts,
                match kind {
                    _ if is_pad => Part::Pad { len },
                    WebSeedKind::Files => Part::File { file: span.file, offset: span.offset, len },
                    WebSeedKind::Pieces => Part::Piece { piece, offset, len },
                },
            );
            offset = offset.saturating_add(span.len);
        }
        at = at.saturating_add(rest.max(1));
    }
    parts
}

/// Appends a part, as the rest of the one before if it goes on where that ends.
fn push(parts: &mut VecDeque<Part>, part: Part) {
    match (parts.back_mut(), part) {
        (Some(Part::Pad { len: before }), Part::Pad { len }) => {
            *before = before.saturating_add(len);
        }
        (
            Some(Part::File { file, offset, len: before }),
            Part::File { file: next, offset: from, len },
        ) if *file == next && offset.saturating_add(*before) == from => {
            *before = before.saturating_add(len);
        }
        (
            Some(Part::Piece { piece, offset, len: before }),
            Part::Piece { piece: next, offset: from, len },
        ) if *piece == next && u64::from(*offset).saturating_add(*before) == u64::from(from) => {
            *before = before.saturating_add(len);
        }
        _ => parts.push_back(part),
    }
}

/// Where a file is ([BEP 19]): the address itself for a torrent of one file, unless that is a folder;
/// else below it, by the torrent's name and the path.
///
/// [BEP 19]: https://www.bittorrent.org/beps/bep_0019.html
pub(super) fn file_url(base: &str, layout: &FileLayout, file: usize) -> String {
    let mut url = base.to_owned();
    let Some(entry) = layout.files().get(file) else { return url };
    let is_single = layout.files().iter().filter(|file| !file.is_pad).count() == 1
        && entry.path.components().count() == 1;
    if is_single && !url.ends_with('/') {
        return url;
    }
    for name in entry.path.components() {
        if !url.ends_with('/') {
            url.push('/');
        }
        push_encoded(&mut url, name);
    }
    url
}

/// The question of [BEP 17] for a part of a piece; `part` is `None` for all of it.
///
/// [BEP 17]: https://www.bittorrent.org/beps/bep_0017.html
pub(super) fn piece_url(
    base: &str,
    info_hash: InfoHash,
    piece: PieceIndex,
    part: Option<RangeInclusive<u64>>,
) -> String {
    let mut url = base.to_owned();
    url.push(if base.contains('?') { '&' } else { '?' });
    url.push_str("info_hash=");
    push_encoded(&mut url, &info_hash.0);
    url.push_str(&format!("&piece={piece}"));
    if let Some(part) = part {
        url.push_str(&format!("&ranges={}-{}", part.start(), part.end()));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::web_seed::tests::layout_of;

    #[test]
    fn names_are_encoded_and_folders_end_with_a_slash() {
        let single = layout_of(10, &[("a b?.iso", 5)]);
        assert_eq!(file_url("http://h/x.iso?k=1", &single, 0), "http://h/x.iso?k=1");
        assert_eq!(file_url("http://h/dir/", &single, 0), "http://h/dir/a%20b%3F.iso");
        let multi = layout_of(10, &[("t/ü", 5), ("t/100%/#", 5)]);
        assert_eq!(file_url("http://h", &multi, 0), "http://h/t/%C3%BC");
        assert_eq!(file_url("http://h/", &multi, 1), "http://h/t/100%25/%23");
        // A folder with one file in it is still a folder.
        let folder = layout_of(10, &[("t/a", 5)]);
        assert_eq!(file_url("http://h/x", &folder, 0), "http://h/x/t/a");
    }

    #[test]
    fn a_server_of_pieces_is_asked_by_hash_and_number() {
        let hash = InfoHash([b'a'; 20]);
        let base = format!("http://h/s.php?info_hash={}&piece=7", "a".repeat(20));
        assert_eq!(piece_url("http://h/s.php", hash, PieceIndex(7), None), base);
        let part = piece_url("http://h/s.php?x=1", hash, PieceIndex(7), Some(3..=9));
        assert!(part.starts_with("http://h/s.php?x=1&info_hash=") && part.ends_with("&ranges=3-9"));
    }

    #[test]
    fn a_run_is_asked_file_by_file_and_without_padding() {
        let layout = layout_of(10, &[("t/a", 4), ("t/none", 0), ("t/.pad/6", 6), ("t/b", 25)]);
        let run = WebRun { start: 0, len: 30 };
        let all = parts(&layout, WebSeedKind::Files, run);
        let (first, pad) = (Part::File { file: 0, offset: 0, len: 4 }, Part::Pad { len: 6 });
        assert_eq!(all, [first, pad, Part::File { file: 3, offset: 0, len: 20 }]);
        let piece = |piece, len| Part::Piece { piece: PieceIndex(piece), offset: 0, len };
        let all = parts(&layout, WebSeedKind::Pieces, run);
        assert_eq!(all, [piece(0, 4), pad, piece(1, 10), piece(2, 10)]);
    }

    #[test]
    fn the_parts_of_any_run_are_all_its_bytes_once_and_in_order() {
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let names: Vec<String> = (0..1 + rng.below(8))
                .map(|at| format!("t/{}{at}", if rng.below(4) == 0 { ".pad/" } else { "" }))
                .collect();
            let files: Vec<(&str, u64)> =
                names.iter().map(|name| (name.as_str(), rng.below(50) as u64)).collect();
            let layout = layout_of(1 + rng.below(30) as u32, &files);
            let start = rng.below(layout.total_len() as usize + 1) as u64;
            let run = WebRun { start, len: rng.below(100) as u64 };
            let bytes: Vec<(usize, u64)> = files
                .iter()
                .enumerate()
                .flat_map(|(file, &(_, len))| (0..len).map(move |at| (file, at)))
                .skip(start as usize)
                .take(run.len as usize)
                .collect();
            for kind in [WebSeedKind::Files, WebSeedKind::Pieces] {
                let mut at = start;
                let mut found = Vec::new();
                for part in parts(&layout, kind, run) {
                    assert!(part.len() > 0, "seed {seed}");
                    match part {
                        Part::Pad { len } => (0..len).for_each(|_| {
                            let (file, offset) = bytes[found.len()];
                            assert!(layout.files()[file].is_pad, "seed {seed}");
                            found.push((file, offset));
                        }),
                        Part::File { file, offset, len } => {
                            assert!(!layout.files()[file].is_pad, "seed {seed}");
                            found.extend((offset..offset + len).map(|at| (file, at)));
                        }
                        Part::Piece { piece, offset, len } => {
                            let piece_len = u64::from(layout.piece_len());
                            let from = u64::from(piece.0) * piece_len + u64::from(offset);
                            assert_eq!(from, at, "seed {seed}");
                            assert!(u64::from(offset) + len <= piece_len, "seed {seed}");
                            let own = &bytes[found.len()..found.len() + len as usize];
                            found.extend_from_slice(own);
                        }
                    }
                    at += part.len();
                }
                assert_eq!(found, bytes, "seed {seed} {kind:?}");
            }
        }
    }
}
