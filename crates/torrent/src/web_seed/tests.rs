//! Stories of web seeds and servers, in virtual time.

#![expect(clippy::arithmetic_side_effects, reason = "small numbers, and a test may panic")]

use super::*;
use crate::Rng;
use crate::metainfo::{FileEntry, RelativePath};
use crate::swarm::tests::epoch;

/// A layout of these files; those in a folder `.pad` are padding.
pub(crate) fn layout_of(piece_len: u32, files: &[(&str, u64)]) -> FileLayout {
    let entry = |&(path, len): &(&str, u64)| FileEntry {
        path: RelativePath::from_components(path.split('/').map(Into::into).collect())
            .expect("safe"),
        len,
        is_pad: path.contains(".pad/"),
        is_executable: false,
        is_hidden: false,
    };
    FileLayout::new(piece_len, files.iter().map(entry).collect()).expect("in range")
}

/// A web seed, and the server that it asks.
struct Story {
    now: Instant,
    seed: WebSeed,
    /// The whole torrent; padding is zeros.
    data: Vec<u8>,
    /// What has come, by place in the torrent.
    came: Vec<u8>,
    asked: Vec<WebRequest>,
    failed: Vec<WebSeedFault>,
    is_over: bool,
}

impl Story {
    fn new(kind: WebSeedKind, layout: FileLayout) -> Self {
        let mut rng = Rng::from_seed(1);
        let data = layout.files().iter().flat_map(|file| {
            let bytes: Vec<u8> = (0..file.len).map(|_| rng.u32() as u8 | 1).collect();
            if file.is_pad { vec![0; bytes.len()] } else { bytes }
        });
        let data: Vec<u8> = data.collect();
        let url = "http://h/s".to_owned();
        let seed = WebSeed::new(epoch(), kind, url, InfoHash([7; 20]), Arc::new(layout));
        Self {
            now: epoch(),
            seed,
            came: vec![0; data.len()],
            data,
            asked: Vec::new(),
            failed: Vec::new(),
            is_over: false,
        }
    }

    /// Of one file, so long.
    fn single(len: u64) -> Self {
        Self::new(WebSeedKind::Files, layout_of(16 * 1024, &[("x", len)]))
    }

    fn begin(&mut self, start: u64, len: u64) {
        self.is_over = false;
        self.seed.begin(self.now, WebRun { start, len });
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.seed.poll_output() {
            match output {
                WebSeedOutput::Get(request) => self.asked.push(request),
                WebSeedOutput::Block(block, data) => {
                    let piece_len = self.seed.layout.piece_len() as usize;
                    let from = block.piece.index() * piece_len + block.offset as usize;
                    assert_eq!(data.len(), block.len as usize);
                    self.came[from..from + data.len()].copy_from_slice(&data);
                }
                WebSeedOutput::RunOver => self.is_over = true,
                WebSeedOutput::Failed(fault) => self.failed.push(fault),
            }
        }
    }

    fn head(&mut self, head: &WebHead) {
        self.seed.handle_head(self.now, head);
        self.drain();
    }

    fn status(&mut self, status: u16) {
        self.head(&WebHead { status, ..WebHead::default() });
    }

    fn body(&mut self, data: &[u8]) {
        self.seed.handle_body(self.now, data);
        self.drain();
    }

    /// The bytes of a file, or of the piece that was asked for.
    fn document(&self, url: &str) -> Vec<u8> {
        let layout = &self.seed.layout;
        if let Some((_, query)) = url.split_once("&piece=") {
            let (piece, ranges) = query.split_once("&ranges=").unwrap_or((query, "0-999999999"));
            let start = piece.parse::<usize>().expect("a number") * layout.piece_len() as usize;
            let piece = &self.data[start..self.data.len().min(start + layout.piece_len() as usize)];
            let (first, last) = ranges.split_once('-').expect("a range");
            let last = last.parse::<usize>().expect("a number").min(piece.len() - 1);
            return piece[first.parse().expect("a number")..=last].to_vec();
        }
        let mut at = 0;
        for (index, file) in layout.files().iter().enumerate() {
            if file_url("http://h/s", layout, index) == url {
                assert!(!file.is_pad, "padding was asked for");
                return self.data[at..at + file.len as usize].to_vec();
            }
            at += file.len as usize;
        }
        panic!("{url} was asked for")
    }

