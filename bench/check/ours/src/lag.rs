//! How long the engine takes to answer another thread: what a handle's caller waits, and what the system alone would cost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine::{Gone, Torrent};

/// A thread that asks the engine something cheap every two milliseconds, and a thread that does nothing but answer.
pub(crate) struct Sampler {
    thread: JoinHandle<Result<Samples, Gone>>,
    is_over: Arc<AtomicBool>,
    /// What the system calls it, for whoever wants to raise its priority.
    pub(crate) thread_id: i32,
}

/// Answers of the engine, and of the thread beside it.
#[derive(Default)]
struct Samples {
    engine: Vec<Duration>,
    bare: Vec<Duration>,
}

impl Sampler {
    pub(crate) fn start(torrent: Torrent) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let (told, id) = channel();
        let thread = thread::Builder::new().name("lag".to_owned()).spawn(move || {
            // If nobody listens, nobody wants to know.
            told.send(rustix::thread::gettid().as_raw_nonzero().get()).ok();
            sample(&torrent, &stop)
        })?;
        let thread_id = id.recv().map_err(io::Error::other)?;
        Ok(Self { thread, is_over, thread_id })
    }

    /// Ends it; its findings as the inside of a JSON object, in milliseconds.
    pub(crate) fn end(self) -> Result<String, Gone> {
        self.is_over.store(true, Ordering::Relaxed);
        let samples = self.thread.join().unwrap_or(Err(Gone))?;
        let (engine, bare) = (percentiles(samples.engine), percentiles(samples.bare));
        Ok(format!("\"engine\": {engine}, \"bare\": {bare}"))
    }
}

fn sample(torrent: &Torrent, is_over: &AtomicBool) -> Result<Samples, Gone> {
    let (post, posted) = channel::<Sender<()>>();
    // Its end is that of `post`.
    thread::spawn(move || posted.iter().try_for_each(|answer| answer.send(())));
    let mut samples = Samples::default();
    while !is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        torrent.trackers()?;
        samples.engine.push(asked.elapsed());
        thread::sleep(EVERY / 2);
        let asked = Instant::now();
        let (answer, answered) = channel();
        post.send(answer).map_err(|_gone| Gone)?;
        answered.recv().map_err(|_gone| Gone)?;
        samples.bare.push(asked.elapsed());
        thread::sleep(EVERY / 2);
    }
    Ok(samples)
}

fn percentiles(mut samples: Vec<Duration>) -> String {
    samples.sort();
    let of = |percent: usize| {
        let at = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
        samples.get(at).map_or(0.0, |sample| 1000.0 * sample.as_secs_f64())
    };
    let (p50, p99, max) = (of(50), of(99), of(100));
    format!(
        "{{\"count\": {}, \"p50\": {p50:.4}, \"p99\": {p99:.4}, \"max\": {max:.4}}}",
        samples.len()
    )
}

const EVERY: Duration = Duration::from_millis(2);
