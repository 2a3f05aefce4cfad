//! The examples, run as a user runs them: as programs, with a seed on this machine that a tracker of the
//! test's own tells them of.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::{GUARD, Payload, eventually, honest_seed, peers_answer, tracker};
use engine::Session;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[test]
fn basic_downloads_a_torrent_and_ends() {
    let world = World::new();
    world.succeeds("basic", &["t.torrent"]);
    world.payload.assert_equals(world.folder.path());
}

#[test]
fn torrent_info_tells_all_and_then_the_paths() {
    let world = World::new();
    let said = world.succeeds("torrent_info", &["t.torrent"]);
    let hash = world.payload.metainfo.info_hash().to_string();
    assert_eq!(said[0], "payload");
    assert!(said.iter().any(|line| line.contains(&hash)), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("tier 1: http://127.0.0.1:")), "{said:#?}");
    let paths = common::FILES.map(|(path, _)| format!("payload/{path}"));
    assert_eq!(said[said.len() - paths.len()..], paths);
    assert_eq!(fs::read_dir(world.folder.path()).unwrap().count(), 1);
}

#[test]
fn debug_tells_of_every_event_with_its_time_on_the_screen_and_in_the_log() {
    let world = World::new();
    let said = world.succeeds("debug", &["t.torrent", "log"]);
    let log = fs::read_to_string(world.folder.path().join("log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), said);
    let tells = |text: &str| said.iter().filter(|line| line.contains(text)).count();
    let pieces = world.payload.piece_count() as usize;
    assert_eq!((tells("piece_failed"), tells("piece_verified")), (pieces, pieces));
    for word in [
        "loading",
        "checking",
        "starting",
        "tracker_answered",
        "peer_connected",
        "packet_sent",
        "file_opened",
    ] {
        assert!(tells(word) > 0, "{word}");
    }
    let is_timed = |line: &&String| line.split_whitespace().next().unwrap().parse::<f64>().is_ok();
    // The last of them is a dump with lines of its own.
    let complete = said.iter().position(|line| line.contains("complete: payload")).unwrap();
    assert!(said[..=complete].iter().all(|line| is_timed(&line)));
    world.payload.assert_equals(world.folder.path());
}

#[test]
fn resume_tells_how_much_of_each_file_is_there_and_remembers_it() {
    let world = World::new();
    let percents = common::FILES.map(|(path, _)| format!("payload/{path} is 100.00% complete"));
    for run in 0..2 {
        let said = world.succeeds("resume", &["t.torrent", "downloads"]);
        let last = &said[said.len() - percents.len()..];
        let is_told = last.iter().zip(&percents).all(|(line, percent)| line.ends_with(percent));
        assert!(is_told, "run {run}: {said:#?}");
        world.payload.assert_equals(&world.folder.path().join("downloads"));
        assert!(world.folder.path().join("t.torrent.resume").is_file());
    }
    assert!(world.folder.path().join("t.torrent.resume.bak").is_file());
}

#[test]
fn console_downloads_seeds_shows_how_it_stands_and_ends_at_the_second_interrupt() {
    let world = World::new();
    fs::write(world.folder.path().join("bad"), "no torrent").unwrap();
    let arguments =
        ["-p", "0", "-d", "downloads", "--options", "upload=1000000", "-t", "bad", "t.torrent"];
    let mut program = world.start("console", &arguments);
    let hash = world.payload.metainfo.info_hash().to_string();
    program.says(&format!("Loaded 't.torrent' [{}...{}]", &hash[..4], &hash[36..]));
    program.says("REQUESTING 127.0.0.2:");
    program.says("RECEIVED   127.0.0.2:");
    let pieces = world.payload.piece_count();
    program.says(&format!("|{hash}|{pieces}/{pieces}|100.00%"));
    world.payload.assert_equals(&world.folder.path().join("downloads"));
    program.interrupt();
    program.says("  listens on");
    program.says("  info hash   ");
    program.says("Ctrl-C again");
    assert!(world.folder.path().join("t.torrent.resume").is_file());
    eventually("ends", || {
        program.interrupt();
        program.child.try_wait().unwrap().is_some()
    });
    assert!(program.ends().0.success());
}

#[test]
fn console_checks_what_is_there_if_told_to() {
    let world = World::new();
    let source = world.payload.dir.path().to_str().unwrap();
    let program = world.start("console", &["--check", "-d", source, "-t", "t.torrent"]);
    let pieces = world.payload.piece_count();
    program.says(&format!("/{pieces}|100.00%"));
}

#[test]
fn threads_checks_while_it_downloads_and_says_so_for_each_piece() {
    let world = World::new();
    let mut program = world.start("threads", &["t.torrent"]);
    let (mut verdicts, mut is_complete, mut is_checked) = (0, false, false);
    while !(is_complete && is_checked) {
        let line = program.lines.recv_timeout(GUARD).unwrap();
        match line.split(' ').next().unwrap() {
            "Yay" | "Boo" => verdicts += 1,
            "complete" => is_complete = true,
            "goodbye" => is_checked = true,
            other => panic!("{other}"),
        }
    }
    assert_eq!(verdicts, world.payload.piece_count());
    world.payload.assert_equals(world.folder.path());
    drop(program.child.stdin.take());
    assert!(program.ends().0.success());
}

#[test]
fn who_uses_an_example_wrongly_is_told_what_to_do() {
    let world = World::new();
    for (example, arguments, advice) in [
        ("basic", &[][..], "name a torrent: basic FILE.torrent"),
        ("torrent_info", &[], "name a torrent: torrent_info FILE.torrent"),
        ("debug", &[], "name a torrent: debug FILE.torrent"),
        ("resume", &[], "name a torrent: resume FILE.torrent"),
        ("console", &[], "Usage: console"),
        ("console", &["missing"], "no torrent could be loaded"),
        ("console", &["--options", "upload", "t.torrent"], "write NAME=VALUE"),
        ("console", &["--options", "upload=fast", "t.torrent"], "give a whole number"),
        ("console", &["--options", "colour=red", "t.torrent"], "see --help"),
        ("console", &["--options", "encryption=forced", "t.torrent"], "encryption is off, allowed"),
    ] {
        let (status, said) = world.start(example, arguments).ends();
        let said = said.join("\n");
        assert!(!status.success() && said.contains(advice), "{example}: {said}");
    }
    assert!(world.succeeds("console", &["--version"])[0].contains("0."));
    for help in ["-?", "-h", "--help"] {
        let said = world.succeeds("console", &[help]).join("\n");
        assert!(said.contains("--no-check") && said.contains("NAME=VALUE"), "{said}");
    }
}

/// A seed, and a folder with a torrent of what it has.
struct World {
    payload: Payload,
    _seed: Session,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let payload = Payload::new();
        let (seed, addr) = honest_seed(&payload);
        let announce = tracker(move |_| peers_answer(&[addr]));
        let folder = tempfile::tempdir().unwrap();
        let head = format!("d8:announce{}:{announce}", announce.len());
        let file = [head.as_bytes(), &payload.metainfo.as_bytes()[1..]].concat();
        fs::write(folder.path().join("t.torrent"), file).unwrap();
        Self { payload, _seed: seed, folder }
    }

    /// Starts an example in the folder. They are built, beside the tests, when all tests are; one who asks for
    /// this test alone builds them first.
    fn start(&self, example: &str, arguments: &[impl AsRef<OsStr>]) -> Program {
        let test = env::current_exe().unwrap();
        let profile: PathBuf = test.ancestors().nth(2).unwrap().into();
        let path = profile.join("examples").join(example);
        let build = "cargo build -p engine --examples";
        assert!(path.exists(), "{} is not built: {build}", path.display());
        let mut child = Command::new(path)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("RUST_BACKTRACE", "0")
            // Nothing is to leave this machine.
            .env("BIND", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let (output, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for from in [Box::new(output) as Box<dyn Read + Send>, Box::new(errors)] {
            let send = send.clone();
            let mut lines = BufReader::new(from).lines().map_while(Result::ok);
            thread::spawn(move || lines.try_for_each(|line| send.send(line)));
        }
        Program { child, lines }
    }

    /// Runs an example to its good end. Returns what it says.
    fn succeeds(&self, example: &str, arguments: &[&str]) -> Vec<String> {
        let (status, said) = self.start(example, arguments).ends();
        assert!(status.success(), "{example}: {said:#?}");
        said
    }
}

/// An example that is running; it is killed in the end.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Waits for a line with that in it.
    fn says(&self, text: &str) {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(GUARD) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => said.push(line),
                Err(_) => panic!("it has not said {text:?}, but {said:#?}"),
            }
        }
    }

    fn interrupt(&self) {
        // It may be over.
        kill_process(Pid::from_child(&self.child), Signal::INT).ok();
    }

    /// Waits for its end. Returns what it has said until then.
    fn ends(mut self) -> (ExitStatus, Vec<String>) {
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(GUARD) {
            said.push(line);
        }
        eventually("it ends", || self.child.try_wait().unwrap().is_some());
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
