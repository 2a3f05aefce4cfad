//! What the loop's time goes to: calls by the kind of handler and what it was called for.
//!
//! The clocks here are the real ones even in a simulated world: what a call costs is a matter of the
//! machine, not of the story, and nothing that is decided depends on it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Histogram;

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// A connection was made.
    Connected,
    /// There is something to read.
    Readable,
    /// There is room to write.
    Writable,
    /// What was queued has gone out.
    Drained,
    /// Too much is queued.
    Full,
    /// A connection is over.
    Closed,
    /// A listener has a new connection.
    Accepted,
    /// Datagrams came.
    Datagrams,
    /// A timer was due.
    Timer,
    /// Another thread posted it.
    Post,
    /// It runs at the end of every turn.
    Hook,
    /// A descriptor that is watched became ready.
    Watch,
    /// The process got a signal.
    Signal,
    /// A task went on.
    Task,
}

/// The calls of one kind for one thing. A call made within another counts in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileRow {
    /// How many there were.
    pub calls: u64,
    /// How long they took, all together.
    pub wall: Duration,
    /// How long the processor worked at them. Where this is far less than `wall`, they waited for
    /// something, or the machine has other work.
    pub cpu: Duration,
    /// How long the longest took.
    pub longest: Duration,
}

/// What the loop's time went to. It prints as a table, the most costly rows first.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    rows: BTreeMap<(&'static str, Phase), ProfileRow>,
    lag: Histogram,
}

/// A call that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// The type of what was called.
    pub kind: &'static str,
    /// What it was called for.
    pub phase: Phase,
    /// How long it took.
    pub wall: Duration,
}

/// Measures calls, for a profile, for a watch on slow ones, or for both; else it costs one branch.
#[derive(Debug, Default)]
pub(crate) struct Profiler {
    /// Whether there is a reason to measure: the profile or the threshold.
    is_on: bool,
    is_recording: bool,
    slow_over: Option<Duration>,
    profile: Profile,
}

/// When a call began.
#[derive(Debug)]
pub(crate) struct Started {
    wall: Instant,
    /// Only a profile needs it, and it costs a system call.
    cpu: Option<Duration>,
}

impl Profiler {
    /// Begins anew with an empty profile.
    pub(crate) fn enable(&mut self) {
        self.profile = Profile::default();
        self.is_recording = true;
        self.is_on = true;
    }

    /// Ends recording; the profile stays as it is.
    pub(crate) fn disable(&mut self) {
        self.is_recording = false;
        self.is_on = self.slow_over.is_some();
    }

