//! A node at work: what it has, and what it does, each second.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use reactor::signal::{SIGINT, SIGTERM, SIGWINCH};
use reactor::{Interest, WatchGuard};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use super::arguments::Arguments;
use super::talk::{Slot, Talk};
use super::{Failure, output};
use crate::{List, NodeId, PeerStatistics, Statistics, Value, wire};

/// How long an answer may take.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// What is to be shown.
#[derive(Debug)]
pub(super) struct Options {
    node: Option<NodeId>,
    is_json: bool,
    interval: Option<Duration>,
}

impl Options {
    pub(super) fn read(arguments: &mut Arguments, is_json: bool) -> Result<Self, Failure> {
        let mut options = Self { node: None, is_json, interval: None };
        while !arguments.is_empty() {
            if arguments.take("--json") {
                options.is_json = true;
            } else if arguments.take("--interval") {
                let interval = arguments.seconds("SECONDS")?;
                options.interval = Some(interval.max(INTERVAL_MIN));
            } else if options.node.is_none() {
                options.node = Some(arguments.node()?);
            } else {
                return Err(arguments.wrong("it shows one node"));
            }
        }
        Ok(options)
    }
}

/// What someone at the terminal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Quit,
    /// The terminal has another size.
    Resized,
}

pub(super) async fn top(talk: &Talk, options: Options) -> Result<u8, Failure> {
    let node = match options.node {
        Some(node) => node,
        None => talk.reach_any().await?,
    };
    // The first answer comes before the screen is taken, so that an error can be read.
    let first = ask(talk, &node).await?;
    if options.is_json || !io::stdout().is_terminal() {
        plain(talk, &node, first, options.is_json, options.interval).await?;
    } else {
        watch(talk, &node, first, options.interval.unwrap_or(Duration::from_secs(1))).await?;
    }
    Ok(0)
}

/// Prints one answer, or one after the other.
async fn plain(
    talk: &Talk,
    node: &NodeId,
    mut statistics: Statistics,
    is_json: bool,
    interval: Option<Duration>,
) -> Result<(), Failure> {
    loop {
        if is_json {
            output::line(&Value::from(&statistics).to_string());
        } else {
            output::text_as_it_is(&page(&statistics, None, WIDTH_USUAL).join("\n"));
            output::line("");
        }
        let Some(interval) = interval else { return Ok(()) };
        if output::is_closed() {
            return Ok(());
        }
        talk.handle.sleep(interval).await;
        statistics = ask(talk, node).await?;
    }
}

/// Draws on the whole terminal until someone has seen enough.
async fn watch(
    talk: &Talk,
    node: &NodeId,
    first: Statistics,
    interval: Duration,
) -> Result<(), Failure> {
    let events = Slot::new();
    let _watching = listen(talk, &events).await?;
    let screen = Screen::take();
    let mut next = talk.handle.now();
    let (mut before, mut now): (Option<(Statistics, Instant)>, _) = (None, (first, next));
    loop {
        screen.draw(&now.0, before.as_ref().map(|(before, at)| (before, now.1 - *at)));
        // A node that was away for long is not asked for what was missed.
        next = (next + interval).max(talk.handle.now());
        loop {
            let wait = next.saturating_duration_since(talk.handle.now());
            match talk.handle.timeout(wait, events.wait()).await {
                Ok(Event::Quit) => return Ok(()),
                Ok(Event::Resized) => {
                    screen.draw(&now.0, before.as_ref().map(|(before, at)| (before, now.1 - *at)));
                }
                Err(_over) => break,
            }
        }
        let answer = ask(talk, node).await?;
        let is_same_run = answer.pid == now.0.pid;
        before = is_same_run.then_some(now);
        now = (answer, talk.handle.now());
        if output::is_closed() {
            return Ok(());
        }
    }
}

/// Has keys and signals told.
async fn listen(talk: &Talk, events: &Slot<Event>) -> Result<Vec<WatchGuard>, Failure> {
    let (made, events) = (Slot::new(), events.clone());
    let tell = made.clone();
    talk.node.with_reactor(move |_, reactor| {
        let signal = |reactor: &mut reactor::Reactor<()>, signal, event| {
            let events = events.clone();
            reactor.on_signal(signal, move |(), _| events.put(event))
        };
        let signals = [(SIGINT, Event::Quit), (SIGTERM, Event::Quit), (SIGWINCH, Event::Resized)];
        let guards = signals.map(|(number, event)| signal(reactor, number, event));
        let mut guards: io::Result<Vec<WatchGuard>> = guards.into_iter().collect();
        if io::stdin().is_terminal()
            && let Ok(guards) = &mut guards
        {
            let keys = reactor.watch(io::stdin(), Interest::Readable, move |readiness, (), _| {
                let mut bytes = [0; 64];
                let count = rustix::io::read(io::stdin(), &mut bytes).unwrap_or(0);
                if readiness.hung_up || bytes[..count].iter().any(|key| b"qQ\x03\x04".contains(key))
                {
                    events.put(Event::Quit);
                }
            });
            match keys {
                Ok(keys) => guards.push(keys),
                Err(error) => tracing::debug!("no keys: {error}"),
            }
        }
        tell.put(guards);
    });
    Ok(made.wait().await?)
}

