//! Descriptors whose numbers are used again at once.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use reactor::{RawSocket, Reactor, Token};
use rustix::io::dup2;

use crate::stage::{Done, Script, on_the_real_network, read, script, turn_for, turn_until};

#[derive(Default)]
struct Log {
    old: Vec<Token>,
    calls: Vec<(Token, Vec<u8>)>,
    /// Who got the number, and the far end of its socket.
    heir: Option<(Token, UnixStream)>,
}

/// Remembers for whom it was called, and what there was to read.
fn scribe() -> Script<Log> {
    script().readable(listen)
}

fn listen(token: Token, log: &mut Log, reactor: &mut Reactor<Log>) -> Done {
    let bytes = read(token, reactor)?;
    log.calls.push((token, bytes));
    Ok(())
}

/// Whoever is called first takes the other out, and has another socket under its number.
fn usurper() -> Script<Log> {
    script().readable(|token, log: &mut Log, reactor| {
        listen(token, log, reactor)?;
        let other = *log.old.iter().find(|other| **other != token).ok_or("alone")?;
        let RawSocket::Fd(mut socket) = reactor.take(other)?.connection.socket else {
            return Err("it has a descriptor".into());
        };
        let (near, far) = UnixStream::pair()?;
        // In one step: other tests open descriptors meanwhile.
        dup2(near, &mut socket)?;
        log.heir = Some((reactor.register(socket, scribe().boxed())?, far));
        Ok(())
    })
}

#[test]
fn whoever_gets_the_number_of_another_hears_nothing_that_was_meant_for_that() {
    on_the_real_network(|mut reactor: Reactor<Log>, _| {
        for _ in 0..10 {
            let mut log = Log::default();
            let mut far_ends = Vec::new();
            let mut numbers = Vec::new();
            for _ in 0..2 {
                let (near, mut far) = UnixStream::pair().unwrap();
                numbers.push(near.as_raw_fd());
                log.old.push(reactor.register(near, usurper().boxed()).unwrap());
                far.write_all(b"for the old").unwrap();
                far_ends.push(far);
            }
            // Both are ready in the same wait.
            turn_until(&mut reactor, &mut log, |log| !log.calls.is_empty());
            turn_for(&mut reactor, &mut log, Duration::from_millis(2));
            let first = log.calls[0].0;
            let (heir, mut far) = log.heir.take().unwrap();
            let number = reactor.with_fd(heir, |fd| fd.as_raw_fd()).unwrap();
            assert!(numbers.contains(&number) && !log.old.contains(&heir));
            let heard = |log: &Log| {
                Vec::from_iter(log.calls.iter().filter(|call| !call.1.is_empty()).cloned())
            };
            assert_eq!(heard(&log), [(first, b"for the old".to_vec())]);
            far.write_all(b"for the heir").unwrap();
            turn_until(&mut reactor, &mut log, |log| heard(log).len() > 1);
            assert_eq!(heard(&log)[1], (heir, b"for the heir".to_vec()));
            assert!(log.calls.iter().all(|(token, _)| [first, heir].contains(token)));
            for token in [first, heir] {
                reactor.close(token, "enough");
            }
            turn_for(&mut reactor, &mut log, Duration::from_millis(1));
            assert!(reactor.is_empty());
        }
    });
}
