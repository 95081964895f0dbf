//! Memory of what was stored before: the newest event ids, and the newest sequences of each producer. Both in tables of a fixed
//! size, allocated at the first event.

/// Exactly the newest event ids of a shard, in a ring, with an index over it.
///
/// An id's place is its number: ids are counted from 0, and the ids of one record are consecutive.
#[derive(Debug)]
pub(crate) struct EventIds {
    ring: Vec<u128>,
    /// Open addressing with linear probing, twice as long as the ring, so never more than half full. An entry is the
    /// upper half of the id's hash and its place in the ring, from 1; 0 is free.
    index: Vec<u64>,
    /// Ids that the ring holds; a power of two.
    capacity: usize,
    /// The number of the next id.
    next: u64,
    seed: u64,
}

impl EventIds {
    /// Bytes of a ring of `capacity` ids, with its index.
    pub fn table_bytes(capacity: u32) -> u64 {
        let id_bytes = size_of::<u128>() + 2 * size_of::<u64>();
        (Self::places(capacity) * id_bytes) as u64
    }

    fn places(capacity: u32) -> usize {
        (capacity.clamp(16, 1 << 30) as usize).next_power_of_two()
    }

    /// A table of the newest `capacity` ids, rounded up to a power of two.
    pub fn new(capacity: u32, seed: u64) -> Self {
        Self { ring: Vec::new(), index: Vec::new(), capacity: Self::places(capacity), next: 0, seed }
    }

    /// The number that the next id gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Remembers `id`, and forgets the oldest.
    ///
    /// # Errors
    /// If it is remembered already: its number. Nothing has changed.
    pub fn insert(&mut self, id: [u8; 16]) -> Result<(), u64> {
        if self.ring.is_empty() {
            self.ring = vec![0; self.capacity];
            self.index = vec![0; 2 * self.capacity];
        }
        let id = u128::from_le_bytes(id);
        let tag = self.tag(id);
        if let Some((_, place)) = self.find(id, tag) {
            return Err(self.number_at(place));
        }
        let place = self.next as usize & (self.capacity - 1);
        let oldest = self.ring[place];
        self.forget(oldest, place);
        let mut at = self.home(tag);
        while self.index[at] != 0 {
            at = self.after(at);
        }
        self.index[at] = u64::from(tag) << 32 | (place as u64 + 1);
        self.ring[place] = id;
        self.next += 1;
        Ok(())
    }

    /// Forgets the `count` ids from number `first` on: what they were in wasn't stored.
    pub fn forget_range(&mut self, first: u64, count: u64) {
        let oldest = self.next.saturating_sub(self.capacity as u64);
        for number in first.max(oldest)..first + count {
            let place = number as usize & (self.capacity - 1);
            self.forget(self.ring[place], place);
            self.ring[place] = 0;
        }
    }

    /// Takes the id at a place out of the index, if it is there.
    fn forget(&mut self, id: u128, place: usize) {
        let tag = self.tag(id);
        let Some((mut hole, _)) = self.find(id, tag).filter(|(_, found)| *found == place) else { return };
        // What was pushed on by the entry moves back (Knuth, 6.4, algorithm R).
        let mut at = hole;
        loop {
            at = self.after(at);
            let entry = self.index[at];
            if entry == 0 {
                break;
            }
            let home = self.home((entry >> 32) as u32);
            let mask = self.index.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.index[hole] = entry;
                hole = at;
            }
        }
        self.index[hole] = 0;
    }

    /// Place of an id in the index and in the ring. The zero id is never there: it is no event's.
    #[inline]
    fn find(&self, id: u128, tag: u32) -> Option<(usize, usize)> {
        if id == 0 {
            return None;
        }
        let mut at = self.home(tag);
        loop {
            let entry = self.index[at];
            if entry == 0 {
                return None;
            }
            let place = (entry as u32 - 1) as usize;
            if (entry >> 32) as u32 == tag && self.ring[place] == id {
                return Some((at, place));
            }
            at = self.after(at);
        }
    }

    fn number_at(&self, place: usize) -> u64 {
        let mask = self.capacity as u64 - 1;
        let newest = self.next - 1;
        newest - (newest.wrapping_sub(place as u64) & mask)
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.index.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.index.len() - 1)
    }

    /// 32 bits of a keyed hash, so that nobody can choose ids that share places.
    #[inline]
    fn tag(&self, id: u128) -> u32 {
        let (low, high) = (id as u64 ^ self.seed, (id >> 64) as u64 ^ self.seed.rotate_left(32));
        let product = u128::from(low | 1) * u128::from(high | 1);
        let mut hash = (product as u64 ^ (product >> 64) as u64).wrapping_add(low.rotate_left(17) ^ high);
        // The finaliser of splitmix64.
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (hash >> 32) as u32
    }
}