    /// Answers the last request as an honest server does, in portions as chance has it.
    fn answer(&mut self, rng: &mut Rng) {
        let WebRequest { url, range, .. } = self.asked.last().expect("asked").clone();
        let whole = self.document(&url);
        let (head, body) = match range {
            Some(range) => {
                let (first, last) = (*range.start(), *range.end());
                let total = whole.len();
                let head = WebHead {
                    status: 206,
                    content_range: Some(format!("bytes {first}-{last}/{total}")),
                    content_len: Some(last - first + 1),
                    ..WebHead::default()
                };
                (head, whole[first as usize..=last as usize].to_vec())
            }
            None => {
                let content_len = Some(whole.len() as u64);
                (WebHead { status: 200, content_len, ..WebHead::default() }, whole)
            }
        };
        self.head(&head);
        let mut rest = &body[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(1 + rng.below(rest.len()));
            self.body(now);
            rest = later;
        }
    }
}

fn partial(first: u64, last: u64, total: u64) -> WebHead {
    let content_range = Some(format!("bytes {first}-{last}/{total}"));
    WebHead { status: 206, content_range, ..WebHead::default() }
}

#[test]
fn any_run_of_any_layout_is_rebuilt_from_what_the_server_has() {
    for seed in 0..1500 {
        let mut rng = Rng::from_seed(seed);
        let names: Vec<String> = (0..1 + rng.below(6))
            .map(|at| format!("t/{}{at}", if rng.below(4) == 0 { ".pad/" } else { "" }))
            .collect();
        let files: Vec<(&str, u64)> =
            names.iter().map(|name| (name.as_str(), rng.below(40_000) as u64)).collect();
        let layout = layout_of(1 + rng.below(40_000) as u32, &files);
        if layout.piece_count() == 0 {
            continue;
        }
        let kind = if seed % 2 == 0 { WebSeedKind::Files } else { WebSeedKind::Pieces };
        let mut story = Story::new(kind, layout);
        let piece_len = u64::from(story.seed.layout.piece_len());
        let count = story.seed.layout.piece_count() as usize;
        let first = rng.below(count);
        let start = first as u64 * piece_len;
        let end = start + piece_len * (1 + rng.below(count - first)) as u64;
        let end = end.min(story.data.len() as u64);
        story.begin(start, end - start);
        while !story.is_over {
            story.answer(&mut rng);
        }
        let (start, end) = (start as usize, end as usize);
        assert!(story.came[start..end] == story.data[start..end], "seed {seed}");
        assert!(story.came[..start].iter().chain(&story.came[end..]).all(|byte| *byte == 0));
        assert_eq!(story.failed, [], "seed {seed}");
    }
}

#[test]
fn runs_grow_while_the_server_is_quick_and_shrink_when_it_is_not() {
    let mut story = Story::single(RUN_LEN_FIRST);
    let mut rng = Rng::from_seed(1);
    for expected in [1, 2, 4, 8, 16, 32, 64, 64_u64] {
        assert_eq!(story.seed.wants(story.now), Some(expected << 20));
        story.begin(0, 100_000);
        assert_eq!(story.seed.wants(story.now), None);
        story.answer(&mut rng);
    }
    story.begin(0, 100_000);
    story.now += Duration::from_secs(25);
    story.answer(&mut rng);
    assert_eq!(story.seed.wants(story.now), Some(32 << 20));
}

#[test]
fn a_server_that_sends_whole_files_will_do_if_the_part_is_near_the_start() {
    let mut story = Story::single(3 << 20);
    story.begin(0, 32_768);
    story.status(200);
    let data = story.data.clone();
    story.body(&data[..40_000]);
    assert!(story.is_over && story.came[..32_768] == data[..32_768]);
    story.begin(1 << 20, 32_768);
    story.status(200);
    story.body(&data[..1 << 20]);
    story.body(&data[1 << 20..]);
    assert!(story.is_over && story.failed.is_empty());
    story.begin(2 << 20, 32_768);
    story.status(200);
    assert_eq!(story.failed, [WebSeedFault::NoRanges]);
    assert!(story.seed.is_dropped(), "it has no other file");
}

#[test]
fn a_file_that_is_missing_or_another_is_not_asked_for_again() {
    let layout = || layout_of(10, &[("t/a", 25), ("t/b", 25), ("t/c", 10)]);
    for head in [
        WebHead { status: 404, ..WebHead::default() },
        WebHead { status: 403, ..WebHead::default() },
        WebHead { status: 416, ..WebHead::default() },
        WebHead { status: 200, content_len: Some(26), ..WebHead::default() },
        WebHead { status: 200, content_encoding: Some("gzip".to_owned()), ..WebHead::default() },
    ] {
        let mut story = Story::new(WebSeedKind::Files, layout());
        story.begin(0, 30);
        story.head(&head);
        assert_eq!((story.is_over, story.failed.len()), (true, 1));
        let has: Vec<bool> = (0..6).map(|piece| story.seed.has(PieceIndex(piece))).collect();
        assert_eq!(has, [false, false, false, true, true, true], "{head:?}");
        assert!(story.seed.wants(story.now).is_some(), "there are other files");
        story.begin(30, 10);
        story.head(&head);
        assert!(!story.seed.is_dropped());
        story.begin(50, 10);
        story.head(&head);
        assert!(story.seed.is_dropped() && story.seed.wants(story.now).is_none());
    }
}

