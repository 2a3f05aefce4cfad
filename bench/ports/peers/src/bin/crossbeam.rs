//! crossbeam-channel between two threads, without limit: what a queue costs that knows nothing of actors.

use std::thread;

use crossbeam_channel::unbounded;
use ports_peers::{Meter, Words, fail};

fn main() {
    let mut words = Words::of_command_line();
    let test: String = words.next("the name of a test");
    match test.as_str() {
        "threads" => flood(words.next("N")),
        "threads-pingpong" => pingpong(words.next("N")),
        other => fail(format_args!("no test {other}")),
    }
}

fn flood(count: u64) {
    let (sender, receiver) = unbounded();
    let (ready, started) = unbounded();
    let counter = thread::spawn(move || {
        ready.send(()).expect("somebody waits for this");
        assert_eq!(receiver.iter().count() as u64, count);
    });
    started.recv().expect("the other thread says so");
    let meter = Meter::start();
    for number in 0..count {
        sender.send(number).expect("the other thread receives to the end");
    }
    drop(sender);
    counter.join().expect("nothing was lost");
    meter.finish("threads", count);
}

fn pingpong(count: u64) {
    let (ping, pings) = unbounded::<u64>();
    let (pong, pongs) = unbounded();
    thread::spawn(move || {
        pings.iter().for_each(|number| pong.send(number).expect("somebody waits for this"))
    });
    let meter = Meter::start();
    for number in 0..count {
        ping.send(number).expect("the other thread receives to the end");
        assert_eq!(pongs.recv(), Ok(number));
    }
    meter.finish("threads-pingpong", count);
}
