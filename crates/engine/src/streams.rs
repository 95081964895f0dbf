//! The two streams of a shard: their logs, their subscribers and when their next batch is due.
//!
//! A *group* is the subscribers of one stream whose ticks are due at the same time: one group a stream with
//! aligned phases, one for each phase that is in use with spread ones. A group's ticks are sealed into a batch
//! once and appended to its log; then a *fan-out* visits each subscriber. A subscriber has a cursor, the sequence
//! of its next tick, and no queue. Since ticks are a function of time, what the log no longer holds can be
//! sealed again: the log is what makes many laggards share bytes.
//!
//! A group publishes its next batch only when the fan-out of the last is over and all its sends are answered. So a
//! batch that is being sent is the log's last, and a shard that falls behind sends larger batches instead of
//! more of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Range;

use tickstream_wire::messages::Mode;

use crate::batch::{Batch, Carried, SealedFrame, Sealer};
use crate::clock::{ActiveTime, MS, Now};
use crate::config::{Config, Phase};
use crate::counters::{Counters, StreamCounters};
use crate::ids::{GroupId, Sequence, Slot};
use crate::schedule::Rate;
use crate::session::{Membership, Subscription};

/// Groups that one call publishes for, so that sending gets its turn.
const PUBLISHED_PER_CALL: usize = 1_024;
/// Ticks of one frame that is sealed for a single connection: some 10 KB.
pub(crate) const REPLAY_FRAME_TICKS: u64 = 1_024;
/// A shard that was stopped sends what it missed, as far back as this.
const CATCH_UP_NS: u64 = 3_600_000 * MS;
/// The same in ticks: some 10 MB of frames.
const CATCH_UP_TICKS: u64 = 1_000_000;
/// Bytes of frames that one log holds. Whoever is behind it is closed as SLOW_CONSUMER, even within the deadline.
pub(crate) const LOG_BYTES_MAX: u64 = 64 << 20;
/// Clocks of hosts between which clients move may differ by this, however short the replay window is.
const CLOCK_DIFFERENCE_NS: u64 = 10_000 * MS;

/// Properties that all groups of one stream share.
#[derive(Debug)]
struct Stream {
    rate: Rate,
    /// Ticks of a full batch: those that are due within the window.
    batch_ticks: u64,
    /// Longest replay of a resuming client, ticks.
    replay_ticks: u64,
    /// Maximum lead of a resuming client, ticks.
    ahead_ticks: u64,
    /// Longest that the shard itself catches up, ticks.
    catch_up_ticks: u64,
    /// A replay that is farther behind is given up: it will never catch up. Who asks for the oldest tick is
    /// `replay_ticks` behind before its first frame is sealed, and a stall of the shard is no fault of its.
    behind_ticks: u64,
    /// A batch is past the write deadline when the next is published, unless the shard stalls meanwhile.
    sparse: bool,
    sealer: Sealer,
}

impl Stream {
    fn new(mode: Mode, config: &Config) -> Self {
        let (rate, limits) = (config.rate(mode), &config.limits);
        let sealer = Sealer::new(mode, rate, limits.payload_bytes);
        let batch_ticks = rate.ticks_within(config.batch_window_ms).min(sealer.ticks_max());
        let catch_up_ticks = rate.ticks_in(CATCH_UP_NS).min(CATCH_UP_TICKS).max(batch_ticks);
        let replay_ticks = limits.replay_ticks.min(rate.ticks_in(u64::from(limits.replay_window_ms) * MS));
        Self {
            rate,
            batch_ticks,
            replay_ticks,
            ahead_ticks: replay_ticks.max(rate.ticks_in(CLOCK_DIFFERENCE_NS)),
            catch_up_ticks,
            behind_ticks: replay_ticks + catch_up_ticks,
            sparse: rate.interval_ns() > u64::from(limits.write_deadline_ms) * MS,
            sealer,
        }
    }

    /// False for a position that this stream can't have given: farther ahead of its next tick than clocks differ, as
    /// one is of a higher rate, or one of a lower rate. All that is kept would be replayed to each client then.
    fn may_resume(&self, after: Sequence, next: Sequence) -> bool {
        let is_kept = after >= next.saturating_sub(self.replay_ticks);
        after <= next.saturating_add(self.ahead_ticks)
            && (is_kept || !self.rate.is_of_lower_rate(after, next, self.replay_ticks))
    }