async fn ask(talk: &Talk, node: &NodeId) -> Result<Statistics, Failure> {
    let values: List = talk.eval(node, "statistics", PATIENCE).await.map_err(|failure| {
        match failure.text.contains("no such command") {
            true => {
                Failure::failed(format!("{node} does not count: it knows no command 'statistics'"))
            }
            false => failure,
        }
    })?;
    let value = values.into_iter().next().unwrap_or_default();
    wire::from_value(value)
        .map_err(|error| Failure::failed(format!("{node} answers with something else: {error}")))
}

/// The terminal, while it is ours. Dropped, it is as it was before.
struct Screen {
    before: Option<Termios>,
}

impl Screen {
    fn take() -> Self {
        let before = termios::tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            // Keys come one by one, and do not show. Ctrl-C is a signal still.
            let mut modes = before.clone();
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            set(&modes);
        }
        // The other screen, without a cursor.
        output::text_as_it_is("\x1b[?1049h\x1b[?25l");
        Self { before }
    }

    fn draw(&self, statistics: &Statistics, before: Option<(&Statistics, Duration)>) {
        let size = termios::tcgetwinsize(io::stdout()).ok();
        let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        // Some terminals do not know theirs.
        let (width, height) =
            size.filter(|size| size.0 > 0 && size.1 > 0).unwrap_or((WIDTH_USUAL, 24));
        let mut lines = page(statistics, before, width);
        if lines.len() > height {
            let hidden = lines.len() - (height - 1);
            lines.truncate(height - 1);
            lines.push(format!("… and {hidden} more"));
        }
        let mut text = "\x1b[H".to_owned();
        for (index, line) in lines.iter().enumerate() {
            text += if index == 0 { "" } else { "\r\n" };
            text += line;
            // What stood there before.
            text += "\x1b[K";
        }
        text += "\x1b[J";
        output::text_as_it_is(&text);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        output::text_as_it_is("\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.before {
            set(before);
        }
    }
}

fn set(modes: &Termios) {
    if let Err(error) = termios::tcsetattr(io::stdin(), OptionalActions::Now, modes) {
        tracing::debug!("the terminal's modes cannot be set: {error}");
    }
}

/// All there is to see, line by line, none wider than that.
fn page(
    statistics: &Statistics,
    before: Option<(&Statistics, Duration)>,
    width: usize,
) -> Vec<String> {
    let Statistics { node, version, pid, ports, waiting, ready, families, entries, .. } =
        statistics;
    let memory = bytes(statistics.memory_bytes as f64);
    let up = time(statistics.uptime);
    let role = match &statistics.master {
        _ if statistics.is_global => "global".to_owned(),
        Some(master) => format!("asks {master}"),
        None => "asks nobody yet".to_owned(),
    };
    let handled = count(statistics.handled as f64);
    let rate = before.map(|(before, time)| rate(statistics.handled, before.handled, time));
    let rate = rate.map(|rate| format!(" ({}/s)", count(rate))).unwrap_or_default();
    let mut lines = vec![
        format!("{node}   up {up}   {memory}   pid {pid}   version {version}"),
        format!("ports {ports}   handled {handled}{rate}   waiting {waiting}   ready {ready}"),
        format!("database: {role}, families {families}, entries {entries}"),
        format!("listens on {}", statistics.listeners.join(" ")),
        String::new(),
        heading(before.is_some()),
    ];
    lines.extend(statistics.peers.iter().map(|peer| {
        let other = |(before, time): (&Statistics, Duration)| {
            let peer = before.peers.iter().find(|other| {
                // A new connection counts from the beginning.
                other.node == peer.node && other.uptime <= peer.uptime
            });
            (peer.cloned(), time)
        };
        row(peer, before.map(other))
    }));
    lines.iter().map(|line| cut(&output::printable(line), width)).collect()
}

fn heading(has_rates: bool) -> String {
    let unit = if has_rates { "/s" } else { "" };
    let columns = ["SENT", "RECV", "OUT B", "IN B"].map(|name| format!("{name}{unit}"));
    let [sent, received, out, into] = columns;
    format!(
        "{:<26} {:>7} {sent:>8} {received:>8} {out:>7} {into:>7} {:>5} {:>4}",
        "CONNECTED WITH", "UP", "WAITS", "MON"
    )
}

