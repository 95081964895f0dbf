//! Liveness of shards: has every shard's loop turned lately?

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::shard::Control;

/// Interval of looks at the shards' liveness. A shard's loop turns ten times a second, and at once when there is work.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Looks in a row without a turn of its loop that make a shard a sick one: a hang is told within 0.8 s. The process is ended by
/// the watchdog of `serve.rs`, which waits longer.
const MISSES_MAX: u32 = 7;

/// Notices shards whose loop doesn't turn. It counts its own looks, not time: a process that was stopped as a whole has
/// no sick shards.
#[derive(Debug)]
pub struct Health {
    /// For each shard its liveness counter at the last look, and looks since it changed.
    shards: Mutex<Vec<(u64, u32)>>,
}

impl Health {
    pub fn new(shards: usize) -> Self {
        Self { shards: Mutex::new(vec![(0, 0); shards]) }
    }

    /// Looks at the liveness counters. Call it every [`LOOK_INTERVAL`].
    pub fn look(&self, control: &Control) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        for (shard, ((last, misses), alive)) in shards.iter_mut().zip(control.liveness()).enumerate() {
            let turned = *last != alive || control.has_retired(shard);
            *misses = if turned { 0 } else { misses.saturating_add(1) };
            *last = alive;
        }
    }

    /// Shards whose loop hasn't turned, each with how long.
    pub fn sick(&self) -> Vec<(usize, Duration)> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let sick = shards.iter().enumerate().filter(|(_, (_, misses))| *misses >= MISSES_MAX);
        sick.map(|(shard, (_, misses))| (shard, LOOK_INTERVAL * *misses)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_turn_is_sick_within_a_second_and_well_again_at_once() {
        let (control, health) = (Control::new(2), Health::new(2));
        assert!(LOOK_INTERVAL * (MISSES_MAX + 1) < Duration::from_secs(1));
        control.mark_alive(1);
        health.look(&control);
        for _ in 0..MISSES_MAX {
            assert_eq!(health.sick(), []);
            control.mark_alive(0);
            health.look(&control);
        }
        assert_eq!(health.sick(), [(1, LOOK_INTERVAL * MISSES_MAX)]);
        control.mark_alive(1);
        health.look(&control);
        assert_eq!(health.sick().len(), 0);
    }
}