    /// The sequence after the last whole batch that is due at `unix_ns` in this phase.
    fn due_end(&self, unix_ns: u64, phase_ms: u32) -> Sequence {
        let due = self.rate.sequence_at(unix_ns.saturating_sub(u64::from(phase_ms) * MS)) + 1;
        due.batch_start(self.batch_ticks)
    }

    /// Time at which tick `sequence` is due in this phase, Unix nanoseconds.
    fn tick_due_ns(&self, sequence: Sequence, phase_ms: u32) -> u64 {
        self.rate.due_ns(sequence) + u64::from(phase_ms) * MS
    }

    /// Time at which the batch that holds `sequence` is due: with its last tick, Unix nanoseconds.
    fn batch_due_ns(&self, sequence: Sequence, phase_ms: u32) -> u64 {
        let last = sequence.batch_start(self.batch_ticks) + (self.batch_ticks - 1);
        self.tick_due_ns(last, phase_ms)
    }
}

/// Subscribers of one stream whose ticks are due at the same time.
#[derive(Debug)]
struct Group {
    mode: Mode,
    phase_ms: u32,
    /// Sequence of the first tick that isn't published; falls only where the clock is set back.
    next_sequence: Sequence,
    /// Ticks that were left out last: a live subscriber goes on behind them.
    skipped: Range<Sequence>,
    /// Published ticks below are in the log no more. From here on, what the log lacks between two batches and behind
    /// the last was left out.
    forgotten: Sequence,
    /// The newest batch's first tick, and when it was published; the log may hold it no more.
    latest: (Sequence, ActiveTime),
    /// The sequences after the newest batch, and after the one before it.
    ends: (Sequence, Sequence),
    /// Batches of the last while, oldest first; consecutive but for ticks that were left out.
    log: VecDeque<Batch>,
    /// Bytes of their frames.
    log_bytes: u64,
    subscribers: Vec<Slot>,
    /// Subscribers below this position are still to be visited by the fan-out.
    unvisited: usize,
    /// The batch of a fan-out that the clock was set back over, while sends of it have no answer.
    withdrawn: Option<Batch>,
    /// Bytes of the newest batch's frame.
    newest_len: u32,
    /// Ticks in it.
    newest_ticks: u32,
    /// The fan-out's sends that have no answer yet.
    in_flight: u32,
    /// True while it publishes: it is in the heap of due groups, or a fan-out is underway.
    active: bool,
    /// True while it is in the list of fan-outs.
    in_fan_out: bool,
}

/// A frame for one subscriber that is behind.
#[derive(Debug)]
pub(crate) struct CatchUp {
    pub frame: SealedFrame,
    /// Sequence after its last tick.
    pub end: Sequence,
    /// Time from which the age of its bytes counts.
    pub since: ActiveTime,
    pub carried: Carried,
    /// True if it was sealed for this subscriber alone.
    pub sealed: bool,
}

/// The streams of a shard.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: [Stream; 2],
    groups: Vec<Group>,
    index: BTreeMap<(i32, u32), GroupId>,
    /// Active groups without a fan-out, by when their next batch is due, Unix nanoseconds.
    due: BinaryHeap<Reverse<(u64, GroupId)>>,
    /// Groups whose fan-out is underway, first come, first served.
    fan_outs: VecDeque<GroupId>,
    /// Subscribers of each stream.
    subscribers: [u32; 2],
    phase: Phase,
    shard: u16,
    write_deadline_ns: u64,
}

impl Streams {
    pub fn new(config: &Config) -> Self {
        Self {
            streams: [Stream::new(Mode::Second, config), Stream::new(Mode::Minute, config)],
            groups: Vec::new(),
            index: BTreeMap::new(),
            due: BinaryHeap::new(),
            fan_outs: VecDeque::new(),
            subscribers: [0; 2],
            phase: config.phase,
            shard: config.shard,
            write_deadline_ns: u64::from(config.limits.write_deadline_ms) * MS,
        }
    }

