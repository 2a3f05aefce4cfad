//! The web in a simulated world: servers, and what stands in for the library that speaks HTTP, since that has sockets
//! and a thread of its own. Whatever decides what to ask and what to make of the answer is as it is in the real world.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use reactor::simulated::{Node, Turn, World, WorldOptions};
use reactor::task::{AsyncStream, Handle};
use reactor::{ConnectOptions, ListenOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use torrent::web_seed::{WebHead, WebRequest, WebSeedState};

use crate::engine::Engine;
use crate::http::{Http, HttpError, Streamed};
use crate::http_client::HttpOptions;
use crate::settings::AddOptions;
use crate::simulation::{Machine, Payload, quiet};

/// Speaks HTTP over the engine's own reactor.
#[derive(Debug)]
pub(crate) struct PretendedWeb {
    handle: Handle<Engine>,
}

impl PretendedWeb {
    /// As [`Http::stream`].
    pub(crate) fn stream(
        &self,
        request: &WebRequest,
        allowed: UnboundedReceiver<usize>,
        mut tell: impl FnMut(Streamed) + 'static,
    ) {
        let (handle, request) = (self.handle.clone(), request.clone());
        drop(self.handle.spawn(async move {
            if let Err(error) = fetch(&handle, &request, allowed, &mut tell).await {
                tell(Streamed::Failed(HttpError::Unreachable(error.to_string())));
            }
        }));
    }
}

/// Has the engine of a machine ask servers of its world.
fn browse(machine: &mut Machine) {
    machine.node.with(|engine, reactor| {
        let mut http = Http::new(HttpOptions::default()).expect("a thread");
        http.pretended = Some(PretendedWeb { handle: reactor.handle() });
        engine.http = Some(http);
    });
}

async fn fetch(
    handle: &Handle<Engine>,
    request: &WebRequest,
    mut allowed: UnboundedReceiver<usize>,
    tell: &mut impl FnMut(Streamed),
) -> io::Result<()> {
    let url = reqwest::Url::parse(&request.url).map_err(io::Error::other)?;
    let (host, port) =
        (url.host_str().expect("named"), url.port_or_known_default().expect("known"));
    let addr = handle.resolve(host, port).await?[0];
    let mut stream = handle.connect(addr, &ConnectOptions::default()).await?;
    let range = request.range.as_ref().map_or_else(String::new, |range| {
        format!("Range: bytes={}-{}\r\n", range.start(), range.end())
    });
    let question = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n{range}\r\n", url.path());
    stream.write_all(question.as_bytes()).await?;
    let text = read_head(&mut stream).await?;
    let (status, fields) = text.split_once("\r\n").expect("a line");
    let field = |name: &str| {
        let mut fields = fields.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let content_len = field("Content-Length").and_then(|len| len.parse().ok());
    let head = WebHead {
        status: status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"),
        content_len,
        content_range: field("Content-Range"),
        content_encoding: None,
        retry_after: field("Retry-After"),
        location: field("Location"),
    };
    tell(Streamed::Head(head, Some(addr.ip())));
    let (mut left, mut may) = (content_len.unwrap_or(u64::MAX), 0);
    let mut buffer = [0; 16 * 1024];
    while left > 0 {
        while may == 0 {
            let Some(more) = allowed.recv().await else { return Ok(()) };
            may += more;
        }
        match stream.read(&mut buffer).await? {
            0 if content_len.is_some() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            len => {
                may = may.saturating_sub(len);
                left = left.saturating_sub(len as u64);
                tell(Streamed::Data(Bytes::copy_from_slice(&buffer[..len])));
            }
        }
    }
    tell(Streamed::End);
    Ok(())
}

/// Up to the empty line, byte by byte: what follows is not to be touched.
async fn read_head(stream: &mut AsyncStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        head.extend(byte);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// A web server on a host of its own.
struct WebHost {
    node: Node<()>,
    addr: SocketAddr,
    asked: Rc<RefCell<Vec<Asked>>>,
}

#[derive(Clone, Debug)]
struct Asked {
    path: String,
    range: Option<(usize, usize)>,
}

/// The bytes of an answer; `None`: it says nothing, for as long as somebody waits.
type Answer = Option<Vec<u8>>;

impl WebHost {
    /// One that answers each request, counted from 0, with what `choose` makes of the honest answer.
    fn start(
        world: &World,
        number: u8,
        payload: &Payload,
        choose: impl Fn(usize, &Asked, Vec<u8>) -> Answer + 'static,
    ) -> Self {
        let addr = SocketAddr::from(([10, 0, 0, number], 80));
        let node = Node::new(world.host(&[addr.ip()]), ());
        let root = payload.dir.path().join("payload");
        let files: BTreeMap<String, Vec<u8>> = ["a", "b"]
            .map(|name| {
                (format!("/payload/{name}"), std::fs::read(root.join(name)).expect("there"))
            })
            .into();
        let asked: Rc<RefCell<Vec<Asked>>> = Rc::default();
        let (handle, seen) = (node.reactor.handle(), Rc::clone(&asked));
        let mut listener = handle.listen(addr, &ListenOptions::default()).expect("a free port");
        let shared = Rc::new((files, choose));
        drop(node.reactor.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, shared) = (Rc::clone(&seen), Rc::clone(&shared));
                let served = async move {
                    let (files, choose) = &*shared;
                    serve(stream, &seen, files, choose).await
                };
                drop(handle.spawn(served));
            }
        }));
        Self { node, addr, asked }
    }

    fn honest(world: &World, number: u8, payload: &Payload) -> Self {
        Self::start(world, number, payload, |_, _, answer| Some(answer))
    }

    fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }
}

