//! Persons behind ids, as the table `user_identities` keeps them.

use std::collections::{HashMap, HashSet};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;
use futures::StreamExt;
use tickstream_warehouse_core::maintenance::Exchange;
use tickstream_warehouse_core::store::pieces::{BATCH_ROWS, pieces};

use super::{TransformError, Work, text, texts};
use crate::identity::{Identities, Link};

/// Buckets of persons.
pub const BUCKETS: u32 = 4;

/// Persons of ids that belong to another; every other id is a person itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People(HashMap<String, String, RandomState>);

impl People {
    /// As the table has them.
    pub async fn kept(identities: &Exchange) -> Result<Self, TransformError> {
        let mut people = HashMap::default();
        for batch in identities.kept("all", &["id", "person"]).await? {
            let (ids, persons) = (texts(&batch, 0)?, texts(&batch, 1)?);
            people
                .extend((0..ids.len()).map(|row| (ids.value(row).to_owned(), persons.value(row).to_owned())));
        }
        Ok(Self(people))
    }

    /// From all events that link ids.
    pub async fn linked(work: &Work<'_>) -> Result<Self, TransformError> {
        const ALIASES: &str = "SELECT timestamp_ns, json_text(raw_data, 'alias.previous_id'), \
                               json_text(raw_data, 'alias.user_id') FROM events WHERE event_type = 'alias'";
        let mut links = Vec::new();
        for piece in pieces(&work.events, &["identify"]).await? {
            let mut rows = piece.rows(&["timestamp_ns", "anonymous_id", "user_id"], BATCH_ROWS, &[], None)?;
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let columns =
                    ["timestamp_ns", "anonymous_id", "user_id"].map(|name| batch.schema().index_of(name));
                // A file without one of the columns links nothing.
                if let [Ok(times), Ok(from), Ok(to)] = columns {
                    let rows = batch.project(&[times, from, to])?;
                    add(&mut links, &rows, false, str::to_owned)?;
                }
            }
        }
        // The stored event has an alias' ids as the application sent them.
        work.each(ALIASES, |batch| add(&mut links, batch, true, |id| work.engine.identifier(id))).await?;
        let identities = Identities::new(links);
        Ok(Self(identities.linked().map(|(id, person)| (id.to_owned(), person.to_owned())).collect()))
    }

    /// The person behind an id.
    pub fn person<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).map_or(id, String::as_str)
    }

    /// Ids with their persons, by id.
    pub fn rows(&self) -> Vec<(&str, &str)> {
        let mut rows: Vec<_> = self.0.iter().map(|(id, person)| (id.as_str(), person.as_str())).collect();
        rows.sort_unstable();
        rows
    }

    /// Persons of ids that belong to somebody else in `other`: those of here and of there.
    pub fn changed<'a>(&'a self, other: &'a Self) -> Vec<(&'a str, &'a str)> {
        let ids = self.0.keys().chain(other.0.keys());
        let persons = ids.map(|id| (self.person(id), other.person(id)));
        persons.filter(|(here, there)| here != there).collect()
    }
}

/// Adds links from rows with a time, an id and the id that it belongs to.
fn add(
    links: &mut Vec<Link>,
    rows: &RecordBatch,
    is_alias: bool,
    stored: impl Fn(&str) -> String,
) -> Result<(), ArrowError> {
    let times = rows.column(0).as_primitive::<Int64Type>();
    let (from, to) = (texts(rows, 1)?, texts(rows, 2)?);
    for row in 0..rows.num_rows() {
        let (from, to) = (text(&from, row), text(&to, row));
        if !from.is_empty() && !to.is_empty() {
            links.push(Link { time: times.value(row), from: stored(from), to: stored(to), is_alias });
        }
    }
    Ok(())
}

/// Persons whose sessions are computed.
#[derive(Debug)]
pub enum Wanted {
    /// All.
    Everybody,
    /// Some of them.
    Some {
        /// The persons.
        persons: HashSet<String, RandomState>,
        /// All their ids.
        ids: HashSet<String, RandomState>,
    },
}

impl Wanted {
    /// Some persons with the ids that belong to them.
    pub fn some(persons: HashSet<String, RandomState>, people: &People) -> Self {
        let linked =
            people.0.iter().filter(|(_, person)| persons.contains(*person)).map(|(id, _)| id.clone());
        let ids = persons.iter().cloned().chain(linked).collect();
        Self::Some { persons, ids }
    }

    /// True for a person who is wanted.
    pub fn has(&self, person: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Some { persons, .. } => persons.contains(person),
        }
    }

    /// True for an id of a person who is wanted.
    pub fn has_id(&self, id: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Some { ids, .. } => ids.contains(id),
        }
    }
}

/// Bucket of a person; the same for ever, since tables have it.
pub fn bucket(person: &str) -> u32 {
    let mut hash = 0x811C_9DC5_u32;
    for byte in person.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    (hash ^ hash >> 16) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_the_persons_of_before_and_after() {
        let people = |pairs: &[(&str, &str)]| {
            People(pairs.iter().map(|(id, person)| ((*id).to_owned(), (*person).to_owned())).collect())
        };
        let (before, after) =
            (people(&[("phone", "anna"), ("tv", "bert")]), people(&[("phone", "anna"), ("web", "anna")]));
        let mut changed = before.changed(&after);
        changed.sort_unstable();
        assert_eq!(changed, [("bert", "tv"), ("web", "anna")]);
        assert!(before.changed(&before.clone()).is_empty());
    }

    #[test]
    fn buckets_stay_and_are_all_used() {
        let used: std::collections::BTreeSet<_> = (0..100).map(|n| bucket(&format!("user-{n}"))).collect();
        assert_eq!(used.len(), BUCKETS as usize);
        assert_eq!((bucket("anna"), bucket("bert"), bucket("")), (3, 1, 1));
    }
}
