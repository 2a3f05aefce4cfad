//! Files of one folder, sent by the kernel without a copy through us.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use httparse::Header;
use reactor::Chunk;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::client::Answer;
use crate::http::{field, number};

pub(crate) fn open_root(path: &str) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Answers a request for `path`, which is still encoded and begins with a slash.
pub(crate) fn answer(root: &OwnedFd, method: &str, path: &str, fields: &[Header<'_>]) -> Answer {
    if !matches!(method, "GET" | "HEAD") {
        let mut answer = Answer::text("405 Method Not Allowed", "files are only to be read");
        answer.fields += "Allow: GET, HEAD\r\n";
        return answer;
    }
    let Some(mut name) = decode(path) else {
        return Answer::text("400 Bad Request", "that is no path");
    };
    if name.ends_with('/') || name.is_empty() {
        name += "index.html";
    }
    let missing = || Answer::text("404 Not Found", "there is no such file");
    let Ok(file) = open_beneath(root, &name) else { return missing() };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => {
            let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
            whole_or_part(file, &name, metadata.len(), modified, fields)
        }
        Ok(metadata) if metadata.is_dir() => {
            // Relative, so that no path can make it point to another host.
            let last = path.rsplit('/').next().unwrap_or_default();
            let mut answer = Answer::text("301 Moved Permanently", "it is a folder");
            answer.fields += &format!("Location: ./{last}/\r\n");
            answer
        }
        Ok(_) | Err(_) => missing(),
    }
}

/// A path relative to the root, of the bytes that it means. None may climb.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes().iter();
    while let Some(byte) = rest.next() {
        bytes.push(if *byte == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            u8::try_from(digit()? << 4 | digit()?).ok()?
        } else {
            *byte
        });
    }
    let path = String::from_utf8(bytes).ok()?;
    let is_sound = !path.contains('\0') && path.split('/').all(|part| part != "..");
    is_sound.then(|| path.trim_start_matches('/').to_owned())
}

/// The kernel sees to it that no link leads out. Without waiting, for there may be pipes.
fn open_beneath(root: &OwnedFd, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root.as_fd(), name, flags, Mode::empty(), resolve).map(File::from)
}

fn whole_or_part(
    file: File,
    name: &str,
    len: u64,
    modified: SystemTime,
    fields: &[Header<'_>],
) -> Answer {
    let modified = http_date(modified);
    let is_modified = |name| field(fields, name).is_none_or(|date| date != modified.as_bytes());
    let mut answer = Answer {
        status: "200 OK",
        fields: format!(
            "Content-Type: {}\r\nLast-Modified: {modified}\r\nAccept-Ranges: bytes\r\n",
            media_type(name)
        ),
        body: Chunk::from(""),
    };
    if !is_modified("if-modified-since") && field(fields, "if-none-match").is_none() {
        answer.status = "304 Not Modified";
        return answer;
    }
    let holds = field(fields, "if-range").is_none() || !is_modified("if-range");
    let range = field(fields, "range").filter(|_| holds);
    let (offset, part) = match range.map_or(Wanted::Whole, |range| wanted(range, len)) {
        Wanted::Whole => (0, len),
        Wanted::Part(first, last) => {
            answer.status = "206 Partial Content";
            answer.fields += &format!("Content-Range: bytes {first}-{last}/{len}\r\n");
            (first, last - first + 1)
        }
        Wanted::Nothing => {
            let mut answer = Answer::text("416 Range Not Satisfiable", "the file is shorter");
            answer.fields += &format!("Content-Range: bytes */{len}\r\n");
            return answer;
        }
    };
    answer.body = Chunk::File { file: Arc::new(file), offset, len: part as usize };
    answer
}

enum Wanted {
    Whole,
    /// From this byte to that one.
    Part(u64, u64),
    Nothing,
}

/// What is not one range of bytes counts as not said (RFC 9110, section 14.2).
fn wanted(range: &[u8], len: u64) -> Wanted {
    let parse = || {
        let range = str::from_utf8(range).ok()?.strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        let number = |digits: &str| match digits {
            "" => Some(None),
            digits => number(digits.as_bytes()).map(Some),
        };
        Some((number(first)?, number(last)?))
    };
    match parse() {
        Some((Some(first), Some(last))) if last < first => Wanted::Whole,
        Some((Some(first), _)) if first >= len => Wanted::Nothing,
        Some((Some(first), last)) => {
            Wanted::Part(first, last.map_or(len - 1, |last| last.min(len - 1)))
        }
        Some((None, Some(count))) if count == 0 || len == 0 => Wanted::Nothing,
        Some((None, Some(count))) => Wanted::Part(len.saturating_sub(count), len - 1),
        Some((None, None)) | None => Wanted::Whole,
    }
}

fn media_type(name: &str) -> &'static str {
    let extension = name.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    match extension.map_or("", |(_, extension)| extension) {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, by Howard Hinnant's `civil_from_days`.
pub(crate) fn http_date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    let names =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let (weekday, name) = (weekdays[(days % 7) as usize], names[month as usize]);
    format!("{weekday}, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT")
}