/// Producers that are remembered. At 64 bytes each, 1 MiB a shard, from the first PUBLISH on.
const PRODUCERS: usize = 1 << 14;
/// Places that a producer may have in the table.
const WAYS: usize = 8;
/// Sequences below a producer's highest that are remembered, and that one.
pub(crate) const SEQUENCES: u64 = 256;

/// The newest sequences of the producers that were seen last.
#[derive(Debug)]
pub(crate) struct Producers {
    entries: Vec<Producer>,
    /// Counts uses.
    uses: u64,
    seed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Producer {
    /// 0: free.
    id: u128,
    highest: u64,
    /// Time of its last use, in uses.
    used: u64,
    /// Bits of the [`SEQUENCES`] below and at the highest were seen, by the sequence modulo their number.
    seen: [u64; SEQUENCES as usize / 64],
}

impl Producers {
    /// Bytes of its table.
    pub const TABLE_BYTES: u64 = (PRODUCERS * size_of::<Producer>()) as u64;

    pub fn new(seed: u64) -> Self {
        Self { entries: Vec::new(), uses: 0, seed }
    }

    /// True if this sequence was seen. One below the window is not known, and taken for new.
    pub fn has_seen(&self, id: [u8; 16], sequence: u64) -> bool {
        self.find(u128::from_le_bytes(id)).is_some_and(|at| self.entries[at].has(sequence))
    }

    /// Remembers a sequence, and forgets those that fall out of the producer's window.
    pub fn remember(&mut self, id: [u8; 16], sequence: u64) {
        if self.entries.is_empty() {
            self.entries = vec![Producer::default(); PRODUCERS];
        }
        let id = u128::from_le_bytes(id);
        let at = self.find(id).unwrap_or_else(|| {
            let first = self.first_place(id);
            let longest_ago = (first..first + WAYS).min_by_key(|&at| self.entries[at].used);
            let at = longest_ago.expect("there are places");
            self.entries[at] = Producer { id, ..Producer::default() };
            at
        });
        self.uses += 1;
        self.entries[at].used = self.uses;
        self.entries[at].add(sequence);
    }

    /// Forgets a sequence: what came under it wasn't stored.
    pub fn forget(&mut self, id: [u8; 16], sequence: u64) {
        if let Some(at) = self.find(u128::from_le_bytes(id))
            && self.entries[at].has(sequence)
        {
            let (word, bit) = place(sequence);
            self.entries[at].seen[word] &= !bit;
        }
    }

    fn find(&self, id: u128) -> Option<usize> {
        let first = self.first_place(id);
        let places = self.entries.get(first..first + WAYS)?;
        places.iter().position(|entry| entry.id == id).map(|way| first + way)
    }

    /// The finaliser of splitmix64, keyed, over both halves.
    fn first_place(&self, id: u128) -> usize {
        let mut hash = (id as u64).wrapping_add(self.seed);
        for half in [(id >> 64) as u64, self.seed.rotate_left(32)] {
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            hash = (hash ^ (hash >> 27) ^ half).wrapping_mul(0x94D0_49BB_1331_11EB);
        }
        (hash ^ (hash >> 31)) as usize % (PRODUCERS / WAYS) * WAYS
    }
}

impl Producer {
    fn has(&self, sequence: u64) -> bool {
        let (word, bit) = place(sequence);
        let in_window = sequence <= self.highest && self.highest - sequence < SEQUENCES;
        in_window && self.seen[word] & bit != 0
    }

