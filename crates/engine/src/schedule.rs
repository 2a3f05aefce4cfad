//! Limits on rates by the hour: other ones while people are at work, or asleep.
//!
//! What holds when is decided by [`limits_at`], from a day of the week and a minute of the day. The hour is
//! that of the system's time zone, looked at every few seconds: so neither a clock that is set nor a machine
//! that slept leaves old limits in force.

use reactor::Reactor;

use crate::engine::Engine;
use crate::event::EventKind;

/// Limits that hold for some hours of some days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledLimits {
    /// The days on which it begins.
    pub days: Days,
    /// When it begins, in minutes from midnight.
    pub from: u16,
    /// When it ends, in minutes from midnight; if that is not after `from`, on the day after.
    pub until: u16,
    /// Of what peers send.
    pub download: HourlyLimit,
    /// Of what is sent to peers.
    pub upload: HourlyLimit,
}

/// A limit while a [`ScheduledLimits`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HourlyLimit {
    /// As at other times.
    #[default]
    Usual,
    /// None.
    Unlimited,
    /// So many bytes per second.
    BytesPerSecond(u64),
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// From one day to another, both counted from Monday, which is 0; past the end of the week if the second comes
    /// before the first. Days past Sunday are counted on.
    pub fn range(first: u8, last: u8) -> Self {
        let (first, last) = (first % 7, last % 7);
        let count = (last + 7 - first) % 7;
        Self((0..=count).fold(0, |days, after| days | 1 << ((first + after) % 7)))
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a day is among them, counted from Monday, which is 0.
    pub const fn has(self, day: u8) -> bool {
        self.0 & 1 << (day % 7) != 0
    }
}

impl ScheduledLimits {
    fn holds_at(&self, day: u8, minute: u16) -> bool {
        let is_over_night = self.until <= self.from;
        let (begun, over) = (minute >= self.from, minute >= self.until);
        let yesterday = (day + 6) % 7;
        (self.days.has(day) && begun && (is_over_night || !over))
            || (is_over_night && self.days.has(yesterday) && !over)
    }
}

impl HourlyLimit {
    const fn or(self, usual: Option<u64>) -> Option<u64> {
        match self {
            Self::Usual => usual,
            Self::Unlimited => None,
            Self::BytesPerSecond(rate) => Some(rate),
        }
    }
}

/// What holds at a minute of a day, counted from midnight and from Monday: the first that does.
pub(crate) fn limits_at(
    schedule: &[ScheduledLimits],
    day: u8,
    minute: u16,
) -> Option<&ScheduledLimits> {
    schedule.iter().find(|limits| limits.holds_at(day, minute))
}

impl Engine {
    /// Sees to it that the limits of this hour hold.
    pub(crate) fn follow_schedule(&mut self, reactor: &Reactor<Self>) {
        let (day, minute) = local_time();
        let scheduled = limits_at(&self.config.schedule, day, minute).copied();
        if scheduled != self.scheduled {
            self.scheduled = scheduled;
            self.apply_limits(reactor);
            let (download, upload) = self.limits_now();
            self.tell(None, &EventKind::LimitsChanged { download, upload });
        }
    }

    /// The limits on all torrents together that hold now, in bytes per second: down, up.
    pub(crate) fn limits_now(&self) -> (Option<u64>, Option<u64>) {
        let limits = &self.config.limits;
        self.scheduled.map_or((limits.download, limits.upload), |scheduled| {
            (scheduled.download.or(limits.download), scheduled.upload.or(limits.upload))
        })
    }
}

/// The day of the week, counted from Monday, and the minute of the day.
fn local_time() -> (u8, u16) {
    let now = jiff::Zoned::now();
    let number = |number: i8| u16::try_from(number).unwrap_or(0);
    let day = u8::try_from(now.weekday().to_monday_zero_offset()).unwrap_or(0);
    (day, number(now.hour()) * 60 + number(now.minute()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: ScheduledLimits = ScheduledLimits {
        days: Days(0x1f),
        from: 8 * 60,
        until: 18 * 60,
        download: HourlyLimit::BytesPerSecond(1000),
        upload: HourlyLimit::Usual,
    };

    #[test]
    fn hours_hold_on_their_days_from_the_first_minute_to_before_the_last() {
        for (day, minute, holds) in [
            (0, 8 * 60, true),
            (0, 8 * 60 - 1, false),
            (4, 18 * 60 - 1, true),
            (4, 18 * 60, false),
            (5, 12 * 60, false),
        ] {
            assert_eq!(WORK.holds_at(day, minute), holds, "{day} {minute}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = ScheduledLimits { days: Days::range(4, 4), from: 22 * 60, until: 360, ..WORK };
        for (day, minute, holds) in [
            (4, 23 * 60, true),
            (5, 0, true),
            (5, 359, true),
            (5, 360, false),
            (4, 0, false),
            (5, 23 * 60, false),
        ] {
            assert_eq!(night.holds_at(day, minute), holds, "{day} {minute}");
        }
        let day = ScheduledLimits { days: Days::ALL, from: 0, until: 0, ..WORK };
        assert!((0..1440).all(|minute| day.holds_at(6, minute)), "all day");
    }

    #[test]
    fn the_first_that_holds_counts() {
        let noon = ScheduledLimits { from: 720, until: 780, ..WORK };
        let schedule = [noon, WORK];
        assert_eq!(limits_at(&schedule, 0, 730), Some(&noon));
        assert_eq!(limits_at(&schedule, 0, 790), Some(&WORK));
        assert_eq!(limits_at(&schedule, 6, 790), None);
    }

    #[test]
    fn ranges_of_days_go_past_the_end_of_the_week() {
        assert_eq!(Days::range(0, 4), Days(0b001_1111));
        assert_eq!(Days::range(5, 0), Days(0b110_0001));
        assert_eq!(Days::range(3, 3).and(Days::range(6, 6)), Days(0b100_1000));
        assert_eq!(Days::range(0, 6), Days::ALL);
        assert_eq!(Days::range(255, 250), Days::range(3, 5), "Monday is 7, 14, and so on as well");
    }

    #[test]
    fn the_system_tells_a_day_and_a_minute() {
        let (day, minute) = local_time();
        assert!(day < 7 && minute < 1440);
    }
}
