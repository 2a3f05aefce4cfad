use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use ports::{List, PortId, Value};

use crate::world::World;

struct Files {
    world: World,
    incoming: PathBuf,
}

impl Files {
    fn new() -> Self {
        let world = World::new();
        let incoming = world.directory.path().join("incoming");
        fs::create_dir(&incoming).unwrap();
        Self { world, incoming }
    }

    fn start_server(&self) -> crate::world::Program {
        let mut server = self.world.run("file_server", &[self.incoming.to_str().unwrap()]);
        server.says("server ready");
        server
    }

    /// A file of that name to send.
    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.world.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A client that sends what it is told to, and nothing else.
    fn raw_client(&self) -> RawClient {
        let (tell, hear) = channel();
        self.world
            .seed
            .post(move |node| {
                let reports = tell.clone();
                let port = node.port(move |_, report: List| {
                    reports.send(Value::List(report)).ok();
                });
                let port = port.id();
                // The seed knows all of the database.
                wait_for_server(node, move |server| {
                    tell.send(Value::List(vec![(&server).into(), (&port).into()])).ok();
                });
            })
            .unwrap();
        let Value::List(both) = hear.recv().unwrap() else { panic!("two ports") };
        let (server, port) = (both[0].as_port().unwrap(), both[1].as_port().unwrap());
        RawClient { seed: self.world.seed.clone(), server, port, reports: hear }
    }
}

fn wait_for_server(node: &ports::Node, done: impl FnOnce(PortId) + 'static) {
    let mut done = Some(done);
    let watch = node.grp_mon("eg_file_servers", move |_, change| {
        if let Some(done) = done.take() {
            done(change.members[0].clone());
        }
    });
    watch.unwrap().detach();
}

struct RawClient {
    seed: ports::NodeHandle,
    server: PortId,
    port: PortId,
    reports: Receiver<Value>,
}

impl RawClient {
    fn sends(&self, tag: &str, last: Option<Value>) {
        let mut message: List = vec![tag.into(), (&self.port).into()];
        message.extend(last);
        self.seed.send(&self.server, message).unwrap();
    }

    fn hears(&self, report: &str) {
        let found = self.reports.recv().unwrap().to_string();
        assert!(found.contains(report), "{found}");
    }
}

#[test]
fn a_file_arrives_as_it_was() {
    let files = Files::new();
    let content: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    // The client waits until there is a server.
    let mut client = files.world.run("file_client", &[&files.file("picture", &content)]);
    let _server = files.start_server();
    client.says("1000000 bytes are written");
    assert!(client.end().success());
    assert!(fs::read(files.incoming.join("picture")).unwrap() == content);
}

#[test]
fn an_empty_file_arrives_too_and_none_is_overwritten() {
    let files = Files::new();
    let mut server = files.start_server();
    let path = files.file("nothing", b"");
    assert!(files.world.run("file_client", &[&path]).end().success());
    assert_eq!(fs::read(files.incoming.join("nothing")).unwrap(), b"");
    assert!(!files.world.run("file_client", &[&path]).end().success());
    server.says("\"nothing\" failed: ");
}

#[test]
fn one_who_says_nothing_has_five_seconds_and_the_others_wait_in_the_queue() {
    let files = Files::new();
    let mut server = files.start_server();
    let slow = files.raw_client();
    slow.sends("write_file", Some("slow".into()));
    slow.hears("[\"next\"]");
    slow.sends("data", Some(Bytes::from_static(b"and then").into()));
    slow.hears("[\"next\"]");
    let mut waiting = files.world.run("file_client", &[&files.file("other", b"patience")]);
    waiting.says("waiting");
    slow.hears("[\"failed\",\"timeout waiting for data from seed#");
    waiting.says("8 bytes are written");
    server.says("\"slow\" failed: timeout");
    server.says("\"other\" is written");
    assert!(!files.incoming.join("slow").exists());
    assert_eq!(fs::read(files.incoming.join("other")).unwrap(), b"patience");
    // What comes too late harms nobody.
    slow.sends("data", Some("late".into()));
    slow.sends("data", None);
    slow.sends("write_file", Some("slow".into()));
    slow.hears("[\"next\"]");
    slow.sends("data", None);
    slow.hears("[\"written\",0]");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let files = Files::new();
    let _server = files.start_server();
    let client = files.raw_client();
    for name in ["", ".", "..", "/etc/passwd", "../rc", "a/b", "a/", "./a", "a\0b"] {
        client.sends("write_file", Some(name.into()));
        client.hears("[\"failed\",");
    }
    std::os::unix::fs::symlink("../escaped", files.incoming.join("link")).unwrap();
    client.sends("write_file", Some("link".into()));
    client.hears("[\"failed\",");
    assert!(!files.world.directory.path().join("escaped").exists());
}

#[test]
fn a_client_that_is_killed_holds_up_nobody_for_long_and_a_server_that_is_killed_is_noticed() {
    let files = Files::new();
    let mut server = files.start_server();
    let slow = files.raw_client();
    slow.sends("write_file", Some("slow".into()));
    slow.hears("[\"next\"]");
    let mut killed = files.world.run("file_client", &[&files.file("killed", b"never")]);
    killed.says("waiting");
    let mut waiting = files.world.run("file_client", &[&files.file("waiting", b"neither")]);
    waiting.says("waiting");
    killed.kill();
    server.says("writing \"slow\"");
    server.kill();
    assert!(!waiting.end().success());
}

#[test]
fn nonsense_ends_the_server_and_its_supervisor_starts_another() {
    let files = Files::new();
    let mut server = files.start_server();
    let client = files.raw_client();
    client.sends("nonsense", None);
    server.says("the file server was killed: unhandled_message");
    assert!(files.world.run("file_client", &[&files.file("after", b"all")]).end().success());
}