    /// Adds connection `slot`, the shard's `number`th, to a stream.
    ///
    /// A position of another rate, or of a clock that was wrong, is none: ticks start with the next one.
    pub fn join(
        &mut self,
        slot: Slot,
        number: u64,
        mode: Mode,
        resume_after: Option<u64>,
        now: Now,
    ) -> Subscription {
        let group = self.group(mode, number);
        self.activate(group, now);
        let (stream, members) = (&self.streams[mode as usize], &self.groups[group.index()]);
        let live = members.next_sequence;
        let first = match resume_after {
            Some(after) if stream.may_resume(Sequence(after), live) => {
                Sequence(after + 1).max(live.saturating_sub(stream.replay_ticks))
            }
            _ => live,
        };
        self.subscribers[mode as usize] += 1;
        let subscribers = &mut self.groups[group.index()].subscribers;
        subscribers.push(slot);
        let membership = Membership { group, position: subscribers.len() as u32 - 1 };
        Subscription { membership, next_sequence: first, replaying: first < live }
    }

    /// Takes a subscriber away. Answers with the slot that took its position in the table, if one did.
    pub fn leave(&mut self, membership: Membership) -> Option<Slot> {
        // The fan-out goes from the end to the start: who takes the position was visited if it was to be.
        let group = &mut self.groups[membership.group.index()];
        self.subscribers[group.mode as usize] -= 1;
        group.subscribers.swap_remove(membership.position as usize);
        group.unvisited = group.unvisited.min(group.subscribers.len());
        group.subscribers.get(membership.position as usize).copied()
    }

    /// Seals and logs what is due, and begins the fan-outs. Bounded; [`Streams::next_due_ns`] tells if there is
    /// more. Answers how late the latest batch is, nanoseconds.
    pub fn publish_due(&mut self, now: Now, active: ActiveTime, counters: &mut Counters) -> u64 {
        let mut latest_ns = 0;
        for _ in 0..PUBLISHED_PER_CALL {
            match self.due.peek() {
                Some(&Reverse((due_ns, group))) if due_ns <= now.unix_ns => {
                    self.due.pop();
                    latest_ns = latest_ns.max(self.publish(group, now, active, counters));
                }
                _ => break,
            }
        }
        latest_ns
    }

    /// Subscribers of a stream.
    pub fn subscribers(&self, mode: Mode) -> u32 {
        self.subscribers[mode as usize]
    }

    /// Answers how late it is, nanoseconds.
    fn publish(&mut self, index: GroupId, now: Now, active: ActiveTime, counters: &mut Counters) -> u64 {
        let group = &mut self.groups[index.index()];
        let stream = &mut self.streams[group.mode as usize];
        let counters = &mut counters.streams[group.mode as usize];
        if group.subscribers.is_empty() {
            group.forget_log();
            group.active = false;
            return 0;
        }
        let due_end = stream.due_end(now.unix_ns, group.phase_ms);
        let oldest = due_end.saturating_sub(stream.catch_up_ticks);
        counters.ticks_skipped += group.skip_to(oldest);
        let first = group.next_sequence;
        let end = due_end.min(first + stream.sealer.ticks_max());
        if first >= end {
            // The clock was set, or the rest of a batch was published before: wait for what comes next.
            self.due.push(Reverse((stream.batch_due_ns(first, group.phase_ms), index)));
            return 0;
        }
        let late_ns = now.unix_ns.saturating_sub(stream.batch_due_ns(first, group.phase_ms));
        let stale = active.saturating_sub(self.write_deadline_ns);
        let (latest, published) = group.latest;
        if stream.sparse && group.log.is_empty() && latest < group.ends.0 && published >= stale {
            // A stall has brought two batches of a sparse stream nearer to each other: the last is still pending.
            let frame = stream.sealer.seal(latest, group.ends.0, group.phase_ms);
            group.log_bytes += u64::from(frame.len());
            let due_ns = now.mono_of(stream.tick_due_ns(latest, group.phase_ms));
            group.log.push_back(Batch { first: latest, end: group.ends.0, frame, published, due_ns });
        }
        while group
            .log
            .front()
            .is_some_and(|batch| batch.published < stale || group.log_bytes > LOG_BYTES_MAX)
        {
            if let Some(batch) = group.log.pop_front() {
                group.log_bytes -= u64::from(batch.frame.len());
                group.forgotten = batch.end;
            }
        }
        if group.log.is_empty() {
            group.forgotten = group.forgotten.max(group.ends.0);
        }
        let frame = stream.sealer.seal(first, end, group.phase_ms);
        group.log_bytes += u64::from(frame.len());
        group.newest_len = frame.len();
        group.newest_ticks = (end - first) as u32; // below Sealer::ticks_max
        let due_ns = now.mono_of(stream.tick_due_ns(first, group.phase_ms));
        group.log.push_back(Batch { first, end, frame, published: active, due_ns });
        group.latest = (first, active);
        group.ends = (end, group.ends.0);
        group.next_sequence = end;
        group.unvisited = group.subscribers.len();
        group.in_fan_out = true;
        self.fan_outs.push_back(index);
        counters.batches += 1;
        counters.ticks += end - first;
        counters.batch_sizes[StreamCounters::batch_size(end - first)] += 1;
        let late_before_ns = now.unix_ns.saturating_sub(u64::from(StreamCounters::LATE_MS) * MS);
        if stream.batch_due_ns(first, group.phase_ms) < late_before_ns {
            counters.ticks_late += stream.due_end(late_before_ns, group.phase_ms).clamp(first, end) - first;
        }
        late_ns
    }

