//! Levels and texts of rules, all in one run of bytes, nearly none of them twice.

use std::hash::{DefaultHasher, Hasher as _};

use super::LEVEL_BANNED_BELOW;

/// A label is a byte of level, a byte of length, then the text. Its name is where it begins, and whether it
/// bans: a question is answered without a look at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    bytes: Vec<u8>,
}

/// Labels that are still being gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct NewLabels {
    labels: Labels,
    /// Where labels begin that were seen lately, by a hash of theirs. A label that has lost its slot to
    /// another may be kept twice: that costs memory, which is bounded, and spares a table of them all.
    seen: Vec<u32>,
}

impl Labels {
    /// The level and the text of a label.
    pub(super) fn get(&self, label: u32) -> (u8, &str) {
        let rest = self.bytes.get((label & !BANS) as usize..).unwrap_or_default();
        let [level, len, text @ ..] = rest else { return (0, "") };
        let text = text.get(..usize::from(*len)).unwrap_or_default();
        (*level, std::str::from_utf8(text).unwrap_or_default())
    }
}

impl NewLabels {
    /// The label with this level and text. Of a long text the beginning is kept; when all texts take
    /// 16 MiB, none of any further.
    pub(super) fn add(&mut self, level: u8, text: &str) -> u32 {
        if self.seen.is_empty() {
            self.seen = vec![u32::MAX; SEEN_COUNT];
        }
        let text = clean(text);
        let is_room = self.labels.bytes.len() + text.len() + 2 <= TEXTS_LEN_MAX;
        let text = if is_room { text.as_str() } else { "" };
        let slot = slot(level, text);
        let known = self.seen[slot];
        if known != u32::MAX && self.labels.get(known) == (level, text) {
            return known;
        }
        // Labels without a text go in even when there is no room: they are two bytes long, and there are
        // few, seen again and again.
        let bans = if level < LEVEL_BANNED_BELOW { BANS } else { 0 };
        let label = self.labels.bytes.len() as u32 | bans;
        self.labels.bytes.extend_from_slice(&[level, text.len() as u8]);
        self.labels.bytes.extend_from_slice(text.as_bytes());
        self.seen[slot] = label;
        label
    }

    /// The labels, in no more memory than they need.
    pub(super) fn finish(mut self) -> Labels {
        self.labels.bytes.shrink_to_fit();
        self.labels
    }

    #[cfg(test)]
    pub(super) const fn labels(&self) -> &Labels {
        &self.labels
    }
}

/// One line, at most [`TEXT_LEN_MAX`] bytes long, that harms no terminal.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    text[..text.floor_char_boundary(TEXT_LEN_MAX)].trim_end().to_owned()
}

/// Whether the label's level is one that bans.
pub(super) const fn bans(label: u32) -> bool {
    label & BANS != 0
}

fn slot(level: u8, text: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.write_u8(level);
    hasher.finish() as usize % SEEN_COUNT
}

/// Above what texts and empty labels of four million rules can take.
const BANS: u32 = 1 << 31;
/// The length fits a byte.
const TEXT_LEN_MAX: usize = 255;
const TEXTS_LEN_MAX: usize = 16 * 1024 * 1024;
const SEEN_COUNT: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_are_kept_once() {
        let mut labels = NewLabels::default();
        let (a, b, c) = (labels.add(1, "x"), labels.add(2, "x"), labels.add(1, " x\n"));
        assert!(a == c && a != b);
        let labels = labels.finish();
        assert_eq!((labels.get(a), labels.get(b)), ((1, "x"), (2, "x")));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut labels = NewLabels::default();
        let label = labels.add(0, &"é".repeat(200));
        assert_eq!(labels.labels().get(label).1, "é".repeat(127));
    }

    #[test]
    fn when_texts_are_full_levels_still_count() {
        let mut labels = NewLabels::default();
        for number in 0..100_000 {
            labels.add(0, &format!("{number:0>255}"));
        }
        let label = labels.add(200, &"x".repeat(255));
        assert_eq!((labels.labels().get(label), bans(label)), ((200, ""), false));
        assert!(labels.finish().bytes.len() <= TEXTS_LEN_MAX + 600);
    }
}
