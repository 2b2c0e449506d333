//! Which keys somebody may touch: ranges, merged. Knows no users and no requests.
//!
//! ```text
//!   granted:  [a──────d)   [c────────m)   [m──────p)        one key: q
//!   kept:     [a───────────────────────────────────p)       [q, q\0)
//! ```
//!
//! Kept ranges neither overlap nor touch, so that whoever asks about a range needs to look at one of them only.

use std::cmp::Ordering;

use bytes::Bytes;
use kv::{End, KeyRange};

/// Some ranges of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals(Vec<Interval>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    /// None: there is no end.
    end: Option<Bytes>,
}

/// Compares ends, where none is the farthest.
fn compare_ends(left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => left.cmp(right),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

/// A range as start and end; none if it is empty. No key is empty, and a range from there on is none that etcd would
/// have given to anybody.
fn interval(range: KeyRange) -> Option<Interval> {
    let KeyRange { start, end } = range;
    if start.is_empty() {
        return None;
    }
    let end = match end {
        End::One => Some([&start[..], &[0]].concat().into()),
        End::Before(end) if end > start => Some(end),
        End::Before(_) => return None,
        End::Unbounded => None,
    };
    Some(Interval { start, end })
}

impl Intervals {
    /// Merges what overlaps or touches.
    pub fn merged(ranges: impl IntoIterator<Item = KeyRange>) -> Intervals {
        let mut all: Vec<Interval> = ranges.into_iter().filter_map(interval).collect();
        all.sort_by(|left, right| left.start.cmp(&right.start));
        let mut merged: Vec<Interval> = Vec::with_capacity(all.len());
        for next in all {
            match merged.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| *end >= next.start) => {
                    if compare_ends(last.end.as_deref(), next.end.as_deref()).is_lt() {
                        last.end = next.end;
                    }
                }
                _ => merged.push(next),
            }
        }
        Intervals(merged)
    }

    /// Whether all of a range is in here. One that is empty is, if the key it begins with is.
    pub fn cover(&self, range: &KeyRange) -> bool {
        let after = self.0.partition_point(|one| one.start <= range.start);
        let Some(one) = after.checked_sub(1).and_then(|last| self.0.get(last)) else {
            return false;
        };
        if one.end.as_ref().is_some_and(|end| *end <= range.start) {
            return false;
        }
        match &range.end {
            End::One => true,
            End::Before(end) => compare_ends(one.end.as_deref(), Some(end)).is_ge(),
            End::Unbounded => one.end.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        etcd_wire::key_range(&start.into(), &end.into())
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let some = Intervals::merged([
            range("c", "m"),
            range("a", "d"),
            range("m", "p"),
            range("q", ""),
            range("z", "y"),
            range("", "\0"),
        ]);
        assert_eq!(
            some,
            Intervals(vec![
                Interval {
                    start: "a".into(),
                    end: Some("p".into())
                },
                Interval {
                    start: "q".into(),
                    end: Some("q\0".into())
                },
            ])
        );
    }

    #[test]
    fn all_of_a_range_must_be_covered() {
        let some = Intervals::merged([range("b", "d"), range("k", ""), range("x", "\0")]);
        for (start, end) in [
            ("b", ""),
            ("c\u{ff}", ""),
            ("b", "d"),
            ("c", "cc"),
            ("k", ""),
            ("k", "k\0"),
            ("x", "\0"),
            ("z", "zz"),
            // Nothing is in these.
            ("c", "c"),
            ("c", "a"),
        ] {
            assert!(some.cover(&range(start, end)), "{start:?} {end:?}");
        }
        for (start, end) in [
            ("a", ""),
            ("d", ""),
            ("b", "d\0"),
            ("a", "c"),
            ("c", "l"),
            ("c", "\0"),
            ("k\0", ""),
            ("k", "l"),
            ("a", "\0"),
            ("e", "a"),
        ] {
            assert!(!some.cover(&range(start, end)), "{start:?} {end:?}");
        }
        assert!(!Intervals::default().cover(&range("a", "")));
    }

    /// Keys of few letters, so that ranges meet often.
    fn key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0_u8..3, 1..4).prop_map(Bytes::from)
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        (key(), key(), 0..4).prop_map(|(start, other, kind)| {
            let end = match kind {
                0 => End::One,
                1 if start.len() == 1 => End::Unbounded,
                _ => End::Before(other),
            };
            KeyRange { start, end }
        })
    }

    /// The places where something may begin to be missing: where the range begins, and where what was granted ends.
    fn missing(granted: &[KeyRange], asked: &KeyRange) -> bool {
        let after = |range: &KeyRange| match &range.end {
            End::One => Some([&range.start[..], &[0]].concat().into()),
            End::Before(end) => Some(end.clone()),
            End::Unbounded => None,
        };
        let ends = granted.iter().filter_map(after);
        let mut places = std::iter::once(asked.start.clone()).chain(ends);
        places.any(|key| asked.contains(&key) && !granted.iter().any(|range| range.contains(&key)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn a_merged_range_says_what_its_parts_say(
            granted in proptest::collection::vec(any_range(), 0..7),
            asked in any_range(),
        ) {
            let is_empty = matches!(&asked.end, End::Before(end) if *end <= asked.start);
            let merged = Intervals::merged(granted.clone());
            let meant = if is_empty { KeyRange::one(asked.start.clone()) } else { asked.clone() };
            prop_assert_eq!(merged.cover(&asked), !missing(&granted, &meant));
        }
    }
}
