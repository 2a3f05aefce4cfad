//! Names that the node makes: letters and digits that no run of any node makes again.

/// Digits, in order of their value.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The name of a port that we made: it tells where the port lies.
pub(super) fn of_slot(unique: &str, slot: u32, generation: u32) -> String {
    let mut name = String::with_capacity(unique.len() + 11);
    name.push_str(unique);
    push_number(&mut name, u64::from(generation) << 32 | u64::from(slot));
    name
}

/// Where the port lies that has this name, if we may have made it: its slot and generation.
pub(super) fn slot_of(unique: &str, name: &str) -> Option<(u32, u32)> {
    let number = parse_number(name.strip_prefix(unique)?)?;
    Some(((number & u64::from(u32::MAX)) as u32, (number >> 32) as u32))
}

/// 65 random bits as eleven letters and digits, as far as `random` is random.
pub(crate) fn unique(mut random: impl FnMut() -> u64) -> String {
    let high = random() % 62;
    let mut number = random();
    let mut text = String::with_capacity(11);
    text.push(char::from(DIGITS[10 + high as usize % 52]));
    for _ in 0..10 {
        text.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
    text
}

/// Appends a number in base 62.
pub(super) fn push_number(text: &mut String, number: u64) {
    let mut digits = [0; 11];
    let (mut rest, mut start) = (number, digits.len());
    loop {
        start -= 1;
        digits[start] = DIGITS[(rest % 62) as usize];
        rest /= 62;
        if rest == 0 {
            break;
        }
    }
    text.extend(digits[start..].iter().map(|digit| char::from(*digit)));
}

fn parse_number(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 11 || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.bytes().try_fold(0u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(value.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_where_its_port_lies() {
        for (slot, generation) in
            [(0, 0), (61, 0), (62, 0), (u32::MAX, 0), (7, 1), (u32::MAX, u32::MAX)]
        {
            let name = of_slot("abc", slot, generation);
            assert_eq!(slot_of("abc", &name), Some((slot, generation)), "{name}");
        }
    }

    #[test]
    fn what_we_would_not_make_is_nobodys_name() {
        for name in ["abc", "abc00", "abc-", "abd1", "abczzzzzzzzzzz", "abcü", ""] {
            assert_eq!(slot_of("abc", name), None, "{name}");
        }
    }

    #[test]
    fn what_is_unique_has_eleven_characters() {
        let mut state = 1u64;
        let text = unique(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        });
        assert_eq!(text.len(), 11);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
