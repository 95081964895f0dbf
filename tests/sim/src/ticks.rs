//! When ticks are due and what they are called, from docs/protocol.md.

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// One stream of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    period_ms: u64,
    per_period: u64,
    /// Ticks of a full batch.
    pub batch: u64,
    /// Greatest distance back at which a client may resume, ticks.
    pub replay: u64,
    /// Lead, ticks.
    pub ahead: u64,
    /// Phases are below this, milliseconds.
    pub phases: u64,
}

impl Stream {
    pub fn new(
        minute: bool,
        ticks: u32,
        window_ms: u32,
        spread: bool,
        replay_ms: u32,
        replay_most: u64,
    ) -> Self {
        let (period_ms, per_period) = (if minute { 60_000 } else { 1_000 }, u64::from(ticks));
        // The ticks that are due less than a window after the first, which is one of them.
        let batch = (u64::from(window_ms) * per_period).div_ceil(period_ms).max(1);
        let within = |ms: u64| ms * per_period / period_ms;
        let replay = within(u64::from(replay_ms)).min(replay_most);
        let phases = if spread { (period_ms / per_period).max(1) } else { 1 };
        Self { period_ms, per_period, batch, replay, ahead: replay.max(within(10_000)), phases }
    }

    /// True if a client may resume at `after`, where `next` is the next tick: not far ahead of it, and not where a
    /// stream of fewer ticks would be within the window.
    pub fn may_resume(&self, after: u64, next: u64) -> bool {
        let nearest = |rate: u64| u128::from(rate) * u128::from(next) / u128::from(self.per_period);
        let of_rate = |rate: u64| {
            let at = u128::from(after) * u128::from(self.per_period) / u128::from(rate);
            at.abs_diff(u128::from(next)) <= u128::from(self.replay)
        };
        let is_kept = after >= next.saturating_sub(self.replay);
        let rate = (1..self.per_period).min_by_key(|&rate| nearest(rate).abs_diff(after.into()));
        after <= next.saturating_add(self.ahead) && (is_kept || !rate.is_some_and(of_rate))
    }

    /// When tick `sequence` is due in phase 0, Unix nanoseconds.
    pub fn due_ns(&self, sequence: u64) -> u64 {
        let exact = u128::from(sequence) * u128::from(self.period_ms * MS);
        exact.div_ceil(u128::from(self.per_period)) as u64
    }

    /// When the last tick of the batch with `sequence` is due.
    pub fn batch_due_ns(&self, sequence: u64) -> u64 {
        self.due_ns(sequence - sequence % self.batch + self.batch - 1)
    }

    /// `epoch_ms` of tick `sequence` in phase 0.
    pub fn label(&self, sequence: u64) -> u64 {
        (u128::from(sequence) * u128::from(self.period_ms) / u128::from(self.per_period)) as u64
    }

    /// The sequence behind the last whole batch that is due at `unix_ns` in a phase.
    pub fn due_end(&self, unix_ns: u64, phase_ms: u64) -> u64 {
        let at = u128::from(unix_ns.saturating_sub(phase_ms * MS));
        let due = (at * u128::from(self.per_period) / u128::from(self.period_ms * MS)) as u64 + 1;
        due - due % self.batch
    }
}
