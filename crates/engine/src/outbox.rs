//! What one connection is owed beyond the batch that all get: replies, a frame that the socket took in part, a
//! replay.

use std::collections::VecDeque;

use crate::batch::SealedFrame;
use crate::clock::Lived;

/// Frames to send in order; 8 bytes while there are none, which is nearly always.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Owed>>);

#[derive(Debug)]
struct Owed {
    first: (SealedFrame, Lived),
    /// Nearly always empty: then it has no memory of its own.
    rest: VecDeque<(SealedFrame, Lived)>,
    /// Bytes of the first frame that were sent.
    offset: u32,
}

impl Outbox {
    /// Appends a frame that is owed since `since`.
    pub fn push(&mut self, frame: SealedFrame, since: Lived) {
        match &mut self.0 {
            Some(owed) => owed.rest.push_back((frame, since)),
            None => self.0 = Some(Box::new(Owed { first: (frame, since), rest: VecDeque::new(), offset: 0 })),
        }
    }

    /// Puts a frame before all others: the one that is being sent. No other may be underway.
    pub fn push_front(&mut self, frame: SealedFrame, since: Lived) {
        match &mut self.0 {
            Some(owed) => {
                debug_assert_eq!(owed.offset, 0, "two frames underway");
                let second = std::mem::replace(&mut owed.first, (frame, since));
                owed.rest.push_front(second);
            }
            None => self.push(frame, since),
        }
    }

    /// The frame to send next, and how many bytes of it were sent.
    pub fn front(&self) -> Option<(&SealedFrame, u32)> {
        self.0.as_ref().map(|owed| (&owed.first.0, owed.offset))
    }

    /// Counts `sent` more bytes of the first frame. True if that was the rest of it.
    pub fn advance(&mut self, sent: u32) -> bool {
        let Some(owed) = &mut self.0 else { return false };
        owed.offset += sent;
        if owed.offset < owed.first.0.len() {
            return false;
        }
        owed.offset = 0;
        match owed.rest.pop_front() {
            Some(next) => owed.first = next,
            None => self.0 = None,
        }
        true
    }

    /// Since when the oldest unsent byte is owed.
    pub fn oldest(&self) -> Option<Lived> {
        self.0.as_ref().map(|owed| owed.first.1)
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |owed| 1 + owed.rest.len())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }
}
