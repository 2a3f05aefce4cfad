//! Torrent files: what is accepted agrees with itself, and leads nowhere outside its folder.

#![no_main]

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use torrent::metainfo::Metainfo;
use torrent::{InfoHash, PieceIndex};

fuzz_target!(|bytes: &[u8]| {
    let Ok(metainfo) = Metainfo::parse(bytes) else { return };
    let (whole, info) = (metainfo.as_bytes(), metainfo.info_bytes());
    assert!(bytes.starts_with(whole));
    assert!(whole.as_ptr_range().contains(&info.as_ptr()), "the info is a slice of the file");
    assert_eq!(InfoHash::of(info), metainfo.info_hash());

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
        metainfo.piece_hash(piece);
        let spans = layout.spans(piece, 0, layout.len_of(piece));
        let spans_len: u64 = spans.map(|span| u64::from(span.len)).sum();
        assert_eq!(spans_len, u64::from(layout.len_of(piece)));
    }

    let again = Metainfo::parse(whole).expect("what was accepted once is accepted again");
    assert_eq!(again.info_hash(), metainfo.info_hash());
});
