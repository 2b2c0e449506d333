//! Watch frames of recent events, encoded once for all watchers of a kind.
//!
//! A small ring by revision. A watcher that reads what everybody reads finds its frame here; one far behind encodes
//! for itself. Knows nothing of what a frame contains.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Frames kept a kind. At 100,000 events a second this covers 10 ms, which is how far apart live watchers are.
const FRAMES_MAX: usize = 1024;
/// Larger frames are not kept: 1,024 of them must stay small beside the objects.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// The media types that frames are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FrameMedia {
    Json,
    Protobuf,
}

#[derive(Clone)]
struct Slot {
    revision: i64,
    key: Bytes,
    media: FrameMedia,
    kind: &'static str,
    frame: Bytes,
}

/// The ring.
#[derive(Default)]
pub struct FrameCache {
    slots: Mutex<Vec<Option<Slot>>>,
    /// The last bookmark of each media type, and what it says: those that are due together mostly say the same.
    bookmarks: Mutex<[Option<(i64, Bytes)>; 2]>,
    readers: AtomicUsize,
}

impl FrameCache {
    /// One more watcher that may look for frames.
    pub fn enter(&self) {
        self.readers.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn leave(&self) {
        self.readers.fetch_sub(1, Relaxed);
    }

    /// Whether anybody else may want a frame that is encoded now.
    pub fn is_shared(&self) -> bool {
        self.readers.load(Relaxed) > 1
    }

    /// The bookmark that says this revision, encoded now if it is not the last one.
    pub fn bookmark(
        &self,
        revision: i64,
        media: FrameMedia,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Bytes {
        let mut bookmarks = self
            .bookmarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &mut bookmarks[usize::from(media == FrameMedia::Json)] {
            Some((last, frame)) if *last == revision => frame.clone(),
            last => {
                let mut frame = Vec::new();
                encode(&mut frame);
                let frame = Bytes::from(frame);
                *last = Some((revision, frame.clone()));
                frame
            }
        }
    }

    /// The frame of this event, encoded now if nobody did before. The key belongs to it: a lease that ends takes all
    /// its objects at one revision.
    pub fn get_or_encode<E>(
        &self,
        revision: i64,
        key: &Bytes,
        media: FrameMedia,
        kind: &'static str,
        encode: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let place = (revision.unsigned_abs() as usize * 2 + usize::from(media == FrameMedia::Json))
            % FRAMES_MAX;
        {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Some(slot)) = slots.get(place)
                && (slot.revision, slot.media, slot.kind, &slot.key) == (revision, media, kind, key)
            {
                return Ok(slot.frame.clone());
            }
        }
        let frame = encode()?;
        if frame.len() <= FRAME_BYTES_MAX {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.is_empty() {
                // Only kinds that are watched pay for a ring.
                slots.resize(FRAMES_MAX, None);
            }
            slots[place] = Some(Slot {
                revision,
                key: key.clone(),
                media,
                kind,
                frame: frame.clone(),
            });
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_encoded_once_for_each_media_type_and_event_kind() {
        let cache = FrameCache::default();
        let mut encoded = 0;
        let mut get = |revision, key: &'static str, media, kind| {
            let frame = cache.get_or_encode::<()>(revision, &Bytes::from(key), media, kind, || {
                encoded += 1;
                Ok(Bytes::from(format!("{revision}{key}{kind}")))
            });
            frame.unwrap()
        };
        assert_eq!(get(5, "a", FrameMedia::Json, "ADDED"), "5aADDED");
        assert_eq!(get(5, "a", FrameMedia::Json, "ADDED"), "5aADDED");
        assert_eq!(get(5, "b", FrameMedia::Json, "ADDED"), "5bADDED");
        assert_eq!(get(5, "b", FrameMedia::Protobuf, "ADDED"), "5bADDED");
        assert_eq!(get(5, "b", FrameMedia::Json, "DELETED"), "5bDELETED");
        assert_eq!(get(5 + 512, "b", FrameMedia::Json, "ADDED"), "517bADDED");
        assert_eq!(encoded, 5);
    }

    #[test]
    fn a_bookmark_is_encoded_once_while_nothing_happens() {
        let cache = FrameCache::default();
        let mut encoded = 0;
        let mut get = |revision: i64, media| {
            cache.bookmark(revision, media, |out| {
                encoded += 1;
                out.extend_from_slice(format!("{revision}{media:?}").as_bytes());
            })
        };
        assert_eq!(get(5, FrameMedia::Json), "5Json");
        assert_eq!(get(5, FrameMedia::Protobuf), "5Protobuf");
        assert_eq!(get(5, FrameMedia::Json), "5Json");
        assert_eq!(get(6, FrameMedia::Json), "6Json");
        assert_eq!(encoded, 3);
    }

    #[test]
    fn frames_are_shared_from_the_second_reader_on() {
        let cache = FrameCache::default();
        cache.enter();
        assert!(!cache.is_shared());
        cache.enter();
        assert!(cache.is_shared());
        cache.leave();
        assert!(!cache.is_shared());
    }
}
