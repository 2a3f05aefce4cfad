//! The configuration file: options as they are on the command line, written down once.
//!
//! TOML; each key is the long name of an option. What stands at the top holds for every command that has such an
//! option; what stands in a table named after a command, for that one. The command line comes first.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::cli::Cli;
use crate::failure::Failure;

/// What was asked for, on the command line and by the configuration file. Ends the program where
/// clap does: at `--help`, and at a command line that makes no sense.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, Failure> {
    let args: Vec<OsString> = args.collect();
    let given = Cli::command().get_matches_from(&args);
    let cli = Cli::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    let (path, is_wanted) = match &cli.config {
        Some(path) => (path.clone(), true),
        None => match usual_path() {
            Some(path) => (path, false),
            None => return Ok(cli),
        },
    };
    let text = match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_wanted => return Ok(cli),
        read => read.map_err(|error| Failure::at(&path, error))?,
    };
    let wrong = |why: String| Failure::Usage(format!("{}{why}", path.display()));
    with_file(&args, &given, &text).map_err(wrong)
}

/// What is wrong with the file.
struct Fault {
    /// The table that the key stands in; none if at the top.
    table: Option<String>,
    key: String,
    why: String,
}

impl Fault {
    fn at(table: Option<&str>, key: &str, why: String) -> Self {
        Self { table: table.map(str::to_owned), key: key.to_owned(), why }
    }

    /// What to say behind the name of the file: with the line, if the text has the key.
    fn told(&self, text: &str) -> String {
        at_line(text, self.place(text), &self.why)
    }

    fn place(&self, text: &str) -> Option<usize> {
        let whole = DeTable::parse(text).ok()?;
        let own = match &self.table {
            None => whole.get_ref(),
            Some(name) => match entry(whole.get_ref(), name)?.1 {
                DeValue::Table(own) => own,
                _ => return None,
            },
        };
        Some(entry(own, &self.key)?.0)
    }
}

/// Where a key stands in the text, and what it is.
fn entry<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<(usize, &'a DeValue<'i>)> {
    let (key, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some((key.span().start, value.get_ref()))
}

fn at_line(text: &str, place: Option<usize>, why: &str) -> String {
    match place.and_then(|at| text.get(..at)) {
        Some(before) => format!(", line {}: {why}", before.matches('\n').count() + 1),
        None => format!(": {why}"),
    }
}

/// The command line, and what the file adds to it. Else what is wrong with the file, and where.
fn with_file(args: &[OsString], given: &ArgMatches, text: &str) -> Result<Cli, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        at_line(text, error.span().map(|span| span.start), error.message())
    })?;
    merge(args, given, &table).map_err(|fault| fault.told(text))
}

fn merge(args: &[OsString], given: &ArgMatches, table: &Table) -> Result<Cli, Fault> {
    let program = Cli::command();
    let (name, of_command) = given.subcommand().expect("clap demands one");
    check_names(&program, table)?;
    let command = program.find_subcommand(name).expect("clap knows it");
    let own = table.get(name).and_then(Value::as_table);
    let mut added = Vec::new();
    for (key, value) in own.into_iter().flatten() {
        add(command, of_command, key, value, &mut added)
            .map_err(|why| Fault::at(Some(name), key, why))?;
    }
    let is_general = |key: &str| !own.is_some_and(|own| own.contains_key(key));
    for (key, value) in table.iter().filter(|(key, value)| !value.is_table() && is_general(key)) {
        add(command, of_command, key, value, &mut added)
            .map_err(|why| Fault::at(None, key, why))?;
    }
    let at = place_of(args, name);
    let whole = args[..at].iter().chain(&added).chain(&args[at..]);
    let refused = |error: clap::Error| {
        let key = key_of(&error).unwrap_or_default();
        let table = own.filter(|own| own.contains_key(&key)).map(|_| name);
        Fault::at(table, &key, first_line(&error))
    };
    let matches = Cli::command().try_get_matches_from(whole).map_err(refused)?;
    Cli::from_arg_matches(&matches).map_err(refused)
}

/// The option that clap does not take.
fn key_of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
    arg.strip_prefix("--")?.split([' ', '=']).next().map(str::to_owned)
}

/// Everything that is named must be an option of some command, or of the one that it is for.
fn check_names(program: &Command, table: &Table) -> Result<(), Fault> {
    let has = |key: &str| program.get_subcommands().any(|command| option(command, key).is_some());
    for (key, value) in table {
        if let Value::Table(own) = value {
            let command = program.find_subcommand(key).ok_or_else(|| {
                let why = format!("[{key}] is no command; `flotilla --help` lists them");
                Fault::at(None, key, why)
            })?;
            if let Some(wrong) = own.keys().find(|key| option(command, key).is_none()) {
                let advice = advice(wrong, key, |key| option(command, key).is_some());
                let why = format!("`{key}` has no option `{wrong}`; {advice}");
                return Err(Fault::at(Some(key), wrong, why));
            }
        } else if !has(key) {
            let advice = advice(key, "COMMAND", has);
            let why = format!("no command has an option `{key}`; {advice}");
            return Err(Fault::at(None, key, why));
        }
    }
    Ok(())
}

