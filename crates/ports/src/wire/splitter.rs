//! Where frames end in a stream of bytes.
//!
//! Nothing is decoded here. Each byte is looked at once, however small the reads are in which it comes, and a
//! length that a stranger claims costs nothing until its bytes are there.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::head::Head;
use super::{FrameError, Framing};

/// Finds the ends of frames.
#[derive(Debug)]
pub struct Splitter {
    scan: Scan,
    frame_len_max: usize,
}

#[derive(Debug)]
enum Scan {
    Cbor(CborScan),
    Json(JsonScan),
}

impl Splitter {
    /// Frames of at most 16 MiB.
    pub fn new(framing: Framing) -> Self {
        let scan = match framing {
            Framing::Cbor => Scan::Cbor(CborScan::default()),
            Framing::Json => Scan::Json(JsonScan::default()),
        };
        Self { scan, frame_len_max: FRAME_LEN_MAX }
    }

    /// Allows frames of at most `max` bytes.
    pub const fn frame_len_max(mut self, max: usize) -> Self {
        self.frame_len_max = max;
        self
    }

    /// How long the frame at the start of `buffer` is, or nothing if it is not whole yet.
    ///
    /// After nothing, `buffer` must come again with more behind it; after a length, without that frame. White
    /// space before JSON is counted as part of it.
    ///
    /// # Errors
    /// If no frame begins there, or one beyond the limits. Nothing behind it can be understood.
    #[inline]
    pub fn next(&mut self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let max = self.frame_len_max;
        let (end, scanned) = match &mut self.scan {
            Scan::Cbor(scan) => (scan.next(buffer, max)?, scan.position),
            Scan::Json(scan) => (scan.next(buffer)?, scan.position),
        };
        if scanned > max {
            return Err(FrameError::TooLong { max });
        }
        if end.is_some() {
            match &mut self.scan {
                Scan::Cbor(scan) => scan.reset(),
                Scan::Json(scan) => *scan = JsonScan::default(),
            }
        }
        Ok(end)
    }
}

#[derive(Debug, Default)]
struct CborScan {
    /// What has been looked at. It may be beyond what has arrived, since strings are leapt over.
    position: usize,
    /// The lists, maps and strings that have been begun.
    levels: Vec<Level>,
    values: usize,
    is_tagged: bool,
}

/// What is still to come of something begun.
#[derive(Clone, Copy, Debug)]
enum Level {
    Values(u64),
    ListUntilBreak,
    MapUntilBreak { is_key: bool },
    BytesUntilBreak,
    TextUntilBreak,
}

impl CborScan {
    fn reset(&mut self) {
        self.levels.clear();
        *self = Self { levels: std::mem::take(&mut self.levels), ..Self::default() };
    }

    fn next(&mut self, buffer: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
        loop {
            let Some(rest) = buffer.get(self.position..) else { return Ok(None) };
            if self.values > 0 && self.levels.is_empty() {
                return Ok(Some(self.position));
            }
            let Some((head, len)) = Head::read(rest)? else { return Ok(None) };
            self.position = self.position.saturating_add(len);
            self.take(head, max)?;
            if self.position > max {
                return Err(FrameError::TooLong { max });
            }
        }
    }

    fn take(&mut self, head: Head, max: usize) -> Result<(), FrameError> {
        if self.values == 0 && !matches!(head, Head::List(_) | Head::Tag) {
            return Err(FrameError::NotAList);
        }
        if head == Head::Tag {
            self.is_tagged = true;
            return self.no_piece(None);
        }
        if head == Head::Break {
            return self.take_break();
        }
        self.is_tagged = false;
        self.no_piece(Some(head))?;
        self.values = self.values.saturating_add(1);
        if self.values > VALUES_MAX {
            return Err(FrameError::TooManyValues);
        }
        match head {
            Head::Bytes(Some(len)) | Head::Text(Some(len)) => self.leap(len),
            Head::List(Some(count)) => return self.enter(Level::Values(count), count, max),
            Head::Map(Some(pairs)) => {
                let count = pairs.saturating_mul(2);
                return self.enter(Level::Values(count), count, max);
            }
            Head::Bytes(None) => return self.enter(Level::BytesUntilBreak, 0, max),
            Head::Text(None) => return self.enter(Level::TextUntilBreak, 0, max),
            Head::List(None) => return self.enter(Level::ListUntilBreak, 0, max),
            Head::Map(None) => return self.enter(Level::MapUntilBreak { is_key: true }, 0, max),
            Head::Unsigned(_)
            | Head::Negative(_)
            | Head::Bool(_)
            | Head::Null
            | Head::Float(_)
            | Head::Tag
            | Head::Break => {}
        }
        self.done();
        Ok(())
    }

    fn leap(&mut self, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.position = self.position.saturating_add(len);
    }

