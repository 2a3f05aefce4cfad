//! What the tool says of itself.

use super::arguments::Arguments;
use super::command::{Command, FILE, KEYS, Key, NODES, WORDS};
use super::{Failure, output};

/// For someone who has typed the name and nothing else.
pub(super) fn usage() -> String {
    "Usage: aemp subcommand [arguments] [subcommand [arguments]]…\n\
     Try 'aemp help' for all subcommands, 'aemp help SUBCOMMAND' for one."
        .to_owned()
}

/// For someone who has mistyped one.
pub(super) fn unknown(name: &str) -> Failure {
    let name: String = name.chars().take(60).collect();
    Failure::died(format!("{name}: no such aemp command; 'aemp help' lists them all"))
}

/// Prints all commands, or all there is to say of one.
pub(super) fn show(arguments: &mut Arguments) -> Result<(), Failure> {
    if arguments.is_empty() {
        output::text_as_it_is(&all());
        return Ok(());
    }
    show_one(&arguments.text("COMMAND")?)
}

/// Prints all there is to say of a command.
pub(super) fn show_one(name: &str) -> Result<(), Failure> {
    output::line(&one(name).ok_or_else(|| unknown(name))?);
    Ok(())
}

fn all() -> String {
    let mut text = format!(
        "{}\n\nAbout nodes (the file says where to find them, for all or for the profile aemp):\n",
        usage()
    );
    text += &table(&NODES);
    text += "\nAbout the file with the settings, which is saved at the end:\n";
    text += &table(&FILE);
    text += "\nEach of these can be set ('setX VALUE', or 'X VALUE') and deleted ('delX'):\n";
    for key in &KEYS {
        text += &line(key.name, key.argument, key.help);
    }
    text += "\nIn general:\n";
    text += &table(&WORDS);
    text += EXAMPLES;
    text
}

const EXAMPLES: &str = "
A first network:
  aemp gensecret                         a secret; copy the file to all nodes
  aemp run nodeid one binds '*:4040'     a node that others find ...
  aemp seeds 127.0.0.1:4040              ... here
  aemp top                               what it does
  aemp eval one help                     what it can be asked for
  aemp snd 'one#PORT' hello 1 '[2,3]'    a message: texts, and JSON

The file is ~/.perl-anyevent-mp, or what PERL_ANYEVENT_MP_RC says.
PERL_ANYEVENT_MP_TRACE=1 shows messages, AE_VERBOSE=8 what goes on.
";

fn table(commands: &[Command]) -> String {
    commands.iter().map(|command| line(command.name, command.arguments, command.help)).collect()
}

/// What there is to say of one, beside its name or below it.
fn line(name: &str, arguments: &str, help: &str) -> String {
    let left = format!("  {name} {arguments}");
    let mut text = format!("{:<INDENT$}", left.trim_end());
    if left.chars().count() > INDENT {
        text += &format!("\n{:INDENT$}", "");
    }
    let mut column = INDENT;
    for (index, word) in help.split(' ').enumerate() {
        let len = word.chars().count();
        if column + 1 + len > WIDTH {
            text += &format!("\n{:INDENT$}", "");
            column = INDENT;
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += len;
    }
    text.push('\n');
    text
}

/// Where explanations begin, and where lines end.
const INDENT: usize = 26;
const WIDTH: usize = 80;

fn one(name: &str) -> Option<String> {
    if let Some(command) = Command::find(name.trim_start_matches("--")) {
        let head = format!("aemp {} {}", command.name, command.arguments);
        let text = format!("{}\n{}.{}", head.trim_end(), command.help, details(command.name));
        return Some(text.trim_end().to_owned());
    }
    let bare = name.strip_prefix("set").or_else(|| name.strip_prefix("del")).unwrap_or(name);
    let Key { name, argument, help } = KEYS.iter().find(|key| key.name == bare)?;
    let alias = if Command::find(name).is_some() { "" } else { ", or without the 'set'" };
    Some(format!(
        "aemp set{name} {argument}\n    sets it{alias}\naemp del{name}\n    deletes it, so that it is inherited again\n{help}."
    ))
}

fn details(name: &str) -> &'static str {
    match name {
        "run" => {
            "\nIt runs until Ctrl-C or SIGTERM. A node that ends by itself, or is not heard of
for 300 seconds, is started anew, later and later; on SIGHUP at once, with what
the file says by then. What stands in the file beats the arguments, unless
'force 1' is among them; 'norc 1' ignores the file.
RUST_LOG or AE_VERBOSE (0 to 9) say how much is logged."
        }
        "restart" => "\nExit status 1 if the node is not there, or was not started by 'run'.",
        "snd" => {
            "\nExit status 1 if there is no such port, or if it ends for that message.
It takes 5 seconds at most: see 'timeout'."
        }
        "cal" => {
            "\nThe port to answer to goes last in the message. Values of the answer are printed
as JSON, with commas. Without an answer the exit status is 1.
It takes 5 seconds at most: see 'timeout'."
        }
        "mon" => {
            "\nThe reason is printed as JSON, with commas; after a normal end it is empty.
Exit status 1 if there is no such port, or the node cannot be reached."
        }
        "eval" => {
            "\nResults are printed as JSON, with commas. Exit status 255 if the node refuses,
1 if it does not answer within 5 seconds: see 'timeout'."
        }
        "shell" => {
            "\nEach line is a command for the node. Besides there are
  =            lists nodes
  =NODE        talks to that node from now on
  $ECHO        in a line: a port of the shell that prints what it is sent
  package P    goes before each line from now on, for nodes in Perl
  quit         ends it, as does the end of the input"
        }
        "trace" => {
            "\nA node that does not answer within 15 seconds is named; then the exit status\nis 1."
        }
        "top" => {
            "\nEvery second, until q or Ctrl-C. Without a terminal, or with --json, it prints
once what was counted since the connections came up; with --interval again and
again."
        }
        "profile" => {
            "\nWithout it, what is set holds for all profiles that do not set it themselves."
        }
        "showconfig" => "\nWithout a NAME the profile is that of the machine's name (uname -n).",
        "timeout" => "\nIt stands before the command: aemp timeout 60 cal PORT hello",
        "json" => "\nIt stands before the command: aemp --json mon PORT",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for line in all().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn each_command_has_a_line_and_a_page() {
        let all = all();
        for command in NODES.iter().chain(&FILE).chain(&WORDS) {
            assert!(all.contains(&format!("\n  {} ", command.name)), "{}", command.name);
            let page = one(command.name).unwrap();
            assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        }
        for key in &KEYS {
            assert!(one(&format!("del{}", key.name)).is_some());
        }
    }
}
