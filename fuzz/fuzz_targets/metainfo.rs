//! Torrent files: what is accepted agrees with itself, and leads nowhere outside its folder.

#![no_main]

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use torrent::metainfo::Metainfo;
use torrent::{InfoHash, InfoHashV2, PieceIndex};

fuzz_target!(|bytes: &[u8]| {
    let Ok(metainfo) = Metainfo::parse(bytes) else { return };
    let (whole, info) = (metainfo.as_bytes(), metainfo.info_bytes());
    assert!(bytes.starts_with(whole));
    assert!(whole.as_ptr_range().contains(&info.as_ptr()), "the info is a slice of the file");
    let hashes = metainfo.info_hashes();
    assert!(hashes.v1.is_none_or(|hash| hash == InfoHash::of(info)));
    assert!(hashes.v2.is_none_or(|hash| hash == InfoHashV2::of(info)));

    let layout = metainfo.layout();
    let files_len: u64 = layout.files().iter().map(|file| file.len).sum();
    assert_eq!(files_len, layout.total_len());
    for file in layout.files() {
        let path = file.path.to_path_buf();
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    }
    let piece_count = layout.piece_count();
    let pieces = (0..piece_count).map(PieceIndex);
    let pieces_len: u64 = pieces.clone().map(|piece| u64::from(layout.len_of(piece))).sum();
    assert_eq!(pieces_len, layout.total_len());
    for piece in pieces.clone().take(8).chain(pieces.rev().take(8)) {
        let check = metainfo.piece_check(piece);
        assert_eq!(check.v1.is_some(), hashes.v1.is_some());
        assert!(check.v2.is_none_or(|tree| tree.len <= layout.len_of(piece)));
        let spans = layout.spans(piece, 0, layout.len_of(piece));
        let spans_len: u64 = spans.map(|span| u64::from(span.len)).sum();
        assert_eq!(spans_len, u64::from(layout.len_of(piece)));
    }

    let again = Metainfo::parse(&metainfo.to_file()).expect("what was accepted is again");
    assert_eq!(again.info_hashes(), hashes);
});
