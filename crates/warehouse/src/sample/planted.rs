//! A month of a video shop with planted facts: channels, an experiment's effect, a bad release, a slow CDN, an outage, an
//! attack, a cost spike, a disk that fills. Everything is the same for the same time.
//!
//! Facts are counted while events are made, or are constants of the modules; the pages must show them.

pub mod business;
pub mod media;
pub mod people;
pub mod security;
pub mod services;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tickstream_schema::events::Event;
use tickstream_schema::json::parse_event;

use super::{DAY, SECOND, merge, time};

/// Days that have events; those of costs begin earlier.
pub const DAYS: u64 = 29;

/// Counts of planted events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// All events.
    pub events: u64,
    /// Times of client events by person.
    pub visits: BTreeMap<String, Vec<u64>>,
    /// Persons and those who paid, by the channel of their first event.
    pub channels: BTreeMap<&'static str, [u64; 2]>,
    /// Persons who viewed, put into the cart, paid.
    pub funnel: [u64; 3],
    /// Sessions, converted persons and revenue by campaign.
    pub campaigns: BTreeMap<&'static str, [u64; 3]>,
    /// Server spans and failed ones by service.
    pub requests: BTreeMap<&'static str, [u64; 2]>,
}

/// Events being made.
#[derive(Debug)]
pub struct Plant {
    now_ns: u64,
    events: Vec<Value>,
    facts: Facts,
}

/// All planted events before `now_ns`, the oldest first, and their facts.
pub fn planted(now_ns: u64) -> (Vec<Event>, Facts) {
    let mut plant = Plant { now_ns, events: Vec::new(), facts: Facts::default() };
    people::plant(&mut plant);
    media::plant(&mut plant);
    services::plant(&mut plant);
    security::plant(&mut plant);
    business::plant(&mut plant);
    let Plant { mut events, mut facts, .. } = plant;
    events.sort_by_key(|event| event["at"].as_u64());
    facts.events = events.len() as u64;
    (events.into_iter().enumerate().map(|(number, event)| parsed(event, number)).collect(), facts)
}

impl Plant {
    /// A time so many days before now, at the same time of day; later by `seconds`.
    fn days_ago(&self, days: u64, seconds: u64) -> u64 {
        self.now_ns - days * DAY + seconds * SECOND
    }

    /// Adds an event. `kind` names its body; `more` is merged into its envelope.
    fn push(&mut self, at: u64, platform: &str, kind: &str, name: &str, body: Value, more: Value) {
        let mut event = json!({"at": at, "platform": platform, "event_type": kind, "event_name": name});
        event[kind] = body;
        merge(&mut event, more);
        self.events.push(event);
    }

    /// Notes that a person did something.
    fn visited(&mut self, person: &str, at: u64) {
        self.facts.visits.entry(person.to_owned()).or_default().push(at);
    }
}

fn parsed(mut event: Value, number: usize) -> Event {
    let at = event["at"].as_u64().unwrap_or_default();
    if let Some(event) = event.as_object_mut() {
        event.remove("at");
        event.insert("timestamp".to_owned(), time(at).into());
        event.insert("event_id".to_owned(), format!("d4000000-0000-8000-8000-{number:012x}").into());
    }
    parse_event(&event.to_string()).expect("a planted event")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_month_comes_again() {
        let now = 1_795_857_234 * SECOND;
        let (events, facts) = planted(now);
        assert_eq!((&events, &facts), (&planted(now).0, &planted(now).1));
        assert!(events.len() > 15_000, "{}", events.len());
        assert!(events.iter().all(|event| event.timestamp < now));
    }
}