async fn serve(
    mut stream: AsyncStream,
    seen: &RefCell<Vec<Asked>>,
    files: &BTreeMap<String, Vec<u8>>,
    choose: &impl Fn(usize, &Asked, Vec<u8>) -> Answer,
) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let range = head.lines().find_map(|line| line.strip_prefix("Range: bytes=")).map(|range| {
        let (first, last) = range.split_once('-').expect("a range");
        (first.parse().expect("a number"), last.parse().expect("a number"))
    });
    let asked = Asked { path: head.split(' ').nth(1).expect("a path").to_owned(), range };
    let number = seen.borrow().len();
    seen.borrow_mut().push(asked.clone());
    match choose(number, &asked, honest(files, &asked)) {
        Some(answer) => {
            stream.write_all(&answer).await?;
            stream.close().await
        }
        // It waits until the other end has enough.
        None => stream.read(&mut [0]).await.map(drop),
    }
}

fn honest(files: &BTreeMap<String, Vec<u8>>, asked: &Asked) -> Vec<u8> {
    let Some(whole) = files.get(&asked.path) else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    let (head, body) = match asked.range {
        Some((first, last)) => {
            let total = whole.len();
            let head =
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}");
            (head, &whole[first..=last])
        }
        None => ("200 OK".to_owned(), &whole[..]),
    };
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A machine that begins to download from these.
fn leech(world: &World, payload: &Payload, hosts: &[WebHost]) -> Machine {
    let mut machine = Machine::with_config(world, 1, None, quiet());
    browse(&mut machine);
    let options = AddOptions {
        dir: machine.dir.path().to_owned(),
        web_seeds: hosts.iter().map(WebHost::url).collect(),
        ..AddOptions::default()
    };
    let metainfo = payload.metainfo.clone();
    let added = machine.node.with(|engine, reactor| engine.add(metainfo, options, reactor));
    machine.task = added.map(|(id, _)| id);
    machine
}

/// A download from servers alone: returns the machine, and after how long it was complete, if it was.
fn download(
    world: &World,
    payload: &Payload,
    hosts: &mut [WebHost],
) -> (Machine, Option<Duration>) {
    let mut machine = leech(world, payload, hosts);
    while !machine.is_complete() && world.elapsed() < PATIENCE {
        let mut turns: Vec<&mut dyn Turn> = vec![&mut machine.node];
        turns.extend(hosts.iter_mut().map(|host| &mut host.node as &mut dyn Turn));
        assert!(world.step(&mut turns), "nothing can happen any more");
    }
    let took = machine.is_complete().then(|| world.elapsed());
    if took.is_some() {
        for name in ["a", "b"] {
            let path = |dir: &tempfile::TempDir| dir.path().join("payload").join(name);
            let [copy, original] = [&machine.dir, &payload.dir].map(|dir| std::fs::read(path(dir)));
            assert!(copy.expect("there") == original.expect("there"), "{name} differs");
        }
    }
    (machine, took)
}

fn state(machine: &Machine) -> WebSeedState {
    let task = machine.task.and_then(|id| machine.node.state.tasks.get(&id)).expect("there");
    let source = task.web_seeds.values().next().expect("one");
    source.core.status(machine.node.reactor.now()).state
}

