//! Versions that were replaced, kept as what of them differs from the version that came after.
//!
//! ```text
//!   replaced   metadata … spec holder, renewTime: A …          after   metadata … spec holder, renewTime: B …
//!   kept       same 311 bytes in front │ A │ same 24 behind
//! ```
//!
//! Most changes of an object change a few bytes of it: a heartbeat its time, a pod its status. So history costs what
//! changed, not what there is. The last version of a key is always whole, and of those before every
//! [`WHOLE_EVERY`]th, so that nobody has to go far to restore one.
//!
//! Does not know where the version that came after is kept.

use std::sync::Arc;

use crate::blob::{Blob, Version};

/// Of a key's versions, one in so many is kept whole: at most so many steps restore one.
pub(crate) const WHOLE_EVERY: i64 = 16;
/// Lengths of what is the same in front and behind.
const HEAD_BYTES: usize = 8;

/// A version that was replaced.
#[derive(Debug, Default)]
pub(crate) struct Past(Version);

impl Past {
    /// Takes a version that `after` replaced.
    pub(crate) fn of(old: Version, after: &Version) -> Past {
        let thin = (old.exists() && after.exists() && old.version() % WHOLE_EVERY != 0)
            .then(|| thinned(&old, after.value_slice()))
            .flatten();
        match thin {
            Some(blob) => Past(old.with_thin_blob(blob)),
            None => Past(old),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.exists()
    }

    pub(crate) fn modified(&self) -> i64 {
        self.0.modified
    }

    /// Bytes that it holds.
    pub(crate) fn blob_len(&self) -> u64 {
        self.0.blob_len()
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.tags()
    }

    /// All of it, if it is kept whole.
    pub(crate) fn whole(&self) -> Option<&Version> {
        (!self.0.is_thin()).then_some(&self.0)
    }

    /// Whether it is kept as a part, and has the same first `bytes` as the version that came after.
    pub(crate) fn agrees_in_front(&self, bytes: usize) -> bool {
        let thin = self.0.blob().filter(|_| self.0.is_thin());
        let front = thin.and_then(|thin| thin.first_chunk::<4>());
        front.is_some_and(|front| u32::from_le_bytes(*front) as usize >= bytes)
    }

    /// Its value, from that of the version that came after.
    pub(crate) fn value(&self, after: &[u8]) -> Vec<u8> {
        let Some(thin) = self.0.blob().filter(|_| self.0.is_thin()) else {
            return self.0.value_slice().to_vec();
        };
        let length = |at: usize| {
            let bytes = thin.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default()) as usize
        };
        let (front, behind) = (length(0), length(4));
        let tags_at = thin.len().saturating_sub(self.0.tag_bytes());
        let middle = thin.get(HEAD_BYTES..tags_at).unwrap_or_default();
        let mut value = Vec::with_capacity(front + middle.len() + behind);
        value.extend_from_slice(after.get(..front).unwrap_or_default());
        value.extend_from_slice(middle);
        let tail = after.len().saturating_sub(behind);
        value.extend_from_slice(after.get(tail..).unwrap_or_default());
        value
    }

    /// The version with this value.
    pub(crate) fn restored(&self, value: &[u8]) -> Version {
        self.0.with_value(value)
    }
}

/// What differs, if that is less than half.
fn thinned(old: &Version, after: &[u8]) -> Option<Blob> {
    let value = old.value_slice();
    let front = same_in_front(value, after);
    let rest = value.len().min(after.len()) - front;
    let behind = same_behind(value, after, rest);
    let middle = value.get(front..value.len() - behind)?;
    if (HEAD_BYTES + middle.len()) * 2 > value.len() {
        return None;
    }
    let [front, behind] = [front, behind].map(|length| u32::try_from(length).ok());
    let (front, behind) = (front?.to_le_bytes(), behind?.to_le_bytes());
    let tags = old.tag_slice();
    let mut blob: Blob = std::iter::repeat_n(0u8, HEAD_BYTES + middle.len() + tags.len()).collect();
    let mut rest = Arc::get_mut(&mut blob)?;
    for part in [&front[..], &behind[..], middle, tags] {
        let (place, more) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = more;
    }
    Some(blob)
}

const STEP: usize = 16;

fn same_in_front(left: &[u8], right: &[u8]) -> usize {
    let steps = left.chunks_exact(STEP).zip(right.chunks_exact(STEP));
    let same = steps.take_while(|(left, right)| left == right).count() * STEP;
    let rest = left[same..].iter().zip(&right[same..]);
    same + rest.take_while(|(left, right)| left == right).count()
}

/// The same from the end, at most `max`.
fn same_behind(left: &[u8], right: &[u8], max: usize) -> usize {
    let left = &left[left.len() - max..];
    let right = &right[right.len() - max..];
    let steps = left.rchunks_exact(STEP).zip(right.rchunks_exact(STEP));
    let same = steps.take_while(|(left, right)| left == right).count() * STEP;
    let (left, right) = (&left[..max - same], &right[..max - same]);
    let rest = left.iter().rev().zip(right.iter().rev());
    same + rest.take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::new_blob;

    fn version(value: &[u8], tags: &[u64], counter: i64) -> Version {
        Version::put(new_blob(value, tags), tags.len(), 3, 4, counter, 9)
    }

    /// Whatever is changed, inserted or cut out comes back, tags and all.
    #[test]
    fn every_version_comes_back() {
        let mut seed = 7u64;
        let mut roll = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below.max(1)
        };
        let mut thin = 0;
        for round in 0..20_000 {
            let old: Vec<u8> = (0..roll(200)).map(|_| roll(3) as u8).collect();
            let mut after = old.clone();
            for _ in 0..roll(3) {
                let (at, upto) = (roll(after.len()), roll(8));
                let end = (at + upto).min(after.len());
                let new: Vec<u8> = (0..roll(8)).map(|_| roll(3) as u8).collect();
                after.splice(at.min(end)..end, new);
            }
            let tags: Vec<u64> = (0..roll(3)).map(|tag| tag as u64).collect();
            let past = Past::of(version(&old, &tags, 5), &version(&after, &[], 6));
            thin += usize::from(past.whole().is_none());
            let value = past.value(&after);
            assert_eq!(value, old, "round {round}");
            let restored = past.restored(&value);
            assert_eq!(restored.value_slice(), old);
            assert_eq!(restored.tags().collect::<Vec<_>>(), tags);
            assert_eq!(past.tags().collect::<Vec<_>>(), tags);
            assert_eq!((restored.create, restored.modified), (3, 4));
            assert_eq!((restored.version(), restored.lease), (5, 9));
            assert!(!restored.is_thin());
        }
        assert!(thin > 10_000, "{thin}");
    }

    #[test]
    fn a_heartbeat_costs_its_time_and_some_versions_stay_whole() {
        let before = [[7; 300].as_slice(), b"12345", &[9; 30]].concat();
        let after = [[7; 300].as_slice(), b"12399", &[9; 30]].concat();
        let past = Past::of(version(&before, &[], 5), &version(&after, &[], 6));
        assert_eq!(past.blob_len(), HEAD_BYTES as u64 + 2);
        let past = Past::of(
            version(&before, &[], 2 * WHOLE_EVERY),
            &version(&after, &[], 33),
        );
        assert!(past.whole().is_some());
        let gone = Past::of(version(&before, &[], 5), &Version::deleted(7));
        assert!(gone.whole().is_some());
        assert!(!Past::of(Version::deleted(6), &version(&after, &[], 1)).exists());
    }
}
