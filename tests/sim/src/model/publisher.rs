//! Events that one connection published, as the model knows them.

use std::collections::VecDeque;
use std::rc::Rc;

use super::gate::Bucket;
use crate::events::{Publish, Reason};

/// Events that one connection published.
#[derive(Debug)]
pub struct Publisher {
    /// PUBLISHes without an answer so far, in their order.
    pub pending: VecDeque<Pending>,
    /// Rest of its quota, as time; `None` before its first event.
    pub quota: Option<Bucket>,
}

#[derive(Debug)]
pub struct Pending {
    pub publish: Rc<Publish>,
    pub outcomes: Vec<EventOutcome>,
    /// All records up to this one are waited for; 0: none.
    pub after: u64,
    /// Its own; 0: none.
    pub own: u64,
    /// The record with its dead letters, if that isn't settled; 0: none.
    pub dead_letters: u64,
    pub throttle_ms: u32,
}

#[derive(Debug)]
pub enum EventOutcome {
    Accepted,
    /// Of an event in this record; 0: one that is stored.
    Duplicate(u64),
    Rejected(Reason),
}

impl Publisher {
    pub fn new() -> Self {
        Self { pending: VecDeque::new(), quota: None }
    }
}