#[test]
fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    for (retry_after, seconds) in [
        (Some("7"), 7),
        (Some("0"), 1),
        (Some("99999999999"), 3600),
        (Some("soon"), 60),
        (None, 60),
    ] {
        for status in [429, 503] {
            let mut story = Story::single(100_000);
            story.begin(0, 16_384);
            let retry_after = retry_after.map(str::to_owned);
            story.head(&WebHead { status, retry_after, ..WebHead::default() });
            assert_eq!(story.failed, [WebSeedFault::Status(status)]);
            let until = story.now + Duration::from_secs(seconds);
            assert_eq!(story.seed.poll_timeout(), Some(until));
            assert_eq!(story.seed.wants(until - Duration::from_millis(1)), None);
            assert!(story.seed.wants(until).is_some());
        }
    }
}

#[test]
fn a_server_of_pieces_says_in_the_body_how_long_to_wait() {
    let mut story = Story::new(WebSeedKind::Pieces, layout_of(16_384, &[("x", 50_000)]));
    story.begin(0, 16_384);
    story.status(503);
    story.body(b"12");
    story.body(b"0\r\n");
    story.seed.handle_end(story.now);
    assert_eq!(story.seed.poll_timeout(), Some(story.now + Duration::from_secs(120)));
    let mut endless = Story::new(WebSeedKind::Pieces, layout_of(16_384, &[("x", 50_000)]));
    endless.begin(0, 16_384);
    endless.status(503);
    (0..1000).for_each(|_| endless.body(&[b'9'; 1000]));
    endless.seed.handle_end(endless.now);
    assert_eq!(endless.seed.poll_timeout(), Some(endless.now + RETRY_AFTER_MAX));
}

#[test]
fn redirects_are_followed_so_far_and_remembered() {
    let mut story = Story::single(100_000);
    let to = |location: &str| WebHead {
        status: 302,
        location: Some(location.to_owned()),
        ..WebHead::default()
    };
    story.begin(0, 16_384);
    story.head(&to("http://other/x"));
    let range = Some(0..=16_383);
    let asked = WebRequest { url: "http://other/x".to_owned(), range, is_redirected: true };
    assert_eq!(story.asked.last(), Some(&asked));
    story.head(&partial(0, 16_383, 100_000));
    let data = story.data.clone();
    story.body(&data[..16_384]);
    story.begin(16_384, 16_384);
    assert_eq!(story.asked.last().map(|asked| asked.url.as_str()), Some("http://other/x"));
    for hop in 0..5 {
        story.head(&to(&format!("http://{hop}/")));
        assert!(!story.is_over);
    }
    story.head(&to("http://one-too-many/"));
    assert_eq!((story.is_over, &story.failed[..]), (true, &[WebSeedFault::Redirects][..]));
    story.now += PATIENCE_MAX;
    story.begin(16_384, 16_384);
    assert_eq!(story.asked.last().map(|asked| asked.url.as_str()), Some("http://h/s"));
}

#[test]
fn another_part_than_was_asked_for_is_refused() {
    let total = 100_000;
    for head in [
        partial(1, 16_384, total),
        partial(0, 20_000, total),
        WebHead { status: 206, ..WebHead::default() },
    ] {
        let mut story = Story::single(total);
        story.begin(0, 16_384);
        story.head(&head);
        assert_eq!((story.is_over, &story.failed[..]), (true, &[WebSeedFault::WrongRange][..]));
        story.body(&[1; 16_384]);
        assert!(story.came.iter().all(|byte| *byte == 0), "nothing of it is taken");
        assert_eq!(story.seed.poll_timeout(), Some(story.now + PATIENCE_FIRST));
    }
    let mut story = Story::single(total);
    story.begin(0, 16_384);
    story.head(&partial(0, 16_383, total + 1));
    assert_eq!(story.failed, [WebSeedFault::WrongLen]);
}

