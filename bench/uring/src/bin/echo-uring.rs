//! An echo server as io_uring wants it: multishot accept, multishot receive into a provided buffer
//! ring, sends from those very buffers, one system call a batch.
//!
//! ```text
//! echo-uring [--addr ADDR] [--buffer-len BYTES] [--buffers COUNT] [--direct] [--copy] [--bare]
//! ```
//!
//! `--direct` keeps sockets in the ring's own table instead of the process's. `--copy` does what a
//! reactor with `read(&mut [u8])` would have to: data is copied to a buffer of the connection, and the
//! provided one given back at once. `--bare` leaves out the flags of the ring that make one thread
//! cheaper. Ends with its last connection, and prints how often it waited and for how many completions.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::cqueue::{self, buffer_select, more};
use io_uring::squeue::Entry;
use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, opcode};
use uring_bench::{BufferRing, flag, listen, option};

struct Server {
    buffers: BufferRing,
    buffer_len: usize,
    /// By descriptor, or by place in the ring's table.
    connections: Vec<Option<Connection>>,
    open: usize,
    /// What the next system call hands over.
    entries: VecDeque<Entry>,
    is_direct: bool,
    copies: bool,
}

#[derive(Default)]
struct Connection {
    /// Not there when it is direct. Held to be closed.
    _socket: Option<OwnedFd>,
    /// Received and not yet sent, oldest first; the first is being sent. Two sends of one socket at a
    /// time may overtake each other.
    sends: VecDeque<(u16, u32)>,
    has_ended: bool,
    copy: Vec<u8>,
}

fn main() -> io::Result<()> {
    let addr: SocketAddr = option("--addr", "127.0.0.1:7200".parse().expect("it is an address"));
    let listener = listen(addr)?;
    let is_direct = flag("--direct");
    let buffer_len = option("--buffer-len", 4096);
    let mut server = Server {
        buffers: BufferRing::new(option("--buffers", 4096), buffer_len)?,
        buffer_len,
        connections: Vec::new(),
        open: 0,
        entries: VecDeque::new(),
        is_direct,
        copies: flag("--copy"),
    };
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS_MAX);
    if !flag("--bare") {
        builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_no_sqarray();
    }
    let mut ring = builder.build(ENTRIES_MAX)?;
    if is_direct {
        ring.submitter().register_files_sparse(CONNECTIONS_MAX)?;
    }
    // SAFETY: `server` is declared before `ring`, and so dropped after it.
    unsafe { server.buffers.register(&ring.submitter()) }?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(is_direct);
    server.entries.push_back(accept.build().user_data(key(ACCEPT, 0, 0)));

    let (mut waits, mut count, mut accepted) = (0_u64, 0_u64, false);
    let (mut submitter, mut queue, mut completions) = ring.split();
    submitter.register_ring_fd()?;
    while server.open > 0 || !accepted {
        while let Some(entry) = server.entries.pop_front() {
            if queue.is_full() {
                queue.sync();
                submitter.submit()?;
                queue.sync();
            }
            // SAFETY: buffers and sockets that entries name live until their completion was seen: a
            // buffer is given back, and a connection dropped, only then.
            unsafe { queue.push(&entry) }.expect("there is room, as just made");
        }
        queue.sync();
        submitter.submit_and_wait(1)?;
        completions.sync();
        waits += 1;
        for completion in &mut completions {
            count += 1;
            server.complete(&completion)?;
        }
        server.buffers.publish();
        accepted |= server.open > 0;
    }
    println!("{{\"waits\": {waits}, \"events\": {count}}}");
    Ok(())
}

