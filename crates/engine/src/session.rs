//! A session: one thread that owns all torrents, and handles to it for any other thread.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use reactor::{Reactor, Remote};
use torrent::ip_filter::IpFilter;
use torrent::metainfo::Metainfo;
use torrent::{InfoHash, PeerId};

use crate::dht_handle::Dht;
use crate::engine::Engine;
use crate::event::{Event, EventMask, Events, SubscribeError, Subscription};
use crate::orphan::Orphan;
use crate::restore;
use crate::resume::{ResumeError, ResumeStore};
use crate::settings::{AddOptions, SessionConfig, SessionLimits};
use crate::torrent_handle::Torrent;

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
    peer_id: PeerId,
    thread: Mutex<Option<JoinHandle<()>>>,
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
    /// There is no such network interface.
    #[error("{0}")]
    Interface(std::io::Error),
    /// The proxy's name leads nowhere.
    #[error(
        "cannot look up the proxy {proxy}: {source}; is its name right, and is there a network?"
    )]
    Proxy {
        /// The proxy, without user and password.
        proxy: String,
        /// What the system says.
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
    /// It was an orphan, and has been attached to a session before.
    #[error("{0} has been attached to a session before")]
    Attached(InfoHash),
    /// It is an orphan that is being checked.
    #[error("{0} is being checked")]
    Checking(InfoHash),
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
        let remembered = match &store {
            Some(store) if config.restore => restore::members(store)?,
            Some(_) | None => Vec::new(),
        };
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
            if let Err(error) = engine.find_ways() {
                sender.send(Err(error)).ok();
                return;
            }
            let addrs = match engine.listen(&mut reactor) {
                Ok(addrs) => addrs,
                Err(source) => {
                    sender.send(Err(SessionError::Listen { wanted, source })).ok();
                    return;
                }
            };
            engine.start_dht(&reactor);
            engine.restore(remembered, &mut reactor);
            if sender.send(Ok((reactor.remote(), addrs, engine.identity.peer_id))).is_err() {
                return;
            }
            engine.map_ports(&mut reactor);
            engine.tick(&mut reactor);
            if let Err(error) = reactor.run(&mut engine) {
                tracing::error!(%error, "the event loop failed");
            }
            engine.end(&mut reactor);
            engine.end_dht();
            close_files(&engine);
        })?;
        let (remote, addrs, peer_id) =
            receiver.recv().map_err(|_gone| std::io::Error::other("the engine thread died"))??;
        Ok(Self {
            inner: Arc::new(Inner { remote, addrs, peer_id, thread: Mutex::new(Some(thread)) }),
        })
    }

    pub(crate) fn remote(&self) -> &Remote<Engine> {
        &self.inner.remote
    }

    /// Where peers can reach us; nowhere if all goes through a [strict](crate::ProxyConfig::strict) proxy.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.inner.addrs
    }

    /// The name that peers and trackers know us by. In [anonymous](crate::NetworkConfig::is_anonymous) mode nobody is
    /// told it: there each torrent has a name of its own.
    pub fn peer_id(&self) -> PeerId {
        self.inner.peer_id
    }

    /// What all torrents together may use, as of now.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn limits(&self) -> Result<SessionLimits, Gone> {
        ask(&self.inner.remote, |engine, _| engine.config.limits.clone())
    }

    /// Adds a torrent. It looks at what is on disk, then downloads and seeds.
    ///
    /// # Errors
    /// [`AddError`]. What goes wrong later is told by its state and by events.
    pub fn add(&self, metainfo: Metainfo, options: AddOptions) -> Result<Torrent, AddError> {
        fit(&metainfo, &options)?;
        let info_hash = metainfo.info_hash();
        let added =
            ask(&self.inner.remote, move |engine, reactor| engine.add(metainfo, options, reactor))?;
        let (id, published) = added.ok_or(AddError::Duplicate(info_hash))?;
        Ok(Torrent::new(self.inner.remote.clone(), id, published))
    }

    /// Takes in a torrent that had no session, with what it knows: one that was checked is not checked
    /// again, unless its options say so. Once only.
    ///
    /// # Errors
    /// [`AddError`]; then it is still an orphan, unless it is [`AddError::Attached`].
    pub fn attach(&self, orphan: &Orphan) -> Result<Torrent, AddError> {
        orphan.give(|published, options| {
            let (info_hash, shared) = (published.metainfo().info_hash(), Arc::clone(&published));
            let id = ask(&self.inner.remote, move |engine, reactor| {
                engine.adopt(published, &options, reactor)
            })?;
            let id = id.ok_or(AddError::Duplicate(info_hash))?;
            Ok(Torrent::new(self.inner.remote.clone(), id, shared))
        })
    }

    /// The torrent of this name, if it is here.
    pub fn find(&self, info_hash: InfoHash) -> Option<Torrent> {
        let found = ask(&self.inner.remote, move |engine, _| {
            let id = *engine.by_hash.get(&info_hash)?;
            Some((id, Arc::clone(&engine.tasks.get(&id)?.published)))
        });
        let (id, published) = found.ok().flatten()?;
        Some(Torrent::new(self.inner.remote.clone(), id, published))
    }

    /// All torrents, in the order in which they came; none if the session has ended.
    pub fn torrents(&self) -> Vec<Torrent> {
        let all = ask(&self.inner.remote, |engine, _| {
            let here = engine.tasks.iter().filter(|(_, task)| !task.is_leaving);
            here.map(|(&id, task)| (id, Arc::clone(&task.published))).collect::<Vec<_>>()
        });
        let handle = |(id, published)| Torrent::new(self.inner.remote.clone(), id, published);
        all.unwrap_or_default().into_iter().map(handle).collect()
    }

    /// Its node of the distributed hash table.
    pub fn dht(&self) -> Dht {
        Dht::new(self.inner.remote.clone())
    }

    /// How many torrents there are; none if the session has ended.
    pub fn count(&self) -> usize {
        let count =
            |engine: &mut Engine| engine.tasks.values().filter(|task| !task.is_leaving).count();
        ask(&self.inner.remote, move |engine, _| count(engine)).unwrap_or(0)
    }

    /// Takes a torrent out and forgets it. Its files stay.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn remove(&self, torrent: &Torrent) -> Result<(), Gone> {
        let torrent = torrent.clone();
        ask(&self.inner.remote, move |engine, reactor| {
            let id = torrent.id();
            if engine.tasks.get(&id).is_some_and(|task| torrent.is_task(task)) {
                engine.remove(id, reactor);
            }
        })
    }

    /// What happens from now on, but for what is too frequent for people: [`EventMask::USUAL`]. Who
    /// does not empty it loses some, and is told how many.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn subscribe(&self) -> Result<Events, Gone> {
        self.subscribe_to(EventMask::USUAL)
    }

    /// As [`subscribe`](Self::subscribe), but only what is in `mask`.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn subscribe_to(&self, mask: EventMask) -> Result<Events, Gone> {
        ask(&self.inner.remote, move |engine, _| engine.subscribers.subscribe(mask, None))
    }

    /// Calls `function` for what happens of `mask` from now on, on a thread of its own, until the
    /// subscription is dropped or the session has ended.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn on_event(
        &self,
        mask: EventMask,
        function: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        let (sink, subscription) = Subscription::start(mask, function)?;
        ask(&self.inner.remote, move |engine, _| engine.subscribers.add(sink, None))?;
        Ok(subscription)
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

    /// Takes other rules for whom not to talk to from now on. Connected peers that they ban are closed;
    /// the function of [`SessionConfig::on_filter`] stays.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn set_ip_filter(&self, filter: IpFilter) -> Result<(), Gone> {
        ask(&self.inner.remote, move |engine, reactor| engine.set_ip_filter(filter, reactor))
    }

    /// Ends the session: peers are closed, trackers and the router told, the state saved. Who does not answer is
    /// waited for until `patience` is over; a disk that still writes, three seconds longer. Either way the session has
    /// ended when it returns.
    pub fn shutdown(&self, patience: Duration) {
        let (done, is_done) = channel();
        let posted =
            self.inner.remote.post(move |engine: &mut Engine, reactor: &mut Reactor<Engine>| {
                engine.stop_all(patience, done, reactor);
            });
        if posted.is_ok() {
            match is_done.recv_timeout(patience.saturating_add(SAVING_PATIENCE)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("not all could be saved: a disk hangs");
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

/// Whether options can be those of a torrent.
pub(crate) fn fit(metainfo: &Metainfo, options: &AddOptions) -> Result<(), AddError> {
    let (given, files) = (options.priorities.len(), metainfo.layout().files().len());
    if given == 0 || given == files { Ok(()) } else { Err(AddError::Priorities { given, files }) }
}

/// Has the engine do something, and waits for what comes of it.
pub(crate) fn ask<T: Send + 'static>(
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

/// Closes what is still open on a thread of its own: to close a file may hang with its disk.
fn close_files(engine: &Engine) {
    let storages: Vec<_> = engine.tasks.values().map(|task| Arc::clone(&task.storage)).collect();
    let (done, is_done) = channel::<()>();
    let close = move || {
        storages.iter().for_each(|storage| storage.close_files());
        drop((storages, done));
    };
    if let Err(error) = std::thread::Builder::new().name("closing".to_owned()).spawn(close) {
        tracing::warn!(%error, "no thread to close files on");
    }
    if is_done.recv_timeout(CLOSING_PATIENCE) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!("files cannot be closed: their disk hangs");
    }
}

fn wanted(config: &SessionConfig) -> String {
    let text = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (first, last) if first == last => format!("port {first}"),
        (first, last) => format!("ports {first} to {last}"),
    };
    let ports = config.listen.ports.iter().map(text).collect::<Vec<_>>().join(", ");
    match config.listen.bind {
        Some(ip) => format!("{ports} of {ip}"),
        None => ports,
    }
}

/// How long the end waits for what is to be saved, when those elsewhere are waited for no more.
const SAVING_PATIENCE: Duration = Duration::from_secs(3);
/// How long the end waits for files to be closed.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

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
