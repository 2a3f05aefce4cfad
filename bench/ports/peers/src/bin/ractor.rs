//! ractor, without the spans that it can carry along.

use std::sync::Arc;

use ports_peers::actors::{Live, Role, System, run_on_tokio};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::Notify;

struct Ractor;

struct Node;

struct State {
    role: Role<Ractor>,
    _live: Live,
}

impl Actor for Node {
    type Msg = u64;
    type State = State;
    type Arguments = Role<Ractor>;

    async fn pre_start(
        &self,
        _: ActorRef<u64>,
        role: Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { role, _live: Live })
    }

    async fn handle(
        &self,
        _: ActorRef<u64>,
        number: u64,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.role.receive(number);
        Ok(())
    }
}

/// Counts the ends of those it monitors.
struct Watcher;

impl Actor for Watcher {
    type Msg = u64;
    type State = (u64, Arc<Notify>);
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        _: ActorRef<u64>,
        state: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<u64>,
        event: SupervisionEvent,
        (left, done): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if matches!(event, SupervisionEvent::ActorTerminated(..)) {
            *left -= 1;
            if *left == 0 {
                done.notify_one();
            }
        }
        Ok(())
    }
}

impl System for Ractor {
    type Address = ActorRef<u64>;

    fn send(to: &Self::Address, number: u64) {
        to.send_message(number).expect("nobody ends while a test runs");
    }

    fn kill(actor: &Self::Address) {
        actor.get_cell().kill();
    }

    async fn start(role: Role<Self>) -> Self::Address {
        Actor::spawn(None, Node, role).await.expect("no start fails").0
    }

    async fn watched(count: u64, done: Arc<Notify>) -> Option<Vec<Self::Address>> {
        let (watcher, _) =
            Actor::spawn(None, Watcher, (count, done)).await.expect("no start fails");
        let mut all = Vec::new();
        for _ in 0..count {
            let node = Self::start(Role::Idle).await;
            watcher.get_cell().monitor(node.get_cell());
            all.push(node);
        }
        Some(all)
    }
}

fn main() {
    run_on_tokio::<Ractor>();
}
