//! A handle to one torrent of a session, for any thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use reactor::{Reactor, Remote};
use torrent::metainfo::Metainfo;
use torrent::swarm::{Selector, Source};
use torrent::{Bitfield, InfoHash, PieceIndex};

use crate::engine::Engine;
use crate::event::{Event, EventMask, Events, SubscribeError, Subscription};
use crate::peer_handle::Peer;
use crate::session::{Gone, ask};
use crate::settings::CheckOptions;
use crate::status::{Published, TorrentStatus};
use crate::status_word::StatusWord;
use crate::task::{Task, TaskId};

/// One torrent of a session. Clones are handles to the same one.
///
/// What only reads the state (`status`, `status_word`, `bitfield` and the like) never waits for the engine.
#[derive(Clone, Debug)]
pub struct Torrent {
    remote: Remote<Engine>,
    id: TaskId,
    published: Arc<Published>,
}

/// Why a check was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// One is under way, or waits its turn.
    #[error("it is being checked already")]
    AlreadyChecking,
    /// A paused torrent is not checked: start or stop it first.
    #[error("it is paused")]
    Paused,
    /// It was an orphan and belongs to a session now: its handle there can check it.
    #[error("it belongs to a session")]
    Attached,
    /// Its metadata is not here yet: there is nothing to check.
    #[error("its metadata is not here yet")]
    NoMetadata,
    /// The session has ended, or the torrent was removed from it.
    #[error(transparent)]
    Gone(#[from] Gone),
}

impl Torrent {
    pub(crate) const fn new(remote: Remote<Engine>, id: TaskId, published: Arc<Published>) -> Self {
        Self { remote, id, published }
    }

    pub(crate) const fn id(&self) -> TaskId {
        self.id
    }

    /// Whether it is this task of this engine, and not another session's of the same number.
    pub(crate) fn is_task(&self, task: &Task) -> bool {
        Arc::ptr_eq(&self.published, &task.published)
    }

    /// Its name among machines.
    pub fn info_hash(&self) -> InfoHash {
        self.published.metainfo().info_hash()
    }

    /// All that its torrent file says; `None` until its metadata is here, if a magnet link named it.
    pub fn metainfo(&self) -> Option<&Metainfo> {
        self.published.is_known().then(|| self.published.metainfo().as_ref())
    }

    /// Its name among people: what the magnet link says, until its metadata is here.
    pub fn name(&self) -> &str {
        self.published.metainfo().name()
    }

    /// Where its file is, or the folder of its files: an absolute path.
    pub fn path(&self) -> PathBuf {
        self.published.path()
    }

    /// Bytes of all its files; 0 until its metadata is here, as for its pieces.
    pub fn size(&self) -> u64 {
        self.published.metainfo().layout().total_len()
    }

    /// How many pieces it has.
    pub fn piece_count(&self) -> u32 {
        self.published.bits().len()
    }

    /// How it stands.
    pub fn status(&self) -> Arc<TorrentStatus> {
        self.published.status().at(Instant::now())
    }

    /// Its state as a number.
    pub fn status_word(&self) -> StatusWord {
        self.published.word()
    }

    /// What last went wrong with its disk; starting it does not forget it.
    pub fn error(&self) -> Option<String> {
        self.published.error()
    }

    /// Which pieces are here and verified, as of now. A check begins with none, and they come back as
    /// they are found.
    pub fn bitfield(&self) -> Bitfield {
        self.published.bits().snapshot()
    }

