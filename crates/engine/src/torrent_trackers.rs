//! What a handle to a torrent can do with its trackers.

use reactor::Reactor;
use torrent::tracker::TrackerStatus;

use crate::engine::Engine;
use crate::session::Gone;
use crate::task::TaskId;
use crate::torrent_handle::Torrent;

impl Torrent {
    /// Its trackers, tier by tier.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn trackers(&self) -> Result<Vec<TrackerStatus>, Gone> {
        self.tell(|engine, id, _| {
            engine.tasks.get(&id).map(|task| task.announcer.status()).unwrap_or_default()
        })
    }

    /// The same in tiers. Of each tier the first that works is asked; the others stand in for it.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn tiers(&self) -> Result<Vec<Vec<TrackerStatus>>, Gone> {
        let mut trackers = self.trackers()?.into_iter().peekable();
        let mut tiers = Vec::new();
        while let Some(tier) = trackers.peek().map(|tracker| tracker.tier) {
            let is_of_it = |tracker: &TrackerStatus| tracker.tier == tier;
            tiers.push(std::iter::from_fn(|| trackers.next_if(is_of_it)).collect());
        }
        Ok(tiers)
    }

    /// Adds a tier of trackers behind the others, and asks it at once if the torrent is started. Its URLs
    /// are shuffled; those that are there already, in whatever tier, are left out.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn add_tier(&self, urls: Vec<String>) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| {
            let Some(task) = engine.tasks.get_mut(&id) else { return };
            let tiers = task.trackers.get_or_insert_with(|| task.metainfo.trackers().to_vec());
            let is_new = |url: &String| !tiers.iter().flatten().any(|known| known == url);
            let urls: Vec<String> = urls.into_iter().filter(is_new).collect();
            if !urls.is_empty() {
                tiers.push(urls.clone());
                task.announcer.add_tier(reactor.now(), urls);
                engine.remember_options(id, reactor);
                engine.drive_trackers(id, reactor);
            }
        })
    }

    /// Only its first `count` tiers stay. Those behind them are told that we leave, and are asked no more.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn keep_tiers(&self, count: usize) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| {
            let Some(task) = engine.tasks.get_mut(&id) else { return };
            let tiers = task.trackers.get_or_insert_with(|| task.metainfo.trackers().to_vec());
            // The announcer has none of these.
            tiers.retain(|tier| !tier.is_empty());
            tiers.truncate(count);
            task.announcer.keep_tiers(count);
            engine.remember_options(id, reactor);
            engine.drive_trackers(id, reactor);
        })
    }

    /// Asks its trackers for peers now, or as soon as they allow it. One that fails is asked when its turn
    /// comes, and none is while the torrent is stopped.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn announce_now(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.announce_now(id, reactor))
    }

    /// Has the trackers count the peers (BEP 48); [`trackers`](Self::trackers) has the counts when
    /// they have come.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn scrape(&self) -> Result<(), Gone> {
        self.tell(|engine, id, reactor| engine.scrape(id, reactor))
    }
}

impl Engine {
    fn announce_now(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.announcer.announce_now(reactor.now());
        }
        self.drive_trackers(id, reactor);
    }
}
