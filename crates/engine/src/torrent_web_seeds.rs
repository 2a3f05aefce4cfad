//! What a handle to a torrent can do with its web seeds.

use reactor::Reactor;
use torrent::web_seed::{WebSeedKind, WebSeedStatus};

use crate::engine::Engine;
use crate::session::Gone;
use crate::task::TaskId;
use crate::torrent_handle::Torrent;

impl Torrent {
    /// Its web seeds: at most 64.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn web_seeds(&self) -> Result<Vec<WebSeedStatus>, Gone> {
        self.tell(|engine, id, reactor| {
            let now = reactor.now();
            let sources =
                engine.tasks.get(&id).into_iter().flat_map(|task| task.web_seeds.values());
            sources.map(|source| source.core.status(now)).collect()
        })
    }

    /// Adds a server that has its files (BEP 19), unless it is there already.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn add_web_seed(&self, url: String) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| {
            let Some(task) = engine.tasks.get_mut(&id) else { return };
            let mut known = task.metainfo.web_seeds().iter().chain(&task.web_seed_urls);
            if !known.any(|known| *known == url) {
                task.web_seed_urls.push(url.clone());
                engine.remember_options(id, reactor);
            }
            if let Some(task) = engine.tasks.get_mut(&id) {
                task.add_web_seed(WebSeedKind::Files, url, reactor);
            }
            engine.wake(id);
        })
    }

    /// Takes a web seed out. One that the torrent itself names is there again after a check and in the next
    /// session.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn remove_web_seed(&self, url: String) -> Result<(), Gone> {
        self.tell(move |engine, id, reactor| engine.remove_web_seed(id, &url, reactor))
    }
}

impl Engine {
    fn remove_web_seed(&mut self, id: TaskId, url: &str, reactor: &mut Reactor<Self>) {
        // What it is at is given back first.
        self.stop_web_seeds(id, reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.web_seed_urls.retain(|known| known != url);
        task.web_seeds.retain(|_, source| source.core.url() != url);
        self.remember_options(id, reactor);
        self.wake(id);
    }
}
