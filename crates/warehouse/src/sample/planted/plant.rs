//! Planted events while they are made.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sample::common::{DAY, SECOND, merge};

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
    /// End of the month, nanoseconds since 1970.
    pub now_ns: u64,
    events: Vec<Value>,
    /// Facts so far.
    pub facts: Facts,
}

impl Plant {
    /// No events yet; all come before `now_ns`.
    pub fn new(now_ns: u64) -> Self {
        Self { now_ns, events: Vec::new(), facts: Facts::default() }
    }

    /// Events and facts.
    pub fn finish(self) -> (Vec<Value>, Facts) {
        (self.events, self.facts)
    }

    /// A time so many days before now, at the same time of day; later by `seconds`.
    pub fn days_ago(&self, days: u64, seconds: u64) -> u64 {
        self.now_ns - days * DAY + seconds * SECOND
    }

    /// Adds an event. `kind` names its body; `more` is merged into its envelope.
    pub fn push(&mut self, at: u64, platform: &str, kind: &str, name: &str, body: Value, more: Value) {
        let mut event = json!({"at": at, "platform": platform, "event_type": kind, "event_name": name});
        event[kind] = body;
        merge(&mut event, more);
        self.events.push(event);
    }

    /// Notes that a person did something.
    pub fn visited(&mut self, person: &str, at: u64) {
        self.facts.visits.entry(person.to_owned()).or_default().push(at);
    }
}