#[test]
fn one_server_alone_brings_everything_and_equal_seeds_give_equal_traces() {
    let payload = Payload::new(700_000);
    let play = |seed| {
        let world = World::new(seed, WorldOptions::default());
        let mut hosts = [WebHost::honest(&world, 9, &payload)];
        let (machine, took) = download(&world, &payload, &mut hosts);
        let wasted = machine.node.state.tasks[&machine.task.expect("added")].swarm.wasted();
        assert_eq!(wasted, 0);
        (took.expect("complete"), world.trace_digest())
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1).1, play(2).1);
}

#[test]
fn a_bad_network_only_delays_it() {
    let payload = Payload::new(400_000);
    for seed in 0..10 {
        let options =
            WorldOptions { reset_share: 0.01, partial_share: 0.5, ..WorldOptions::default() };
        let world = World::new(seed, options);
        let mut hosts = [9, 10].map(|number| WebHost::honest(&world, number, &payload));
        assert!(download(&world, &payload, &mut hosts).1.is_some(), "seed {seed}");
    }
}

#[test]
fn how_long_it_takes_to_come_back_to_a_server_that_failed() {
    let payload = Payload::new(200_000);
    let plainly = |text: &str| Some(format!("HTTP/1.1 {text}\r\n\r\n").into_bytes());
    for (first, seconds) in [
        (None, 35),
        (plainly("503 Busy\r\nRetry-After: 100"), 100),
        (plainly("429 Too Many"), 60),
        (plainly("500 Oops"), 5),
        (plainly("206 Partial Content"), 5),
        (Some(Vec::new()), 5),
    ] {
        let world = World::new(1, WorldOptions::default());
        let answer = first.clone();
        let choose = move |number, _: &Asked, honest| {
            if number == 0 { answer.clone() } else { Some(honest) }
        };
        let mut hosts = [WebHost::start(&world, 9, &payload, choose)];
        let took = download(&world, &payload, &mut hosts).1.expect("complete");
        let least = Duration::from_secs(seconds);
        assert!(took >= least && took < least + Duration::from_secs(2), "{first:?}: {took:?}");
    }
}

#[test]
fn what_was_cut_off_is_kept_and_a_part_of_a_part_is_enough() {
    let payload = Payload::new(700_000);
    let world = World::new(1, WorldOptions::default());
    let cut = |number: usize, asked: &Asked, mut honest: Vec<u8>| {
        if number < 4 && asked.path.ends_with("/a") {
            honest.truncate(150_000);
        }
        Some(honest)
    };
    let mut hosts = [WebHost::start(&world, 9, &payload, cut)];
    let (machine, took) = download(&world, &payload, &mut hosts);
    assert!(took.is_some());
    let downloaded = machine.node.state.tasks[&machine.task.expect("added")].swarm.downloaded();
    assert_eq!(downloaded, 701_000, "nothing twice");
}

#[test]
fn a_liar_is_not_asked_again_though_nobody_else_has_it() {
    let payload = Payload::new(200_000);
    let world = World::new(1, WorldOptions::default());
    let spoil = |_: usize, _: &Asked, mut honest: Vec<u8>| {
        *honest.last_mut().expect("some") ^= 1;
        Some(honest)
    };
    let mut hosts = [WebHost::start(&world, 9, &payload, spoil)];
    let (machine, took) = download(&world, &payload, &mut hosts);
    assert_eq!((took, state(&machine)), (None, WebSeedState::Dropped));
    assert!(hosts[0].asked.borrow().len() <= 3);
}

#[test]
fn a_server_that_is_cut_off_is_asked_again_when_it_is_back() {
    let payload = Payload::new(200_000);
    let world = World::new(1, WorldOptions::default());
    let mut hosts = [WebHost::honest(&world, 9, &payload)];
    let mut machine = leech(&world, &payload, &hosts);
    let (ours, there) = (IpAddr::from([10, 0, 0, 1]), hosts[0].addr.ip());
    world.cut(ours, there);
    let mut run = |machine: &mut Machine, seconds| {
        let time = Duration::from_secs(seconds);
        world.run_for(&mut [&mut machine.node, &mut hosts[0].node], time);
    };
    run(&mut machine, 60);
    assert!(!machine.is_complete());
    world.mend(ours, there);
    run(&mut machine, 60);
    assert!(machine.is_complete());
}

const PATIENCE: Duration = Duration::from_secs(3600);
