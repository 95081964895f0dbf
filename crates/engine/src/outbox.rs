//! What one connection is owed beyond the batch that all get: replies, a frame that the socket took in part, a
//! replay.

use std::collections::VecDeque;

use crate::batch::{Carried, SealedFrame};
use crate::clock::Lived;

/// Frames to send in order; 8 bytes while there are none, which is nearly always.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Owed>>);

#[derive(Debug)]
struct Owed {
    first: Item,
    /// Nearly always empty: then it has no memory of its own.
    rest: VecDeque<Item>,
    /// Bytes of the first frame that were sent.
    offset: u32,
}

/// One frame that is owed.
#[derive(Debug)]
pub(crate) struct Item {
    pub frame: SealedFrame,
    /// Since when its bytes are owed.
    pub since: Lived,
    /// What it carries, if it is a DATA_BATCH.
    pub carried: Option<Carried>,
}

impl Item {
    /// A frame without ticks.
    pub fn reply(frame: SealedFrame, since: Lived) -> Self {
        Self { frame, since, carried: None }
    }
}

/// How far the first frame got.
#[derive(Debug)]
pub(crate) enum Progress {
    /// There is more of it to send.
    Part,
    /// It was sent whole.
    Whole(Option<Carried>),
}

impl Outbox {
    /// Appends a frame that is owed since `since`.
    pub fn push(&mut self, item: Item) {
        match &mut self.0 {
            Some(owed) => owed.rest.push_back(item),
            None => self.0 = Some(Box::new(Owed { first: item, rest: VecDeque::new(), offset: 0 })),
        }
    }

    /// Puts a frame before all others: the one that is being sent. No other may be underway.
    pub fn push_front(&mut self, item: Item) {
        match &mut self.0 {
            Some(owed) => {
                debug_assert_eq!(owed.offset, 0, "two frames underway");
                let second = std::mem::replace(&mut owed.first, item);
                owed.rest.push_front(second);
            }
            None => self.push(item),
        }
    }

    /// The frame to send next, and how many bytes of it were sent.
    pub fn front(&self) -> Option<(&SealedFrame, u32)> {
        self.0.as_ref().map(|owed| (&owed.first.frame, owed.offset))
    }

    /// Counts `sent` more bytes of the first frame.
    pub fn advance(&mut self, sent: u32) -> Progress {
        let Some(owed) = &mut self.0 else { return Progress::Part };
        owed.offset += sent;
        if owed.offset < owed.first.frame.len() {
            return Progress::Part;
        }
        owed.offset = 0;
        let carried = owed.first.carried;
        match owed.rest.pop_front() {
            Some(next) => owed.first = next,
            None => self.0 = None,
        }
        Progress::Whole(carried)
    }

    /// Since when the oldest unsent byte is owed.
    pub fn oldest(&self) -> Option<Lived> {
        self.0.as_ref().map(|owed| owed.first.since)
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
