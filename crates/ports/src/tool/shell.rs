//! Commands for nodes, line by line, from a terminal or a pipe.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Read};
use std::time::Duration;

use super::talk::{Talk, pretty};
use super::{Failure, STATUS_FAILED, output};
use crate::{List, NodeId, Value};

/// How long an answer may take.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// No line has more bytes.
const LINE_MAX: u64 = 1 << 20;

const HELP: &str = "\
=            lists nodes
=NODE        talks to that node from now on
$ECHO        in a line: a port of this shell, which prints what it is sent
package P    goes before each line from now on, for nodes in Perl
quit         ends this, as does Ctrl-D
Everything else goes to the node, which knows:";

/// What the shell remembers from line to line.
struct Shell<'a> {
    talk: &'a Talk,
    node: NodeId,
    echo: String,
    package: Option<String>,
}

pub(super) async fn shell(talk: &Talk, node: Option<NodeId>) -> Result<u8, Failure> {
    let node = match node {
        Some(node) => {
            talk.reach(&node, PATIENCE).await?;
            node
        }
        None => talk.reach_any().await?,
    };
    let echo = talk.listener(|message: &List| {
        output::line(&format!("$ECHO: {}", Value::List(message.clone())));
    });
    let mut shell = Shell { talk, node, echo: echo.to_string(), package: None };
    let is_terminal = io::stdin().is_terminal();
    let mut status = 0;
    while !output::is_closed() {
        if is_terminal {
            output::text_as_it_is(&format!("{}> ", shell.node));
        }
        // The loop goes on while we wait, so that messages to $ECHO show.
        let read = talk.handle.unblock(read_line).await?;
        let Some(line) = read? else { break };
        match line.trim() {
            "" => {}
            "quit" | "exit" => break,
            line => {
                if let Err(failure) = shell.obey(line).await {
                    output::complain(&failure.text);
                    // Someone at a terminal has seen it.
                    status = if is_terminal { 0 } else { STATUS_FAILED };
                }
            }
        }
    }
    if is_terminal {
        output::line("");
    } else if let Err(failure) = talk.catch_up(&shell.node).await {
        output::complain(&failure.text);
        status = STATUS_FAILED;
    }
    Ok(status)
}

impl Shell<'_> {
    async fn obey(&mut self, line: &str) -> Result<(), Failure> {
        if let Some(name) = line.strip_prefix('=') {
            return match name.trim() {
                "" => self.list_nodes().await,
                name => self.switch(name).await,
            };
        }
        if let Some(package) = line.strip_prefix("package ") {
            let package = package.trim().trim_end_matches(';');
            self.package = (package != "main").then(|| package.to_owned());
            return Ok(());
        }
        if line == "help" {
            output::line(HELP);
            for text in self.talk.eval(&self.node, line, PATIENCE).await? {
                output::line(&output::printable(text.as_str().unwrap_or_default()));
            }
            return Ok(());
        }
        let line = line.replace("$ECHO", &self.echo);
        let line = match &self.package {
            Some(package) => format!("package {package}; {line}"),
            None => line,
        };
        let values = self.talk.eval(&self.node, &line, PATIENCE).await?;
        if !values.is_empty() {
            output::line(&pretty(&values));
        }
        Ok(())
    }

    async fn switch(&mut self, name: &str) -> Result<(), Failure> {
        let node = NodeId::new(name)?;
        self.talk.reach(&node, PATIENCE).await?;
        self.node = node;
        Ok(())
    }

    /// Those that we know of, and those that the node knows of.
    async fn list_nodes(&self) -> Result<(), Failure> {
        let known = self.talk.eval(&self.node, crate::node::standard::UP_NODES, PATIENCE).await?;
        let known = known.iter().filter_map(|id| id.as_str().map(str::to_owned));
        let ours = self.talk.node.up_nodes();
        let mut all: BTreeSet<String> = known.chain(ours.iter().map(ToString::to_string)).collect();
        all.remove(self.talk.node.id().as_str());
        for id in all {
            let mark = if id == self.node.as_str() { '*' } else { ' ' };
            output::line(&format!("{mark} {id}"));
        }
        Ok(())
    }
}

/// Waits for a line; `None` at the end of the input.
fn read_line() -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(LINE_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.len() as u64 == LINE_MAX {
        return Err(io::Error::other(format!("a line of more than {LINE_MAX} bytes")));
    }
    Ok((!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}
