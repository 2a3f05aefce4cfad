//! All that the tool can be asked for.

/// What a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Help,
    Version,
    /// What follows is printed as JSON.
    Json,
    /// How long what follows may take.
    Timeout,
    Run,
    Talk(Talk),
    Edit(Edit),
    Show(Show),
}

/// What is asked of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Talk {
    Send,
    Call,
    Monitor,
    Eval,
    Shell,
    Trace,
    Restart,
    Top,
}

/// Changes to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Set(&'static str),
    Delete(&'static str),
    Add(&'static str),
    Remove(&'static str),
    MakeSecret,
    MakeCertificate,
    Profile,
    DeleteProfile,
}

/// What is shown of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Profile,
    Config,
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    pub(super) help: &'static str,
    pub(super) verb: Verb,
}

/// A key of the file that can be set and deleted.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) argument: &'static str,
    pub(super) help: &'static str,
}

const fn command(
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    verb: Verb,
) -> Command {
    Command { name, arguments, help, verb }
}

/// Commands about nodes.
pub(super) const NODES: [Command; 9] = [
    command(
        "run",
        "[PROFILE] [KEY VALUE]…",
        "run a node here, and start it anew if it fails",
        Verb::Run,
    ),
    command("restart", "NODE", "have a node that 'run' runs start anew", Verb::Talk(Talk::Restart)),
    command(
        "snd",
        "PORT VALUE…",
        "send a message, and see that it arrives",
        Verb::Talk(Talk::Send),
    ),
    command("cal", "PORT VALUE…", "send a message, and print the answer", Verb::Talk(Talk::Call)),
    command(
        "mon",
        "PORT",
        "wait until a port or node ends, and print why",
        Verb::Talk(Talk::Monitor),
    ),
    command(
        "eval",
        "NODE COMMAND…",
        "have a node do a command: 'eval NODE help' lists them",
        Verb::Talk(Talk::Eval),
    ),
    command("shell", "[NODE]", "the same, line by line", Verb::Talk(Talk::Shell)),
    command(
        "trace",
        "NODE",
        "print who is connected with whom, beginning with a node",
        Verb::Talk(Talk::Trace),
    ),
    command(
        "top",
        "[NODE] [--json] [--interval SECONDS]",
        "watch a node at work",
        Verb::Talk(Talk::Top),
    ),
];

/// Commands about the file, besides those of its keys.
pub(super) const FILE: [Command; 12] = [
    command(
        "profile",
        "NAME",
        "what follows changes that profile; made if needed",
        Verb::Edit(Edit::Profile),
    ),
    command("delprofile", "NAME", "delete a profile", Verb::Edit(Edit::DeleteProfile)),
    command("showprofile", "NAME", "print what a profile itself sets", Verb::Show(Show::Profile)),
    command(
        "showconfig",
        "[NAME [KEY VALUE]…]",
        "print what holds for a node of that profile",
        Verb::Show(Show::Config),
    ),
    command("gensecret", "", "set a new random secret", Verb::Edit(Edit::MakeSecret)),
    command("gencert", "", "set a new key and certificate", Verb::Edit(Edit::MakeCertificate)),
    command("addseed", "ADDRESS", "add one to the seeds", Verb::Edit(Edit::Add("seeds"))),
    command("delseed", "ADDRESS", "take one from the seeds", Verb::Edit(Edit::Remove("seeds"))),
    command("addbind", "ADDRESS", "add one to the binds", Verb::Edit(Edit::Add("binds"))),
    command("delbind", "ADDRESS", "take one from the binds", Verb::Edit(Edit::Remove("binds"))),
    command("addservice", "SERVICE", "add one to the services", Verb::Edit(Edit::Add("services"))),
    command(
        "delservice",
        "SERVICE",
        "take the first such one from the services",
        Verb::Edit(Edit::Remove("services")),
    ),
];

/// Words that say how.
pub(super) const WORDS: [Command; 4] = [
    command("help", "[COMMAND]", "print what there is, or what a command does", Verb::Help),
    command("version", "", "print which version this is", Verb::Version),
    command("json", "", "what follows prints JSON (also --json)", Verb::Json),
    command(
        "timeout",
        "SECONDS",
        "what follows waits so long for answers; 0 is for ever",
        Verb::Timeout,
    ),
];

const fn key(name: &'static str, argument: &'static str, help: &'static str) -> Key {
    Key { name, argument, help }
}

/// Each has a command to set it and one to delete it.
pub(super) const KEYS: [Key; 16] = [
    key("nodeid", "ID", "the node's name; %n is the machine's, %u and a last / something unique"),
    key("secret", "SECRET", "what all nodes of the network share; '-' reads it from the input"),
    key("cert", "FILE", "key and certificates in PEM, read now; with them nodes use TLS"),
    key("seeds", "LIST", "where to find other nodes: host:port,host:port"),
    key("binds", "LIST", "where to listen: host:port,*:port"),
    key("services", "LIST", "what a node starts: module::,module::function,exec:PROGRAM"),
    key("parent", "PROFILE", "the profile that sets what this one does not"),
    key("monitor_timeout", "SECONDS", "how long a silent handshake may take"),
    key("connect_interval", "SECONDS", "how long an attempt to connect may take"),
    key("framing_format", "LIST", "how messages are written, best first: cbor,json"),
    key("auth_offer", "LIST", "how we may prove who we are: tls_sha3_512,hmac_sha3_512"),
    key("auth_accept", "LIST", "how others may: those, tls_anon,cleartext"),
    key("autocork", "0 or 1", "whether small messages may wait for one another"),
    key("nodelay", "0 or 1", "whether TCP may not wait"),
    key("secure", "0 or 1", "whether other nodes may call nothing here"),
    key("eval", "COMMAND", "a command that the node does when it has started"),
];

impl Verb {
    /// The command of that name. `setX` is also `X`, unless `X` is a command.
    pub(super) fn find(name: &str) -> Option<Self> {
        match name {
            "--help" | "-h" => return Some(Self::Help),
            "--version" | "-V" => return Some(Self::Version),
            "--json" => return Some(Self::Json),
            _ => {}
        }
        if let Some(found) = Command::find(name) {
            return Some(found.verb);
        }
        let key = |name: &str| KEYS.iter().find(|key| key.name == name).map(|key| key.name);
        if let Some(key) = name.strip_prefix("set").and_then(key) {
            return Some(Self::Edit(Edit::Set(key)));
        }
        if let Some(key) = name.strip_prefix("del").and_then(key) {
            return Some(Self::Edit(Edit::Delete(key)));
        }
        key(name).map(|key| Self::Edit(Edit::Set(key)))
    }
}

impl Command {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        NODES.iter().chain(&FILE).chain(&WORDS).find(|command| command.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_can_be_set_and_deleted() {
        for key in &KEYS {
            let set = Some(Verb::Edit(Edit::Set(key.name)));
            assert_eq!(Verb::find(&format!("set{}", key.name)), set);
            assert_eq!(
                Verb::find(&format!("del{}", key.name)),
                Some(Verb::Edit(Edit::Delete(key.name)))
            );
            if key.name != "eval" {
                assert_eq!(Verb::find(key.name), set);
            }
        }
        assert_eq!(Verb::find("eval"), Some(Verb::Talk(Talk::Eval)));
        for name in ["", "set", "del", "setfoo", "setversion", "addsecret"] {
            assert_eq!(Verb::find(name), None, "{name}");
        }
    }
}
