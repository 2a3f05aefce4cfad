//! Values as people write them: sizes, times, ranges of ports, patterns of names.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use engine::Encryption;
use engine::{Days, HourlyLimit, ScheduledLimits};
use globset::{Glob, GlobSet, GlobSetBuilder};

/// The ports to try, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports(pub(crate) Vec<std::ops::RangeInclusive<u16>>);

/// `500`, `64k`, `5M`, `5MB`, `5MiB`, `1.5G`: a letter always counts by 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits_end =
        trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits_end);
    let number: f64 = number.parse().map_err(|_error| SIZE_HELP.to_owned())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let scale = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(SIZE_HELP.to_owned()),
    };
    let bytes = number * 1024_f64.powi(scale);
    if !(1.0..=SIZE_MAX).contains(&bytes) {
        return Err("from 1 byte to 1024 TiB".to_owned());
    }
    Ok(bytes as u64)
}

/// A size that pieces may have: a power of two from 16 KiB to 256 MiB.
pub(crate) fn piece_len(text: &str) -> Result<u32, String> {
    match u32::try_from(size(text)?) {
        Ok(len) if len.is_power_of_two() && (16 << 10..=256 << 20).contains(&len) => Ok(len),
        _ => Err("a power of two from 16KiB to 256MiB".to_owned()),
    }
}

/// `90` seconds, `90s`, `30m`, `2h 15m`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    humantime::parse_duration(text.trim())
        .map_err(|_error| "a number with s, m, h or d, as in 30m".to_owned())
}

/// A time between announces: a second to a day.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let usual = Duration::from_secs(1)..=Duration::from_secs(86400);
    if usual.contains(&time) { Ok(time) } else { Err("from 1s to 1d".to_owned()) }
}

/// `mon-fri 08:00-18:00 down=1M up=none`: the days may be left out, and one of the two limits.
pub(crate) fn schedule(text: &str) -> Result<ScheduledLimits, String> {
    let mut words = text.split_whitespace().peekable();
    let is_days = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic());
    let days = words.next_if(is_days).map_or(Some(Days::ALL), days).ok_or(SCHEDULE_HELP)?;
    let hours = words.next().and_then(|word| word.split_once('-')).ok_or(SCHEDULE_HELP)?;
    let (from, until) = (minute(hours.0)?, minute(hours.1)?);
    let (mut download, mut upload) = (HourlyLimit::Usual, HourlyLimit::Usual);
    for word in words {
        let (limit, rate) = match word.split_once('=') {
            Some(("down", rate)) => (&mut download, rate),
            Some(("up", rate)) => (&mut upload, rate),
            _ => return Err(SCHEDULE_HELP.to_owned()),
        };
        *limit = match rate {
            "none" => HourlyLimit::Unlimited,
            rate => HourlyLimit::BytesPerSecond(size(rate)?),
        };
    }
    if (download, upload) == (HourlyLimit::Usual, HourlyLimit::Usual) {
        return Err(SCHEDULE_HELP.to_owned());
    }
    // Midnight at the end of a day is its beginning, too.
    Ok(ScheduledLimits { days, from: from % MINUTES, until: until % MINUTES, download, upload })
}

/// `mon`, `mon-fri`, `sat,sun`.
fn days(text: &str) -> Option<Days> {
    let day = |name: &str| {
        let name = name.to_ascii_lowercase();
        (0..).zip(DAYS).find(|(_, day)| *day == name).map(|(number, _)| number)
    };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(Days::range(day(first)?, day(last)?))
    };
    let mut ranges = text.split(',').map(range);
    let first = ranges.next()??;
    ranges.try_fold(first, |days, range| Some(days.and(range?)))
}

/// `08:00`, up to `24:00`, in minutes.
fn minute(text: &str) -> Result<u16, String> {
    let number = |text: &str| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        if is_number { text.parse::<u16>().ok() } else { None }
    };
    let (hour, minute) = text.split_once(':').ok_or(SCHEDULE_HELP)?;
    match (number(hour), number(minute)) {
        (Some(hour), Some(minute)) if minute < 60 && hour * 60 + minute <= MINUTES => {
            Ok(hour * 60 + minute)
        }
        _ => Err(SCHEDULE_HELP.to_owned()),
    }
}

/// `off`, `allowed`, `preferred`, `required`.
pub(crate) fn encryption() -> impl TypedValueParser<Value = Encryption> {
    PossibleValuesParser::new(Encryption::ALL.map(Encryption::name))
        .try_map(|name| name.parse::<Encryption>())
}

