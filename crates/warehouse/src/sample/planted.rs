//! A month of a video shop with planted facts: channels, an experiment's effect, a bad release, a slow CDN, an outage, an
//! attack, a cost spike, a disk that fills. Everything is the same for the same time.
//!
//! Facts are counted while events are made, or are constants of the modules; the pages must show them.

pub mod addresses;
pub mod business;
pub mod media;
pub mod people;
mod plant;
pub mod security;
pub mod services;

use serde_json::Value;
use tickstream_schema::events::Event;
use tickstream_schema::json::parse_event;

use super::common::time;
use plant::Plant;
pub use plant::{DAYS, Facts};

/// All planted events before `now_ns`, the oldest first, and their facts.
pub fn planted(now_ns: u64) -> (Vec<Event>, Facts) {
    let mut plant = Plant::new(now_ns);
    people::plant(&mut plant);
    media::plant(&mut plant);
    services::plant(&mut plant);
    security::plant(&mut plant);
    business::plant(&mut plant);
    let (mut events, mut facts) = plant.finish();
    events.sort_by_key(|event| event["at"].as_u64());
    facts.events = events.len() as u64;
    (events.into_iter().enumerate().map(|(number, event)| parsed(event, number)).collect(), facts)
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
    use super::super::common::SECOND;
    use super::*;

    #[test]
    fn the_same_month_comes_again() {
        let now = 1_795_857_234 * SECOND;
        let (events, facts) = planted(now);
        assert_eq!((&events, &facts), (&planted(now).0, &planted(now).1));
        assert!(events.len() > 15_000, "{}", events.len());
        assert!(events.iter().all(|event| event.timestamp < now));
    }

    #[test]
    fn the_addresses_have_places() {
        let database = maxminddb::Reader::from_source(addresses::database()).unwrap();
        let country = |address: &str| {
            let found = database.lookup(address.parse().unwrap()).unwrap();
            let found: Option<maxminddb::geoip2::City<'_>> = found.decode().unwrap();
            found.and_then(|found| found.country.iso_code.map(str::to_owned))
        };
        assert_eq!(country("192.0.2.255").as_deref(), Some("DE"));
        assert_eq!(country(security::ATTACKERS[0]).as_deref(), Some("BR"));
        assert_eq!(country("203.0.113.0").as_deref(), Some("JP"));
        assert_eq!((country("192.0.3.0"), country("10.0.0.1")), (None, None));
    }
}
