//! Values at rest: one allocation of exact size, shared by the record, the history and readers.
//!
//! The bytes are copied once on the way in, because the caller's handle may pin a network buffer
//! many times its size. Tags ride behind the value.

use bytes::Bytes;
use std::sync::Arc;

const TAG_BYTES: usize = 8;
/// The blob holds a part of the value only ([`crate::past`]).
const THIN: u64 = 1 << 63;

/// A value and its tags; how many tags is for the owner to know.
pub(crate) type Blob = Arc<[u8]>;

pub(crate) fn new_blob(value: &[u8], tags: &[u64]) -> Blob {
    if tags.is_empty() {
        return Arc::from(value);
    }
    let len = value.len() + tags.len() * TAG_BYTES;
    let mut blob: Blob = std::iter::repeat_n(0u8, len).collect();
    if let Some(bytes) = Arc::get_mut(&mut blob) {
        let (head, tail) = bytes.split_at_mut(value.len());
        head.copy_from_slice(value);
        for (place, tag) in tail.chunks_exact_mut(TAG_BYTES).zip(tags) {
            place.copy_from_slice(&tag.to_le_bytes());
        }
    }
    blob
}

/// One version of a key: 48 bytes. Without a blob it says "deleted", or "never was" at revision 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Version {
    blob: Option<Blob>,
    pub(crate) create: i64,
    pub(crate) modified: i64,
    /// [`THIN`], then the version counter above eight bits of tag count.
    packed: u64,
    pub(crate) lease: i64,
}

impl Version {
    pub(crate) fn put(
        blob: Blob,
        tag_count: usize,
        create: i64,
        modified: i64,
        version: i64,
        lease: i64,
    ) -> Self {
        let packed = (version.unsigned_abs() << 8) | (tag_count as u64 & 0xff);
        Version {
            blob: Some(blob),
            create,
            modified,
            packed,
            lease,
        }
    }

    pub(crate) fn deleted(modified: i64) -> Self {
        Version {
            modified,
            ..Version::default()
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.blob.is_some()
    }

    pub(crate) fn version(&self) -> i64 {
        ((self.packed & !THIN) >> 8).cast_signed()
    }

    pub(crate) fn is_thin(&self) -> bool {
        self.packed & THIN != 0
    }

    /// The same with a part of the value; tags ride behind it as ever.
    pub(crate) fn with_thin_blob(self, blob: Blob) -> Version {
        Version {
            blob: Some(blob),
            packed: self.packed | THIN,
            ..self
        }
    }

    /// The same with all of the value.
    pub(crate) fn with_value(&self, value: &[u8]) -> Version {
        let tags: Vec<u64> = self.tags().collect();
        Version {
            blob: Some(new_blob(value, &tags)),
            packed: self.packed & !THIN,
            ..*self
        }
    }

    pub(crate) fn tag_count(&self) -> usize {
        (self.packed & 0xff) as usize
    }

    pub(crate) fn tag_bytes(&self) -> usize {
        self.tag_count() * TAG_BYTES
    }

    fn value_len(&self) -> usize {
        let len = self.blob.as_ref().map_or(0, |blob| blob.len());
        len.saturating_sub(self.tag_bytes())
    }

    pub(crate) fn blob_len(&self) -> u64 {
        self.blob.as_ref().map_or(0, |blob| blob.len() as u64)
    }

    pub(crate) fn blob(&self) -> Option<&Blob> {
        self.blob.as_ref()
    }

    pub(crate) fn value_slice(&self) -> &[u8] {
        debug_assert!(!self.is_thin(), "a part of a value read as all of it");
        self.blob
            .as_deref()
            .and_then(|blob| blob.get(..self.value_len()))
            .unwrap_or_default()
    }

    /// The value as a shared handle.
    pub(crate) fn value(&self) -> Bytes {
        debug_assert!(!self.is_thin(), "a part of a value read as all of it");
        let len = self.value_len();
        match &self.blob {
            Some(blob) if len > 0 => Bytes::from_owner(Held {
                blob: blob.clone(),
                len,
            }),
            _ => Bytes::new(),
        }
    }

    pub(crate) fn tag_slice(&self) -> &[u8] {
        self.blob
            .as_deref()
            .and_then(|blob| blob.get(self.value_len()..))
            .unwrap_or_default()
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = u64> + '_ {
        self.tag_slice()
            .chunks_exact(TAG_BYTES)
            .filter_map(|chunk| <[u8; TAG_BYTES]>::try_from(chunk).ok())
            .map(u64::from_le_bytes)
    }
}

/// A key or value as the owner behind a [`Bytes`].
struct Held {
    blob: Blob,
    len: usize,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.blob.get(..self.len).unwrap_or_default()
    }
}

/// A shared key as [`Bytes`].
pub(crate) fn key_bytes(key: &Arc<[u8]>) -> Bytes {
    if key.is_empty() {
        return Bytes::new();
    }
    Bytes::from_owner(Held {
        blob: key.clone(),
        len: key.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_ride_behind_the_value() {
        let tags = [7, u64::MAX];
        let version = Version::put(new_blob(b"value", &tags), tags.len(), 3, 4, 2, 9);
        assert_eq!(version.value_slice(), b"value");
        assert_eq!(&version.value()[..], b"value");
        assert_eq!(version.tags().collect::<Vec<_>>(), tags);
        assert_eq!(version.version(), 2);
        assert_eq!(version.blob_len(), 21);
        assert_eq!(std::mem::size_of::<Version>(), 48);
    }
}
