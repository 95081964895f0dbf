//! Rows of `user_sessions`: made of sessions, and put among those that are kept.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;
use tickstream_warehouse_core::derived::USER_SESSIONS;

use super::people::Wanted;
use super::stitch::{Session, place};
use crate::texts::Texts;

/// Places of columns.
const PERSON: usize = 0;
const BEGIN_NS: usize = 3;

/// Rows of sessions.
pub fn rows_of(sessions: &[Session], texts: &Texts) -> Result<RecordBatch, ArrowError> {
    let integer = |of: fn(&Session) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(sessions.iter().map(of)))
    };
    let time = |of: fn(&Session) -> i64| -> ArrayRef {
        let times = sessions.iter().map(|session| of(session).div_euclid(1_000));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let text = |of: &dyn Fn(&Session) -> u32| -> ArrayRef {
        let mut column = StringBuilder::with_capacity(sessions.len(), sessions.len() * 8);
        for session in sessions {
            column.append_option(
                Some(of(session)).filter(|number| *number != 0).map(|number| texts.text(number)),
            );
        }
        Arc::new(column.finish())
    };
    let first = |place: usize| text(&move |session: &Session| session.first[place]);
    let last = |place: usize| text(&move |session: &Session| session.last[place]);
    let durations = sessions.iter().map(|session| (session.end - session.begin) as f64 / 1e9);
    let columns = vec![
        text(&|session: &Session| session.person),
        time(|session| session.begin),
        time(|session| session.end),
        integer(|session| session.begin),
        integer(|session| session.end),
        Arc::new(Float64Array::from_iter_values(durations)) as ArrayRef,
        integer(|session| session.events),
        integer(|session| session.interactions),
        integer(|session| session.video_events),
        integer(|session| session.ids),
        first(place::SESSION),
        first(place::PLATFORM),
        first(place::VERSION),
        first(place::COUNTRY),
        first(place::DEVICE),
        first(place::CHANNEL),
        first(place::CAMPAIGN),
        first(place::SCREEN),
        last(place::SCREEN),
        first(place::NAME),
        last(place::NAME),
        Arc::new(Float64Array::from_iter(sessions.iter().map(|session| session.revenue))),
    ];
    RecordBatch::try_new(USER_SESSIONS.file_schema(), columns)
}

/// Rows of a part: the kept ones without those of wanted persons, and the new ones of these, by person and begin. None if the
/// wanted persons have the same rows as before.
pub fn merged(
    kept: &[RecordBatch],
    new: Option<RecordBatch>,
    wanted: &Wanted,
) -> Result<Option<Vec<RecordBatch>>, ArrowError> {
    let schema = USER_SESSIONS.file_schema();
    let kept = concat_batches(kept.first().map_or(&schema, RecordBatch::schema_ref), kept)?;
    let kept = RecordBatch::try_new(schema.clone(), kept.columns().to_vec())?;
    let new = new.unwrap_or_else(|| RecordBatch::new_empty(schema.clone()));
    let is_old = BooleanArray::from_iter(
        persons(&kept).iter().map(|person| Some(person.is_some_and(|person| wanted.has(person)))),
    );
    let old = filter_record_batch(&kept, &is_old)?;
    if old.columns() == new.columns() {
        return Ok(None);
    }
    let rows = merge(&kept, &is_old, &new);
    if rows.is_empty() {
        return Ok(Some(Vec::new()));
    }
    concat_batches(&schema, &rows).map(|rows| Some(vec![rows]))
}

/// Runs of the kept rows that aren't old, and of the new ones, in their order.
fn merge(kept: &RecordBatch, is_old: &BooleanArray, new: &RecordBatch) -> Vec<RecordBatch> {
    let (here, there) = (persons(kept), persons(new));
    let (here_ns, there_ns) = (begins(kept), begins(new));
    let is_before = |place: usize, other: usize| {
        let by_person = here.value(place).cmp(there.value(other));
        by_person.then(here_ns.value(place).cmp(&there_ns.value(other))) == Ordering::Less
    };
    let mut runs = Vec::new();
    let (mut place, mut other) = (0, 0);
    while place < kept.num_rows() || other < new.num_rows() {
        let from = place;
        while place < kept.num_rows()
            && !is_old.value(place)
            && (other == new.num_rows() || is_before(place, other))
        {
            place += 1;
        }
        if place > from {
            runs.push(kept.slice(from, place - from));
        }
        if place < kept.num_rows() && is_old.value(place) {
            place += 1;
            continue;
        }
        let from = other;
        while other < new.num_rows() && (place == kept.num_rows() || !is_before(place, other)) {
            other += 1;
        }
        if other > from {
            runs.push(new.slice(from, other - from));
        }
    }
    runs
}

fn persons(rows: &RecordBatch) -> &StringArray {
    rows.column(PERSON).as_string()
}

fn begins(rows: &RecordBatch) -> &Int64Array {
    rows.column(BEGIN_NS).as_primitive::<Int64Type>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::people::People;
    use super::super::stitch::TEXTS;
    use super::*;

    /// Rows of persons with begins, in their order.
    fn rows(of: &BTreeSet<(String, i64)>) -> RecordBatch {
        let mut texts = Texts::default();
        let session = |(person, begin): &(String, i64)| Session {
            person: texts.number(person),
            begin: *begin,
            end: begin + 1,
            events: 2,
            interactions: 2,
            video_events: 0,
            ids: 1,
            first: [0; TEXTS],
            last: [0; TEXTS],
            revenue: None,
        };
        let sessions: Vec<_> = of.iter().map(session).collect();
        rows_of(&sessions, &texts).unwrap()
    }

    #[test]
    fn rows_of_wanted_persons_are_exchanged_in_their_places() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..500 {
            let mut any = |persons: std::ops::Range<u8>| -> BTreeSet<(String, i64)> {
                let count = random.usize(..12);
                (0..count).map(|_| (format!("p{}", random.u8(persons.clone())), random.i64(..4))).collect()
            };
            let (others, old, new) = (any(0..9), any(3..6), any(3..6));
            let is_wanted = |(person, _): &&(String, i64)| ["p3", "p4", "p5"].contains(&person.as_str());
            let others: BTreeSet<_> = others.iter().filter(|row| !is_wanted(row)).cloned().collect();
            let wanted = ["p3", "p4", "p5"].map(str::to_owned).into_iter().collect();
            let wanted = Wanted::some(wanted, &People::default());
            let kept = rows(&others.union(&old).cloned().collect());
            let kept = [
                kept.slice(0, kept.num_rows() / 2),
                kept.slice(kept.num_rows() / 2, kept.num_rows().div_ceil(2)),
            ];
            let found = merged(&kept, Some(rows(&new)), &wanted).unwrap();
            let expected = rows(&others.union(&new).cloned().collect());
            match found {
                None => assert_eq!(old, new),
                Some(found) if found.is_empty() => assert_eq!(expected.num_rows(), 0),
                Some(found) => assert_eq!(found, [expected]),
            }
        }
    }
}
