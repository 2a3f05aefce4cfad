//! The examples, run as a user runs them: as programs, with real clients.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn echoes_send_back_whatever_comes() {
    for example in ["echo", "async_echo"] {
        let echo = Server::start(example, &["127.0.0.1:0"]);
        let mut client = echo.connect();
        client.write_all(b"hello\n\0\xff").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"hello\n\0\xff");
    }
}

#[test]
fn echo_makes_those_wait_who_do_not_read_and_loses_nothing() {
    for example in ["echo", "async_echo"] {
        waits_and_loses_nothing(&Server::start(example, &["127.0.0.1:0"]));
    }
}

fn waits_and_loses_nothing(echo: &Server) {
    let mut client = echo.connect();
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let block: Vec<u8> = (0..=250).cycle().take(251 * 1000).collect();
    let mut sent = 0;
    while sent < FAR_TOO_MUCH {
        match client.write(&block[sent % 251..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < FAR_TOO_MUCH, "echo takes in more than it can give back");
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), sent);
    assert!(echo.memory_peak() < LITTLE);
    assert!(answer.iter().enumerate().all(|(index, byte)| usize::from(*byte) == index % 251));
}

#[test]
fn a_chat_tells_the_others_who_said_what() {
    let chat = Server::start("chat", &["127.0.0.1:0"]);
    let mut alice = Client::new(chat.connect());
    alice.hears("* welcome, guest1. There are /nick NAME, /who and /quit");
    alice.says("/nick alice");
    alice.hears("* you are alice now");
    let mut bob = Client::new(chat.connect());
    bob.hears("* welcome, guest2. There are /nick NAME, /who and /quit");
    alice.hears("* guest2 is here");
    bob.says("/nick alice");
    bob.hears("* alice is taken");
    bob.says("/nick a b");
    bob.hears("* a nick is 1 to 20 letters, digits, - and _");
    bob.says("/nick bob\r");
    bob.hears("* you are bob now");
    alice.hears("* guest2 is bob now");
    bob.says("/who");
    bob.hears("* here: alice, bob");
    bob.says("/dance");
    bob.hears("* There are /nick NAME, /who and /quit");
    alice.says("hello");
    bob.hears("alice: hello");
    bob.says("/quit\nhow rude");
    bob.hears("* goodbye");
    bob.hears_the_end();
    alice.hears("* bob is gone");
    let carol = Client::new(chat.connect());
    alice.hears("* guest3 is here");
    drop(carol);
    assert!(alice.line().starts_with("* guest3 is gone"));
}

#[test]
fn a_chat_passes_on_nothing_that_harms_a_terminal_and_nothing_too_long() {
    let chat = Server::start("chat", &["127.0.0.1:0"]);
    let mut alice = Client::new(chat.connect());
    alice.line();
    let mut bob = Client::new(chat.connect());
    bob.line();
    alice.hears("* guest2 is here");
    bob.writes(b"\x1b[2J\x07bell,\ttab, \xff\xfe, \xe2\x80\xaegnirts\r\n\r\n   \n");
    alice.hears("guest2: [2Jbell, tab, \u{fffd}\u{fffd}, gnirts");
    bob.says(&"x".repeat(4096));
    bob.hears("* nobody read that: a line is 4096 bytes at most");
    bob.writes(&vec![b'y'; 1_000_000]);
    bob.says("");
    bob.hears("* nobody read that: a line is 4096 bytes at most");
    bob.says(&"z".repeat(4095));
    alice.hears(&format!("guest2: {}", "z".repeat(4095)));
}

#[test]
fn a_chat_drops_who_does_not_read_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat");
    let chat = Server::start("chat", &[path.to_str().unwrap()]);
    let _slow = chat.connect_unix();
    let mut listener = Client::new(chat.connect_unix());
    assert!(listener.line().starts_with("* welcome"));
    let mut talker = Client::new(chat.connect_unix());
    // Each block is heard before the next is said, so that only the one who does not read is slow.
    for round in 0..1000 {
        talker.writes("blah blah blah\n".repeat(1000).as_bytes());
        talker.says(&format!("round {round}"));
        loop {
            match listener.line() {
                line if line.ends_with("reads too slowly and was dropped") => {
                    return assert!(line.starts_with("* guest1 "));
                }
                line if line.ends_with(&format!(": round {round}")) => break,
                _ => {}
            }
        }
    }
    panic!("nobody was dropped");
}

#[test]
fn a_chat_holds_little_for_those_who_ask_much_at_once() {
    let chat = Server::start("chat", &["127.0.0.1:0"]);
    let mut guests: Vec<_> = (0..200).map(|_| Client::new(chat.connect())).collect();
    for (number, guest) in guests.iter_mut().enumerate() {
        guest.says(&format!("/nick {number:a>20}"));
    }
    // Some are cut off as they ask.
    let questions = "/who\n".repeat(10_000);
    for guest in &mut guests {
        guest.stream.write_all(questions.as_bytes()).ok();
    }
    let mut latest = Client::new(chat.connect());
    assert!(latest.line().starts_with("* welcome"));
    let peak = chat.memory_peak();
    assert!(peak < 200 * 1024 * 1024, "the answers were piled up: {peak}");
}

