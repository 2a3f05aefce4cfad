//! A network of programs.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ports::config::Config;
use ports::{Node, NodeHandle};
use reactor::{Reactor, Remote};
use tempfile::TempDir;

/// A seed, and the file with settings that all programs read.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) seed: NodeHandle,
    remote: Remote<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (tell, hear) = channel();
        thread::spawn(move || {
            let config = Config::new().norc().node_id("seed").bind("127.0.0.1:0").secret(SECRET);
            let mut reactor = Reactor::new().unwrap();
            let node = Node::start(&mut reactor, &config.settings().unwrap()).unwrap();
            tell.send((node.handle(), node.listeners()[0].clone(), reactor.remote())).unwrap();
            reactor.run(&mut ()).unwrap();
        });
        let (seed, address, remote) = hear.recv().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let rc = format!(
            r#"{{"secret": "{SECRET}", "seeds": ["{address}"], "binds": ["127.0.0.1:*"],
                "profile": {{"ruth": {{"nodeid": "ruth", "services": ["irc::"]}},
                             "doom": {{"nodeid": "doom", "services": ["irc::"]}}}}}}"#
        );
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600);
        file.open(directory.path().join("rc")).unwrap().write_all(rc.as_bytes()).unwrap();
        Self { directory, seed, remote }
    }

    /// Starts an example. They are built, beside the tests, when all tests are; one who asks for this test
    /// alone builds them first.
    pub(crate) fn run(&self, example: &str, arguments: &[&str]) -> Program {
        let test = env::current_exe().unwrap();
        let profile: PathBuf = test.ancestors().nth(2).unwrap().into();
        let path = profile.join("examples").join(example);
        let build = "cargo build -p ports --examples";
        assert!(path.exists(), "{} is not built: {build}", path.display());
        let mut child = Command::new(path)
            .args(arguments)
            .env("PERL_ANYEVENT_MP_RC", self.directory.path().join("rc"))
            .env("IRC_LISTEN", "127.0.0.1:0")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::of(BufReader::new(child.stdout.take().unwrap()), example);
        Program { keyboard: child.stdin.take().unwrap(), child, lines }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.remote.stop();
    }
}

/// An example that is running; it is killed in the end.
pub(crate) struct Program {
    child: Child,
    keyboard: ChildStdin,
    lines: Lines,
}

impl Program {
    /// Waits for a line with that in it, and returns what follows there. Other lines are passed over.
    pub(crate) fn says(&mut self, text: &str) -> String {
        self.lines.wait_for(text)
    }

    pub(crate) fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    /// As a crash or a pulled plug ends it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills the node that the program runs in a process of its own, as `aemp run` does.
    pub(crate) fn crash_node(&self) {
        let children = processes().into_iter().filter(|(_, parent)| *parent == self.child.id());
        for (child, _) in children {
            let kill = format!("kill -KILL {child}");
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        }
    }

    pub(crate) fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// All processes, each with its parent.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        let line = fs::read_to_string(path.join("stat")).ok()?;
        // Behind the name, which may hold anything: the state, then the parent.
        let parent = line.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((number, parent))
    };
    entries.filter_map(read).collect()
}

/// The lines that come from somewhere.
pub(crate) struct Lines {
    from: String,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    pub(crate) fn of(reader: impl BufRead + Send + 'static, from: &str) -> Self {
        let (send, lines) = channel();
        thread::spawn(move || {
            reader.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { from: from.to_owned(), lines, seen: Vec::new() }
    }

    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            match line {
                Ok(line) => {
                    if let Some((_, rest)) = line.split_once(text) {
                        return rest.to_owned();
                    }
                    self.seen.push(line);
                }
                Err(RecvTimeoutError::Timeout) => self.give_up("has not said", text),
                Err(RecvTimeoutError::Disconnected) => self.give_up("has ended and not said", text),
            }
        }
    }

    fn give_up(&self, what: &str, text: &str) -> ! {
        panic!("{} {what} {text:?}, but {:#?}", self.from, self.seen)
    }
}

const SECRET: &str = "of these tests";
/// How long something may take that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(120);
