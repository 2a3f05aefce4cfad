//! Things told to people: what strangers named is shown without anything that a terminal obeys, and a
//! thing's long form (`{:#}`) is a head and rows below it.

use std::fmt::{self, Display, Write as _};

/// Text of a stranger, on one line: control characters and marks that turn the direction of writing
/// show as U+FFFD.
#[derive(Clone, Copy, Debug)]
pub struct Clean<'a>(pub &'a str);

/// A number of bytes: `1536 bytes (1.5 KiB)`.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

/// Seconds since 1970: `2009-02-13 23:31:30 UTC`.
#[derive(Clone, Copy, Debug)]
pub struct Date(pub i64);

/// Writes one row of a long form, on a new line.
///
/// # Errors
/// If the writer has one.
pub fn row(f: &mut fmt::Formatter<'_>, label: &str, value: impl Display) -> fmt::Result {
    write!(f, "\n  {label:<LABEL_WIDTH$}{value}")
}

/// Writes rows of which only the first has the label.
///
/// # Errors
/// If the writer has one.
pub fn rows(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    values: impl IntoIterator<Item = impl Display>,
) -> fmt::Result {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(values).try_for_each(|(label, value)| row(f, label, value))
}

impl Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            f.write_char(if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER })
        })
    }
}

fn is_harmless(c: char) -> bool {
    let turns =
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    // Separators of lines and paragraphs begin a new one.
    !c.is_control() && !turns && !matches!(c, '\u{2028}' | '\u{2029}')
}

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let (count, mut value, mut unit) = (self.0, self.0 as f64 / 1024.0, 0);
        match count {
            1 => return f.write_str("1 byte"),
            0..1024 => return write!(f, "{count} bytes"),
            1024.. => {}
        }
        while value >= 1023.95 {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{count} bytes ({value:.1} {})", UNITS[unit])
    }
}

impl Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Years are counted from March, so that a leap day is the last of its year.
        let days = i128::from(days) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, is_next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = era * 400 + year + is_next_year;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

const LABEL_WIDTH: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_words_cannot_command_a_terminal_nor_begin_a_line() {
        let shown = Clean("a\x1b[2Jb\r\n\u{202e}c\u{9b}é漢\u{2028}").to_string();
        assert_eq!(shown, "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}é漢\u{fffd}");
    }

    #[test]
    fn sizes_are_exact_and_readable() {
        for (count, shown) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1536, "1536 bytes (1.5 KiB)"),
            ((1 << 20) - 1, "1048575 bytes (1.0 MiB)"),
            (u64::MAX, "18446744073709551615 bytes (16.0 EiB)"),
        ] {
            assert_eq!(Size(count).to_string(), shown);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar_and_any_number_is_one() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_234_567_890, "2009-02-13 23:31:30 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(Date(seconds).to_string(), shown);
        }
        assert!(Date(i64::MAX).to_string().ends_with(" UTC"));
        assert!(Date(i64::MIN).to_string().ends_with(" UTC"));
    }
}
