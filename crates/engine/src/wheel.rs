//! Deadlines of many connections, one each, in constant time and 12 bytes.

use crate::clock::{ActiveTime, MS};
use crate::ids::Slot;

/// Resolution: latest that a deadline is noticed, nanoseconds. It is never early, unless it is beyond the horizon.
const RESOLUTION_NS: u64 = 50 * MS;
/// Turns that the wheel sees ahead: 25.6 s. A later deadline comes up at the horizon and is armed again.
const TURNS: u64 = 512;
const NONE: u32 = u32::MAX;

/// A coarse timing wheel: a ring of doubly linked lists, linked through a table that is as long as the
/// connection table.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// First connection of each turn's list.
    heads: [u32; TURNS as usize],
    /// A bit for each list that isn't empty.
    occupied: [u64; TURNS as usize / 64],
    links: Vec<Link>,
    /// The turn to expire next; no deadline lies before it.
    turn: u64,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    prev: u32,
    /// Index into `heads`, or `NONE` if nothing is armed.
    list: u32,
}

impl Wheel {
    /// Bytes of one connection.
    pub const LINK_BYTES: u64 = size_of::<Link>() as u64;

    pub fn new() -> Self {
        Self { heads: [NONE; TURNS as usize], occupied: [0; TURNS as usize / 64], links: Vec::new(), turn: 0 }
    }

    /// Sets the deadline of connection `slot`, whatever it was before.
    pub fn arm(&mut self, slot: Slot, deadline: ActiveTime) {
        self.disarm(slot);
        let turn = deadline.div_ceil(RESOLUTION_NS).clamp(self.turn, self.turn + TURNS - 1);
        let list = (turn % TURNS) as u32;
        if self.links.len() <= slot.index() {
            self.links.resize(slot.index() + 1, Link { next: NONE, prev: NONE, list: NONE });
        }
        let head = self.heads[list as usize];
        if head != NONE {
            self.links[head as usize].prev = slot.0;
        }
        self.links[slot.index()] = Link { next: head, prev: NONE, list };
        self.set_head(list, slot.0);
    }

    /// Takes the deadline of connection `slot` away.
    pub fn disarm(&mut self, slot: Slot) {
        let Some(link) = self.links.get(slot.index()).copied().filter(|link| link.list != NONE) else {
            return;
        };
        if link.prev == NONE {
            self.set_head(link.list, link.next);
        } else {
            self.links[link.prev as usize].next = link.next;
        }
        if link.next != NONE {
            self.links[link.next as usize].prev = link.prev;
        }
        self.links[slot.index()].list = NONE;
    }

    /// A connection whose deadline has passed at `active`; its deadline is taken away.
    pub fn expire(&mut self, active: ActiveTime) -> Option<Slot> {
        let last = active / RESOLUTION_NS;
        while self.turn <= last {
            match self.next_occupied().filter(|&turn| turn <= last) {
                Some(turn) => {
                    self.turn = turn;
                    let slot = Slot(self.heads[(turn % TURNS) as usize]);
                    self.disarm(slot);
                    return Some(slot);
                }
                None => self.turn = last + 1,
            }
        }
        None
    }

    /// Time at which [`Wheel::expire`] will next find something.
    pub fn next_expiry(&self) -> Option<ActiveTime> {
        self.next_occupied().map(|turn| turn * RESOLUTION_NS)
    }

    /// The first turn from the current one on whose list isn't empty.
    fn next_occupied(&self) -> Option<u64> {
        let words = self.occupied.len() as u64;
        let start = self.turn % TURNS;
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word as usize];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let list = word * 64 + u64::from(bits.trailing_zeros());
                return Some(self.turn + (list + TURNS - start) % TURNS);
            }
        }
        None
    }

    fn set_head(&mut self, list: u32, head: u32) {
        self.heads[list as usize] = head;
        let (word, bit) = (list as usize / 64, 1 << (list % 64));
        if head == NONE {
            self.occupied[word] &= !bit;
        } else {
            self.occupied[word] |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map: nothing fires early, nothing more than a resolution late, nothing twice, nothing never.
        #[test]
        fn it_does_what_a_sorted_map_does(steps in prop::collection::vec((0..40u32, 0..20_000u64, 0..400u64), 1..200)) {
            let mut wheel = Wheel::new();
            let mut model = BTreeMap::new();
            let mut active = 0;
            for (slot, in_ms, pass_ms) in steps {
                let slot = Slot(slot);
                if in_ms % 7 == 0 {
                    wheel.disarm(slot);
                    model.remove(&slot);
                } else {
                    wheel.arm(slot, active + in_ms * MS);
                    model.insert(slot, active + in_ms * MS);
                }
                active += pass_ms * MS;
                prop_assert_eq!(wheel.next_expiry().is_some(), !model.is_empty());
                while let Some(slot) = wheel.expire(active) {
                    let deadline = model.remove(&slot);
                    prop_assert!(deadline.is_some_and(|deadline| deadline <= active), "{slot:?} fired early or twice");
                }
                prop_assert!(model.values().all(|&deadline| deadline + RESOLUTION_NS > active), "late: {model:?}");
            }
        }
    }

    #[test]
    fn a_deadline_beyond_the_horizon_comes_up_early_to_be_armed_again() {
        let mut wheel = Wheel::new();
        wheel.arm(Slot(3), 60_000 * MS);
        assert_eq!(wheel.next_expiry(), Some((TURNS - 1) * RESOLUTION_NS));
        assert_eq!(wheel.expire((TURNS - 2) * RESOLUTION_NS), None);
        assert_eq!(wheel.expire((TURNS - 1) * RESOLUTION_NS), Some(Slot(3)));
        assert_eq!(wheel.next_expiry(), None);
    }
}