impl Server {
    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let key = completion.user_data();
        let (kind, at, buffer) = (key >> 56, (key >> 16) as u32 as usize, key as u16);
        match kind {
            ACCEPT => self.accepted(check(completion.result())? as usize),
            RECEIVE => self.received(at, completion),
            SEND => self.sent(at, buffer, completion.result()),
            _ => {}
        }
        Ok(())
    }

    fn accepted(&mut self, at: usize) {
        if self.connections.len() <= at {
            self.connections.resize_with(at + 1, || None);
        }
        let socket = (!self.is_direct).then(|| {
            // SAFETY: the kernel has just given it to us, and nobody else knows of it.
            unsafe { OwnedFd::from_raw_fd(at as i32) }
        });
        let copy = vec![0; if self.copies { self.buffer_len } else { 0 }];
        self.connections[at] = Some(Connection { _socket: socket, copy, ..Connection::default() });
        self.open += 1;
        self.receive(at);
    }

    fn receive(&mut self, at: usize) {
        let entry = if self.is_direct {
            opcode::RecvMulti::new(Fixed(at as u32), 0).build()
        } else {
            opcode::RecvMulti::new(Fd(at as i32), 0).build()
        };
        self.entries.push_back(entry.user_data(key(RECEIVE, at, 0)));
    }

    fn received(&mut self, at: usize, completion: &cqueue::Entry) {
        let Some(connection) = self.connections[at].as_mut() else { return };
        let len = completion.result();
        match buffer_select(completion.flags()) {
            Some(buffer) if len > 0 => {
                connection.sends.push_back((buffer, len as u32));
                if connection.sends.len() == 1 {
                    self.send(at);
                }
            }
            Some(_) | None => {
                let is_dry = len == -(rustix::io::Errno::NOBUFS.raw_os_error());
                connection.has_ended = !is_dry;
            }
        }
        if self.connections[at].as_ref().is_some_and(|connection| connection.has_ended) {
            self.close_if_done(at);
        } else if !more(completion.flags()) {
            // The kernel was out of buffers, or had enough of this socket for now.
            self.receive(at);
        }
    }

    /// Sends the oldest that a connection has.
    fn send(&mut self, at: usize) {
        let Some(connection) = self.connections[at].as_mut() else { return };
        let Some(&(buffer, len)) = connection.sends.front() else { return };
        let mut data = self.buffers.at(buffer).cast_const();
        if self.copies {
            // SAFETY: the kernel has written `len` bytes to this buffer, and it is ours until given back.
            let received = unsafe { std::slice::from_raw_parts(data, len as usize) };
            connection.copy[..len as usize].copy_from_slice(received);
            data = connection.copy.as_ptr();
            self.buffers.put(buffer);
        }
        let flags = (rustix::net::SendFlags::NOSIGNAL.bits() | MSG_WAITALL) as i32;
        let entry = if self.is_direct {
            opcode::Send::new(Fixed(at as u32), data, len).flags(flags).build()
        } else {
            opcode::Send::new(Fd(at as i32), data, len).flags(flags).build()
        };
        self.entries.push_back(entry.user_data(key(SEND, at, buffer)));
    }

    fn sent(&mut self, at: usize, buffer: u16, result: i32) {
        if !self.copies {
            self.buffers.put(buffer);
        }
        let Some(connection) = self.connections[at].as_mut() else { return };
        connection.sends.pop_front();
        connection.has_ended |= result < 0;
        if connection.sends.is_empty() {
            self.close_if_done(at);
        } else {
            self.send(at);
        }
    }

    fn close_if_done(&mut self, at: usize) {
        let is_done = |connection: &Connection| connection.has_ended && connection.sends.is_empty();
        if self.connections[at].as_ref().is_some_and(is_done) {
            self.connections[at] = None;
            self.open -= 1;
            if self.is_direct {
                let entry = opcode::Close::new(Fixed(at as u32)).build();
                self.entries.push_back(entry.user_data(key(CLOSE, 0, 0)));
            }
        }
    }
}

fn key(kind: u64, at: usize, buffer: u16) -> u64 {
    kind << 56 | (at as u64) << 16 | u64::from(buffer)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;
const ENTRIES_MAX: u32 = 4096;
const COMPLETIONS_MAX: u32 = 32 * 1024;
const CONNECTIONS_MAX: u32 = 16 * 1024;
/// The kernel goes on sending until all is sent.
const MSG_WAITALL: u32 = 0x100;