    /// Whether a piece is here and verified.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.published.bits().has(piece)
    }

    /// Whether all that is wanted is here; `false` while it is checked, or it is not known what that is.
    pub fn is_complete(&self) -> bool {
        self.published.is_known()
            && !self.status_word().contains(StatusWord::CHECKING)
            && self.left() == 0
    }

    /// Payload from peers, in bytes, over all runs.
    pub fn downloaded(&self) -> u64 {
        self.status().downloaded
    }

    /// Payload to peers, in bytes, over all runs.
    pub fn uploaded(&self) -> u64 {
        self.status().uploaded
    }

    /// Bytes that are wanted and not here.
    pub fn left(&self) -> u64 {
        let status = self.status();
        status.wanted_len - status.wanted_done_len
    }

    /// As [`Session::subscribe_to`](crate::Session::subscribe_to), but only what happens to this torrent.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn subscribe_to(&self, mask: EventMask) -> Result<Events, Gone> {
        let torrent = Some(self.info_hash());
        self.tell(move |engine, _, _| engine.subscribers.subscribe(mask, torrent))
    }

    /// As [`Session::on_event`](crate::Session::on_event), but only what happens to this torrent.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn on_event(
        &self,
        mask: EventMask,
        function: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        let torrent = Some(self.info_hash());
        let (sink, subscription) = Subscription::start(mask, function)?;
        self.tell(move |engine, _, _| engine.subscribers.add(sink, torrent))?;
        Ok(subscription)
    }

    /// Takes part in the swarm: after a stop, a pause or a failure. Trackers are told. What the disk
    /// lost in a failure is looked for first. During a check it starts when that is over.
    ///
    /// # Errors
    /// If the session has ended, as for all that follow.
    pub fn start(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.start(id, reactor))
    }

    /// Closes its peers and its files, tells trackers, and does nothing more until it is started. A
    /// check that is under way goes on then with what it has not got to.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn stop(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.stop(id, reactor))
    }

    /// Keeps its peers connected, and moves no data either way until it is started.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn pause(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.pause(id, reactor))
    }

    /// Has all that is on disk hashed again; returns when that has begun. Peers are closed meanwhile; when
    /// it is over the torrent goes on as before.
    ///
    /// # Errors
    /// [`CheckError`]: then a check that runs goes on as if nothing had been asked.
    pub fn check(&self) -> Result<(), CheckError> {
        self.check_with(CheckOptions::default())
    }

    /// As [`check`](Self::check), in another way.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check_with(&self, options: CheckOptions) -> Result<(), CheckError> {
        self.tell(move |engine, id, reactor| engine.check(id, options, reactor))?
    }

    /// Ends a check: pieces that it has not got to count as missing. Without a check nothing happens.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn cancel_check(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.cancel_check(id, reactor))
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

    /// Changes how many peers it may have; `None` is as for any torrent. Those that are connected stay.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn set_peers_max(&self, peers_max: Option<usize>) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| engine.set_peers_max(id, peers_max, reactor))
    }

    /// Changes how pieces are chosen, also for the time after a check: in one of the ways that are
    /// built in, or in your own. Your selector is called on the session's thread, which waits for it.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn set_selector(&self, selector: Selector) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| {
            if let Some(task) = engine.tasks.get_mut(&id) {
                task.swarm.set_selector(selector);
                engine.remember_options(id, reactor);
            }
        })
    }

    /// Begins or ends super seeding (BEP 16), see [`AddOptions::super_seeding`](crate::AddOptions::super_seeding).
    /// Peers that are connected already go on seeing everything.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn set_super_seeding(&self, is_wanted: bool) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| {
            if let Some(task) = engine.tasks.get_mut(&id) {
                task.swarm.set_super_seeding(is_wanted);
                engine.drain(id, reactor);
                engine.remember_options(id, reactor);
            }
        })
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

    /// Its connected peers; none while it is checked.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn peers(&self) -> Result<Vec<Peer>, Gone> {
        self.tell(|engine, id, reactor| engine.peers(id, reactor))
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    pub(crate) fn tell<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Engine, TaskId, &mut Reactor<Engine>) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let id = self.id;
        ask(&self.remote, move |engine, reactor| command(engine, id, reactor))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use torrent::metainfo::create::Builder;

    use super::*;
    use crate::dht::DhtConfig;
    use crate::disk::Crew;
    use crate::settings::{AddOptions, CheckSettings, ListenConfig, SessionConfig};
    use crate::{EventKind, NatConfig, Session};

    /// A session with one thread that hashes, and a torrent of one piece that is not there.
    fn session_and_torrent(dir: &Path) -> (Session, Torrent) {
        let session = Session::start(SessionConfig {
            listen: ListenConfig { ports: vec![0..=0], ..SessionConfig::default().listen },
            check: CheckSettings { threads: 1, ..CheckSettings::default() },
            lsd: false,
            nat: NatConfig::OFF,
            dht: DhtConfig::off(),
            ..SessionConfig::default()
        })
        .expect("started");
        let builder =
            Builder { name: b"t".to_vec(), files: vec![(Vec::new(), 5)], ..Builder::default() };
        let file = builder.finish(&[[7; 20]]).expect("a torrent");
        let metainfo = Metainfo::parse(&file).expect("valid");
        let options = AddOptions { dir: dir.into(), ..AddOptions::default() };
        let torrent = session.add(metainfo, options).expect("added");
        (session, torrent)
    }

    #[test]
    fn a_check_whose_thread_panics_fails() {
        let dir = tempfile::tempdir().expect("a folder");
        let (_session, torrent) = session_and_torrent(dir.path());
        let (told, over) = channel();
        torrent
            .tell(move |engine, id, reactor| {
                let done = move |result: Option<()>, engine: &mut Engine, reactor: &mut _| {
                    assert_eq!((result, engine.check_jobs), (None, 0));
                    engine.check(id, CheckOptions::default(), reactor).expect("begun");
                    engine.check_panicked(id, engine.tasks[&id].checks, reactor);
                    told.send(()).expect("it is waited for");
                };
                let disk = engine.tasks[&id].disk;
                engine.offload_check(disk, || panic!("as if by mistake"), done, reactor);
            })
            .expect("alive");
        over.recv_timeout(Duration::from_secs(60)).expect("it is told of");
        assert!(torrent.error().is_some_and(|why| why.contains("panicked")));
        assert!(!torrent.status_word().contains(StatusWord::CHECKING));
    }

    #[test]
    fn a_disk_that_hangs_holds_up_neither_a_cancel_nor_the_end_of_the_session() {
        let dir = tempfile::tempdir().expect("a folder");
        let (session, torrent) = session_and_torrent(dir.path());
        let events = session.subscribe().expect("alive");
        let (end, hang) = channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        torrent
            .tell(move |engine, id, reactor| {
                let disk = engine.tasks[&id].disk;
                for _ in 0..Crew::threads(1) {
                    let hang = Arc::clone(&hang);
                    let job = move || hang.lock().expect("no panic").recv();
                    engine.offload_check(disk, job, |_, _, _| {}, reactor);
                }
            })
            .expect("alive");
        for _ in 0..3 {
            torrent.check().expect("begun");
            assert_eq!(torrent.check(), Err(CheckError::AlreadyChecking));
            assert!(torrent.status_word().contains(StatusWord::CHECKING));
            torrent.cancel_check().expect("alive");
            assert_eq!(torrent.status_word().bits(), 193);
        }
        torrent.check().expect("begun");
        let asked_at = Instant::now();
        session.shutdown(Duration::from_secs(60));
        assert!(asked_at.elapsed() < Duration::from_secs(30), "it waited for what hangs");
        assert_eq!(torrent.status_word().bits(), 192);
        drop(end);
        assert!(!events.into_iter().any(|event| matches!(event.kind, EventKind::PieceFailed(_))));
    }
}
