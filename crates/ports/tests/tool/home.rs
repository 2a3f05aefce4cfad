//! Somebody's home: a file with settings, the tool, and the nodes that it runs.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tempfile::TempDir;

/// Longer than any machine takes for anything here.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Home {
    folder: TempDir,
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("rc")
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    pub(crate) fn read(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.read()).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aemp"));
        command.args(args).env("PERL_ANYEVENT_MP_RC", self.file()).env("HOME", self.folder.path());
        for name in ["RUST_LOG", "AE_VERBOSE", "PERL_ANYEVENT_VERBOSE", "AE_MP_TRACE"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn aemp(&self, args: &[&str]) -> Outcome {
        self.aemp_with_input(args, "")
    }

    pub(crate) fn aemp_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It need not read it.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        Outcome {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What is printed by a command that does well.
    pub(crate) fn out(&self, args: &[&str]) -> String {
        let outcome = self.aemp(args);
        assert_eq!(outcome.status, 0, "{args:?}: {outcome:?}");
        outcome.out
    }

    /// Does something that talks, with all the time in the world.
    pub(crate) fn talk(&self, args: &[&str]) -> Outcome {
        self.aemp(&[&["timeout", "120"], args].concat())
    }

    /// Runs a node that the tool finds.
    pub(crate) fn run(&self, name: &str) -> Running {
        loop {
            let address =
                TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let mut command = self.command(&["run", "nodeid", name, "binds", &address]);
            self.out(&["secret", "geheim", "seeds", &address]);
            let running = Running::start(command.env("AE_VERBOSE", "7"));
            // Somebody else may have taken the address.
            let is_taken = || running.log().contains("cannot listen");
            until(|| is_taken() || running.log().contains("starting up"), || running.log());
            if !is_taken() {
                return running;
            }
        }
    }

    /// The process of a node, when it answers.
    pub(crate) fn pid_of(&self, node: &str) -> i32 {
        let outcome = self.talk(&["eval", node, "statistics"]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let statistics: Json = serde_json::from_str(&outcome.out).unwrap();
        statistics["pid"].as_i64().unwrap() as i32
    }
}

/// A tool that goes on, as with `run`.
pub(crate) struct Running {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, err) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        until(|| self.log().contains(text), || format!("no '{text}' in {}", self.log()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until(
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || "it does not end".to_owned(),
        );
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A node ends with its keeper.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Waits until something is so, or says why it never was.
pub(crate) fn until(mut is_so: impl FnMut() -> bool, why: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{}", why());
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn is_there(pid: i32) -> bool {
    rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}