/// `router.example.org:6881`, `10.0.0.1:6881`, `[2001:db8::1]:6881`.
pub(crate) fn host_port(text: &str) -> Result<String, String> {
    let split = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = split.and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("a host and a port, as in example.org:6881".to_owned()),
    }
}

/// `127.0.0.1:6969`, `[::]:6969`.
pub(crate) fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_error| "an address with a port, as in 127.0.0.1:6969".to_owned())
}

/// `1`, `1.5`: not negative.
pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.trim().parse().map_err(|_error| "a number, as in 1.5".to_owned())?;
    if (0.0..=1e6).contains(&ratio) { Ok(ratio) } else { Err("from 0 to 1000000".to_owned()) }
}

/// `6881`, `6881-6889`, `0` for any; several, joined by commas.
pub(crate) fn ports(text: &str) -> Result<Ports, String> {
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_error| PORTS_HELP.to_owned());
    let range = |text: &str| {
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last || (first == 0 && last > 0) {
            return Err(PORTS_HELP.to_owned());
        }
        Ok(first..=last)
    };
    text.split(',').map(range).collect::<Result<_, _>>().map(Ports)
}

/// Trackers of one tier, joined by commas.
pub(crate) fn tracker_tier(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|url| tracker_url(url.trim())).collect()
}

fn tracker_url(url: &str) -> Result<String, String> {
    let (scheme, rest) =
        url.split_once("://").ok_or("an address such as http://tracker/announce")?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https" | "udp") {
        return Err(format!("`{scheme}` trackers are not supported; http, https and udp are"));
    }
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("an address such as http://tracker/announce".to_owned());
    }
    if scheme == "udp" && torrent::tracker::UdpUrl::parse(url).is_none() {
        return Err("an address such as udp://tracker:6969".to_owned());
    }
    Ok(url.to_owned())
}

/// `https://example.org/files/`.
pub(crate) fn http_url(url: &str) -> Result<String, String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let is_clean = tracker_url(url).is_ok();
    if is_clean && matches!(scheme.as_deref(), Some("http" | "https")) {
        return Ok(url.to_owned());
    }
    Err("an http or https address, as in https://example.org/files/".to_owned())
}

/// The addresses that `HOST:PORT` stands for.
pub(crate) fn peer_addrs(text: &str, may_look_up: bool) -> Result<Vec<SocketAddr>, String> {
    if !may_look_up && text.parse::<SocketAddr>().is_err() {
        return Err(format!(
            "peer {text}: only an address and a port will do, as in 192.0.2.1:6881: a name would be looked up beside the proxy"
        ));
    }
    let found = text.to_socket_addrs().map_err(|error| format!("peer {text}: {error}"))?;
    let addrs: Vec<SocketAddr> = found.filter(|addr| addr.port() != 0).collect();
    if addrs.is_empty() { Err(format!("peer {text}: no address")) } else { Ok(addrs) }
}

/// Which names are meant: those that match one of `only`, or any if there are none, and none of
/// `exclude`.
#[derive(Clone, Debug)]
pub(crate) struct NameFilter {
    only: Option<GlobSet>,
    exclude: GlobSet,
}

impl NameFilter {
    pub(crate) fn new(only: &[String], exclude: &[String]) -> Result<Self, String> {
        let only = if only.is_empty() { None } else { Some(glob_set(only)?) };
        Ok(Self { only, exclude: glob_set(exclude)? })
    }

    /// Whether every name is meant.
    pub(crate) fn is_all(&self) -> bool {
        self.only.is_none() && self.exclude.is_empty()
    }

    pub(crate) fn matches(&self, path: &std::path::Path) -> bool {
        self.only.as_ref().is_none_or(|only| only.is_match(path)) && !self.exclude.is_match(path)
    }
}

fn glob_set(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob =
            Glob::new(pattern).map_err(|error| format!("pattern {pattern}: {}", error.kind()))?;
        set.add(glob);
        // `*.iso` is meant wherever the file is, and a folder with all that is in it.
        let pattern = pattern.trim_end_matches('/');
        for anywhere in
            [format!("**/{pattern}"), format!("{pattern}/**"), format!("**/{pattern}/**")]
        {
            set.add(
                Glob::new(&anywhere)
                    .map_err(|error| format!("pattern {pattern}: {}", error.kind()))?,
            );
        }
    }
    set.build().map_err(|error| error.to_string())
}

