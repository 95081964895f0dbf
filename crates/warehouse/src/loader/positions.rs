//! Watermarks: how far each journal is in a version of the table, as two numbers that the table keeps.

use std::collections::BTreeMap;

use deltalake::DeltaTable;
use tickstream_journal::{JournalId, Position};

use super::{LoadError, log_error};
use crate::store::numbers::Numbers;

/// Name of the number that holds the version of the list of erased identifiers that all later commits respect.
pub const SUPPRESSION: &str = "tickstream.suppression";
const CRC: &str = ".crc";

/// Watermarks of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Position of each journal, of all hosts.
    pub positions: BTreeMap<[u8; 16], Position>,
    /// Version of the list of erased identifiers.
    pub suppression: u64,
}

impl Watermarks {
    /// Watermarks of the version that `table` has.
    ///
    /// # Errors
    /// If the log can't be read.
    pub async fn read(table: &DeltaTable) -> Result<Self, LoadError> {
        Ok(Self::of(Numbers::default().of(table).await.map_err(log_error)?))
    }

    /// Watermarks among the numbers of a version.
    pub fn of(numbers: &BTreeMap<String, i64>) -> Self {
        let mut positions = BTreeMap::new();
        for (name, sequence) in numbers {
            let Some(id) = parse(name) else { continue };
            let crc = numbers.get(&format!("{name}{CRC}")).copied().unwrap_or_default();
            let position =
                Position { journal: JournalId(id), sequence: *sequence as u64, group_crc: crc as u32 };
            positions.insert(id, position);
        }
        let suppression = numbers.get(SUPPRESSION).copied().unwrap_or_default() as u64;
        Self { positions, suppression }
    }

    /// Positions of all journals.
    pub fn list(&self) -> Vec<Position> {
        self.positions.values().copied().collect()
    }
}

/// Positions as the table keeps them.
pub fn to_numbers(positions: impl Iterator<Item = Position>, suppression: u64) -> Vec<(String, i64)> {
    let mut numbers = vec![(SUPPRESSION.to_owned(), suppression as i64)];
    for position in positions {
        let name = position.journal.to_string();
        numbers.push((format!("{name}{CRC}"), i64::from(position.group_crc)));
        numbers.push((name, position.sequence as i64));
    }
    numbers
}

fn parse(name: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    if name.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(name.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(id)
}