#[test]
fn a_chat_says_goodbye_when_it_is_told_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat");
    for signal in [Signal::INT, Signal::TERM] {
        let mut chat = Server::start("chat", &[path.to_str().unwrap()]);
        let mut clients: Vec<_> = (0..3).map(|_| Client::new(chat.connect_unix())).collect();
        for client in &mut clients {
            assert!(client.line().starts_with("* welcome"));
        }
        chat.signal(signal);
        for mut client in clients {
            let lines: Vec<String> = client.rest();
            assert_eq!(lines.last().unwrap(), "* the chat is closing, goodbye");
        }
        assert!(chat.child.wait().unwrap().success());
        assert!(!path.exists(), "the socket's file is left");
    }
}

#[test]
fn a_chat_drops_who_is_silent_for_longer_than_the_option_says() {
    let chat = Server::start("chat", &["--idle", "1", "127.0.0.1:0"]);
    let mut client = Client::new(chat.connect());
    assert!(client.line().starts_with("* welcome"));
    client.hears_the_end();
}

#[test]
fn a_lock_is_given_to_one_at_a_time() {
    let lockd = Server::start("lockd", &["127.0.0.1:0"]);
    let mut a = Client::new(lockd.connect());
    let mut b = Client::new(lockd.connect());
    a.asks("trylock lock=one", "OK \r");
    a.asks("trylock lock=one", "ERR taken \r");
    b.asks("trylock lock=one", "ERR taken \r");
    b.asks("releaselock lock=one", "ERR didnthave \r");
    b.asks("TryLock lock=two\r", "OK \r");
    a.asks("releaselock lock=one", "OK \r");
    a.asks("releaselock lock=one", "ERR didnthave \r");
    b.asks("trylock lock=one", "OK \r");
    a.asks("noop", "OK \r");
}

#[test]
fn whoever_disconnects_releases_its_locks() {
    let lockd = Server::start("lockd", &["127.0.0.1:0"]);
    let mut a = Client::new(lockd.connect());
    let mut b = Client::new(lockd.connect());
    a.asks("trylock lock=one", "OK \r");
    a.asks("trylock lock=two", "OK \r");
    b.asks("trylock lock=three", "OK \r");
    drop(a);
    while b.ask("trylock lock=one") != "OK \r" {}
    b.asks("trylock lock=two", "OK \r");
}

#[test]
fn locks_are_listed_in_order_with_who_has_them() {
    let lockd = Server::start("lockd", &["127.0.0.1:0"]);
    let stream = lockd.connect();
    let addr = stream.local_addr().unwrap();
    let mut client = Client::new(stream);
    client.asks("locks", "LOCKS:");
    client.hears("");
    client.asks("trylock lock=b%2bc+d&x=y", "OK \r");
    client.asks("trylock a=b&lock=a%0a%", "OK \r");
    client.asks("locks", "LOCKS:");
    client.hears(&format!("  a%0A%25 = {addr}"));
    client.hears(&format!("  b+c d = {addr}"));
    client.asks("releaselock lock=b%2Bc%20d", "OK \r");
}

#[test]
fn a_lock_server_answers_nonsense_with_errors() {
    let lockd = Server::start("lockd", &["127.0.0.1:0"]);
    let mut client = Client::new(lockd.connect());
    for nonsense in ["steal lock=x", "", "\r", "lock=x", "\u{1}\u{fffd}"] {
        client.asks(nonsense, "ERR unknown_command Unknown+server+command\r");
    }
    for nothing in ["trylock", "trylock lock=", "releaselock", "trylock lock", "trylock &&=&LOCK=x"]
    {
        client.asks(nothing, "ERR empty_lock \r");
    }
    client.asks(&format!("trylock lock={}", "n".repeat(255)), "OK \r");
    client.asks(&format!("trylock lock={}", "n".repeat(256)), "ERR lock_too_long \r");
    client.writes(&vec![b'x'; 1_000_000]);
    client.hears("ERR line_too_long \r");
    client.hears_the_end();
}

#[test]
fn a_lock_server_answers_all_that_is_asked_at_once_however_late_that_is_read() {
    let lockd = Server::start("lockd", &["127.0.0.1:0"]);
    let mut client = Client::new(lockd.connect());
    for number in 0..100 {
        client.asks(&format!("trylock lock={number:0>200}"), "OK \r");
    }
    let lists = 2_000;
    client.writes("locks\n".repeat(lists).as_bytes());
    client.stream.shutdown_write();
    let lines = client.rest();
    assert_eq!(lines.len(), lists * 101);
    assert_eq!(lines.iter().filter(|line| *line == "LOCKS:").count(), lists);
    assert!(lockd.memory_peak() < LITTLE, "the answers were piled up");
}

