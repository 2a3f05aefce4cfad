use std::io::{BufReader, Write};
use std::net::TcpStream;

use crate::world::{Lines, Program, World};

/// One who uses it, as with `nc` in a terminal.
struct User {
    stream: TcpStream,
    lines: Lines,
}

impl User {
    fn new(address: &str, nick: &str) -> Self {
        let mut user = Self::nameless(address, nick);
        user.says(&format!("NICK {nick}"));
        user.hears(&format!("NOTICE :you are {nick}"));
        user
    }

    fn nameless(address: &str, name: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        let lines = Lines::of(BufReader::new(stream.try_clone().unwrap()), name);
        Self { stream, lines }
    }

    fn says(&mut self, line: &str) {
        write!(self.stream, "{line}\r\n").unwrap();
    }

    fn hears(&mut self, text: &str) {
        self.lines.wait_for(text);
    }
}

/// A server by the name of its profile, and where it listens.
fn start(world: &World, profile: &str) -> (Program, String) {
    let mut server = world.run("irc", &["run", "profile", profile]);
    let address = server.says("irc: listening on ");
    (server, address)
}

#[test]
fn users_of_two_servers_are_in_one_network() {
    let world = World::new();
    let (_ruth, on_ruth) = start(&world, "ruth");
    let (mut doom, on_doom) = start(&world, "doom");
    let mut anna = User::new(&on_ruth, "anna");
    let mut bert = User::new(&on_doom, "bert");
    anna.says("JOIN #rust");
    anna.hears(":anna JOIN #rust");
    bert.says("JOIN #rust");
    anna.hears(":bert JOIN #rust");
    bert.hears(":anna JOIN #rust");
    anna.says("PRIVMSG #rust :hello, all");
    bert.hears(":anna PRIVMSG #rust :hello, all");
    bert.says("PRIVMSG anna :and hello to you");
    anna.hears(":bert PRIVMSG anna :and hello to you");

    let mut carl = User::new(&on_doom, "carl");
    carl.says("JOIN #rust");
    anna.hears(":carl JOIN #rust");
    carl.says("PART #rust");
    carl.hears(":carl PART #rust");
    anna.hears(":carl PART #rust");
    carl.says("JOIN #rust");
    anna.hears(":carl JOIN #rust");
    carl.says("QUIT");
    carl.hears("ERROR :goodbye");
    anna.hears(":carl PART #rust");

    doom.crash_node();
    anna.hears(":bert PART #rust");
    anna.says("PRIVMSG bert :are you there?");
    anna.hears("NOTICE :there is no bert");

    // It is started again, and the nick is free.
    let on_doom = doom.says("irc: listening on ");
    let mut bert = User::new(&on_doom, "bert");
    bert.says("JOIN #rust");
    bert.hears(":anna JOIN #rust");
    anna.hears(":bert JOIN #rust");

    // Without the process that looks after it, a node ends too.
    doom.kill();
    anna.hears(":bert PART #rust");
}

#[test]
fn a_nick_is_taken_in_all_of_the_network() {
    let world = World::new();
    let (_ruth, on_ruth) = start(&world, "ruth");
    let (_doom, on_doom) = start(&world, "doom");
    let mut anna = User::new(&on_ruth, "anna");
    anna.says("JOIN #rust");
    anna.hears(":anna JOIN #rust");
    let mut bert = User::new(&on_doom, "bert");
    // What is told by the same node later is known later: so is anna's nick when her channel is.
    bert.says("JOIN #rust");
    bert.hears(":anna JOIN #rust");
    let mut other = User::nameless(&on_doom, "the other anna");
    other.says("NICK anna");
    other.hears("NOTICE :anna is taken");
}

#[test]
fn of_two_who_take_a_nick_at_the_same_time_one_is_told_to_go() {
    let world = World::new();
    let (_ruth, on_ruth) = start(&world, "ruth");
    let mut anna = User::new(&on_ruth, "anna");
    // A user of a node that had not heard of anna yet.
    let claim =
        |node: &ports::Node| node.db_set("irc_nick", "anywhere#1", "anna").unwrap().detach();
    world.seed.post(claim).unwrap();
    anna.hears("ERROR :somebody else has that nick");
}

#[test]
fn nonsense_is_answered_and_a_line_too_long_ends_the_connection() {
    let world = World::new();
    let (_ruth, on_ruth) = start(&world, "ruth");
    let mut user = User::nameless(&on_ruth, "a user");
    for (line, answer) in [
        ("dance", "NOTICE :DANCE is no command"),
        ("JOIN #rust", "NOTICE :NICK first"),
        ("NICK a b", "NOTICE :a name is 1 to 30 letters"),
        ("NICK anna", "NOTICE :you are anna"),
        ("JOIN rust", "NOTICE :the name of a channel begins with #"),
        ("JOIN #a-b", "NOTICE :a name is 1 to 30 letters"),
        ("PRIVMSG #rust :x", "NOTICE :you are not in #rust"),
        ("PRIVMSG", "NOTICE :PRIVMSG to whom, and what?"),
        ("PING 123", "PONG 123"),
        ("\u{1b}[2JPING 4", "NOTICE :[2JPING is no command"),
    ] {
        user.says(line);
        user.hears(answer);
    }
    user.stream.write_all(&[b'x'; 10_000]).ok();
    let mut other = User::new(&on_ruth, "bert");
    other.says("PING 1");
    other.hears("PONG 1");
}