    fn add(&mut self, sequence: u64) {
        if sequence > self.highest {
            let passed = sequence - self.highest;
            if passed >= SEQUENCES {
                self.seen = Default::default();
            } else {
                for between in self.highest + 1..sequence {
                    let (word, bit) = place(between);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = sequence;
        } else if self.highest - sequence >= SEQUENCES {
            return;
        }
        let (word, bit) = place(sequence);
        self.seen[word] |= bit;
    }
}

fn place(sequence: u64) -> (usize, u64) {
    let at = sequence % SEQUENCES;
    (at as usize / 64, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    fn id(number: u64) -> [u8; 16] {
        (u128::from(number) + 1).to_le_bytes()
    }

    #[test]
    fn exactly_the_newest_ids_are_remembered() {
        let mut ids = EventIds::new(1_000, 7);
        for number in 0..5_000 {
            assert_eq!(ids.insert(id(number)), Ok(()));
        }
        for number in (5_000 - 1_024)..5_000 {
            assert_eq!(ids.insert(id(number)), Err(number));
        }
        assert_eq!(ids.insert(id(5_000 - 1_025)), Ok(()), "the oldest was forgotten");
    }

    #[test]
    fn a_producer_s_window_is_as_long_as_told() {
        let mut producers = Producers::new(7);
        for sequence in 1..=1_000 {
            assert!(!producers.has_seen(id(1), sequence));
            producers.remember(id(1), sequence);
            assert!(producers.has_seen(id(1), sequence) && !producers.has_seen(id(2), sequence));
        }
        assert!(producers.has_seen(id(1), 1_000 - SEQUENCES + 1));
        assert!(!producers.has_seen(id(1), 1_000 - SEQUENCES), "below the window: not known");
        producers.forget(id(1), 990);
        assert!(!producers.has_seen(id(1), 990) && producers.has_seen(id(1), 991));
        producers.remember(id(1), u64::MAX);
        assert!(producers.has_seen(id(1), u64::MAX) && !producers.has_seen(id(1), u64::MAX - 1));
    }

    #[test]
    fn a_flood_of_producers_takes_no_more_memory() {
        let mut producers = Producers::new(7);
        producers.remember(id(0), 1);
        let capacity = producers.entries.capacity();
        for number in 1..100_000 {
            producers.remember(id(number), 1);
        }
        assert_eq!(producers.entries.capacity(), capacity);
        assert!(producers.has_seen(id(99_999), 1));
    }

    proptest! {
        #[test]
        fn ids_agree_with_a_plain_model(steps in prop::collection::vec((0..60_u64, 0..8_u8), 0..400)) {
            let mut ids = EventIds::new(16, 3);
            // Number and id of what the ring holds, forgotten ones as None.
            let mut model: VecDeque<(u64, Option<u64>)> = VecDeque::new();
            for (number, what) in steps {
                if what == 0 {
                    let first = ids.next().saturating_sub(number % 20);
                    let count = ids.next() - first;
                    ids.forget_range(first, count);
                    for entry in model.iter_mut().filter(|entry| entry.0 >= first) {
                        entry.1 = None;
                    }
                    continue;
                }
                let known = model.iter().find(|entry| entry.1 == Some(number)).map(|entry| entry.0);
                let next = ids.next();
                prop_assert_eq!(ids.insert(id(number)), known.map_or(Ok(()), Err));
                if known.is_none() {
                    model.push_back((next, Some(number)));
                    if model.len() > 16 {
                        model.pop_front();
                    }
                }
            }
        }

        #[test]
        fn sequences_agree_with_a_plain_model(steps in prop::collection::vec(1..2_000_u64, 0..300)) {
            let mut producers = Producers::new(3);
            let mut model: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            for (step, sequence) in steps.into_iter().enumerate() {
                let seen = model.entry(step as u64 % 3).or_default();
                let highest = seen.last().copied().unwrap_or(0);
                let in_window = sequence + SEQUENCES > highest;
                prop_assert_eq!(producers.has_seen(id(step as u64 % 3), sequence), in_window && seen.contains(&sequence));
                producers.remember(id(step as u64 % 3), sequence);
                if in_window {
                    seen.insert(sequence);
                }
            }
        }
    }
}
