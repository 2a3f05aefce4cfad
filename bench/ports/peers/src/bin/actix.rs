//! actix, on one arbiter.

use std::future::{Future, ready};
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message, System as Arbiters};
use ports_peers::Words;
use ports_peers::actors::{Live, Role, System, run};
use tokio::sync::Notify;

struct Actix;

struct Node {
    role: Role<Actix>,
    _live: Live,
}

struct Number(u64);

struct Stop;

impl Actor for Node {
    type Context = Context<Self>;
}

impl Message for Number {
    type Result = ();
}

impl Message for Stop {
    type Result = ();
}

impl Handler<Number> for Node {
    type Result = ();

    fn handle(&mut self, Number(number): Number, _: &mut Context<Self>) {
        self.role.receive(number);
    }
}

impl Handler<Stop> for Node {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
        context.stop();
    }
}

impl System for Actix {
    type Address = Addr<Node>;

    fn send(to: &Self::Address, number: u64) {
        to.do_send(Number(number));
    }

    fn kill(actor: &Self::Address) {
        actor.do_send(Stop);
    }

    fn start(role: Role<Self>) -> impl Future<Output = Self::Address> + Send {
        ready(Node { role, _live: Live }.start())
    }

    async fn watched(_: u64, _: Arc<Notify>) -> Option<Vec<Self::Address>> {
        None
    }
}

fn main() {
    Arbiters::new().block_on(run::<Actix>(Words::of_command_line()));
    std::process::exit(0);
}