const SIZE_HELP: &str = "a number with K, M, G or T, as in 5MiB";
const SIZE_MAX: f64 = (1_u64 << 50) as f64;
const SCHEDULE_HELP: &str =
    "hours and limits, as in `mon-fri 08:00-18:00 down=1M up=200K`; `none` is no limit";
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Of a day.
const MINUTES: u16 = 24 * 60;
const PORTS_HELP: &str =
    "a port as in 6881, a range as in 6881-6999, or several as in 6881,7000-7010";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("500", 500),
            ("64k", 65536),
            ("5MiB", 5 << 20),
            ("5 MB", 5 << 20),
            ("1.5G", 3 << 29),
            ("1tib", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1x", "0", "1e30", "9999T", "1.2.3", "٣"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn piece_lengths_are_powers_of_two() {
        assert_eq!(piece_len("1MiB"), Ok(1 << 20));
        for text in ["8K", "3M", "512M", "100000"] {
            assert!(piece_len(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_ports_and_ratios_are_checked() {
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert!(duration("2x").is_err() && duration("-1s").is_err() && duration("").is_err());
        assert_eq!(ports("6881"), Ok(Ports(vec![6881..=6881])));
        assert_eq!(ports("10-20,5"), Ok(Ports(vec![10..=20, 5..=5])));
        assert!(
            ports("20-10").is_err()
                && ports("70000").is_err()
                && ports("0-5").is_err()
                && ports("1,,2").is_err()
                && ports("").is_err()
        );
        assert_eq!(ratio("1.5"), Ok(1.5));
        assert!(ratio("-1").is_err() && ratio("NaN").is_err() && ratio("inf").is_err());
    }

    #[test]
    fn schedules_are_read_as_people_write_them() {
        let read = |text| schedule(text).expect("valid");
        let work = ScheduledLimits {
            days: Days::range(0, 4),
            from: 480,
            until: 1080,
            download: HourlyLimit::BytesPerSecond(1 << 20),
            upload: HourlyLimit::BytesPerSecond(200 << 10),
        };
        assert_eq!(read("mon-fri 08:00-18:00 down=1M up=200K"), work);
        assert_eq!(read(" Mon-Fri  8:00-18:00 up=200K down=1M "), work);
        let night = read("22:30-6:00 down=none");
        assert_eq!((night.days, night.from, night.until), (Days::ALL, 1350, 360));
        assert_eq!((night.download, night.upload), (HourlyLimit::Unlimited, HourlyLimit::Usual));
        assert_eq!(read("sat,sun 00:00-24:00 up=1K").days, Days::range(5, 6));
        for text in [
            "",
            "mon",
            "08:00-18:00",
            "mon 08:00 up=1K",
            "8-18 up=1K",
            "08:60-09:00 up=1K",
            "24:01-2:00 up=1K",
            "mon- 08:00-18:00 up=1K",
            "day 08:00-18:00 up=1K",
            "08:00-18:00 up=0",
            "08:00-18:00 sideways=1K",
            "08:00-18:00 up=1K mon",
            "+8:00-18:00 up=1K",
        ] {
            assert!(schedule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn trackers_of_unknown_schemes_are_refused() {
        assert_eq!(tracker_tier("http://a/x,udp://b:1/").map(|tier| tier.len()), Ok(2));
        for url in ["wss://a/", "a", "http://", "udp://a:0x/", "http://a b/"] {
            assert!(tracker_tier(url).is_err(), "{url}");
        }
    }

    #[test]
    fn servers_of_files_are_asked_over_http() {
        for url in ["http://a/", "HTTPS://a.example:81/b?c"] {
            assert_eq!(http_url(url), Ok(url.to_owned()));
        }
        for url in ["", "a", "a/b", "ftp://a/", "udp://a:1/", "http://", "http://a b/"] {
            assert!(http_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn patterns_match_a_file_wherever_it_is() {
        let filter =
            NameFilter::new(&["*.iso".into(), "docs/*".into()], &["*beta*".into()]).expect("valid");
        for (path, is_meant) in [
            ("t/a.iso", true),
            ("a.iso", true),
            ("t/docs/x/y.txt", true),
            ("t/a.txt", false),
            ("t/beta/a.iso", false),
            ("t/some.iso/inside", true),
        ] {
            assert_eq!(filter.matches(Path::new(path)), is_meant, "{path}");
        }
        assert!(NameFilter::new(&["[".into()], &[]).is_err());
    }
}
