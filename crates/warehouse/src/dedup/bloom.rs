//! Blocked Bloom filter: all bits of an id lie in one cache line (Putze, Sanders, Singler: "Cache-, hash- and
//! space-efficient Bloom filters").

use std::sync::LazyLock;

use super::EventId;

/// Bits for each id. With eight bits set, one of a thousand unknown ids is taken for known.
const BITS_PER_ID: u64 = 16;
const BITS_SET: usize = 8;
/// Words of one block: 64 bytes.
const BLOCK_WORDS: usize = 8;

/// Hash of an id.
///
/// Seeded by chance, so that nobody who chooses ids can make the filters useless.
pub fn hash(id: &EventId) -> u128 {
    static SEED: LazyLock<[u64; 2]> = LazyLock::new(|| {
        let mut seed = [0; 16];
        // Without randomness the filters still work.
        let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
        let [low, high] = halves(&seed);
        [low | 1, high | 1]
    });
    let [low, high] = halves(id);
    let folded = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    };
    let first = folded(low ^ SEED[0], high ^ SEED[1]);
    let second = folded(first ^ SEED[1], low ^ 0x9E37_79B9_7F4A_7C15);
    u128::from(first) << 64 | u128::from(second)
}

fn halves(bytes: &EventId) -> [u64; 2] {
    let half = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    [half(0), half(8)]
}

/// A set that knows each of its members, and takes few others for members.
#[derive(Debug)]
pub struct Bloom {
    words: Vec<u64>,
}

impl Bloom {
    /// An empty filter for so many ids.
    pub fn new(ids: u64) -> Self {
        let blocks = (ids * BITS_PER_ID).div_ceil(512).max(1);
        Self { words: vec![0; blocks as usize * BLOCK_WORDS] }
    }

    /// Adds a hash.
    pub fn insert(&mut self, hash: u128) {
        let block = self.block(hash);
        for (word, bit) in bits(hash) {
            self.words[block + word] |= bit;
        }
    }

    /// True if the hash may have been added.
    pub fn may_contain(&self, hash: u128) -> bool {
        let block = self.block(hash);
        bits(hash).all(|(word, bit)| self.words[block + word] & bit != 0)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.words.len() * 8
    }

    fn block(&self, hash: u128) -> usize {
        let blocks = (self.words.len() / BLOCK_WORDS) as u64;
        // Maps the upper half to 0..blocks without a division (Lemire).
        (((hash >> 64) * u128::from(blocks)) >> 64) as usize * BLOCK_WORDS
    }
}

/// Eight bits of a block: words and masks, nine bits of the hash for each.
fn bits(hash: u128) -> impl Iterator<Item = (usize, u64)> {
    let low = hash as u64;
    // The lower half has seven times nine bits; the eighth comes from its product.
    let more = low.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 55;
    (0..BITS_SET).map(move |index| {
        let bit = if index < 7 { low >> (9 * index) & 511 } else { more };
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_known_and_few_others_are_taken_for_members() {
        let id =
            |number: u128| (number.wrapping_mul(0x2545_F491_4F6C_DD1D_9E37_79B9_7F4A_7C15)).to_be_bytes();
        let mut bloom = Bloom::new(100_000);
        (0..100_000).for_each(|number| bloom.insert(hash(&id(number))));
        assert!((0..100_000).all(|number| bloom.may_contain(hash(&id(number)))));
        let wrong = (100_000..1_100_000).filter(|number| bloom.may_contain(hash(&id(*number)))).count();
        // 0.1 % is expected; sequential ids are the hardest.
        assert!(wrong < 3_000, "{wrong} of a million");
    }
}
