//! Persons' events in order of time, from rows that are sorted by person and time.

use std::collections::BTreeMap;

use crate::filters::SECOND;
use crate::sessions::{SessionRules, sessions};
use crate::table::{Table, Value};

/// Sessions: 30 minutes idle, 24 hours at most.
pub const SESSIONS: SessionRules = SessionRules { idle: 30 * 60 * SECOND, length_max: 24 * 3_600 * SECOND };

/// Rows of one person: places in the table, and times.
#[derive(Debug, Default)]
pub struct Journey {
    /// Rows of the table, in order of time.
    pub rows: Vec<usize>,
    /// Their times, nanoseconds.
    pub times: Vec<i64>,
}

/// Journeys of a table with the columns `person` and `timestamp_ns`. Rows without a person are left out.
pub fn journeys(table: &Table) -> Vec<Journey> {
    let mut by_person = BTreeMap::<&str, Vec<(i64, usize)>>::new();
    for (row, (person, time)) in table.column("person").zip(table.column("timestamp_ns")).enumerate() {
        if let (Value::Text(person), Value::Integer(time)) = (person, time) {
            by_person.entry(person).or_default().push((*time, row));
        }
    }
    by_person
        .into_values()
        .map(|mut events| {
            events.sort_unstable();
            let (times, rows) = events.into_iter().unzip();
            Journey { rows, times }
        })
        .collect()
}

impl Journey {
    /// Its sessions: rows of the table, in order of time, with the time of the first.
    pub fn sessions(&self) -> impl Iterator<Item = (i64, &[usize])> {
        sessions(&self.times, SESSIONS).into_iter().map(|range| (self.times[range.start], &self.rows[range]))
    }
}

/// Numbers of texts, in the order of their first use.
#[derive(Debug, Default)]
pub struct Names {
    numbers: BTreeMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    /// Number of a text.
    pub fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.numbers.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// All texts by number.
    pub fn all(&self) -> &[String] {
        &self.names
    }
}
