//! Persons behind ids, as the table `user_identities` keeps them.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Int64Type;

use super::{TransformError, Work, text, texts};
use crate::identity::{Identities, Link};

/// Buckets of persons.
pub const BUCKETS: u32 = 4;

/// Persons of ids that belong to another; every other id is a person itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People(HashMap<String, String>);

impl People {
    /// As the table has them.
    pub async fn kept(work: &Work<'_>) -> Result<Self, TransformError> {
        let mut people = HashMap::new();
        work.each("SELECT id, person FROM user_identities", |batch| {
            let (ids, persons) = (texts(batch, 0)?, texts(batch, 1)?);
            people
                .extend((0..ids.len()).map(|row| (ids.value(row).to_owned(), persons.value(row).to_owned())));
            Ok(())
        })
        .await?;
        Ok(Self(people))
    }

    /// From all events that link ids.
    pub async fn linked(work: &Work<'_>) -> Result<Self, TransformError> {
        const SQL: &str = "SELECT timestamp_ns, event_type, anonymous_id, user_id, json_text(raw_data, 'alias.previous_id'), \
                           json_text(raw_data, 'alias.user_id') FROM events WHERE event_type IN ('identify', 'alias')";
        let mut links = Vec::new();
        work.each(SQL, |batch| {
            let times = batch.column(0).as_primitive::<Int64Type>();
            let (kinds, anonymous, users) = (texts(batch, 1)?, texts(batch, 2)?, texts(batch, 3)?);
            let (before, after) = (texts(batch, 4)?, texts(batch, 5)?);
            for row in 0..batch.num_rows() {
                let is_alias = text(&kinds, row) == "alias";
                // The stored event has an alias' ids as the application sent them.
                let (from, to) = match is_alias {
                    true => {
                        let mapped =
                            |id: &str| if id.is_empty() { String::new() } else { work.engine.identifier(id) };
                        (mapped(text(&before, row)), mapped(text(&after, row)))
                    }
                    false => (text(&anonymous, row).to_owned(), text(&users, row).to_owned()),
                };
                if !from.is_empty() && !to.is_empty() {
                    links.push(Link { time: times.value(row), from, to, is_alias });
                }
            }
            Ok(())
        })
        .await?;
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
