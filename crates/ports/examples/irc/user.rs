//! A user: a port that writes what it is sent to a connection, and does what comes from there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::io::BufReader;
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use ports::{Entry, FamilyWatch, Inbox, Node, PortId, Reason};
use reactor::task::AsyncStream;
use serde::{Deserialize, Serialize};

use crate::server::NICKS;

/// What a user's port is sent, from any node.
#[derive(Serialize, Deserialize)]
pub(crate) enum ToUser {
    Line { text: String },
    End { why: String },
}

struct User {
    node: Node,
    port: PortId,
    nick: Option<Nick>,
    channels: BTreeMap<String, Channel>,
}

struct Nick {
    name: String,
    _entry: Entry,
}

/// A channel that the user is in: a group, whose members have their nicks as values.
struct Channel {
    members: Rc<RefCell<Members>>,
    _entry: Entry,
    _watch: FamilyWatch,
}

type Members = BTreeMap<PortId, String>;

/// Until the connection ends, or the user is told to go.
pub(crate) async fn serve(mut inbox: Inbox<ToUser>, stream: AsyncStream) -> Result<(), Reason> {
    inbox.set_max(QUEUE_MAX);
    let (node, port) = (inbox.node().clone(), inbox.this().clone());
    let user = User { node, port, nick: None, channels: BTreeMap::new() };
    or(user.read(&stream), write(inbox, &stream)).await
}

async fn write(mut inbox: Inbox<ToUser>, mut stream: &AsyncStream) -> Result<(), Reason> {
    let reactor = inbox.node().reactor().clone();
    loop {
        let (line, is_last) = match inbox.next().await {
            ToUser::Line { text } => (format!("{text}\r\n"), false),
            ToUser::End { why } => (format!("ERROR :{why}\r\n"), true),
        };
        reactor.timeout(PATIENCE, stream.write_all(line.as_bytes())).await??;
        if is_last {
            return Ok(stream.close().await?);
        }
    }
}

