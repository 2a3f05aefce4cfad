//! Watched descriptors and signals of the real system.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;

use rustix::process::{Signal, getpid, kill_process};

use super::*;

#[test]
fn a_watched_pipe_tells_of_data_and_of_its_end_and_then_is_silent() {
    let mut world = World::new();
    let (mut reader, mut writer) = io::pipe().unwrap();
    let source = world.epoll.watch(reader.as_fd(), Interest::Readable, token(1)).unwrap();
    assert!(!world.has_event(1));
    writer.write_all(b"data").unwrap();
    let event = world.event(1);
    assert!(event.readable && !event.hung_up);
    assert!(!world.has_event(1), "one event until it is watched again");
    drop(writer);
    // What is left is told of, however often that takes, and so is the end.
    for _ in 0..2 {
        world.epoll.rewatch(source, Interest::Readable, token(1)).unwrap();
        let event = world.event(1);
        assert!(event.readable && event.hung_up);
    }
    assert_eq!(reader.read(&mut [0; 10]).unwrap(), 4);
    world.epoll.rewatch(source, Interest::Readable, token(1)).unwrap();
    assert!(!world.has_event(1));
}

#[test]
fn the_end_of_a_watched_pipe_is_told_even_if_nothing_is_left_by_then() {
    let mut world = World::new();
    let (mut reader, mut writer) = io::pipe().unwrap();
    let source = world.epoll.watch(reader.as_fd(), Interest::Both, token(1)).unwrap();
    writer.write_all(b"data").unwrap();
    assert!(!world.event(1).hung_up);
    assert_eq!(reader.read(&mut [0; 10]).unwrap(), 4);
    drop(writer);
    // By another token, as if the first watcher had handed it on.
    world.epoll.rewatch(source, Interest::Readable, token(2)).unwrap();
    assert!(world.event(2).hung_up);
    world.epoll.rewatch(source, Interest::Readable, token(2)).unwrap();
    assert!(!world.has_event(2));
}

#[test]
fn a_watched_socket_that_is_half_closed_can_still_be_watched_for_writing() {
    let mut world = World::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let source = world.epoll.watch(ours.as_fd(), Interest::Readable, token(1)).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let event = world.event(1);
    assert!(event.readable && event.ended && !event.hung_up);
    world.epoll.rewatch(source, Interest::Readable, token(1)).unwrap();
    assert!(!world.has_event(1));
    world.epoll.rewatch(source, Interest::Both, token(1)).unwrap();
    let event = world.event(1);
    assert!(event.writable && !event.readable);
}

#[test]
fn a_watched_socket_goes_on_after_an_error_that_was_fetched() {
    let mut world = World::new();
    let ours = UdpSocket::bind(local()).unwrap();
    let peer = UdpSocket::bind(local()).unwrap();
    let peer_addr = peer.local_addr().unwrap();
    ours.connect(peer_addr).unwrap();
    let source = world.epoll.watch(ours.as_fd(), Interest::Readable, token(1)).unwrap();
    drop(peer);
    ours.send(b"to nobody").unwrap();
    assert!(world.event(1).hung_up);
    world.epoll.rewatch(source, Interest::Readable, token(1)).unwrap();
    assert!(!world.has_event(1), "an error that nobody fetches is told once");
    assert!(ours.take_error().unwrap().is_some());
    world.epoll.rewatch(source, Interest::Readable, token(1)).unwrap();
    let peer = UdpSocket::bind(peer_addr).unwrap();
    peer.send_to(b"here again", ours.local_addr().unwrap()).unwrap();
    let event = world.event(1);
    assert!(event.readable && !event.hung_up);
}

#[test]
fn a_watch_outlives_its_owners_descriptor_and_ends_without_an_event() {
    let mut world = World::new();
    let (reader, mut writer) = io::pipe().unwrap();
    let source = world.epoll.watch(reader.as_fd(), Interest::Readable, token(1)).unwrap();
    drop(reader);
    let (other, _other_writer) = io::pipe().unwrap();
    let another = world.epoll.watch(other.as_fd(), Interest::Readable, token(2)).unwrap();
    writer.write_all(b"data").unwrap();
    assert!(world.event(1).readable);
    world.epoll.close(source);
    // With the watch the last reader is gone.
    assert_eq!(writer.write(b"more").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    world.epoll.close(another);
    assert!(!world.has_event(1) && !world.has_event(2));
    let file = tempfile::tempfile().unwrap();
    let error = world.epoll.watch(file.as_fd(), Interest::Readable, token(3)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn every_watch_of_a_signal_hears_it_once() {
    let mut world = World::new();
    let signal = Signal::USR1.as_raw();
    let first = world.epoll.watch_signal(signal, token(1)).unwrap();
    let second = world.epoll.watch_signal(signal, token(2)).unwrap();
    assert!(!world.epoll.take_signal(first));
    kill_process(getpid(), Signal::USR1).unwrap();
    for (source, number) in [(first, 1), (second, 2)] {
        assert!(world.event(number).readable);
        assert!(world.epoll.take_signal(source));
        assert!(!world.epoll.take_signal(source));
    }
    world.epoll.close(first);
    kill_process(getpid(), Signal::USR1).unwrap();
    world.event(2);
    assert!(world.epoll.take_signal(second) && !world.has_event(1));
}

#[test]
fn signals_that_cannot_be_caught_are_an_error() {
    let mut world = World::new();
    for signal in [Signal::KILL, Signal::STOP, Signal::SEGV] {
        let error = world.epoll.watch_signal(signal.as_raw(), token(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    for number in [-1, 0, 1000] {
        world.epoll.watch_signal(number, token(1)).unwrap_err();
    }
    assert!(world.epoll.watched.is_empty() && world.epoll.entries.len() == 0);
}
