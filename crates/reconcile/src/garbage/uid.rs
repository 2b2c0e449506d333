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

/// Lower-case hyphenated UUIDs with a version only: the text must come back exactly.
fn parse(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut number = 0u128;
    for (position, byte) in bytes.iter().enumerate() {
        match (position, byte) {
            (8 | 13 | 18 | 23, b'-') => {}
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9') => number = number << 4 | u128::from(byte - b'0'),
            (_, b'a'..=b'f') => number = number << 4 | u128::from(byte - b'a' + 10),
            _ => return None,
        }
    }
    (number & VERSION_BITS != 0).then_some(number)
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
            "odd",
        ] {
            let number = uids.number(text);
            assert_eq!(uids.text(number), text);
            assert_eq!(uids.number(text), number);
        }
    }
}
