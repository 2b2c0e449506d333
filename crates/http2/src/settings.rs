//! What the peer has told about itself: RFC 9113 §6.5.

use crate::error::{Error, Reason};
use crate::limits::{FRAME_BYTES_MAX, WINDOW_BYTES_INITIAL, WINDOW_BYTES_MAX};

pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The peer's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) header_table_bytes: usize,
    pub(crate) streams_max: u32,
    pub(crate) window_bytes: i64,
    pub(crate) frame_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            header_table_bytes: 4_096,
            streams_max: u32::MAX,
            window_bytes: i64::from(WINDOW_BYTES_INITIAL),
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }
}

impl Settings {
    /// Takes one parameter; unknown ones are ignored.
    pub(crate) fn set(&mut self, id: u16, value: u32, may_push: bool) -> Result<(), Error> {
        match id {
            HEADER_TABLE_SIZE => self.header_table_bytes = value as usize,
            ENABLE_PUSH if value > 1 || (value == 1 && !may_push) => {
                return Err(Error::protocol("ENABLE_PUSH is neither 0 nor 1"));
            }
            MAX_CONCURRENT_STREAMS => self.streams_max = value,
            INITIAL_WINDOW_SIZE => {
                if i64::from(value) > WINDOW_BYTES_MAX {
                    let text = "INITIAL_WINDOW_SIZE is above 2^31-1";
                    return Err(Error::new(Reason::FLOW_CONTROL_ERROR, text));
                }
                self.window_bytes = i64::from(value);
            }
            MAX_FRAME_SIZE => {
                if !(16_384..=16_777_215).contains(&value) {
                    return Err(Error::protocol("MAX_FRAME_SIZE is outside 2^14 … 2^24-1"));
                }
                self.frame_bytes_max = value as usize;
            }
            _ => {}
        }
        Ok(())
    }
}
