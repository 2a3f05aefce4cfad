//! Parts of files among bytes, and corks.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use reactor::{Chunk, Direction, Rate, Reactor, Token};

use crate::parts::pair;
use crate::stage::{Script, everywhere, noise, on_the_real_network, read, script, turn_until};

#[derive(Default)]
struct Log {
    received: Vec<u8>,
    endings: Vec<String>,
}

fn collector() -> Script<Log> {
    script()
        .readable(|token, log: &mut Log, reactor| {
            log.received.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(|_, reason, log, _| log.endings.push(reason.to_string()))
}

fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

fn part(file: &Arc<File>, offset: u64, len: usize) -> Chunk {
    Chunk::File { file: Arc::clone(file), offset, len }
}

/// What all of it together is when it arrives.
fn write_a_mixture(reactor: &mut Reactor<Log>, token: Token) -> Vec<u8> {
    let bytes = noise(1_000_000);
    let file = file(&bytes);
    reactor.write(token, "head").unwrap();
    reactor.write(token, part(&file, 10, 700_000)).unwrap();
    reactor.write(token, "between").unwrap();
    reactor.write(token, part(&file, 0, 1)).unwrap();
    reactor.write(token, part(&file, 5, 0)).unwrap();
    reactor.write(token, part(&file, 999_999, 1)).unwrap();
    reactor.write(token, "tail").unwrap();
    let ends = [&bytes[..1], &bytes[999_999..]];
    [b"head", &bytes[10..700_010], b"between", ends[0], ends[1], b"tail"].concat()
}

#[test]
fn parts_of_files_arrive_in_their_place_among_bytes() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = pair(&mut reactor, &mut log, ip, script().boxed(), collector().boxed());
        let expected = write_a_mixture(&mut reactor, here);
        assert_eq!(reactor.queued(here), expected.len());
        turn_until(&mut reactor, &mut log, |log| log.received.len() >= expected.len());
        assert!(log.received == expected);
    });
}

#[test]
fn they_do_so_within_this_reactor_and_under_a_limit_too() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = reactor.pipe(script().boxed(), collector().boxed());
        let expected = write_a_mixture(&mut reactor, here);
        turn_until(&mut reactor, &mut log, |log| log.received.len() >= expected.len());
        assert!(log.received == expected);
        log.received.clear();
        let (here, _) = pair(&mut reactor, &mut log, ip, script().boxed(), collector().boxed());
        let rate = Rate { bytes_per_second: 10_000_000, burst: 100_000 };
        reactor.set_rate(here, Direction::Write, Some(rate));
        write_a_mixture(&mut reactor, here);
        turn_until(&mut reactor, &mut log, |log| log.received.len() >= expected.len());
        assert!(log.received == expected);
    });
}

#[test]
fn a_file_that_is_shorter_than_promised_ends_the_connection() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        for (here, _) in [
            pair(&mut reactor, &mut Log::default(), ip, collector().boxed(), script().boxed()),
            reactor.pipe(collector().boxed(), script().boxed()),
        ] {
            let mut log = Log::default();
            let short = file(&noise(30_000));
            reactor.write(here, "head").unwrap();
            reactor.write(here, part(&short, 0, 30_001)).unwrap();
            reactor.write(here, "never").unwrap();
            turn_until(&mut reactor, &mut log, |log| !log.endings.is_empty());
            assert_eq!(log.endings, ["the file ended early"]);
        }
    });
}

#[test]
fn a_cork_is_in_until_its_last_guard_is_gone_and_all_is_written() {
    on_the_real_network(|mut reactor: Reactor<Log>, ip| {
        let is_corked = |reactor: &Reactor<Log>, token| {
            reactor.with_fd(token, |fd| rustix::net::sockopt::tcp_cork(fd).unwrap()).unwrap()
        };
        let mut log = Log::default();
        let (here, _) = pair(&mut reactor, &mut log, ip, script().boxed(), collector().boxed());
        let (outer, inner) = (reactor.cork(here), reactor.cork(here));
        assert!(is_corked(&reactor, here));
        reactor.write(here, "head").unwrap();
        drop(outer);
        reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        assert!(is_corked(&reactor, here));
        reactor.write(here, ", body").unwrap();
        drop(inner);
        assert!(is_corked(&reactor, here), "what is queued goes out under it");
        turn_until(&mut reactor, &mut log, |log| log.received == b"head, body");
        assert!(!is_corked(&reactor, here));
        drop(reactor.cork(here));
        assert!(!is_corked(&reactor, here));
    });
}

#[test]
fn what_knows_no_corks_goes_on_without() {
    on_the_real_network(|mut reactor: Reactor<Log>, _| {
        let mut log = Log::default();
        let ((ours, theirs), (reader, writer)) =
            (UnixStream::pair().unwrap(), std::io::pipe().unwrap());
        let unix = reactor.register(ours, script().boxed()).unwrap();
        let pipe = reactor.register(writer, script().boxed()).unwrap();
        reactor.register(theirs, collector().boxed()).unwrap();
        reactor.register(reader, collector().boxed()).unwrap();
        for token in [unix, pipe] {
            log.received.clear();
            let cork = reactor.cork(token);
            reactor.write(token, "through").unwrap();
            turn_until(&mut reactor, &mut log, |log| log.received == b"through");
            drop(cork);
        }
        let (one, _) = reactor.pipe(script().boxed(), collector().boxed());
        let cork = reactor.cork(one);
        log.received.clear();
        reactor.write(one, "through").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received == b"through");
        reactor.close(one, "over");
        drop(cork);
        assert!(log.endings.is_empty());
    });
}
