//! Uids in 16 bytes: a UUID is its number, any other text a number given by a table.

use std::collections::HashMap;

/// A uid's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Uid(u128);

/// Numbers for uids that are no UUIDs. Grows with their number only; API servers assign UUIDs.
#[derive(Debug, Default)]
pub(super) struct Uids {
    odd: HashMap<Box<str>, u128>,
    texts: Vec<Box<str>>,
}

/// UUIDs carry version bits in this nibble; numbers of odd uids leave it zero.
const VERSION_BITS: u128 = 0xf << 76;

impl Uids {
    /// The number of a uid.
    pub(super) fn number(&mut self, text: &str) -> Uid {
        if let Some(number) = parse(text) {
            return Uid(number);
        }
        let next = self.texts.len() as u128;
        let number = *self.odd.entry(text.into()).or_insert(next);
        if number == next {
            self.texts.push(text.into());
        }
        Uid(number)
    }

    /// The uid of a number.
    pub(super) fn text(&self, uid: Uid) -> String {
        if uid.0 & VERSION_BITS == 0 {
            let index = usize::try_from(uid.0).ok();
            return index
                .and_then(|index| self.texts.get(index))
                .map_or_else(String::new, |text| text.to_string());
        }
        let hex = format!("{:032x}", uid.0);
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}

/// What a digit stands for; what is none has bits above the four.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

/// Lower-case hyphenated UUIDs with a version only: the text must come back exactly.
fn parse(text: &str) -> Option<u128> {
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if [8, 13, 18, 23].iter().any(|place| bytes[*place] != b'-') {
        return None;
    }
    let mut odd = 0;
    let mut half = |groups: &[std::ops::Range<usize>]| {
        let digits = groups.iter().flat_map(|group| &bytes[group.clone()]);
        digits.fold(0u64, |number, byte| {
            let digit = DIGITS[usize::from(*byte)];
            odd |= digit;
            number << 4 | u64::from(digit & 0xf)
        })
    };
    let (high, low) = (half(&[0..8, 9..13, 14..18]), half(&[19..23, 24..36]));
    let number = u128::from(high) << 64 | u128::from(low);
    (odd < 16 && number & VERSION_BITS != 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        let mut uids = Uids::default();
        for text in [
            "7d9c6f3e-1b2a-4c5d-8e9f-0a1b2c3d4e5f",
            "odd",
            "",
            "7D9C6F3E-1B2A-4C5D-8E9F-0A1B2C3D4E5F",
            "00000000-0000-4000-8000-00000000000a",
            "00000000-0000-4000-8000-00000000000g",
            "00000000-0000-4000-800000-0000000000a",
            "00000000-0000-0000-8000-00000000000a",
            "odd",
        ] {
            let number = uids.number(text);
            assert_eq!(uids.text(number), text);
            assert_eq!(uids.number(text), number);
        }
    }
}
