//! What one connection is owed beyond the batch that all get: replies, a frame that the socket took in part, a
//! replay.

use std::collections::VecDeque;

use crate::batch::SealedFrame;
use crate::clock::Lived;

/// Frames to send in order; 8 bytes while there are none, which is nearly always.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Owed>>);

#[derive(Debug, Default)]
struct Owed {
    /// Never empty.
    frames: VecDeque<(SealedFrame, Lived)>,
    /// Bytes of the first frame that were sent.
    offset: u32,
}

impl Outbox {
    /// Appends a frame that is owed since `since`.
    pub fn push(&mut self, frame: SealedFrame, since: Lived) {
        self.0.get_or_insert_default().frames.push_back((frame, since));
    }

    /// Puts a frame before all others: the one that is being sent. No other may be underway.
    pub fn push_front(&mut self, frame: SealedFrame, since: Lived) {
        let owed = self.0.get_or_insert_default();
        debug_assert_eq!(owed.offset, 0, "two frames underway");
        owed.frames.push_front((frame, since));
    }

    /// The frame to send next, and how many bytes of it were sent.
    pub fn front(&self) -> Option<(&SealedFrame, u32)> {
        self.0.as_ref().map(|owed| (&owed.frames[0].0, owed.offset))
    }

    /// Counts `sent` more bytes of the first frame. True if that was the rest of it.
    pub fn advance(&mut self, sent: u32) -> bool {
        let Some(owed) = &mut self.0 else { return false };
        owed.offset += sent;
        if owed.offset < owed.frames[0].0.len() {
            return false;
        }
        owed.offset = 0;
        owed.frames.pop_front();
        if owed.frames.is_empty() {
            self.0 = None;
        }
        true
    }

    /// Since when the oldest unsent byte is owed.
    pub fn oldest(&self) -> Option<Lived> {
        self.0.as_ref().map(|owed| owed.frames[0].1)
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |owed| owed.frames.len())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }
}
