//! The node ID that a node gives itself: from a pattern, its profile's name, and what makes it unique.

use super::{ConfigError, Facts};
use crate::NodeId;

/// A node's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnId {
    pub(super) id: NodeId,
    /// Whether no other run of any program has the same.
    pub(super) is_unique: bool,
}

/// Fills in a pattern: `%n` becomes the machine's name, `%u` and a `/` at the end get `unique`.
///
/// Without a pattern the name of the profile and a `/` are one.
pub(super) fn own_id(
    pattern: Option<&str>,
    profile: &str,
    unique: &str,
    facts: &Facts,
) -> Result<OwnId, ConfigError> {
    let profiles_own = format!("{profile}/");
    let pattern = pattern.unwrap_or(&profiles_own);
    let mut is_unique = false;
    let mut text = String::new();
    let mut parts = pattern.split('%');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        if let Some(rest) = part.strip_prefix('n') {
            text.push_str(&facts.nodename);
            text.push_str(rest);
        } else if let Some(rest) = part.strip_prefix('u') {
            is_unique = true;
            text.push_str(unique);
            text.push_str(rest);
        } else {
            text.push('%');
            text.push_str(part);
        }
        // A pattern may repeat the machine's name more often than any node ID has room for.
        if text.len() > TEXT_LEN_MAX {
            break;
        }
    }
    if text.ends_with('/') {
        is_unique = true;
        text.push_str(unique);
    }
    match NodeId::new(&text) {
        Ok(id) => Ok(OwnId { id, is_unique }),
        Err(source) => Err(ConfigError::NodeId { text: text.chars().take(300).collect(), source }),
    }
}

/// Eleven letters and digits that no other run has: 64 bits of chance.
///
/// Names of ports put a count in small letters behind it, so it does not end in one: otherwise `ab` and `c`
/// would be the same port as `a` and `bc`.
pub(super) fn unique(random: [u8; 16]) -> String {
    let mut left = u128::from_le_bytes(random);
    let mut text: String = (0..UNIQUE_LEN)
        .map(|_| {
            let digit = usize::try_from(left % 62).expect("less than 62");
            left /= 62;
            char::from(BASE62[digit])
        })
        .collect();
    let last = text.pop().map(|c| c.to_ascii_uppercase());
    text.extend(last);
    text
}

const UNIQUE_LEN: usize = 11;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Well above the longest node ID.
const TEXT_LEN_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled_in() {
        for (pattern, id, is_unique) in [
            (None, "prof/UUU", true),
            (Some("seed1"), "seed1", false),
            (Some("anon/"), "anon/UUU", true),
            (Some("aemp/%n/%u"), "aemp/here/UUU", true),
            (Some("%u%u%n%n"), "UUUUUUherehere", true),
            (Some("%u/"), "UUU/UUU", true),
            (Some("a/b"), "a/b", false),
            (Some("100%"), "100%", false),
            (Some("%%n%x"), "%here%x", false),
        ] {
            let own = own_id(pattern, "prof", "UUU", &Facts::for_tests()).expect("an ID");
            assert_eq!((own.id.as_str(), own.is_unique), (id, is_unique), "{pattern:?}");
        }
    }

    #[test]
    fn what_the_machine_is_called_is_not_a_pattern() {
        let facts = Facts { nodename: "%u/".into(), ..Facts::for_tests() };
        let own = own_id(Some("%n."), "prof", "UUU", &facts).expect("an ID");
        assert_eq!((own.id.as_str(), own.is_unique), ("%u/.", false));
    }

    #[test]
    fn an_empty_or_wrong_name_is_an_error() {
        for pattern in ["", "a#b", "a;b", "a\nb", &"%n".repeat(1 << 20)] {
            let error = own_id(Some(pattern), "prof", "UUU", &Facts::for_tests());
            let error = error.expect_err("no ID").to_string();
            assert!(error.starts_with("illegal node ID"), "{error}");
            assert!(error.len() < 1000);
        }
    }

    #[test]
    fn what_makes_unique_is_of_letters_and_digits_and_ends_in_no_small_letter() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..1000_u128 {
            let random = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let text = unique(random.to_le_bytes());
            assert_eq!(text.len(), 11);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert!(!text.ends_with(|c: char| c.is_ascii_lowercase()));
            assert!(seen.insert(text));
        }
    }
}