#[test]
fn a_server_that_gives_a_little_at_a_time_is_asked_for_the_rest_at_once() {
    let mut story = Story::single(100_000);
    let data = story.data.clone();
    story.begin(0, 65_536);
    for (at, last) in [(0, 29_999_u64), (30_000, 59_999), (60_000, 65_535)] {
        assert_eq!(story.asked.last().expect("asked").range, Some(at..=65_535));
        story.head(&partial(at, last, 100_000));
        story.body(&data[at as usize..=last as usize]);
    }
    assert!(story.is_over && story.failed.is_empty() && story.came[..65_536] == data[..65_536]);
    // Byte by byte it would take for ever.
    story.begin(0, 65_536);
    for at in 0..40 {
        story.head(&partial(at, at, 100_000));
        story.body(&data[at as usize..=at as usize]);
        story.now += Duration::from_secs(1);
        story.seed.handle_timeout(story.now);
    }
    story.drain();
    assert_eq!((story.is_over, &story.failed[..]), (true, &[WebSeedFault::Silent][..]));
}

#[test]
fn what_came_before_a_connection_broke_is_kept_and_the_rest_asked_for_soon() {
    let mut story = Story::single(100_000);
    let data = story.data.clone();
    story.begin(0, 100_000);
    story.status(200);
    story.body(&data[..20_000]);
    story.seed.handle_end(story.now);
    story.drain();
    assert_eq!((story.is_over, &story.failed[..]), (true, &[WebSeedFault::Cut][..]));
    assert!(story.came[..16_384] == data[..16_384]);
    assert_eq!(story.seed.poll_timeout(), Some(story.now + RETRY_SOON));
    // One that brings nothing is asked less and less often.
    for expected in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
        story.now += PATIENCE_MAX;
        story.begin(0, 100_000);
        story.seed.handle_failure(story.now, WebSeedFault::Unreachable("refused".to_owned()));
        let until = story.now + Duration::from_secs(expected);
        assert_eq!(story.seed.poll_timeout(), Some(until));
    }
}

#[test]
fn a_trickle_is_as_good_as_nothing_but_a_reader_that_waits_is_no_fault() {
    let mut story = Story::single(100_000);
    story.begin(0, 100_000);
    story.status(200);
    for _ in 0..29 {
        story.now += Duration::from_secs(1);
        story.body(b"x");
        story.seed.handle_timeout(story.now);
    }
    assert!(story.seed.is_fetching());
    story.now += Duration::from_secs(1);
    story.seed.excuse(story.now);
    story.seed.handle_timeout(story.now);
    assert!(story.seed.is_fetching());
    story.now += STALLED_AFTER;
    story.seed.handle_timeout(story.now);
    story.drain();
    assert_eq!((story.is_over, &story.failed[..]), (true, &[WebSeedFault::Silent][..]));
}

#[test]
fn a_liar_is_dropped_and_a_stopped_run_is_no_failure() {
    let mut story = Story::single(100_000);
    story.begin(0, 100_000);
    story.seed.stop();
    story.drain();
    assert!(story.is_over && story.seed.wants(story.now).is_some());
    story.seed.handle_lie();
    story.drain();
    assert_eq!(story.failed, [WebSeedFault::Lied]);
    assert_eq!(story.seed.status(story.now).state, WebSeedState::Dropped);
}

#[test]
fn whatever_a_server_says_nothing_panics_and_only_what_was_asked_for_comes() {
    let texts = ["", "identity", "gzip", "bytes 0-9/60", "bytes 10-19/*", "5", "http://h/"];
    for seed in 0..3000 {
        let mut rng = Rng::from_seed(seed);
        let kind = if seed % 2 == 0 { WebSeedKind::Files } else { WebSeedKind::Pieces };
        let files = [("t/a", 25), ("t/.pad/5", 5), ("t/b", 30)];
        let mut story = Story::new(kind, layout_of(10, &files));
        for _ in 0..60 {
            let mut text = || {
                let text = texts[rng.below(texts.len())];
                (rng.below(2) == 0).then(|| text.to_owned())
            };
            let (content_range, content_encoding) = (text(), text());
            let (retry_after, location) = (text(), text());
            match rng.below(6) {
                0 if story.seed.wants(story.now).is_some() => {
                    story.begin(10 * rng.below(6) as u64, 10);
                }
                0 | 1 => {
                    let status = [200, 206, 301, 404, 416, 429, 500, 503, 0][rng.below(9)];
                    let content_len = (rng.below(2) == 0).then(|| rng.below(40) as u64);
                    story.head(&WebHead {
                        status,
                        content_len,
                        content_range,
                        content_encoding,
                        retry_after,
                        location,
                    });
                }
                2 => story.body(&vec![1; rng.below(40)]),
                3 => story.seed.handle_end(story.now),
                4 => story.seed.handle_timeout(story.now),
                _ => story.now += Duration::from_secs(rng.below(100) as u64),
            }
            story.drain();
            assert!(
                story.asked.len() < 400 && !story.asked.iter().any(|one| one.url.contains("pad"))
            );
        }
    }
}
