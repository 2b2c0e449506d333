//! The short form of a pod's uid.
//!
//! Does not know pods.

use crate::hashing::{hash_one, hashing};

/// A pod's uid in 16 bytes: a UUID's own bits, or for any other text a 128-bit hash of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey([u64; 2]);

impl PodKey {
    /// The key of the UUID with these bits.
    pub const fn of_uuid(bits: u128) -> PodKey {
        PodKey([(bits >> 64) as u64, bits as u64])
    }

    pub(crate) const fn halves(self) -> [u64; 2] {
        self.0
    }

    pub(crate) const fn of_halves(halves: [u64; 2]) -> PodKey {
        PodKey(halves)
    }

    /// The key of a uid.
    pub fn of(uid: &str) -> PodKey {
        uuid_bits(uid).map_or_else(
            || {
                PodKey([
                    hash_one(&hashing(0x5eed), uid),
                    hash_one(&hashing(0xfeed), uid),
                ])
            },
            PodKey::of_uuid,
        )
    }
}

fn uuid_bits(uid: &str) -> Option<u128> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    if uid.len() != 36 {
        return None;
    }
    let mut bits = 0u128;
    for (at, byte) in uid.bytes().enumerate() {
        let digit = match byte {
            b'-' if DASHES.contains(&at) => continue,
            _ if DASHES.contains(&at) => return None,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        bits = bits << 4 | u128::from(digit);
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_keep_their_bits_and_other_texts_get_a_key_too() {
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(
            PodKey::of(uid),
            PodKey([0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef])
        );
        assert_eq!(PodKey::of("pod-1"), PodKey::of("pod-1"));
        assert_ne!(PodKey::of("pod-1"), PodKey::of("pod-2"));
        assert_ne!(
            PodKey::of("0123456789ab-cdef-0123-456789abcdef-"),
            PodKey::of(uid)
        );
    }
}
