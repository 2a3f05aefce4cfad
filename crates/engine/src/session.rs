//! A session: one thread that owns all torrents, and handles to it for any other thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use reactor::{Reactor, Remote};
use torrent::InfoHash;
use torrent::metainfo::Metainfo;
use torrent::swarm::{PeerStatus, Source};
use torrent::tracker::TrackerStatus;

use crate::engine::Engine;
use crate::event::Event;
use crate::resume::{ResumeError, ResumeStore};
use crate::settings::{AddOptions, SessionConfig};
use crate::status::{Published, TorrentStatus};
use crate::task::TaskId;

/// A running client. Clones are handles to the same one; it ends by [`shutdown`](Self::shutdown),
/// or at once when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    remote: Remote<Engine>,
    addrs: Vec<SocketAddr>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// One torrent of a session. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Torrent {
    remote: Remote<Engine>,
    id: TaskId,
    info_hash: InfoHash,
    published: Published,
}

/// Why a session could not start.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No port of the range is free, or the address is not ours.
    #[error("cannot listen on {wanted}: {source}")]
    Listen {
        /// The ports and the address that were asked for.
        wanted: String,
        /// What the system says of the last port.
        source: std::io::Error,
    },
    /// The state directory is of no use.
    #[error(transparent)]
    State(#[from] ResumeError),
    /// The system gives us no event loop or no thread.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Why a torrent was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It is in this session already.
    #[error("{0} is in this session already")]
    Duplicate(InfoHash),
    /// The list of priorities does not fit its files.
    #[error("{given} priorities for {files} files")]
    Priorities {
        /// How many were given.
        given: usize,
        /// How many files it has.
        files: usize,
    },
    /// The session is over.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// The session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct Gone;

impl Session {
    /// Starts a session and waits until it listens.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn start(config: SessionConfig) -> Result<Self, SessionError> {
        let store = config.state_dir.as_deref().map(ResumeStore::open).transpose()?.map(Arc::new);
        let wanted = wanted(&config);
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let (mut reactor, mut engine) = match prepare(config, store) {
                Ok(ready) => ready,
                Err(error) => {
                    // Nobody waits only if the caller is gone as well.
                    sender.send(Err(error)).ok();
                    return;
                }
            };
            let addrs = match engine.listen(&mut reactor) {
                Ok(addrs) => addrs,
                Err(source) => {
                    sender.send(Err(SessionError::Listen { wanted, source })).ok();
                    return;
                }
            };
            if sender.send(Ok((reactor.remote(), addrs))).is_err() {
                return;
            }
            engine.tick(&mut reactor);
            if let Err(error) = reactor.run(&mut engine) {
                tracing::error!(%error, "the event loop failed");
            }
        })?;
        let (remote, addrs) =
            receiver.recv().map_err(|_gone| std::io::Error::other("the engine thread died"))??;
        Ok(Self { inner: Arc::new(Inner { remote, addrs, thread: Mutex::new(Some(thread)) }) })
    }

    /// Where peers can reach us.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.inner.addrs
    }

    /// Adds a torrent. It looks at what is on disk, then downloads and seeds.
    ///
    /// # Errors
    /// [`AddError`]. What goes wrong later is told by its state and by events.
    pub fn add(&self, metainfo: Metainfo, options: AddOptions) -> Result<Torrent, AddError> {
        let files = metainfo.layout().files().len();
        if !options.priorities.is_empty() && options.priorities.len() != files {
            return Err(AddError::Priorities { given: options.priorities.len(), files });
        }
        let info_hash = metainfo.info_hash();
        let added =
            ask(&self.inner.remote, move |engine, reactor| engine.add(metainfo, options, reactor))?;
        let (id, published) = added.ok_or(AddError::Duplicate(info_hash))?;
        Ok(Torrent { remote: self.inner.remote.clone(), id, info_hash, published })
    }

    /// The events of all torrents from now on. A receiver that is not emptied loses some, and is
    /// told how many.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn subscribe(&self) -> Result<Receiver<Event>, Gone> {
        ask(&self.inner.remote, |engine, _| engine.subscribers.subscribe())
    }

    /// Changes the limits on all torrents together, in bytes per second; `None` is no limit.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn set_limits(&self, download: Option<u64>, upload: Option<u64>) -> Result<(), Gone> {
        ask(&self.inner.remote, move |engine, reactor| {
            engine.set_session_limits(download, upload, reactor);
        })
    }

    /// Ends the session: peers are closed, trackers told, the state saved. Returns when all is done
    /// or `patience` is over; either way the session has ended.
    pub fn shutdown(&self, patience: Duration) {
        let (done, is_done) = channel();
        let posted =
            self.inner.remote.post(move |engine: &mut Engine, reactor: &mut Reactor<Engine>| {
                engine.stop_all(done, reactor);
            });
        if posted.is_ok() {
            match is_done.recv_timeout(patience) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("not all trackers could be told that we stop");
                }
            }
        }
        self.inner.end();
    }
}

