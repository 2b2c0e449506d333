//! The bytes of a watch in protobuf, cut into its events as they come in pieces of any size.
//!
//! Holds the rest of a piece and nothing else: who waits for an event takes a few words. Knows no connection.

use bytes::BytesMut;

/// The length before each event, big-endian.
const HEAD_BYTES: usize = 4;
/// Largest event that is waited for: an object of the request limit with room for its envelope.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something appeared, changed or went.
    Change,
    /// Everything so far has been sent.
    Bookmark,
    /// The watch cannot go on: history is gone.
    Error,
}

/// Cuts one watch.
#[derive(Debug, Default)]
pub struct EventCutter {
    rest: BytesMut,
}

impl EventCutter {
    /// Takes a piece, and hands over each event that is whole: what it is, and its object in its envelope.
    pub fn take(
        &mut self,
        piece: &[u8],
        mut on_event: impl FnMut(Kind, &[u8]),
    ) -> Result<(), String> {
        if self.rest.is_empty() {
            let used = cut(piece, &mut on_event)?;
            if used < piece.len() {
                self.rest.extend_from_slice(&piece[used..]);
            }
            return Ok(());
        }
        self.rest.extend_from_slice(piece);
        let used = cut(&self.rest, &mut on_event)?;
        if used == self.rest.len() {
            // A watch that waits holds no room.
            self.rest = BytesMut::new();
        } else {
            let _ = self.rest.split_to(used);
        }
        Ok(())
    }
}

/// Hands over the whole events at the beginning, and says how many bytes they were.
fn cut(bytes: &[u8], on_event: &mut impl FnMut(Kind, &[u8])) -> Result<usize, String> {
    let mut used = 0;
    while let Some((head, rest)) = bytes[used..].split_first_chunk::<HEAD_BYTES>() {
        let length = u32::from_be_bytes(*head) as usize;
        if length > EVENT_BYTES_MAX {
            return Err(format!("an event of {length} bytes is announced"));
        }
        let Some(message) = rest.get(..length) else {
            break;
        };
        let (word, object) =
            schema::envelope::watch_event(message).map_err(|error| error.to_string())?;
        let kind = match word {
            "ADDED" | "MODIFIED" | "DELETED" => Kind::Change,
            "BOOKMARK" => Kind::Bookmark,
            "ERROR" => Kind::Error,
            other => return Err(format!("{other:?} is no event")),
        };
        on_event(kind, object);
        used += HEAD_BYTES + length;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(word: &str, object: &[u8]) -> Vec<u8> {
        let mut message = vec![0x0a, word.len() as u8];
        message.extend_from_slice(word.as_bytes());
        // The object is the field "raw" of a RawExtension.
        message.extend_from_slice(&[0x12, object.len() as u8 + 2, 0x0a, object.len() as u8]);
        message.extend_from_slice(object);
        let mut frame = (message.len() as u32).to_be_bytes().to_vec();
        frame.extend(message);
        frame
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_split() {
        let stream = [
            event("ADDED", b"one"),
            event("BOOKMARK", b""),
            event("MODIFIED", b"three"),
            event("ERROR", b"4"),
        ]
        .concat();
        let expected = vec![
            (Kind::Change, b"one".to_vec()),
            (Kind::Bookmark, b"".to_vec()),
            (Kind::Change, b"three".to_vec()),
            (Kind::Error, b"4".to_vec()),
        ];
        for size in 1..=stream.len() {
            let (mut cutter, mut seen) = (EventCutter::default(), Vec::new());
            for piece in stream.chunks(size) {
                cutter
                    .take(piece, |kind, object| seen.push((kind, object.to_vec())))
                    .unwrap();
            }
            assert_eq!(seen, expected, "pieces of {size}");
            assert_eq!(cutter.rest.capacity(), 0);
        }
    }

    #[test]
    fn what_is_no_event_is_told() {
        let take = |bytes: &[u8]| EventCutter::default().take(bytes, |_, _| {});
        assert!(take(&[0xff; 4]).unwrap_err().contains("announced"));
        assert!(take(&event("FLOWN", b"")).unwrap_err().contains("no event"));
    }
}
