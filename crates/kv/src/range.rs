//! Ranges of keys in byte order. Knows no store.

use crate::Key;
use bytes::Bytes;

/// Where a range of keys stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The range is the single key it starts with.
    One,
    /// Up to, and without, this key.
    Before(Key),
    /// All keys from the start on.
    Unbounded,
}

/// A range of keys: `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in the range.
    pub start: Key,
    /// Where it stops.
    pub end: End,
}

impl KeyRange {
    /// One key.
    pub fn one(key: impl Into<Bytes>) -> Self {
        KeyRange {
            start: key.into(),
            end: End::One,
        }
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = match prefix_end(&start) {
            Some(end) => End::Before(end.into()),
            None => End::Unbounded,
        };
        KeyRange { start, end }
    }

    /// Every key there is.
    #[must_use]
    pub fn all() -> Self {
        KeyRange {
            start: Bytes::new(),
            end: End::Unbounded,
        }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::One => key == self.start,
            End::Before(end) => key >= &self.start[..] && key < &end[..],
            End::Unbounded => key >= &self.start[..],
        }
    }

    /// Whether some key that starts with `prefix` could lie in the range.
    ///
    /// `["/a/m", "/b")` touches the prefixes `/a/`, `/a/z` and the empty one, but not `/b/`.
    #[must_use]
    pub fn touches_prefix(&self, prefix: &[u8]) -> bool {
        match &self.end {
            End::One => self.start.starts_with(prefix),
            End::Before(end) => {
                &end[..] > prefix && (self.start.starts_with(prefix) || &self.start[..] <= prefix)
            }
            End::Unbounded => self.start.starts_with(prefix) || &self.start[..] <= prefix,
        }
    }
}

/// The first key after all keys that start with `prefix`; none when no key can come after them.
#[must_use]
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    let last = end.last_mut()?;
    *last += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_could_begin() {
        assert_eq!(
            KeyRange::prefix("/a/").end,
            End::Before(Bytes::from_static(b"/a0"))
        );
        assert_eq!(
            KeyRange::prefix(vec![1, 0xff]).end,
            End::Before(Bytes::from_static(&[2]))
        );
        assert_eq!(KeyRange::prefix(vec![0xff, 0xff]).end, End::Unbounded);
        assert_eq!(KeyRange::prefix("").end, End::Unbounded);
    }

    #[test]
    fn a_range_knows_which_prefixes_it_crosses() {
        let range = KeyRange {
            start: "/a/m".into(),
            end: End::Before("/b".into()),
        };
        assert!(range.touches_prefix(b"/a/"));
        assert!(range.touches_prefix(b"/a/z"));
        assert!(range.touches_prefix(b""));
        assert!(!range.touches_prefix(b"/b/"));
        assert!(!range.touches_prefix(b"/a/a"));
        assert!(KeyRange::one("/a/m").touches_prefix(b"/a/"));
        assert!(!KeyRange::one("/a/m").touches_prefix(b"/b/"));
        assert!(KeyRange::all().touches_prefix(b"/x/"));
    }
}
