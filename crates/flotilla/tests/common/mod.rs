//! The built program, run as a person would run it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder to work in, with made-up files and a torrent of them.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
}

/// A piece across three files, an empty one, and a name beyond ASCII.
pub(crate) const FILES: [(&str, usize); 5] =
    [("a.bin", 300_000), ("tiny", 7), ("empty", 0), ("ünï/cödé 漢字.dat", 1_200_001), ("z", 100)];

impl Fixture {
    /// `payload/` with files in it.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, len) in FILES {
            let path = dir.path().join("payload").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, made_up(len)).unwrap();
        }
        // Nothing is to leave this machine, and the tests beside this one, whose torrents are the same, are not to be met.
        let config = dir.path().join("config/flotilla");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("config.toml"), "no-nat = true\nno-dht = true\nno-lsd = true\n")
            .unwrap();
        Self { dir }
    }

    /// And `payload.torrent`.
    pub(crate) fn with_torrent() -> Self {
        let fixture = Self::new();
        fixture.run(&["create", "payload", "--piece-size", "64K"]).assert_status(0);
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
        command
            .current_dir(self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .args(arguments);
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs it beside us, telling what happens in JSON.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut child =
            self.command(arguments).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    /// Seeds `payload`; returns the address as well.
    pub(crate) fn seed(&self, more: &[&str]) -> (Running, String) {
        let arguments = [
            "seed",
            "payload",
            "-t",
            "payload.torrent",
            "--port",
            "0",
            "--bind",
            "127.0.0.1",
            "--no-state",
        ];
        let mut seeder = self.start(&[&arguments, more].concat());
        let listening = seeder.wait_for("listening");
        seeder.wait_for("completed");
        (seeder, listening["addrs"][0].as_str().unwrap().to_owned())
    }

    pub(crate) fn assert_has_payload(&self, dir: &str) {
        for (path, len) in FILES {
            let copy = fs::read(self.path(dir).join("payload").join(path)).unwrap();
            assert!(copy == made_up(len), "{path} differs");
        }
    }
}

/// Bytes that do not repeat soon, the same each time.
pub(crate) fn made_up(len: usize) -> Vec<u8> {
    let mut rng = torrent::Rng::from_seed(len as u64);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// What came of a run.
pub(crate) struct Ran(Output);

impl Ran {
    #[track_caller]
    pub(crate) fn assert_status(&self, status: i32) -> &Self {
        assert_eq!(self.0.status.code(), Some(status), "{}\n{}", self.out(), self.err());
        self
    }

    /// Asserts that it failed with a clear word: one that names `what`, and is no panic.
    #[track_caller]
    pub(crate) fn assert_complains(&self, status: i32, what: &str) -> &Self {
        self.assert_status(status);
        assert!(self.err().contains(what), "{what:?} is not in {}", self.err());
        assert!(!self.err().contains("panicked"), "{}", self.err());
        self
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// A run under way. Killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    /// Reads until an event of this name.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, event: &str) -> Value {
        self.wait_until(|value| value["event"] == event)
    }

    /// Reads until an event that `is_it`.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            let count = self.lines.read_line(&mut line).unwrap();
            assert!(count > 0, "it ended; before: {before}");
            let value: Value = serde_json::from_str(&line).unwrap();
            if is_it(&value) {
                return value;
            }
            before += &line;
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it ends; returns its exit status.
    pub(crate) fn end(&mut self) -> Option<i32> {
        // A full pipe would keep it from ending.
        while self.lines.read_line(&mut String::new()).unwrap() > 0 {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}
