use ports::{GroupChange, Node};

use crate::world::World;

#[test]
fn clients_chat_hear_who_quits_and_come_back_to_a_new_server() {
    chats("chat_server", "chat_client");
}

#[test]
fn clients_chat_through_ports_that_they_spawn_on_the_server() {
    chats("chat_server2", "chat_client2");
}

fn chats(server: &str, client: &str) {
    let world = World::new();
    let mut anna = world.run(client, &["anna"]);
    let mut first_server = world.run(server, &[]);
    first_server.says("relaying: anna (joins)");
    anna.says("anna (joins)");
    let mut bert = world.run(client, &["bert"]);
    anna.says("bert (joins)");
    bert.says("bert (joins)");
    anna.types("hello");
    bert.says("anna: hello");
    bert.types("hello yourself");
    anna.says("bert: hello yourself");

    bert.kill();
    assert!(anna.says("bert (quits, ").contains("transport_error"));

    first_server.kill();
    assert!(anna.says("disconnected: ").contains("transport_error"));
    let mut second_server = world.run(server, &[]);
    second_server.says("relaying: anna (joins)");
    let mut carl = world.run(client, &["carl"]);
    anna.says("carl (joins)");
    anna.types("still here");
    carl.says("anna: still here");
}

#[test]
fn a_server_that_is_told_nonsense_starts_anew_and_clients_come_back() {
    let world = World::new();
    let _server = world.run("chat_server", &[]);
    let mut anna = world.run("chat_client", &["anna"]);
    anna.says("anna (joins)");
    let babble = |node: &Node| {
        // The next server is left in peace.
        let mut is_first = true;
        let babble = move |node: &Node, change: &GroupChange| {
            if std::mem::take(&mut is_first) {
                node.send(&change.members[0], "nonsense".to_owned());
            }
        };
        node.grp_mon("eg_chat_server", babble).unwrap().detach();
    };
    world.seed.post(babble).unwrap();
    anna.says("disconnected: unhandled_message");
    anna.says("anna (joins)");
    anna.types("hello");
    anna.says("anna: hello");
}