impl Inner {
    fn end(&self) {
        self.remote.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_panic)) = thread.map(JoinHandle::join) {
            tracing::error!("the engine thread panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Torrent {
    /// Its name among machines.
    pub const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// How it stands; never waits for the engine.
    pub fn status(&self) -> Arc<TorrentStatus> {
        self.published.read()
    }

    /// Closes its peers and does nothing more until it is resumed.
    ///
    /// # Errors
    /// If the session has ended, as for all that follow.
    pub fn pause(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.pause(id, reactor))
    }

    /// Goes on after a pause or a failure.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn resume(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.resume(id, reactor))
    }

    /// Hashes everything that is on disk again.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn recheck(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.recheck(id, reactor))
    }

    /// Takes it out of the session and forgets it. Its files stay.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn remove(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.remove(id, reactor))
    }

    /// Changes its own limits, in bytes per second; `None` is no limit.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn set_limits(&self, download: Option<u64>, upload: Option<u64>) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| engine.set_limits(id, download, upload, reactor))
    }

    /// Changes what is wanted: a priority for each file, 0 to 7. A list of another length changes
    /// nothing.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn set_priorities(&self, priorities: Vec<u8>) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| engine.set_priorities(id, priorities, reactor))
    }

    /// Tells it of a peer.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn add_peer(&self, addr: SocketAddr) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| {
            engine.add_addresses(id, &[addr], Source::Manual, reactor);
        })
    }

    /// Its connected peers.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn peers(&self) -> Result<Vec<PeerStatus>, Gone> {
        self.tell(|engine, id, reactor| {
            let task = engine.tasks.get(&id);
            task.map(|task| task.swarm.peers(reactor.now()).map(|(_, peer)| peer).collect())
                .unwrap_or_default()
        })
    }

    /// Its trackers.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn trackers(&self) -> Result<Vec<TrackerStatus>, Gone> {
        self.tell(|engine, id, _| {
            engine.tasks.get(&id).map(|task| task.announcer.status()).unwrap_or_default()
        })
    }

    /// Has the trackers count the peers (BEP 48); [`trackers`](Self::trackers) has the counts when
    /// they have come.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn scrape(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.scrape(id, reactor))
    }

    fn tell<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Engine, TaskId, &mut Reactor<Engine>) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let id = self.id;
        ask(&self.remote, move |engine, reactor| command(engine, id, reactor))
    }
}

/// Has the engine do something, and waits for what comes of it.
fn ask<T: Send + 'static>(
    remote: &Remote<Engine>,
    command: impl FnOnce(&mut Engine, &mut Reactor<Engine>) -> T + Send + 'static,
) -> Result<T, Gone> {
    let (sender, receiver) = channel();
    let posted = remote.post(move |engine: &mut Engine, reactor: &mut Reactor<Engine>| {
        // The caller waits, unless it died.
        sender.send(command(engine, reactor)).ok();
    });
    posted.map_err(|_gone| Gone)?;
    receiver.recv().map_err(|_gone| Gone)
}

fn prepare(
    config: SessionConfig,
    store: Option<Arc<ResumeStore>>,
) -> Result<(Reactor<Engine>, Engine), SessionError> {
    let mut reactor = Reactor::new()?;
    reactor.set_worker_threads(config.disk_threads.max(1));
    let seed = reactor.random();
    let engine = Engine::new(config, store, reactor.now(), seed);
    Ok((reactor, engine))
}

fn wanted(config: &SessionConfig) -> String {
    let (first, last) = (config.listen.ports.start(), config.listen.ports.end());
    let ports =
        if first == last { format!("port {first}") } else { format!("ports {first} to {last}") };
    match config.listen.bind {
        Some(ip) => format!("{ports} of {ip}"),
        None => ports,
    }
}

/// Where state is kept if nothing else is said: `$XDG_STATE_HOME/flotilla`, or
/// `~/.local/state/flotilla`.
pub fn default_state_dir() -> Option<PathBuf> {
    let from_env =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from_env("XDG_STATE_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(from_env("HOME")?.join(".local/state")))
        .map(|dir| dir.join("flotilla"))
}
