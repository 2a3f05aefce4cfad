//! Reads or writes a whole file in pieces of 256 KiB: a pool of threads with `pread` and `pwrite`, or one
//! thread with io_uring.
//!
//! ```text
//! files FILE --by pool|uring [--width N] [--write] [--random] [--cache warm|cold|direct] [--size MIB]
//! ```
//!
//! `--width` is the number of threads, or how many operations the ring has at a time. A warm file was
//! read before; a cold one was dropped from the page cache; direct goes past it (O_DIRECT). Writes go
//! over a file that exists; those that are not warm are on disk when the clock stops. Prints MiB/s and
//! the CPU seconds per GiB, the kernel's own threads for io_uring counted in.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode};
use rustix::fs::{Advice, OFlags, fadvise};
use uring_bench::{Pages, cpu_seconds, flag, option};

struct Job {
    file: File,
    /// Which piece when.
    order: Vec<u64>,
    writes: bool,
    width: usize,
}

fn main() -> io::Result<()> {
    let path: PathBuf = std::env::args().nth(1).expect("a file is named").into();
    let cache = option("--cache", "warm".to_owned());
    let (by, writes) = (option("--by", "pool".to_owned()), flag("--write"));
    let size_mib: u64 = option("--size", 2048);
    let count = size_mib * 1024 * 1024 / PIECE_LEN as u64;
    prepare(&path, count, &cache)?;

    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if cache == "direct" {
        options.custom_flags(OFlags::DIRECT.bits() as i32);
    }
    let mut order: Vec<u64> = (0..count).collect();
    if flag("--random") {
        shuffle(&mut order);
    }
    let job = Job { file: options.open(&path)?, order, writes, width: option("--width", 2) };

    let run = match by.as_str() {
        "pool" => pool,
        "uring" => uring,
        _ => panic!("it is done by pool or by uring"),
    };
    let (began, cpu) = (Instant::now(), cpu_seconds());
    run(&job)?;
    if writes && cache != "warm" {
        job.file.sync_data()?;
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let mib = size_mib as f64;
    println!("{{\"rate\": {:.0}, \"cpu\": {:.3}}}", mib / seconds, cpu * 1024.0 / mib);
    Ok(())
}

/// Makes the file if it is not there, and brings the page cache into the wanted state.
fn prepare(path: &Path, count: u64, cache: &str) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut piece = vec![0x5a; PIECE_LEN];
    if file.metadata()?.len() != count * PIECE_LEN as u64 {
        file.set_len(0)?;
        for at in 0..count {
            file.write_all_at(&piece, at * PIECE_LEN as u64)?;
        }
    }
    file.sync_all()?;
    match cache {
        "warm" => {
            for at in 0..count {
                file.read_exact_at(&mut piece, at * PIECE_LEN as u64)?;
            }
        }
        "cold" | "direct" => fadvise(&file, 0, None, Advice::DontNeed)?,
        _ => panic!("a cache is warm, cold or direct"),
    }
    Ok(())
}

/// Each thread takes the next piece, as the reactor's worker pool does.
fn pool(job: &Job) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..job.width).map(|_| scope.spawn(|| work(job, &next))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no worker panics"))
    })
}

fn work(job: &Job, next: &AtomicUsize) -> io::Result<()> {
    let mut pages = Pages::new(PIECE_LEN)?;
    let buffer = pages.bytes_mut();
    while let Some(piece) = job.order.get(next.fetch_add(1, Ordering::Relaxed)) {
        let offset = piece * PIECE_LEN as u64;
        if job.writes {
            job.file.write_all_at(buffer, offset)?;
        } else {
            job.file.read_exact_at(buffer, offset)?;
        }
    }
    Ok(())
}

/// One thread, with file and buffers registered.
fn uring(job: &Job) -> io::Result<()> {
    let pages = Pages::new(PIECE_LEN * job.width)?;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .build(job.width.next_power_of_two() as u32)?;
    let buffers: Vec<IoSlice> = (0..job.width).map(|at| slice(&pages, at)).collect();
    // SAFETY: the slices lie within `pages`, declared before the ring and so dropped after it. IoSlice
    // is laid out as iovec is.
    let buffers = unsafe { std::slice::from_raw_parts(buffers.as_ptr().cast(), buffers.len()) };
    // SAFETY: as above.
    unsafe { ring.submitter().register_buffers(buffers) }?;
    ring.submitter().register_files(&[job.file.as_raw_fd()])?;

    let mut free: Vec<usize> = (0..job.width).collect();
    let (mut next, mut done) = (job.order.iter(), 0);
    while done < job.order.len() {
        while let Some(&at) = free.last() {
            let Some(piece) = next.next() else { break };
            free.pop();
            let (data, len) = (pages.at(at * PIECE_LEN), PIECE_LEN as u32);
            let (file, offset) = (Fixed(0), piece * PIECE_LEN as u64);
            let entry = if job.writes {
                opcode::WriteFixed::new(file, data, len, at as u16).offset(offset).build()
            } else {
                opcode::ReadFixed::new(file, data, len, at as u16).offset(offset).build()
            };
            // SAFETY: no other operation has this buffer until the completion of this one is seen.
            let pushed = unsafe { ring.submission().push(&entry.user_data(at as u64)) };
            pushed.expect("the ring is as wide as there are buffers");
        }
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            // A prototype: what falls short is an error here, where a backend would go on.
            if completion.result() != PIECE_LEN as i32 {
                return Err(io::Error::other(format!("a piece: {}", completion.result())));
            }
            free.push(completion.user_data() as usize);
            done += 1;
        }
    }
    Ok(())
}

fn slice(pages: &Pages, at: usize) -> IoSlice {
    IoSlice { base: pages.at(at * PIECE_LEN), len: PIECE_LEN }
}

/// The system's iovec.
#[repr(C)]
struct IoSlice {
    base: *mut u8,
    len: usize,
}

/// The same order each time.
fn shuffle(order: &mut [u64]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
}

const PIECE_LEN: usize = 256 * 1024;
