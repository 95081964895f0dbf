//! Sending to a connection: batches of its stream, and the frames of its outbox.

use tickstream_wire::messages::Mode;

use super::{Membership, Sending, Session, State, Subscription};
use crate::batch::{Batch, SealedFrame};
use crate::clock::ActiveTime;
use crate::close::{CloseReason, Fault};
use crate::config::Limits;
use crate::ids::{GroupId, Sequence};
use crate::outbox::{Item, Progress};

/// Next thing to do for a connection that is ready.
#[derive(Debug)]
pub(crate) enum Step {
    Nothing,
    AwaitWritable,
    /// Send the frame from this offset on.
    Send(SealedFrame, u32),
    Shutdown,
    /// Release it; `reset`: without FIN.
    Release {
        reset: bool,
    },
}

/// Answer of a subscriber whose turn in a fan-out it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// The batch is taken.
    Taken,
    /// The subscriber is idle and lacks earlier ticks.
    Behind,
    /// The subscriber has something else to do, or has the batch already.
    Busy,
}

impl Session {
    pub fn subscription(&self) -> Option<&Subscription> {
        match &self.state {
            State::Authenticated { subscription } => subscription.as_ref(),
            _ => None,
        }
    }

    fn subscription_mut(&mut self) -> Option<&mut Subscription> {
        match &mut self.state {
            State::Authenticated { subscription } => subscription.as_mut(),
            _ => None,
        }
    }

    /// Makes it a subscriber.
    pub fn subscribe(&mut self, mode: Mode, new: Subscription) {
        if let State::Authenticated { subscription } = &mut self.state {
            *subscription = Some(new);
            self.mode = Some(mode);
        }
    }

    /// Ends its subscription. A batch that is being sent must have been detached.
    pub fn unsubscribe(&mut self) -> Option<Membership> {
        match &mut self.state {
            State::Authenticated { subscription } => {
                subscription.take().map(|subscription| subscription.membership)
            }
            _ => None,
        }
    }

    /// Its group's table of subscribers has moved it.
    pub fn moved_to(&mut self, membership: Membership) {
        if let Some(subscription) = self.subscription_mut() {
            subscription.membership = membership;
        }
    }

    /// Offers the newest batch of its group, which is sent if it takes it.
    #[inline]
    pub fn offer(&mut self, batch: &Batch) -> Offer {
        let is_idle = self.sending == Sending::Idle && self.outbox.is_empty();
        match self.subscription_mut() {
            Some(subscription) if is_idle && subscription.next_sequence == batch.first => {
                subscription.next_sequence = batch.end;
                subscription.replaying = false;
                self.sending = Sending::Batch;
                Offer::Taken
            }
            Some(subscription) if is_idle && subscription.next_sequence < batch.end => Offer::Behind,
            _ => Offer::Busy,
        }
    }

    /// The group whose newest batch is being sent to it.
    #[inline]
    pub fn batch_group(&self) -> Option<GroupId> {
        match &self.state {
            State::Authenticated { subscription: Some(subscription) } if self.sending == Sending::Batch => {
                Some(subscription.membership.group)
            }
            _ => None,
        }
    }

    /// Its socket took the whole batch of `bytes`. Answers whether it has something else to do.
    #[inline]
    pub fn batch_sent(&mut self, bytes: u32) -> bool {
        self.sending = Sending::Idle;
        self.bytes_sent += u64::from(bytes);
        !self.outbox.is_empty()
    }

    /// Makes the batch that is being sent the connection's own.
    pub fn detach_batch(&mut self, batch: Item) {
        self.outbox.push_front(batch);
        self.sending = Sending::Frame;
    }

    /// Its subscription, if it has nothing else to do than to catch up.
    #[inline]
    pub fn may_catch_up(&self) -> Option<&Subscription> {
        let is_idle = self.sending == Sending::Idle && self.outbox.is_empty();
        self.subscription().filter(|_| is_idle)
    }

    /// Notes that it has all published ticks: it is live.
    pub fn caught_up(&mut self) {
        if let Some(subscription) = self.subscription_mut() {
            subscription.replaying = false;
        }
    }

    /// Enqueues a frame of ticks that it lacks; `next_sequence` follows them.
    pub fn catch_up(&mut self, next_sequence: Sequence, frame: Item) {
        if let Some(subscription) = self.subscription_mut() {
            subscription.next_sequence = next_sequence;
        }
        self.outbox.push(frame);
    }

    /// True if its socket took no more when it was last asked.
    pub fn is_lagging(&self) -> bool {
        matches!(self.sending, Sending::Full | Sending::Blocked)
    }

    /// True while the driver waits until its socket takes more.
    pub fn is_blocked(&self) -> bool {
        self.sending == Sending::Blocked
    }

    pub fn has_pending(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Enqueues a reply. Answers whether it may be sent at once.
    ///
    /// # Errors
    /// If its socket is full and too many frames wait for it.
    pub fn enqueue(&mut self, frame: SealedFrame, now: ActiveTime) -> Result<bool, Fault> {
        if self.is_lagging() && self.outbox.len() >= Limits::FRAMES_PENDING {
            return Err(Fault::new(CloseReason::SlowConsumer, "it asks without reading the answers"));
        }
        self.outbox.push(Item::reply(frame, now));
        Ok(self.sending == Sending::Idle)
    }

    /// Its socket took `bytes` of the first frame of its outbox. Call [`Session::socket_full`] if that was a part.
    #[inline]
    pub fn frame_sent(&mut self, bytes: u32) -> Progress {
        self.sending = Sending::Idle;
        self.bytes_sent += u64::from(bytes);
        self.outbox.advance(bytes)
    }

    /// Its socket took no more.
    pub fn socket_full(&mut self) {
        self.sending = Sending::Full;
    }

    /// A send to it failed.
    pub fn send_failed(&mut self) {
        self.sending = Sending::Idle;
    }

    /// Its socket takes bytes again. Answers whether that was waited for.
    pub fn writable(&mut self) -> bool {
        let was_blocked = self.is_blocked();
        if was_blocked {
            self.sending = Sending::Idle;
        }
        was_blocked
    }

    /// Puts it into the list of connections that have something to do. False if it is in there.
    #[inline]
    pub fn make_ready(&mut self) -> bool {
        !std::mem::replace(&mut self.is_ready, true)
    }

    /// The next thing to do for it, taken off the list of connections that have something to do.
    #[inline]
    pub fn next_step(&mut self) -> Step {
        match (&self.state, self.sending) {
            (State::Free, _) => Step::Nothing,
            (&State::Aborting { reset }, _) => Step::Release { reset },
            (_, Sending::Full) => {
                self.sending = Sending::Blocked;
                Step::AwaitWritable
            }
            (_, Sending::Batch | Sending::Frame | Sending::Blocked) => Step::Nothing,
            (state, Sending::Idle) => {
                if let Some((frame, offset)) = self.outbox.front() {
                    self.sending = Sending::Frame;
                    return Step::Send(frame.clone(), offset);
                }
                match state {
                    State::Flushing { peer_closed: true } => Step::Release { reset: false },
                    State::Flushing { peer_closed: false } => {
                        self.state = State::Lingering;
                        Step::Shutdown
                    }
                    _ => Step::Nothing,
                }
            }
        }
    }

    /// Notes that it was taken off the list of connections that have something to do.
    #[inline]
    pub fn taken_off(&mut self) {
        self.is_ready = false;
    }
}
