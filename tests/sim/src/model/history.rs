//! The passes of a shard, so that the age of a tick can be told.

/// Report of one pass.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// The latest that the wall clock has ever said.
    wall_most: u64,
    active_ns: u64,
    /// The wall clock says no less than it ever did.
    is_ahead: bool,
    /// All that was due was sent and answered at its end, and isn't due again.
    is_settled: bool,
}

#[derive(Debug, Default)]
pub struct History(Vec<Pass>);

impl History {
    pub fn push(&mut self, wall: u64, wall_most: u64, active_ns: u64) {
        self.0.push(Pass { wall_most, active_ns, is_ahead: wall == wall_most, is_settled: false });
    }

    /// The wall clock was set back to `wall`: ticks that were due later will be due, and published, again.
    pub fn set_back(&mut self, wall: u64) {
        let first = self.0.partition_point(|pass| pass.wall_most < wall);
        for pass in &mut self.0[first..] {
            pass.is_settled = false;
        }
    }

    pub fn settle(&mut self) {
        if let Some(pass) = self.0.last_mut() {
            pass.is_settled = true;
        }
    }

    /// The earliest that what was due at `wall` can have been published.
    pub fn earliest(&self, wall: u64) -> Option<u64> {
        self.0.get(self.0.partition_point(|pass| pass.wall_most < wall)).map(|pass| pass.active_ns)
    }

    /// The latest that it was published, if that is known.
    pub fn latest(&self, wall: u64) -> Option<u64> {
        let first = self.0.partition_point(|pass| pass.wall_most < wall);
        let before = self.0.get(first.checked_sub(1)?)?;
        let pass = self.0.get(first)?;
        (before.is_ahead && before.is_settled && pass.is_ahead && pass.is_settled).then_some(pass.active_ns)
    }
}