/// A line about another node: rates if there is something from before, else what was counted.
fn row(peer: &PeerStatistics, before: Option<(Option<PeerStatistics>, Duration)>) -> String {
    let number = |get: fn(&PeerStatistics) -> u64| match &before {
        None => get(peer) as f64,
        Some((before, time)) => rate(get(peer), before.as_ref().map_or(0, get), *time),
    };
    format!(
        "{:<26} {:>7} {:>8} {:>8} {:>7} {:>7} {:>5} {:>4}",
        cut(peer.node.as_str(), 26),
        peer.uptime.map_or_else(|| "-".to_owned(), time),
        count(number(|peer| peer.sent_messages)),
        count(number(|peer| peer.received_messages)),
        bytes(number(|peer| peer.sent_bytes)),
        bytes(number(|peer| peer.received_bytes)),
        bytes(peer.waiting_bytes as f64),
        count((peer.monitors + peer.monitors_here) as f64),
    )
}

fn rate(now: u64, before: u64, time: Duration) -> f64 {
    now.saturating_sub(before) as f64 / time.as_secs_f64().max(0.001)
}

/// At most `width` characters, the last of them a sign that there were more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A number in at most five characters.
fn count(number: f64) -> String {
    short(number, 1000.0, ["", "k", "M", "G"])
}

/// Bytes in at most five characters.
fn bytes(number: f64) -> String {
    short(number, 1024.0, ["", "K", "M", "G"])
}

fn short(mut number: f64, step: f64, units: [&str; 4]) -> String {
    let mut unit = 0;
    while number >= 999.5 && unit < units.len() - 1 {
        number /= step;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && number < 99.95);
    format!("{number:.decimals$}{}", units[unit])
}

/// A time in at most seven characters, the two greatest units of it.
fn time(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

/// How wide it is where no one knows.
const WIDTH_USUAL: usize = 80;

/// A node is not asked more often.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerStatistics {
        PeerStatistics {
            node: NodeId::new(name).unwrap(),
            uptime: Some(3700.0),
            sent_messages: 2_000,
            sent_bytes: 3 << 20,
            received_messages: 10,
            received_bytes: 100,
            waiting_bytes: 70_000,
            monitors: 1,
            monitors_here: 2,
        }
    }

    fn statistics() -> Statistics {
        Statistics {
            node: NodeId::new("one").unwrap(),
            version: "0.1.0".into(),
            pid: 7,
            uptime: 90061.0,
            memory_bytes: 12 << 20,
            listeners: vec!["127.0.0.1:4040".into()],
            ports: 3,
            handled: 1_234_567,
            waiting: 0,
            ready: 0,
            is_global: true,
            master: None,
            families: 2,
            entries: 3,
            peers: vec![peer("two"), peer(&"long".repeat(20))],
        }
    }

    #[test]
    fn a_page_fits_the_terminal() {
        let page = page(&statistics(), None, 80);
        assert_eq!(page[0], "one   up 1d01h   12.0M   pid 7   version 0.1.0");
        assert_eq!(
            page[6],
            "two                          1h01m     2.0k       10    3.0M     100 68.4K    3"
        );
        assert!(page.iter().all(|line| line.chars().count() <= 80), "{page:#?}");
        assert!(page[7].starts_with("longlonglonglonglonglongl… "));
    }

    #[test]
    fn rates_are_what_was_counted_since() {
        let before = statistics();
        let mut now = statistics();
        now.peers[0].sent_messages += 100;
        now.handled += 4000;
        let page = page(&now, Some((&before, Duration::from_secs(2))), 80);
        assert!(page[1].contains("(2.0k/s)"), "{}", page[1]);
        assert!(page[6].contains("      50        0 "), "{}", page[6]);
    }

    #[test]
    fn what_others_send_does_not_move_the_cursor() {
        let mut hostile = statistics();
        hostile.version = "\x1b[2J".into();
        assert!(!page(&hostile, None, 80).concat().contains('\x1b'));
    }

    #[test]
    fn numbers_and_times_are_short() {
        for (number, text) in
            [(0.0, "0"), (999.4, "999"), (999.6, "1.0k"), (99_960.0, "100k"), (1e12, "1000G")]
        {
            assert_eq!(count(number), text);
        }
        for (seconds, text) in [(0.9, "0s"), (61.0, "1m01s"), (3600.0, "1h00m"), (1e6, "11d13h")] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn statistics_are_a_value_and_back() {
        let value = Value::from(&statistics());
        assert_eq!(wire::from_value::<Statistics>(value).unwrap(), statistics());
    }
}
