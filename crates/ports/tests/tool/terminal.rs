//! `top` on a terminal, which is as it was before when that has ended.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::home::{Home, until};

/// A terminal, as a person has it: what is on it, and keys.
struct Terminal {
    person: File,
    program: OwnedFd,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap();
        let program = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&program, size).unwrap();
        let person = File::from(person);
        let seen: Arc<Mutex<String>> = Arc::default();
        let (screen, mut reader) = (Arc::clone(&seen), person.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                screen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { person, program, seen }
    }

    fn end_for_program(&self) -> Stdio {
        self.program.try_clone().unwrap().into()
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    fn wait_for(&self, text: &str) {
        until(|| self.seen().contains(text), || format!("no {text:?} in {:?}", self.seen()));
    }

    fn shows_what_is_typed(&self) -> bool {
        let modes = tcgetattr(&self.program).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }
}

#[test]
fn top_takes_the_terminal_and_gives_it_back() {
    let home = Home::new();
    let _node = home.run("one");
    for by_key in [true, false] {
        let mut terminal = Terminal::new();
        let mut top = home
            .command(&["timeout", "120", "top", "--interval", "0.1"])
            .stdin(terminal.end_for_program())
            .stdout(terminal.end_for_program())
            .spawn()
            .unwrap();
        // Rates come with the second page.
        terminal.wait_for("SENT/s");
        assert!(terminal.seen().contains("\x1b[?1049h"));
        assert!(!terminal.shows_what_is_typed());
        if by_key {
            terminal.person.write_all(b"q").unwrap();
        } else {
            kill_process(Pid::from_child(&top), Signal::INT).unwrap();
        }
        assert!(top.wait().unwrap().success());
        assert!(terminal.shows_what_is_typed());
        terminal.wait_for("\x1b[?25h\x1b[?1049l");
    }
}

#[test]
fn a_node_that_goes_away_ends_top_and_the_terminal_is_as_before() {
    let home = Home::new();
    let node = home.run("one");
    let terminal = Terminal::new();
    let top = home
        .command(&["timeout", "15", "top", "--interval", "0.1"])
        .stdin(terminal.end_for_program())
        .stdout(terminal.end_for_program())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    terminal.wait_for("SENT/s");
    drop(node);
    let ended = top.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("one"));
    assert!(terminal.shows_what_is_typed());
    terminal.wait_for("\x1b[?1049l");
}

#[test]
fn the_shell_has_a_prompt_on_a_terminal() {
    let home = Home::new();
    let _node = home.run("one");
    let mut terminal = Terminal::new();
    let mut shell = home
        .command(&["timeout", "120", "shell"])
        .stdin(terminal.end_for_program())
        .stdout(terminal.end_for_program())
        .spawn()
        .unwrap();
    terminal.wait_for("one> ");
    terminal.person.write_all(b"echo \"sesame\"\n").unwrap();
    terminal.wait_for("\n\"sesame\"\r\n");
    terminal.person.write_all(b"quit\n").unwrap();
    assert!(shell.wait().unwrap().success());
}