impl User {
    async fn read(mut self, stream: &AsyncStream) -> Result<(), Reason> {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await?;
            if !line.ends_with(b"\n") {
                // The end, or more than a line may have.
                return Ok(());
            }
            let text: String =
                String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control()).collect();
            let (command, args) = text.split_once(' ').unwrap_or((&text, ""));
            if let Err(complaint) = self.obey(&command.to_ascii_uppercase(), args) {
                self.hear(format!("NOTICE :{complaint}"));
            }
        }
    }

    fn obey(&mut self, command: &str, args: &str) -> Result<(), String> {
        match command {
            "NICK" => self.take_nick(args),
            "JOIN" => self.join(args),
            "PART" => self.part(args),
            "PRIVMSG" => self.say(args),
            "PING" => {
                self.hear(format!("PONG {args}"));
                Ok(())
            }
            "QUIT" => {
                self.node.send(&self.port, ToUser::End { why: "goodbye".to_owned() });
                Ok(())
            }
            "" => Ok(()),
            other => Err(format!("{other} is no command")),
        }
    }

    fn hear(&self, text: String) {
        self.node.send(&self.port, ToUser::Line { text });
    }

    fn nick(&self) -> Result<&str, String> {
        self.nick.as_ref().map(|nick| nick.name.as_str()).ok_or_else(|| "NICK first".to_owned())
    }

    fn take_nick(&mut self, name: &str) -> Result<(), String> {
        if self.nick.is_some() {
            return Err("a nick is for good".to_owned());
        }
        check_name(name)?;
        if find(&self.node, name).is_some() {
            return Err(format!("{name} is taken"));
        }
        let entry = self.node.db_reg(NICKS, &self.port, name).map_err(|error| error.to_string())?;
        self.nick = Some(Nick { name: name.to_owned(), _entry: entry });
        self.hear(format!("NOTICE :you are {name}"));
        Ok(())
    }

    fn join(&mut self, channel: &str) -> Result<(), String> {
        let (nick, family) = (self.nick()?, family_of(channel)?);
        if self.channels.contains_key(channel) {
            return Ok(());
        }
        if self.channels.len() == CHANNELS_MAX {
            return Err(format!("nobody is in more than {CHANNELS_MAX} channels"));
        }
        let entry =
            self.node.db_reg(&family, &self.port, nick).map_err(|error| error.to_string())?;
        let members = Rc::new(RefCell::new(Members::new()));
        let (shared, port, name) = (Rc::clone(&members), self.port.clone(), channel.to_owned());
        let watch = self.node.db_mon(&family.clone(), move |node, change| {
            let mut members = shared.borrow_mut();
            let hear =
                |text: String| node.send(&port, ToUser::Line { text: format!("{text} {name}") });
            for (member, nick) in named(node, &family, &change.added) {
                hear(format!(":{nick} JOIN"));
                members.insert(member, nick);
            }
            for member in change.deleted.iter().filter_map(|key| PortId::new(key).ok()) {
                let nick = members.remove(&member).unwrap_or_default();
                hear(format!(":{nick} PART"));
            }
        });
        let watch = watch.map_err(|error| error.to_string())?;
        self.channels.insert(channel.to_owned(), Channel { members, _entry: entry, _watch: watch });
        Ok(())
    }

    fn part(&mut self, channel: &str) -> Result<(), String> {
        let left = self.channels.remove(channel);
        left.ok_or_else(|| format!("you are not in {channel}"))?;
        self.hear(format!(":{} PART {channel}", self.nick()?));
        Ok(())
    }

    /// `NICK :TEXT` or `#CHANNEL :TEXT`.
    fn say(&self, args: &str) -> Result<(), String> {
        let (to, text) = args.split_once(' ').ok_or("PRIVMSG to whom, and what?")?;
        let text = text.strip_prefix(':').unwrap_or(text);
        let text = format!(":{} PRIVMSG {to} :{text}", self.nick()?);
        if !to.starts_with('#') {
            let user = find(&self.node, to).ok_or_else(|| format!("there is no {to}"))?;
            self.node.send(&user, ToUser::Line { text });
            return Ok(());
        }
        let channel = self.channels.get(to).ok_or_else(|| format!("you are not in {to}"))?;
        for member in channel.members.borrow().keys().filter(|member| **member != self.port) {
            self.node.send(member, ToUser::Line { text: text.clone() });
        }
        Ok(())
    }
}

/// Who has that nick, on whatever node.
fn find(node: &Node, nick: &str) -> Option<PortId> {
    node.db_look(NICKS, |nicks| {
        let (user, _) = nicks.iter().find(|(_, name)| name.as_str() == Some(nick))?;
        PortId::new(user).ok()
    })
}

/// The ports that keys of a channel are, with the nicks that are their values.
fn named(node: &Node, family: &str, keys: &[String]) -> Vec<(PortId, String)> {
    let name = |key: &String, nicks: &ports::Family| {
        Some((PortId::new(key).ok()?, nicks.get(key)?.as_str()?.to_owned()))
    };
    node.db_look(family, |nicks| keys.iter().filter_map(|key| name(key, nicks)).collect())
}

fn family_of(channel: &str) -> Result<String, String> {
    let name = channel.strip_prefix('#').ok_or("the name of a channel begins with #")?;
    check_name(name)?;
    Ok(format!("irc_channel:{name}"))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_name) {
        return Err(format!("a name is 1 to {NAME_MAX} letters, digits and _"));
    }
    Ok(())
}

/// The longest line, in bytes.
const LINE_MAX: u64 = 512;
/// The longest name of a user or channel.
const NAME_MAX: usize = 30;
/// How many lines may wait to be written to a user.
const QUEUE_MAX: usize = 1000;
const CHANNELS_MAX: usize = 20;
/// How long a line may take to be written.
const PATIENCE: Duration = Duration::from_secs(60);
