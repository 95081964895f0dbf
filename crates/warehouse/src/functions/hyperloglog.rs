//! HyperLogLog: distinct values with an error of 1.6 % (Flajolet, Fusy, Gandouet, Meunier, AOFA 2007), exact while they are
//! few. The same in any order of the values and of merges.

use std::collections::BTreeSet;

/// Bits of a hash that choose its register.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// Hashes that are kept as they are; more of them become registers.
const EXACT_MAX: usize = 256;

/// Hashes of values, or registers.
#[derive(Clone, Debug, PartialEq)]
pub enum HyperLogLog {
    /// All hashes.
    Exact(BTreeSet<u64>),
    /// The greatest rank for each register.
    Registers(Box<[u8; REGISTERS]>),
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self::Exact(BTreeSet::new())
    }
}

impl HyperLogLog {
    /// Adds a value.
    pub fn add(&mut self, value: &[u8]) {
        self.insert(hash(value));
    }

    fn insert(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT_MAX {
                    *self = Self::Registers(self.registers());
                }
            }
            Self::Registers(registers) => set(registers, hash),
        }
    }

    fn registers(&self) -> Box<[u8; REGISTERS]> {
        match self {
            Self::Registers(registers) => registers.clone(),
            Self::Exact(hashes) => {
                let mut registers = Box::new([0; REGISTERS]);
                hashes.iter().for_each(|hash| set(&mut registers, *hash));
                registers
            }
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(hashes) => hashes.iter().for_each(|hash| self.insert(*hash)),
            Self::Registers(others) => {
                let mut registers = self.registers();
                for (mine, other) in registers.iter_mut().zip(others.iter()) {
                    *mine = (*mine).max(*other);
                }
                *self = Self::Registers(registers);
            }
        }
    }

    /// Distinct values, about.
    pub fn count(&self) -> u64 {
        let registers = match self {
            Self::Exact(hashes) => return hashes.len() as u64,
            Self::Registers(registers) => registers,
        };
        let count = REGISTERS as f64;
        let sum: f64 = registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let estimate = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        let empty = registers.iter().filter(|rank| **rank == 0).count();
        if estimate <= 2.5 * count && empty > 0 {
            return (count * (count / empty as f64).ln()).round() as u64;
        }
        estimate.round() as u64
    }

    /// Bytes: hashes, little-endian, or all registers.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Exact(hashes) => hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect(),
            Self::Registers(registers) => registers.to_vec(),
        }
    }

    /// Reads bytes of [`HyperLogLog::to_bytes`]; `None` if they are something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(registers) = <[u8; REGISTERS]>::try_from(bytes) {
            return Some(Self::Registers(Box::new(registers)));
        }
        let (hashes, rest) = bytes.as_chunks::<8>();
        let is_whole = rest.is_empty() && hashes.len() <= EXACT_MAX;
        is_whole.then(|| Self::Exact(hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect()))
    }

    /// Bytes of memory, about.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Exact(hashes) => hashes.len() * 16,
                Self::Registers(_) => REGISTERS,
            }
    }
}

fn set(registers: &mut [u8; REGISTERS], hash: u64) {
    let register = (hash >> (64 - PRECISION)) as usize;
    let rank = ((hash << PRECISION).leading_zeros() + 1).min(64 - PRECISION + 1) as u8;
    registers[register] = registers[register].max(rank);
}

/// FNV-1a with the last step of MurmurHash3: it stays the same for ever, since it stands in tables.
fn hash(value: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in value {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ hash >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl Iterator<Item = u64>) -> HyperLogLog {
        let mut all = HyperLogLog::default();
        values.for_each(|value| all.add(format!("user-{value}").as_bytes()));
        all
    }

    #[test]
    fn few_values_are_exact_and_many_are_near() {
        assert_eq!(of((0..200).chain(0..200)).count(), 200);
        for count in [300, 3_000, 12_000, 100_000] {
            let found = of(0..count).count() as f64;
            assert!((found / count as f64 - 1.0).abs() < 0.05, "{found} of {count}");
        }
    }

    #[test]
    fn order_and_merges_change_nothing() {
        for count in [100, 5_000] {
            let whole = of(0..count);
            assert_eq!(of((0..count).rev()), whole);
            let mut merged = of(count / 3..count);
            merged.merge(&of(0..count / 2));
            assert_eq!(merged, whole);
            assert_eq!(HyperLogLog::from_bytes(&whole.to_bytes()), Some(whole));
        }
        assert_eq!(HyperLogLog::from_bytes(b"1234567"), None);
    }
}
