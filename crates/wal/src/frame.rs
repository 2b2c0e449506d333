//! Frames: the unit that is written, checked and believed as a whole.
//!
//! ```text
//!   len u32 │ crc32c u32 │ sequence u64 │ synced u64 │ payload (len bytes)
//!             over everything after it
//! ```
//! `sequence` counts frames over all segments. `synced` is how many bytes of this file were known to
//! be on the medium when the frame was written: a bad byte before that is damage, after it a torn tail.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};

/// Bytes before the payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;
const UNCHECKED_BYTES: usize = 8;

/// A frame is closed when it has grown to this: a disk writes it in about a millisecond.
pub(crate) const FRAME_BYTES_TARGET: usize = 1 << 20;

/// No frame is larger: the largest value, and one frame's worth of others.
pub(crate) const FRAME_BYTES_MAX: usize = store::limits::VALUE_BYTES_MAX + 4 * FRAME_BYTES_TARGET;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) synced: u64,
    pub(crate) payload: Bytes,
}

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Leaves room for the header of a frame; answers where it begins.
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + FRAME_HEADER_BYTES, 0);
    start
}

/// Fills in the header of the frame that began at `start` and ends here.
pub(crate) fn finish(out: &mut [u8], start: usize, sequence: u64, synced: u64) {
    let Some(frame) = out.get_mut(start..) else {
        return;
    };
    let len = frame.len().saturating_sub(FRAME_HEADER_BYTES) as u32;
    put(frame, 8, &sequence.to_le_bytes());
    put(frame, 16, &synced.to_le_bytes());
    let crc = crc(frame.get(UNCHECKED_BYTES..).unwrap_or_default()) ^ len;
    put(frame, 0, &len.to_le_bytes());
    put(frame, 4, &crc.to_le_bytes());
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// What the first bytes say the whole frame's length is, if that is possible at all.
pub(crate) fn frame_len(header: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(header.get(..4)?.try_into().ok()?) as usize;
    (len <= FRAME_BYTES_MAX).then_some(len + FRAME_HEADER_BYTES)
}

/// The frame that `bytes` begins with, if it is whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<Frame> {
    let frame = bytes.get(..frame_len(bytes)?)?;
    let word = |at: usize| Some(u32::from_le_bytes(frame.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(frame.get(at..at + 8)?.try_into().ok()?));
    if crc(frame.get(UNCHECKED_BYTES..)?) ^ word(0)? != word(4)? {
        return None;
    }
    let payload = Bytes::copy_from_slice(frame.get(FRAME_HEADER_BYTES..)?);
    Some(Frame {
        sequence: long(8)?,
        synced: long(16)?,
        payload,
    })
}

/// Whether a frame in `bytes`, anywhere, proves that the byte at `offset` had been synced.
/// `bytes` are what follows the last good frame; sequences below `sequence` are no proof.
pub(crate) fn proves_synced(bytes: &[u8], offset: u64, sequence: u64) -> bool {
    (0..bytes.len()).any(|at| {
        let Some(rest) = bytes.get(at..) else {
            return false;
        };
        // Cheap tests first: only a plausible header is worth a checksum.
        let Some(long) = rest.get(8..16).and_then(|long| long.try_into().ok()) else {
            return false;
        };
        let found = u64::from_le_bytes(long);
        found >= sequence
            && found - sequence < u64::from(u32::MAX)
            && parse(rest).is_some_and(|frame| frame.synced > offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_or_nothing() {
        let mut out = Vec::new();
        let start = begin(&mut out);
        out.extend_from_slice(b"payload");
        finish(&mut out, start, 7, 20);
        let frame = Frame {
            sequence: 7,
            synced: 20,
            payload: Bytes::from_static(b"payload"),
        };
        assert_eq!(parse(&out), Some(frame));
        for at in 0..out.len() {
            for bit in 0..8 {
                let mut flipped = out.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(parse(&flipped), None, "byte {at} bit {bit}");
            }
            assert_eq!(parse(&out[..at]), None);
        }
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc(b"123456789"), 0xe306_9283);
    }
}