#[test]
fn a_lock_server_piles_up_no_long_lists() {
    let lockd = Server::start("lockd", &["127.0.0.1:0"]);
    let mut client = Client::new(lockd.connect());
    let count = 10_000;
    for number in 0..count {
        client.asks(&format!("trylock lock={number:\u{7f}>255}"), "OK \r");
    }
    let mut clients: Vec<_> = (0..10).map(|_| Client::new(lockd.connect())).collect();
    for client in &mut clients {
        client.says("locks");
        client.says("noop");
        client.hears("LOCKS:");
    }
    let peak = lockd.memory_peak();
    assert!(peak < 2 * LITTLE, "the lists were piled up: {peak}");
    let lines: BTreeSet<String> = (0..count).map(|_| clients[0].line()).collect();
    assert!(lines.len() == count && lines.iter().all(|line| line.starts_with("  %7F")));
    clients[0].hears("OK \r");
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    for example in ["echo", "chat", "lockd"] {
        let help = run(example, &["--help"]);
        assert!(help.status.success() && text(&help.stdout).starts_with("usage: "));
        for wrong in [&["nonsense"][..], &["--nonsense"], &["127.0.0.1:99999"], &["::1", "x"]] {
            let refused = run(example, wrong);
            assert_eq!(refused.status.code(), Some(2), "{example} {wrong:?}");
            assert!(text(&refused.stderr).contains("usage: "), "{}", text(&refused.stderr));
        }
    }
    for wrong in ["nonsense", "--nonsense", "127.0.0.1:99999"] {
        let refused = run("async_echo", &[wrong]);
        assert_eq!(refused.status.code(), Some(2), "async_echo {wrong}");
    }
    for wrong in [&["--idle"][..], &["--idle", "0"], &["--idle", "-1"], &["--idle", "soon"]] {
        assert_eq!(run("chat", wrong).status.code(), Some(2), "chat {wrong:?}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    for example in ["echo", "async_echo", "chat", "lockd"] {
        let first = Server::start(example, &["127.0.0.1:0"]);
        let second = run(example, &[&first.address]);
        assert_eq!(second.status.code(), Some(1));
        let complaint = text(&second.stderr);
        assert!(complaint.contains(&first.address) && complaint.contains("in use"), "{complaint}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "no socket").unwrap();
    assert_eq!(run("chat", &[file.to_str().unwrap()]).status.code(), Some(1));
    assert_eq!(fs::read(&file).unwrap(), b"no socket");
}

/// An example that is running; it is killed in the end.
struct Server {
    child: Child,
    /// What it says it listens on.
    address: String,
}

impl Server {
    fn start(example: &str, arguments: &[&str]) -> Self {
        let mut child = command(example, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    fn connect_unix(&self) -> UnixStream {
        UnixStream::connect(&self.address).unwrap()
    }

    /// How much memory it had at most, in bytes.
    fn memory_peak(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A client that speaks in lines, as `nc` in a terminal does.
struct Client {
    stream: Box<dyn Stream>,
    reader: BufReader<Box<dyn Stream>>,
}

trait Stream: Read + Write {
    /// The same connection again, that gives up when nothing comes.
    fn patient_reader(&self) -> Box<dyn Stream>;
    fn shutdown_write(&self);
}

impl Stream for TcpStream {
    fn patient_reader(&self) -> Box<dyn Stream> {
        self.set_read_timeout(Some(PATIENCE)).unwrap();
        Box::new(self.try_clone().unwrap())
    }

    fn shutdown_write(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn patient_reader(&self) -> Box<dyn Stream> {
        self.set_read_timeout(Some(PATIENCE)).unwrap();
        Box::new(self.try_clone().unwrap())
    }

    fn shutdown_write(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Client {
    fn new(stream: impl Stream + 'static) -> Self {
        Self { reader: BufReader::new(stream.patient_reader()), stream: Box::new(stream) }
    }

    fn writes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn says(&mut self, line: &str) {
        self.writes(format!("{line}\n").as_bytes());
    }

    /// The next line, without its newline; empty at the end too.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.strip_suffix('\n').unwrap_or(&line).to_owned()
    }

    fn hears(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    fn ask(&mut self, line: &str) -> String {
        self.says(line);
        self.line()
    }

    fn asks(&mut self, line: &str, answer: &str) {
        assert_eq!(self.ask(line), answer, "to {line:?}");
    }

    fn rest(&mut self) -> Vec<String> {
        self.reader.by_ref().lines().map(Result::unwrap).collect()
    }

    fn hears_the_end(&mut self) {
        assert_eq!(self.rest(), [""; 0]);
    }
}

/// Runs an example that is to end by itself.
fn run(example: &str, arguments: &[&str]) -> Output {
    command(example, arguments).output().unwrap()
}

/// Examples are built, beside the tests, when all tests are; one who asks for this test alone builds them
/// first.
fn command(example: &str, arguments: &[&str]) -> Command {
    let test = env::current_exe().unwrap();
    let profile: PathBuf = test.ancestors().nth(2).unwrap().into();
    let program = profile.join("examples").join(example);
    assert!(
        program.exists(),
        "{} is not built: cargo build -p reactor --examples",
        program.display()
    );
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// More than all buffers on the way hold, in bytes.
const FAR_TOO_MUCH: usize = 256 * 1024 * 1024;
/// What a program needs that queues no more than it should, in bytes; it may be a few megabytes.
const LITTLE: usize = 24 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
