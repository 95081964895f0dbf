//! Counting what was sent, cheaply where it matters.

use crate::batch::Carried;
use crate::counters::Counters;
use crate::ids::GroupId;
use crate::latency::Latencies;

/// Sends of one group's newest batch that were answered at the same time.
///
/// A fan-out has thousands of them, all alike: they are counted up here, and added to the counters together, when the
/// time moves on or another group's turn comes.
#[derive(Debug)]
pub(crate) struct Deliveries {
    group: GroupId,
    frames: u32,
    frame_bytes: u32,
    carried: Carried,
}

impl Deliveries {
    pub fn new() -> Self {
        let carried = Carried { mode: Default::default(), ticks: 0, due_ns: None };
        Self { group: GroupId::NONE, frames: 0, frame_bytes: 0, carried }
    }

    /// True if the newest batch of `group` is the one that is being counted.
    #[inline]
    pub fn is_of(&self, group: GroupId) -> bool {
        self.group == group
    }

    /// Begins to count another batch, whose frame has so many bytes. The last one must have been settled.
    pub fn begin(&mut self, group: GroupId, frame_bytes: u32, carried: Carried) {
        debug_assert_eq!(self.frames, 0, "sends that nobody counted");
        *self = Self { group, frames: 0, frame_bytes, carried };
    }

    /// Counts a whole send.
    #[inline]
    pub fn count(&mut self) {
        self.frames += 1;
    }

    /// Adds what was counted to the totals. It was answered at `mono_ns`.
    #[inline]
    pub fn settle(&mut self, mono_ns: u64, counters: &mut Counters, latencies: &mut Latencies) {
        if self.frames > 0 {
            self.add_to(counters);
            latencies.record_since(self.carried.due_ns, mono_ns, self.frames);
            (self.group, self.frames) = (GroupId::NONE, 0);
        }
    }

    /// Adds to totals what isn't settled yet.
    pub fn add_to(&self, counters: &mut Counters) {
        let frames = u64::from(self.frames);
        counters.bytes_sent += frames * u64::from(self.frame_bytes);
        counters.count_sent(self.carried, frames);
    }
}

impl Counters {
    /// Counts DATA_BATCH frames that were sent whole; not their bytes.
    pub(crate) fn count_sent(&mut self, carried: Carried, frames: u64) {
        let stream = &mut self.streams[carried.mode as usize];
        stream.frames_sent += frames;
        stream.ticks_sent += frames * u64::from(carried.ticks);
        self.frames_sent += frames;
    }
}