    /// Time at which [`Streams::publish_due`] has something to do, Unix nanoseconds.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// Leaves out the ticks that were due before `now`: the clock was set forward over them.
    pub fn skip_to(&mut self, now: Now, counters: &mut Counters) {
        for group in &mut self.groups {
            let due_end = self.streams[group.mode as usize].due_end(now.unix_ns, group.phase_ms);
            if group.active {
                counters.streams[group.mode as usize].ticks_skipped += group.skip_to(due_end);
            }
        }
    }

    /// Goes on with what is due next at `now`: the clock was set back. A subscriber that was sent later ticks has its cursor
    /// beyond them, and waits until the clock has come there; others get the ticks as they become due again.
    pub fn set_back(&mut self, now: Now) {
        for group in &mut self.groups {
            let stream = &mut self.streams[group.mode as usize];
            group.rewind(stream.due_end(now.unix_ns, group.phase_ms), &mut stream.sealer);
        }
        let again = |Reverse((_, index)): Reverse<(u64, GroupId)>| {
            let group = &self.groups[index.index()];
            let stream = &self.streams[group.mode as usize];
            Reverse((stream.batch_due_ns(group.next_sequence, group.phase_ms), index))
        };
        self.due = std::mem::take(&mut self.due).into_iter().map(again).collect();
    }

    /// True while a fan-out is underway.
    #[inline]
    pub fn has_fan_out(&self) -> bool {
        !self.fan_outs.is_empty()
    }

    /// The next subscriber that is due to get the newest batch of its group; its slot, its group, the batch.
    pub fn visit(&mut self) -> Option<(Slot, GroupId, &Batch)> {
        while let Some(&index) = self.fan_outs.front() {
            let group = &mut self.groups[index.index()];
            if group.unvisited > 0 {
                group.unvisited -= 1;
                let group = &self.groups[index.index()];
                return Some((group.subscribers[group.unvisited], index, group.newest()));
            }
            group.in_fan_out = false;
            self.fan_outs.pop_front();
            self.settle(index);
        }
        None
    }

    /// Counts a send of the newest batch that [`Streams::answered`] will be told of.
    pub fn sending(&mut self, group: GroupId) {
        self.groups[group.index()].in_flight += 1;
    }

    /// A send of the newest batch was answered, or is no longer the fan-out's.
    pub fn answered(&mut self, group: GroupId) {
        self.groups[group.index()].in_flight -= 1;
        self.settle(group);
    }

    /// Bytes of its frame.
    pub fn newest_len(&self, group: GroupId) -> u32 {
        self.groups[group.index()].newest_len
    }

    /// Contents of the newest batch of a group whose fan-out's sends aren't all answered.
    pub fn newest_carried(&self, group: GroupId) -> Carried {
        let group = &self.groups[group.index()];
        Carried { mode: group.mode, ticks: group.newest_ticks, due_ns: Some(group.newest().due_ns) }
    }

    /// The newest batch of a group whose fan-out's sends aren't all answered.
    pub fn newest(&self, group: GroupId) -> &Batch {
        self.groups[group.index()].newest()
    }

