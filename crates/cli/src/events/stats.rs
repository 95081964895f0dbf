//! `events stats`: how many events there are, by kind, name, service, user and code of rejection.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;

use serde_json::json;
use tickstream_schema::events::Event;
use tickstream_server::stored::{Filter, kind_name, service};
use tickstream_service::text::{counted, one_line, push_json_line};

use super::feed::{Batch, each_batch};
use super::lines::time;
use super::{EventsError, Output};
use crate::cli::StopFlag;

/// Most frequent values that are listed.
const LISTED: usize = 10;
/// Different values that are counted. What comes beyond is counted as others, so that memory is bounded.
const VALUES_MAX: usize = 10_000;

pub fn run(
    directory: &Path,
    filter: &Filter,
    as_json: bool,
    (stop, out): (&StopFlag, &mut Output),
) -> Result<(), EventsError> {
    let mut stats = Stats::default();
    let read = each_batch(directory, filter, stop, |journal, batch| {
        stats.take(journal, batch, filter);
        Ok(())
    });
    // Of what could be read, also where a journal is damaged.
    let mut text = Vec::new();
    if as_json {
        stats.json(&mut text);
    } else {
        text.extend(stats.text().into_bytes());
    }
    out.write(&text)?;
    read
}

#[derive(Default)]
struct Stats {
    batches: u64,
    events: u64,
    dead_letters: u64,
    /// Receipt of the first and of the last batch, Unix nanoseconds.
    received: Option<(u64, u64)>,
    journals: BTreeMap<String, u64>,
    kinds: Counts,
    names: Counts,
    services: Counts,
    users: Counts,
    verdicts: Counts,
}

/// Counts by value.
#[derive(Default)]
struct Counts {
    values: HashMap<String, u64>,
    others: u64,
}

impl Counts {
    fn add(&mut self, value: &str) {
        if let Some(count) = self.values.get_mut(value) {
            *count += 1;
        } else if self.values.len() < VALUES_MAX {
            self.values.insert(value.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }

    /// The most frequent values, and how many events have another one.
    fn top(&self) -> (Vec<(&str, u64)>, u64) {
        let mut all: Vec<_> = self.values.iter().map(|(value, count)| (value.as_str(), *count)).collect();
        all.sort_unstable_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
        let rest = all.iter().skip(LISTED).map(|(_, count)| count).sum::<u64>();
        all.truncate(LISTED);
        (all, rest + self.others)
    }

    /// Counts a value, if there is one.
    fn add_some(&mut self, value: Option<&str>) {
        value.into_iter().for_each(|value| self.add(value));
    }

    fn json(&self) -> serde_json::Value {
        let (top, others) = self.top();
        let top: Vec<_> =
            top.into_iter().map(|(value, count)| json!({"value": value, "count": count})).collect();
        json!({"top": top, "others": others})
    }
}

impl Stats {
    fn take(&mut self, journal: &str, batch: &Batch, filter: &Filter) {
        let stored = &batch.stored;
        let (mut events, mut letters) = (0, 0);
        for event in stored.events.iter().filter(|event| filter.takes(event)) {
            events += 1;
            self.count(event);
        }
        for letter in stored.dead_letters.iter().filter(|letter| filter.takes_letter(letter)) {
            letters += 1;
            self.verdicts.add(&letter.code);
        }
        if events + letters > 0 {
            let time = stored.receive_time_ns;
            let (first, last) = self.received.unwrap_or((time, time));
            self.received = Some((first.min(time), last.max(time)));
            self.batches += 1;
            self.events += events;
            self.dead_letters += letters;
            *self.journals.entry(journal.to_owned()).or_default() += events;
        }
    }

    fn count(&mut self, event: &Event) {
        self.kinds.add(kind_name(event));
        self.names.add(&event.event_name);
        self.services.add_some(service(event));
        self.users.add_some(event.user_id.as_deref().filter(|user| !user.is_empty()));
    }

    fn json(&self, out: &mut Vec<u8>) {
        let received = self.received.map(|(first, last)| json!({"first": time(first), "last": time(last)}));
        let value = json!({
            "batches": self.batches, "events": self.events, "dead_letters": self.dead_letters, "received": received,
            "journals": self.journals, "kinds": self.kinds.json(), "names": self.names.json(),
            "services": self.services.json(), "users": self.users.json(), "verdicts": self.verdicts.json(),
        });
        push_json_line(out, &value);
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}, {}, in {} of {}\n",
            counted(self.events, "event"),
            counted(self.dead_letters, "dead letter"),
            counted(self.batches, "batch"),
            counted(self.journals.len() as u64, "journal")
        );
        if let Some((first, last)) = self.received {
            text += &format!("received from {} to {}\n", time(first), time(last));
        }
        let all = [
            ("kind", &self.kinds),
            ("name", &self.names),
            ("service", &self.services),
            ("user", &self.users),
            ("code of dead letters", &self.verdicts),
        ];
        for (title, counts) in all.into_iter().filter(|(_, counts)| !counts.values.is_empty()) {
            let (top, others) = counts.top();
            let total = top.iter().map(|(_, count)| count).sum::<u64>() + others;
            writeln!(text, "\nby {title}").expect("writing to a String can't fail");
            let rows = top.into_iter().chain((others > 0).then_some(("(others)", others)));
            for (value, count) in rows {
                let part = count as f64 * 100.0 / total as f64;
                writeln!(text, "{count:>12} {part:>5.1} %  {}", one_line(value))
                    .expect("writing to a String can't fail");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_nothing_uncounted() {
        let mut counts = Counts::default();
        (0..VALUES_MAX + 5).for_each(|value| counts.add(&value.to_string()));
        counts.add("7");
        let (top, others) = counts.top();
        assert_eq!((top[0], top.len()), (("7", 2), LISTED));
        assert_eq!(top.iter().map(|(_, count)| count).sum::<u64>() + others, VALUES_MAX as u64 + 6);
    }
}
