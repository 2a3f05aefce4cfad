//! Numbers for people.

use std::time::Duration;

use console::{Alignment, measure_text_width, pad_str, truncate_str};

/// `512 B`, `1.5 KiB`, `12.3 MiB`, `123 GiB`: at most eight characters.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit = UNITS[unit];
    if value < 99.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `12.3 MiB/s`.
pub(crate) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// `42s`, `3m05s`, `2h07m`, `5d03h`, `>99d`: at most six characters.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ if days < 100 => format!("{days}d{:02}h", hours % 24),
        _ => ">99d".to_owned(),
    }
}

/// `0.0` to `100`: never 100 before it is so.
pub(crate) fn percent(part: f64) -> String {
    if part >= 1.0 { "100".to_owned() } else { format!("{:.1}", (part * 1000.0).floor() / 10.0) }
}

/// `1 piece`, `3 pieces`.
pub(crate) fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Cut or filled to just so many columns.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    pad_str(&cut(&text, columns), columns, Alignment::Left, None).into_owned()
}

/// Cut to at most so many columns.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if measure_text_width(text) <= columns {
        return text.to_owned();
    }
    truncate_str(text, columns, if columns > 1 { "…" } else { "" }).into_owned()
}

/// Broken into lines of at most so many columns: three at most, the last of them cut.
pub(crate) fn broken(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    let mut width = 0;
    for char in text.chars() {
        let of_char = measure_text_width(char.encode_utf8(&mut [0; 4]));
        if width + of_char > columns && lines.len() < LINES_MAX {
            lines.push(String::new());
            width = 0;
        }
        width += of_char;
        if let Some(last) = lines.last_mut() {
            last.push(char);
        }
    }
    lines.iter().map(|line| cut(line, columns)).collect()
}

/// Of a text that is too long for one.
const LINES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_takes_three_lines_at_most() {
        assert_eq!(broken("", 5), [""]);
        assert_eq!(broken("abcdefg", 5), ["abcde", "fg"]);
        assert_eq!(broken("漢字漢", 5), ["漢字", "漢"]);
        assert_eq!(broken("abcdefghijk", 3), ["abc", "def", "gh…"]);
        assert_eq!(broken("ab", 0), ["a", "b"]);
    }

    #[test]
    fn sizes_fit_eight_columns() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (123 << 30, "123 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
            assert!(bytes(count).len() <= 8);
        }
    }

    #[test]
    fn times_fit_six_columns() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (185, "3m05s"),
            (7620, "2h07m"),
            (442_800, "5d03h"),
            (u64::MAX, ">99d"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_percentage_is_100_only_when_all_is_there() {
        assert_eq!(percent(0.99999), "99.9");
        assert_eq!(percent(1.0), "100");
        assert_eq!(percent(0.0), "0.0");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        assert_eq!(fit("漢字漢字", 5), "漢字…");
        assert_eq!(fit("ab", 4), "ab  ");
        assert_eq!(measure_text_width(&fit("漢字漢字", 4)), 4);
    }
}
