//! kameo, without its tracing, with mailboxes that have no limit.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use kameo::Actor;
use kameo::actor::{ActorId, ActorRef, Spawn, WeakActorRef};
use kameo::error::ActorStopReason;
use kameo::mailbox;
use kameo::message::{Context, Message};
use ports_peers::actors::{Live, Role, System, run_on_tokio};
use tokio::sync::Notify;

struct Kameo;

struct Node {
    role: Role<Kameo>,
    _live: Live,
}

impl Actor for Node {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(node: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(node)
    }
}

impl Message<u64> for Node {
    type Reply = ();

    async fn handle(&mut self, number: u64, _: &mut Context<Self, ()>) {
        self.role.receive(number);
    }
}

/// Counts the ends of those it is linked with.
struct Watcher {
    left: u64,
    done: Arc<Notify>,
}

impl Actor for Watcher {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(watcher: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(watcher)
    }

    async fn on_link_died(
        &mut self,
        _: WeakActorRef<Self>,
        _: ActorId,
        _: ActorStopReason,
    ) -> Result<ControlFlow<ActorStopReason>, Infallible> {
        self.left -= 1;
        if self.left == 0 {
            self.done.notify_one();
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl System for Kameo {
    type Address = ActorRef<Node>;

    fn send(to: &Self::Address, number: u64) {
        to.tell(number).try_send().expect("a mailbox without limit takes all");
    }

    fn kill(actor: &Self::Address) {
        actor.kill();
    }

    async fn start(role: Role<Self>) -> Self::Address {
        Node::spawn_with_mailbox(Node { role, _live: Live }, mailbox::unbounded())
    }

    async fn watched(count: u64, done: Arc<Notify>) -> Option<Vec<Self::Address>> {
        let watcher =
            Watcher::spawn_with_mailbox(Watcher { left: count, done }, mailbox::unbounded());
        let mut all = Vec::new();
        for _ in 0..count {
            let node = Self::start(Role::Idle).await;
            watcher.link(&node).await;
            node.wait_for_startup().await;
            all.push(node);
        }
        // A reference that goes with this function would end the watcher.
        std::mem::forget(watcher);
        Some(all)
    }
}

fn main() {
    run_on_tokio::<Kameo>();
}
