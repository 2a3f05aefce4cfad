//! What a web server says to one that asks it for parts of files.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use torrent::InfoHash;
use torrent::metainfo::{FileEntry, FileLayout, RelativePath};
use torrent::swarm::WebRun;
use torrent::web_seed::{ContentRange, WebHead, WebSeed, WebSeedKind};

fuzz_target!(|data: &[u8]| {
    if let Some(range) = std::str::from_utf8(data).ok().and_then(ContentRange::parse) {
        assert!(range.first <= range.last && range.total.is_none_or(|total| range.last < total));
    }
    let file = |name: &str, len, is_pad| FileEntry {
        path: RelativePath::from_components(vec![b"t".to_vec(), name.into()]).unwrap(),
        len,
        is_pad,
        is_executable: false,
        is_hidden: false,
    };
    let files = vec![file("a", 25, false), file("p", 5, true), file("b", 30, false)];
    let layout = Arc::new(FileLayout::new(10, files).unwrap());
    let kind = match data.first() {
        Some(byte) if byte % 2 == 0 => WebSeedKind::Files,
        _ => WebSeedKind::Pieces,
    };
    let mut now = Instant::now();
    let mut seed = WebSeed::new(now, kind, "http://h/".to_owned(), InfoHash([1; 20]), layout);
    for words in data.split(|byte| *byte == b'\n') {
        let Some((&what, words)) = words.split_first() else { continue };
        let text = || String::from_utf8(words.to_vec()).ok();
        let head = |status| WebHead { status, ..WebHead::default() };
        match what % 10 {
            0 if seed.wants(now).is_some() => {
                seed.begin(now, WebRun { start: 10 * (words.len() as u64 % 6), len: 10 });
            }
            1 => seed.handle_head(now, &head(200)),
            2 => seed.handle_head(now, &WebHead { content_range: text(), ..head(206) }),
            3 => seed.handle_head(now, &WebHead { retry_after: text(), ..head(503) }),
            4 => seed.handle_head(now, &WebHead { location: text(), ..head(302) }),
            5 => seed.handle_head(now, &WebHead { content_encoding: text(), ..head(200) }),
            6 => seed.handle_body(now, words),
            7 => seed.handle_end(now),
            8 => seed.handle_timeout(now),
            _ => now += Duration::from_secs(words.len() as u64),
        }
        while seed.poll_output().is_some() {}
    }
});