    /// Has [`end`](Self::end) report calls that take longer, with or without a profile.
    pub(crate) fn set_slow(&mut self, threshold: Option<Duration>) {
        self.slow_over = threshold;
        self.is_on = self.is_recording || threshold.is_some();
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    pub(crate) const fn data(&self) -> &Profile {
        &self.profile
    }

    /// Just before a call. `None` if nobody wants to know.
    pub(crate) fn begin(&self) -> Option<Started> {
        if !self.is_on {
            return None;
        }
        let cpu = self.is_recording.then(thread_cpu_time);
        Some(Started { wall: Instant::now(), cpu })
    }

    /// Just after it. Tells of it if it was too long.
    pub(crate) fn end(
        &mut self,
        started: Started,
        kind: &'static str,
        phase: Phase,
    ) -> Option<Slow> {
        let wall = started.wall.elapsed();
        // A thread does not work for longer than time passes: what is more is the cost of asking.
        let cpu = started.cpu.map(|cpu| thread_cpu_time().saturating_sub(cpu).min(wall));
        self.record(kind, phase, wall, cpu)
    }

    fn record(
        &mut self,
        kind: &'static str,
        phase: Phase,
        wall: Duration,
        cpu: Option<Duration>,
    ) -> Option<Slow> {
        // Recording may have begun or ended within the call; half a measurement is none.
        if let (true, Some(cpu)) = (self.is_recording, cpu) {
            let row = self.profile.rows.entry((kind, phase)).or_default();
            row.calls += 1;
            row.wall += wall;
            row.cpu += cpu;
            row.longest = row.longest.max(wall);
        }
        let is_slow = self.slow_over.is_some_and(|threshold| wall > threshold);
        is_slow.then_some(Slow { kind, phase, wall })
    }

    /// A turn's work took so long.
    pub(crate) fn record_lag(&mut self, lag: Duration) {
        if self.is_recording {
            self.profile.lag.record(lag);
        }
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().expect("a thread has not worked for less than no time")
}

impl Profile {
    /// The rows by the type that was called and what for, in the order of both.
    pub fn rows(&self) -> impl Iterator<Item = ((&'static str, Phase), &ProfileRow)> {
        self.rows.iter().map(|(key, row)| (*key, row))
    }

    /// How long the work of each turn took: whatever came meanwhile had to wait for so long, at most.
    pub const fn lag(&self) -> &Histogram {
        &self.lag
    }

    /// The longest call of all.
    pub fn longest(&self) -> Option<Slow> {
        let (&(kind, phase), row) = self.rows.iter().max_by_key(|(_, row)| row.longest)?;
        Some(Slow { kind, phase, wall: row.longest })
    }
}

impl ProfileRow {
    /// How long a call took on average.
    pub fn wall_per_call(&self) -> Duration {
        per_call(self.wall, self.calls)
    }

    /// How long the processor worked at a call on average.
    pub fn cpu_per_call(&self) -> Duration {
        per_call(self.cpu, self.calls)
    }
}

fn per_call(total: Duration, calls: u64) -> Duration {
    // A `Duration` only divides by 32 bits, which a busy loop counts through in hours.
    let nanos = total.as_nanos() / u128::from(calls.max(1));
    Duration::from_nanos_u128(nanos)
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>12} {:>10} {:>10} {:>10} {:>10} {:>10}  {:9}  kind",
            "calls", "wall", "per call", "cpu", "per call", "longest", "phase"
        )?;
        let mut rows = Vec::from_iter(self.rows());
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.wall));
        for ((kind, phase), row) in rows {
            let ProfileRow { calls, wall, cpu, longest } = *row;
            let (wall_each, cpu_each) = (row.wall_per_call(), row.cpu_per_call());
            write!(f, "{calls:12} {wall:>10.1?} {wall_each:>10.1?} {cpu:>10.1?} ")?;
            // The type comes last: its name may be of any length.
            writeln!(f, "{cpu_each:>10.1?} {longest:>10.1?}  {phase:9}  {kind}")?;
        }
        write!(f, "lag: {}", self.lag)
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} took {:.1?}", self.phase, self.kind, self.wall)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connected => "connected",
            Self::Readable => "readable",
            Self::Writable => "writable",
            Self::Drained => "drained",
            Self::Full => "full",
            Self::Closed => "closed",
            Self::Accepted => "accepted",
            Self::Datagrams => "datagrams",
            Self::Timer => "timer",
            Self::Post => "post",
            Self::Hook => "hook",
            Self::Watch => "watch",
            Self::Signal => "signal",
            Self::Task => "task",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn calls_add_up_by_kind_and_phase() {
        let mut profiler = Profiler::default();
        profiler.enable();
        for (kind, phase, wall, cpu) in [
            ("Peer", Phase::Readable, 30, 10),
            ("Peer", Phase::Connected, 1, 1),
            ("Peer", Phase::Readable, 10, 10),
            ("Door", Phase::Accepted, 7, 2),
        ] {
            assert_eq!(profiler.record(kind, phase, micros(wall), Some(micros(cpu))), None);
        }
        let rows = Vec::from_iter(profiler.data().rows().map(|(key, row)| (key, *row)));
        let row = |calls, wall, cpu, longest| ProfileRow {
            calls,
            wall: micros(wall),
            cpu: micros(cpu),
            longest: micros(longest),
        };
        assert_eq!(
            rows,
            [
                (("Door", Phase::Accepted), row(1, 7, 2, 7)),
                (("Peer", Phase::Connected), row(1, 1, 1, 1)),
                (("Peer", Phase::Readable), row(2, 40, 20, 30)),
            ]
        );
        assert_eq!((rows[2].1.wall_per_call(), rows[2].1.cpu_per_call()), (micros(20), micros(10)));
        let longest = Slow { kind: "Peer", phase: Phase::Readable, wall: micros(30) };
        assert_eq!(profiler.data().longest(), Some(longest));
    }

    #[test]
    fn off_it_measures_nothing_and_keeps_what_it_had() {
        let mut profiler = Profiler::default();
        assert!(!profiler.is_on() && profiler.begin().is_none());
        profiler.enable();
        let started = profiler.begin().unwrap();
        assert_eq!(profiler.end(started, "Peer", Phase::Timer), None);
        profiler.record_lag(micros(5));
        let within = profiler.begin().unwrap();
        profiler.disable();
        assert_eq!(profiler.end(within, "Peer", Phase::Timer), None);
        profiler.record_lag(micros(5));
        assert!(!profiler.is_on() && profiler.begin().is_none());
        assert_eq!(profiler.data().rows().next().unwrap().1.calls, 1);
        assert_eq!(profiler.data().lag().count(), 1);
        profiler.enable();
        assert_eq!(profiler.data().rows().count(), 0);
        assert_eq!((profiler.data().lag().count(), profiler.data().longest()), (0, None));
    }

    #[test]
    fn slow_calls_are_told_with_a_profile_or_without() {
        let mut profiler = Profiler::default();
        profiler.set_slow(Some(micros(100)));
        assert!(profiler.is_on() && profiler.begin().unwrap().cpu.is_none());
        let slow = Slow { kind: "Peer", phase: Phase::Post, wall: micros(101) };
        for enabled in [false, true] {
            if enabled {
                profiler.enable();
            }
            assert_eq!(profiler.record("Peer", Phase::Post, micros(100), None), None);
            assert_eq!(profiler.record("Peer", Phase::Post, micros(101), None), Some(slow));
        }
        assert_eq!(profiler.data().rows().count(), 0, "begun before the profile was");
        profiler.disable();
        assert!(profiler.is_on());
        profiler.set_slow(None);
        assert!(!profiler.is_on());
        assert_eq!(slow.to_string(), "post of Peer took 101.0µs");
    }

    #[test]
    fn it_prints_as_a_table_with_the_most_costly_first() {
        let mut profiler = Profiler::default();
        profiler.enable();
        profiler.record("door::Door", Phase::Accepted, micros(70), Some(micros(20)));
        for _ in 0..1000 {
            profiler.record("peer::Peer", Phase::Readable, micros(1500), Some(micros(500)));
        }
        profiler.record_lag(micros(3));
        let table = [
            "       calls       wall   per call        cpu   per call    longest  phase      kind",
            "        1000       1.5s      1.5ms    500.0ms    500.0µs      1.5ms  readable   peer::Peer",
            "           1     70.0µs     70.0µs     20.0µs     20.0µs     70.0µs  accepted   door::Door",
            "lag: 1 measured, 50% within 3.0µs, 90% within 3.0µs, 99% within 3.0µs, at most 3.0µs",
        ];
        assert_eq!(profiler.data().to_string(), table.join("\n"));
    }
}