    fn enter(&mut self, level: Level, count: u64, max: usize) -> Result<(), FrameError> {
        if self.levels.len() == DEPTH_MAX {
            return Err(FrameError::TooDeep);
        }
        // Every value is a byte at least.
        if usize::try_from(count).map_or(true, |count| count > max) {
            return Err(FrameError::TooLong { max });
        }
        self.levels.push(level);
        if count == 0 && matches!(level, Level::Values(_)) {
            self.levels.pop();
            self.done();
        }
        Ok(())
    }

    /// Inside a string that comes in pieces, only such pieces may be.
    fn no_piece(&self, head: Option<Head>) -> Result<(), FrameError> {
        match (self.levels.last(), head) {
            (Some(Level::BytesUntilBreak), Some(Head::Bytes(Some(_))))
            | (Some(Level::TextUntilBreak), Some(Head::Text(Some(_)))) => Ok(()),
            (Some(Level::BytesUntilBreak | Level::TextUntilBreak), _) => Err(FrameError::BadPiece),
            (
                Some(Level::Values(_) | Level::ListUntilBreak | Level::MapUntilBreak { .. }) | None,
                _,
            ) => Ok(()),
        }
    }

    fn take_break(&mut self) -> Result<(), FrameError> {
        if self.is_tagged {
            return Err(FrameError::StrayBreak);
        }
        match self.levels.pop() {
            Some(
                Level::ListUntilBreak
                | Level::MapUntilBreak { is_key: true }
                | Level::BytesUntilBreak
                | Level::TextUntilBreak,
            ) => {
                self.done();
                Ok(())
            }
            Some(Level::Values(_) | Level::MapUntilBreak { is_key: false }) | None => {
                Err(FrameError::StrayBreak)
            }
        }
    }

    /// A value has ended, and perhaps what it was the last of.
    fn done(&mut self) {
        while let Some(level) = self.levels.last_mut() {
            match level {
                Level::Values(left) => {
                    *left = left.saturating_sub(1);
                    if *left > 0 {
                        return;
                    }
                    self.levels.pop();
                }
                Level::MapUntilBreak { is_key } => {
                    *is_key = !*is_key;
                    return;
                }
                Level::ListUntilBreak | Level::BytesUntilBreak | Level::TextUntilBreak => return,
            }
        }
    }
}

#[derive(Debug, Default)]
struct JsonScan {
    position: usize,
    depth: usize,
    values: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Outside,
    InString,
    AfterBackslash,
}

impl JsonScan {
    fn next(&mut self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        while let Some(rest) = buffer.get(self.position..) {
            match self.place {
                Place::InString => {
                    let Some(len) = rest.iter().position(|&octet| octet == b'"' || octet == b'\\')
                    else {
                        self.position = buffer.len();
                        return Ok(None);
                    };
                    let is_end = rest.get(len) == Some(&b'"');
                    self.place = if is_end { Place::Outside } else { Place::AfterBackslash };
                    self.position = self.position.saturating_add(len).saturating_add(1);
                }
                Place::AfterBackslash => {
                    if rest.is_empty() {
                        return Ok(None);
                    }
                    self.position = self.position.saturating_add(1);
                    self.place = Place::InString;
                }
                Place::Outside => {
                    let Some(&octet) = rest.first() else { return Ok(None) };
                    self.position = self.position.saturating_add(1);
                    if self.take(octet)? {
                        return Ok(Some(self.position));
                    }
                }
            }
        }
        Ok(None)
    }

    /// A byte outside strings: whether it ends the frame.
    #[inline]
    fn take(&mut self, octet: u8) -> Result<bool, FrameError> {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'[' => self.enter()?,
            _ if self.depth == 0 => return Err(FrameError::NotAList),
            b'{' => self.enter()?,
            b'"' => self.place = Place::InString,
            b',' | b':' => self.count()?,
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                return Ok(self.depth == 0);
            }
            _ => {}
        }
        Ok(false)
    }

    fn enter(&mut self) -> Result<(), FrameError> {
        if self.depth == DEPTH_MAX {
            return Err(FrameError::TooDeep);
        }
        self.depth = self.depth.saturating_add(1);
        self.count()
    }

    fn count(&mut self) -> Result<(), FrameError> {
        self.values = self.values.saturating_add(1);
        if self.values > VALUES_MAX { Err(FrameError::TooManyValues) } else { Ok(()) }
    }
}

/// How deep lists and maps may be in one another, the frame itself counted.
pub(crate) const DEPTH_MAX: usize = 64;
/// The longest frame, in bytes, if nothing else is said.
pub(crate) const FRAME_LEN_MAX: usize = 16 * 1024 * 1024;
/// The most values in one frame: in memory each takes some 40 bytes, however short it was.
pub(crate) const VALUES_MAX: usize = 4 * 1024 * 1024;
