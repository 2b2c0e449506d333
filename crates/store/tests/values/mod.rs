//! Values for random histories. Knows no store.

use bytes::Bytes;

/// Values that differ little, as versions of an object do: so history keeps most of them by their differences.
pub fn value_of(byte: u8) -> Bytes {
    let changed = vec![byte; usize::from(byte) % 9];
    match byte % 5 {
        0 => changed.into(),
        _ => [
            &b"the same in front of every value: "[..],
            &changed,
            b" and the same behind",
        ]
        .concat()
        .into(),
    }
}
