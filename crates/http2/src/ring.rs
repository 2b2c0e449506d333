//! The last few streams that ended, and how. Knows nothing of their states.

use std::collections::VecDeque;

use crate::limits::RESETS_REMEMBERED_MAX;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides had said everything.
    Whole,
    /// We reset it: frames for it may still be under way.
    ResetByUs,
    /// The peer reset it: nothing more may come.
    ResetByPeer,
}

#[derive(Debug, Default)]
pub(crate) struct Ring(VecDeque<(u32, Ended)>);

impl Ring {
    pub(crate) fn push(&mut self, stream: u32, ended: Ended) {
        if self.0.len() >= RESETS_REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((stream, ended));
    }

    pub(crate) fn find(&self, stream: u32) -> Option<Ended> {
        let mut found = self.0.iter().rev().filter(|(id, _)| *id == stream);
        found.next().map(|(_, ended)| *ended)
    }

    pub(crate) fn release(&mut self) {
        self.0 = VecDeque::new();
    }
}
