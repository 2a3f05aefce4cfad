//! The tool: settings of the file are shown and changed, nodes are run, asked and watched.
//!
//! `arguments` reads the command line, `command` is the table of all that can be done, `help` tells of it,
//! `edit` changes the file. What talks to other nodes stands in `talk`, with `shell`, `trace` and `top`
//! on top of it. A node runs in a process of its own (`run`), which another one looks after (`keeper`,
//! whose decisions are `watchdog`'s). Only `output` prints.

mod arguments;
mod command;
mod edit;
mod help;
mod keeper;
mod log;
mod output;
mod run;
mod shell;
mod talk;
mod top;
mod trace;
mod watchdog;

use std::process::ExitCode;
use std::time::Duration;

use self::arguments::Arguments;
use self::command::Verb;
use crate::Node;
use crate::config::{ConfigError, RcFile};

/// Does what the command line asks for, as `aemp` does, and returns with what the program is to end.
///
/// A program with services of its own is a tool for nodes too: `register` makes its functions, modules
/// and commands known, before the services start of the node that `run` runs.
///
/// ```no_run
/// use ports::{Context, List};
///
/// fn main() -> std::process::ExitCode {
///     ports::tool::main(|node| {
///         node.register("greeter::start", |context: &Context<'_>, _: List| {
///             println!("hello from {}", context.id());
///         });
///     })
/// }
/// ```
pub fn main(register: impl FnOnce(&Node) + 'static) -> ExitCode {
    let result = Arguments::of_process().and_then(|arguments| {
        if let Some(rest) = arguments.after(keeper::CHILD) {
            return run::child(rest, register);
        }
        let mut tool = Tool { file: None, profile: None, timeout: None, is_json: false };
        let result = tool.obey(arguments);
        // What failed changes nothing.
        result.and_then(|status| tool.save().map(|()| status))
    });
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            output::complain(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// Shows the program's log on its standard error, as the tool does: what is as serious as `level`, as
/// `warn`, or as `AE_VERBOSE` or `RUST_LOG` in the environment say. A program that has a log keeps it.
pub fn log(level: &str) {
    log::begin(level);
}

/// What a command line has asked for so far.
struct Tool {
    /// Read when it is first needed, so that help is there even if it is broken.
    file: Option<RcFile>,
    /// Which profile is changed; the global part if there is none.
    profile: Option<String>,
    /// How long to wait for answers: not at all if zero, as each command likes if there is none.
    timeout: Option<Duration>,
    is_json: bool,
}

/// Why something was not done.
#[derive(Debug)]
struct Failure {
    text: String,
    status: u8,
}

/// What Perl's `die` ends a program with.
const STATUS_DIED: u8 = 255;

/// When all was well asked, but the other side did not do it.
const STATUS_FAILED: u8 = 1;

impl Failure {
    fn died(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: STATUS_DIED }
    }

    fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: STATUS_FAILED }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::died(error.to_string())
    }
}

impl Tool {
    fn obey(&mut self, mut arguments: Arguments) -> Result<u8, Failure> {
        let Some(mut name) = arguments.next_command()? else {
            output::complain(&help::usage());
            return Ok(STATUS_DIED);
        };
        loop {
            let verb = Verb::find(&name).ok_or_else(|| help::unknown(&name))?;
            let status = self.act(&name, verb, &mut arguments)?;
            match arguments.next_command()? {
                Some(next) if status == 0 => name = next,
                Some(_) | None => return Ok(status),
            }
        }
    }

    fn act(&mut self, name: &str, verb: Verb, arguments: &mut Arguments) -> Result<u8, Failure> {
        arguments.begin(name);
        if arguments.take("--help") || arguments.take("-h") {
            help::show_one(name)?;
            return Ok(0);
        }
        match verb {
            Verb::Help => help::show(arguments)?,
            Verb::Version => output::line(concat!("aemp (ports) ", env!("CARGO_PKG_VERSION"))),
            Verb::Json => self.is_json = true,
            Verb::Timeout => {
                let seconds = arguments.seconds("SECONDS")?;
                self.timeout = Some(seconds);
            }
            Verb::Edit(edit) => self.edit(edit, arguments)?,
            Verb::Show(show) => self.show(show, arguments)?,
            Verb::Run => return self.run(arguments),
            Verb::Talk(asked) => {
                // It may take long, and needs what was set.
                self.save()?;
                return self.talk(asked, arguments);
            }
        }
        Ok(0)
    }

    /// The file, read at the first time.
    fn file(&mut self) -> Result<&mut RcFile, ConfigError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = RcFile::of_environment()?;
                warn_if_open(&file);
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn save(&mut self) -> Result<(), Failure> {
        match &mut self.file {
            Some(file) => Ok(file.save()?),
            None => Ok(()),
        }
    }
}

/// Others should not read what only nodes of the network may know.
fn warn_if_open(file: &RcFile) {
    use std::os::unix::fs::PermissionsExt;

    let Ok(metadata) = std::fs::metadata(file.path()) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    let sections = file.global().get("profile").and_then(|profiles| profiles.as_object());
    let has_secret = |values: &serde_json::Map<String, serde_json::Value>| {
        values.contains_key("secret") || values.contains_key("cert")
    };
    let profiles_have = sections
        .is_some_and(|all| all.values().any(|values| values.as_object().is_some_and(has_secret)));
    if mode & 0o077 != 0 && (has_secret(file.global()) || profiles_have) {
        let path = file.path().display();
        output::complain(&format!(
            "warning: {path} holds a secret, and others may read it (mode {mode:o}): chmod 600 {path}"
        ));
    }
}