    /// The next published tick that a subscriber lacks whose cursor is `next`; `None` if it has all of them. A
    /// live subscriber lacks no tick that was left out.
    #[inline]
    pub fn lacks(&self, group: GroupId, next: Sequence, replaying: bool) -> Option<Sequence> {
        let group = &self.groups[group.index()];
        let next = if !replaying && group.skipped.contains(&next) { group.skipped.end } else { next };
        (next < group.next_sequence).then_some(next)
    }

    /// Published ticks that a subscriber lacks whose cursor is `next`.
    pub fn behind(&self, group: GroupId, next: Sequence, replaying: bool) -> u64 {
        let lacks = self.lacks(group, next, replaying);
        lacks.map_or(0, |next| self.groups[group.index()].next_sequence - next)
    }

    /// A frame that begins with the published tick `next`; `None` if that is past the write deadline.
    ///
    /// The bytes of a replay age from now on, whoever else they were sealed for; all others since they were
    /// published.
    pub fn catch_up(
        &mut self,
        index: GroupId,
        next: Sequence,
        replaying: bool,
        now: Now,
        active: ActiveTime,
    ) -> Option<CatchUp> {
        let group = &self.groups[index.index()];
        let stream = &mut self.streams[group.mode as usize];
        if replaying && group.published_since(next) > stream.behind_ticks {
            return None;
        }
        let at = group.log.partition_point(|batch| batch.end <= next);
        let logged = group.log.get(at);
        // Ticks that nobody was sent are no ticks that this subscriber missed.
        let next = match logged {
            _ if replaying || next < group.forgotten => next,
            Some(batch) => next.max(batch.first),
            None => next.max(group.latest.0),
        };
        let holding = logged.filter(|batch| batch.first <= next);
        let since = match holding {
            _ if replaying => active,
            Some(batch) => batch.published,
            None if next >= group.latest.0 => group.latest.1,
            None => return None,
        };
        let carried = |end: Sequence, due_ns| Carried {
            mode: group.mode,
            ticks: (end - next) as u32, // below Sealer::ticks_max
            due_ns: Some(due_ns).filter(|_| !replaying),
        };
        if let Some(batch) = holding.filter(|batch| batch.first == next) {
            let carried = carried(batch.end, batch.due_ns);
            return Some(CatchUp {
                frame: batch.frame.clone(),
                end: batch.end,
                since,
                carried,
                sealed: false,
            });
        }
        // Up to where the log takes over, so that the next frame is a shared one.
        let stop = match (holding, logged) {
            (Some(batch), _) => batch.end,
            (None, Some(later)) => later.first,
            (None, None) => group.next_sequence,
        };
        let end = stop.min(next + REPLAY_FRAME_TICKS.min(stream.sealer.ticks_max()));
        let frame = stream.sealer.seal(next, end, group.phase_ms);
        let carried = carried(end, now.mono_of(stream.tick_due_ns(next, group.phase_ms)));
        Some(CatchUp { frame, end, since, carried, sealed: true })
    }

    /// Schedules the next batch of a group whose fan-out is over and answered.
    #[inline]
    fn settle(&mut self, index: GroupId) {
        let group = &self.groups[index.index()];
        if !group.in_fan_out && group.in_flight == 0 {
            self.schedule(index);
        }
    }

    #[cold]
    fn schedule(&mut self, index: GroupId) {
        let group = &mut self.groups[index.index()];
        let stream = &self.streams[group.mode as usize];
        group.withdrawn = None;
        if stream.sparse && group.log.len() == 1 {
            group.forget_log();
        }
        let due_ns = stream.batch_due_ns(group.next_sequence, group.phase_ms);
        self.due.push(Reverse((due_ns, index)));
    }

    /// The group of connection `number` in `mode`.
    fn group(&mut self, mode: Mode, number: u64) -> GroupId {
        let phase_ms = match self.phase {
            Phase::Aligned => 0,
            Phase::Spread => spread(number, self.shard, self.streams[mode as usize].rate.phases()),
        };
        let groups = &mut self.groups;
        *self.index.entry((mode as i32, phase_ms)).or_insert_with(|| {
            groups.push(Group {
                mode,
                phase_ms,
                next_sequence: Sequence::default(),
                skipped: Sequence::default()..Sequence::default(),
                forgotten: Sequence::default(),
                latest: Default::default(),
                ends: Default::default(),
                log: VecDeque::new(),
                log_bytes: 0,
                subscribers: Vec::new(),
                unvisited: 0,
                withdrawn: None,
                newest_len: 0,
                newest_ticks: 0,
                in_flight: 0,
                active: false,
                in_fan_out: false,
            });
            GroupId(groups.len() as u32 - 1)
        })
    }

