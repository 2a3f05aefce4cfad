//! How fast uTP goes over loopback: one stream between two threads, each with a loop and a table of connections of
//! its own.
//!
//! `utp_bench [SECONDS]` prints what arrived, and the processor time that each end took.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use reactor::{DatagramHandler, ListenOptions, Reactor, TimerId, Token};
use torrent::Rng;
use torrent::utp::{Event, Mux, MuxConfig, StreamId};

/// One end.
struct End {
    mux: Mux,
    socket: Option<Token>,
    stream: Option<StreamId>,
    timer: Option<(TimerId, Instant)>,
    /// What is written over and over, or read into.
    buffer: Vec<u8>,
    is_sender: bool,
    moved: u64,
    ends_at: Instant,
}

struct Datagrams;

impl DatagramHandler<End> for Datagrams {
    fn datagram(
        &mut self,
        _: Token,
        from: SocketAddr,
        data: &[u8],
        end: &mut End,
        reactor: &mut Reactor<End>,
    ) {
        end.mux.handle_datagram(reactor.now(), from, data);
    }

    fn writable(&mut self, _: Token, end: &mut End, _: &mut Reactor<End>) {
        end.mux.handle_writable();
    }
}

impl End {
    fn run(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        if now >= self.ends_at {
            return reactor.stop();
        }
        self.mux.handle_timeout(now);
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Connected(id) | Event::Accepted(id, _) => self.stream = Some(id),
                Event::Readable(_) | Event::Writable(_) | Event::Closed(..) => {}
            }
        }
        self.move_data();
        let Some(socket) = self.socket else { return };
        while let Some(transmit) = self.mux.poll_output(now) {
            let (len, segment_len) = (transmit.bytes.len(), transmit.segment_len);
            let sent = if transmit.is_probe {
                reactor.send_whole(socket, transmit.to, transmit.bytes).map(|_| len)
            } else {
                reactor.send_segments(socket, transmit.to, transmit.bytes, segment_len)
            };
            if let Ok(sent) = sent
                && sent < len
            {
                self.mux.refused(sent / segment_len);
                reactor.notify_writable(socket);
            }
        }
        self.set_timer(reactor);
    }

    fn move_data(&mut self) {
        let Some(stream) = self.stream else { return };
        loop {
            let moved = if self.is_sender {
                self.mux.write(stream, &[IoSlice::new(&self.buffer)])
            } else {
                self.mux.read(stream, &mut [IoSliceMut::new(&mut self.buffer)])
            };
            match moved {
                Ok(count) => self.moved += count as u64,
                Err(_) => return,
            }
        }
    }

    fn set_timer(&mut self, reactor: &mut Reactor<Self>) {
        let at = self.mux.poll_timeout().unwrap_or(self.ends_at).min(self.ends_at);
        if self.timer.is_some_and(|(_, set)| set <= at) {
            return;
        }
        if let Some((timer, _)) = self.timer.take() {
            reactor.cancel_timer(timer);
        }
        self.timer = Some((reactor.add_timer(at, |end: &mut Self, _| end.timer = None), at));
    }
}

/// Runs one end. Tells its address at the start; returns the bytes it moved and its processor time.
fn run(
    to: Option<SocketAddr>,
    time: Duration,
    here: &Sender<SocketAddr>,
) -> io::Result<(u64, Duration)> {
    let mut reactor = Reactor::new()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = reactor.bind_udp(any, &ListenOptions::default(), Box::new(Datagrams))?;
    let config = MuxConfig::default();
    let mut end = End {
        mux: Mux::new(reactor.now(), config, Rng::from_seed(reactor.random())),
        socket: Some(socket),
        stream: None,
        timer: None,
        buffer: vec![7; 256 * 1024],
        is_sender: to.is_some(),
        moved: 0,
        ends_at: reactor.now() + time,
    };
    here.send(reactor.local_addr(socket).unwrap_or(any)).map_err(io::Error::other)?;
    if let Some(to) = to {
        end.stream = end.mux.connect(reactor.now(), to);
    }
    let _hook = reactor.on_flushed(End::run);
    end.run(&mut reactor);
    reactor.run(&mut end)?;
    if let Some(info) = end.stream.and_then(|id| end.mux.info(id)) {
        println!("{info:?}");
    }
    Ok((end.moved, processor_time()))
}

/// What this thread has used, by what the system says of it.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    let (sender, receiver) = channel();
    let here = sender.clone();
    let reader = std::thread::spawn(move || run(None, time + Duration::from_millis(100), &here));
    let to = receiver.recv()?;
    let (_, sent_in) = run(Some(to), time, &sender)?;
    let (read, read_in) = reader.join().map_err(|_panicked| "the reader panicked")??;
    let gbit = |time: Duration| read as f64 * 8.0 / time.as_secs_f64() / 1e9;
    println!("{:.2} Gbit/s for {seconds} s", gbit(time));
    println!(
        "processor time: {sent_in:.2?} to send ({:.2} Gbit/s for each core), {read_in:.2?} to receive ({:.2})",
        gbit(sent_in),
        gbit(read_in)
    );
    Ok(())
}