/// What to do about a key that is no option.
fn advice(key: &str, command: &str, is_option: impl Fn(&str) -> bool) -> String {
    let with_dashes = key.replace('_', "-");
    if is_option(&with_dashes) {
        return format!("write `{with_dashes}`");
    }
    format!("`flotilla {command} --help` lists them: long names, without the dashes before them")
}

/// Adds an option, unless the command line has it or one that does not go with it.
fn add(
    command: &Command,
    given: &ArgMatches,
    key: &str,
    value: &Value,
    added: &mut Vec<OsString>,
) -> Result<(), String> {
    let Some(arg) = option(command, key) else { return Ok(()) };
    let is_given =
        |arg: &Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let mut rivals = command.get_arg_conflicts_with(arg);
    rivals.extend(command.get_arguments().filter(|other| {
        command.get_arg_conflicts_with(other).iter().any(|rival| rival.get_id() == arg.get_id())
    }));
    if is_given(arg) || rivals.into_iter().any(is_given) {
        return Ok(());
    }
    let takes_value = arg.get_action().takes_values();
    match (takes_value, value) {
        (false, Value::Boolean(true)) => added.push(format!("--{key}").into()),
        (false, Value::Boolean(false)) => {}
        (false, _) => return Err(format!("`{key}` is true or false")),
        (true, Value::Array(values)) if matches!(arg.get_action(), ArgAction::Append) => {
            for value in values {
                added.push(format!("--{key}={}", text_of(key, value)?).into());
            }
        }
        (true, value) => added.push(format!("--{key}={}", text_of(key, value)?).into()),
    }
    Ok(())
}

fn text_of(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(format!("`{key}` is a text or a number"))
        }
    }
}

fn option<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(key))
}

/// Where the command's own arguments begin.
fn place_of(args: &[OsString], name: &str) -> usize {
    let mut is_value = false;
    let found = args.iter().skip(1).position(|arg| {
        let is_it = !is_value && arg == name;
        is_value = arg == "--config";
        is_it
    });
    found.map_or(args.len(), |at| at + 2)
}

/// What clap says, without its advice on usage.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// `$XDG_CONFIG_HOME/flotilla/config.toml`, or below `~/.config`.
fn usual_path() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(home.join("flotilla").join("config.toml"))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LEN_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LEN_MAX {
        return Err(io::Error::other("longer than 1 MiB: no configuration"));
    }
    Ok(text)
}

const LEN_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn parsed(line: &str, text: &str) -> Result<Cli, String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let given = Cli::command().try_get_matches_from(&args).map_err(|e| first_line(&e))?;
        with_file(&args, &given, text)
    }

    fn get(line: &str, text: &str) -> cli::Get {
        match parsed(line, text).expect("a command").command {
            cli::Command::Get(get) => get,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_at_the_top_is_for_all_commands_that_have_it() {
        let text = "max-peers = 7\nonly = ['*.iso', 'a']\nsequential = true\njson = false\n";
        let get = get("flotilla get x.torrent", text);
        assert_eq!((get.network.max_peers, get.sequential, get.network.json), (7, true, false));
        assert_eq!(get.only, ["*.iso", "a"]);
        assert!(parsed("flotilla show x.torrent", text).is_ok());
    }

    #[test]
    fn a_table_is_for_its_command_and_comes_before_what_is_for_all() {
        let text = "max-peers = 7\n[get]\nmax-peers = 8\n[seed]\nmax-peers = 9\n";
        assert_eq!(get("flotilla get x.torrent", text).network.max_peers, 8);
    }

    #[test]
    fn the_command_line_comes_first() {
        let text = "max-peers = 7\nseed = true\nonly = ['a']\n";
        let get = get("flotilla -v get --max-peers=3 --ratio 2 --only b x.torrent", text);
        assert_eq!((get.network.max_peers, get.ratio, get.seed), (3, Some(2.0), false));
        assert_eq!(get.only, ["b"]);
    }

    #[test]
    fn a_file_named_like_a_command_is_not_taken_for_it() {
        let get = get("flotilla --config get get get", "max-peers = 7");
        assert_eq!((get.network.max_peers, get.sources), (7, vec!["get".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("max-pears = 1", ", line 1: no command has an option `max-pears`; "),
            ("limit_up = 1", "; write `limit-up`"),
            ("\n[gett]\nseed = true", ", line 2: [gett] is no command; "),
            ("max-peers = 1\n[get]\n\ncomment = 'x'", ", line 4: `get` has no option `comment`; "),
            ("seed = true\nmax-peers = 'many'", ", line 2: invalid value 'many' for '--max-peers"),
            ("max-peers = 9\n[get]\nmax-peers = 0", ", line 3: invalid value '0' for '--max-peers"),
            ("\nmax-peers = true", ", line 2: `max-peers` is a text or a number"),
            ("seed = 1", ", line 1: `seed` is true or false"),
            ("\nseed = ", ", line 2: "),
            ("seed", ", line 1: "),
            ("seed = true\nseed = true", ", line 2: duplicate key"),
            ("ratio = 2\nseed = true", "cannot be used with"),
        ] {
            let error = parsed("flotilla get x.torrent", text).expect_err(text);
            assert!(error.contains(part), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