    /// Lets a group publish from now on.
    fn activate(&mut self, index: GroupId, now: Now) {
        let group = &mut self.groups[index.index()];
        if group.active {
            return;
        }
        let stream = &self.streams[group.mode as usize];
        group.active = true;
        group.next_sequence = group.next_sequence.max(stream.due_end(now.unix_ns, group.phase_ms));
        self.due.push(Reverse((stream.batch_due_ns(group.next_sequence, group.phase_ms), index)));
    }
}

impl Group {
    /// Gives the log's memory back. The newest batch can be sealed again.
    fn forget_log(&mut self) {
        (self.log, self.log_bytes) = (VecDeque::new(), 0);
        self.forgotten = self.forgotten.max(self.ends.1);
    }

    /// Published ticks from `next` on, but for those that were left out last.
    fn published_since(&self, next: Sequence) -> u64 {
        let skipped = self.skipped.end.saturating_since(self.skipped.start.max(next));
        (self.next_sequence - next).saturating_sub(skipped)
    }

    /// Leaves out the ticks below `sequence` that aren't published, and answers how many.
    fn skip_to(&mut self, sequence: Sequence) -> u64 {
        if sequence <= self.next_sequence {
            return 0;
        }
        let first = self.next_sequence;
        self.skipped = if self.skipped.end == first { self.skipped.start..sequence } else { first..sequence };
        self.next_sequence = sequence;
        sequence - first
    }

    /// Takes back the ticks from `next` on, which were published and will be again.
    fn rewind(&mut self, next: Sequence, sealer: &mut Sealer) {
        if next >= self.next_sequence {
            return;
        }
        if self.in_fan_out || self.in_flight > 0 {
            self.withdrawn = self.withdrawn.take().or_else(|| self.log.back().cloned());
            self.unvisited = 0;
        }
        while let Some(batch) = self.log.pop_back_if(|batch| batch.first >= next) {
            self.log_bytes -= u64::from(batch.frame.len());
        }
        if let Some(last) = self.log.back_mut().filter(|last| last.end > next) {
            self.log_bytes -= u64::from(last.frame.len());
            (last.end, last.frame) = (next, sealer.seal(last.first, next, self.phase_ms));
            self.log_bytes += u64::from(last.frame.len());
        }
        if self.latest.0 >= next {
            match self.log.back() {
                Some(last) => {
                    let before = self.log.len().checked_sub(2).map(|at| self.log[at].end);
                    self.latest = (last.first, last.published);
                    self.ends = (last.end, before.unwrap_or(self.forgotten));
                }
                None => (self.latest, self.ends, self.forgotten) = ((next, 0), (next, next), next),
            }
        }
        self.ends.0 = self.ends.0.min(next);
        self.skipped.end = self.skipped.end.min(next).max(self.skipped.start);
        self.next_sequence = next;
    }

    fn newest(&self) -> &Batch {
        let newest = self.withdrawn.as_ref().or_else(|| self.log.back());
        newest.expect("a batch stays in the log until its fan-out has settled")
    }
}

/// A phase below `phases` for the `number`th connection of a shard: consecutive numbers fall evenly over the
/// interval (multiples of the golden ratio), and differently on each shard.
fn spread(number: u64, shard: u16, phases: u32) -> u32 {
    const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / φ
    let turn = number.wrapping_add(u64::from(shard) << 32 | u64::from(shard)).wrapping_mul(GOLDEN_RATIO);
    ((u128::from(turn) * u128::from(phases)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_spread_evenly() {
        for phases in [1, 2, 1_000, 60_000] {
            for shard in [0, 1, 7] {
                let connections = 50 * phases;
                let mut load = vec![0_u32; phases as usize];
                for number in 1..=u64::from(connections) {
                    load[spread(number, shard, phases) as usize] += 1;
                }
                assert!(
                    load.iter().all(|count| (45..=55).contains(count)),
                    "{phases} phases on shard {shard}"
                );
            }
        }
    }
}
