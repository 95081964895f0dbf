//! Pending frames of one connection, beside the batch that all get: replies, a frame that the socket took in part, a
//! replay.

use std::collections::VecDeque;

use crate::batch::{Carried, SealedFrame};
use crate::clock::ActiveTime;

/// Frames to send in order; 8 bytes while there are none, which is nearly always.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Frames>>);

#[derive(Debug)]
struct Frames {
    first: Item,
    /// Nearly always empty: then it has no memory of its own.
    rest: VecDeque<Item>,
    /// Bytes of the first frame that were sent.
    offset: u32,
}

/// One pending frame.
#[derive(Debug)]
pub(crate) struct Item {
    pub frame: SealedFrame,
    /// Time from which the age of its bytes counts.
    pub since: ActiveTime,
    /// Ticks in it, if it is a DATA_BATCH.
    pub carried: Option<Carried>,
}

impl Item {
    /// A frame without ticks.
    pub fn reply(frame: SealedFrame, since: ActiveTime) -> Self {
        Self { frame, since, carried: None }
    }
}

/// Progress of the first frame.
#[derive(Debug)]
pub(crate) enum Progress {
    /// There is more of it to send.
    Part,
    /// The frame was sent whole.
    Whole(Option<Carried>),
}

impl Outbox {
    /// Appends a frame.
    pub fn push(&mut self, item: Item) {
        match &mut self.0 {
            Some(frames) => frames.rest.push_back(item),
            None => self.0 = Some(Box::new(Frames { first: item, rest: VecDeque::new(), offset: 0 })),
        }
    }

    /// Puts a frame before all others: the one that is being sent. No other may be underway.
    pub fn push_front(&mut self, item: Item) {
        match &mut self.0 {
            Some(frames) => {
                debug_assert_eq!(frames.offset, 0, "two frames underway");
                let second = std::mem::replace(&mut frames.first, item);
                frames.rest.push_front(second);
            }
            None => self.push(item),
        }
    }

    /// The frame to send next, and how many bytes of it were sent.
    pub fn front(&self) -> Option<(&SealedFrame, u32)> {
        self.0.as_ref().map(|frames| (&frames.first.frame, frames.offset))
    }

    /// Counts `sent` more bytes of the first frame.
    pub fn advance(&mut self, sent: u32) -> Progress {
        let Some(frames) = &mut self.0 else { return Progress::Part };
        frames.offset += sent;
        if frames.offset < frames.first.frame.len() {
            return Progress::Part;
        }
        frames.offset = 0;
        let carried = frames.first.carried;
        match frames.rest.pop_front() {
            Some(next) => frames.first = next,
            None => self.0 = None,
        }
        Progress::Whole(carried)
    }

    /// Time from which the age of the oldest unsent byte counts.
    pub fn oldest(&self) -> Option<ActiveTime> {
        self.0.as_ref().map(|frames| frames.first.since)
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |frames| 1 + frames.rest.len())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }
}
