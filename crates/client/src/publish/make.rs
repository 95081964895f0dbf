//! New events and their ids.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::crypto::{SecureRandom, ring::default_provider};
use tickstream_schema::events::{Body, Event};

/// An event that happens now, with an id of its own and the type of its body. Set what else it has:
///
/// ```
/// use tickstream_client::events::{Event, Body, Log, LogLevel};
/// use tickstream_client::new_event;
///
/// let log = Log {
///     service: "checkout".into(),
///     level: LogLevel::Error.into(),
///     message: "the card was declined".into(),
///     ..Log::default()
/// };
/// let event = Event { user_id: Some("u-17".into()), ..new_event("linux", "card_declined", Body::Log(log)) };
/// ```
///
/// # Panics
/// If the system has no random numbers.
pub fn new_event(platform: impl Into<String>, event_name: impl Into<String>, body: Body) -> Event {
    Event {
        event_id: new_event_id().to_vec(),
        timestamp: now_ns(),
        platform: platform.into(),
        event_type: body.event_type().into(),
        event_name: event_name.into(),
        body: Some(body),
        ..Event::default()
    }
}

/// Gives an event an id and a time, those that it hasn't.
///
/// # Panics
/// If the system has no random numbers.
pub fn fill_event(event: &mut Event) {
    if event.event_id.is_empty() {
        event.event_id = new_event_id().to_vec();
    }
    if event.timestamp == 0 {
        event.timestamp = now_ns();
    }
}

/// An id for an event: a UUID of version 7 (RFC 9562), this moment's milliseconds and 74 random bits.
///
/// # Panics
/// If the system has no random numbers.
pub fn new_event_id() -> [u8; 16] {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    uuid_v7(ms, random())
}

/// An id for a producer.
pub(crate) fn new_producer_id() -> [u8; 16] {
    random()
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn uuid_v7(ms: u64, random: [u8; 16]) -> [u8; 16] {
    let mut id = random;
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    id[6] = 0x70 | id[6] & 0x0F;
    id[8] = 0x80 | id[8] & 0x3F;
    id
}

/// From the system: an id that somebody else has, too, would make the server drop an event.
fn random() -> [u8; 16] {
    static SYSTEM: OnceLock<&'static dyn SecureRandom> = OnceLock::new();
    let mut bytes = [0; 16];
    let system = SYSTEM.get_or_init(|| default_provider().secure_random);
    system.fill(&mut bytes).expect("the system has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_are_uuids_of_version_7() {
        // RFC 9562, appendix A.6
        let random = 0x0CC3_18C4_DC0C_0C07_398F_u128.to_be_bytes();
        let expected = 0x017F_22E2_79B0_7CC3_98C4_DC0C_0C07_398F_u128;
        assert_eq!(u128::from_be_bytes(uuid_v7(0x017F_22E2_79B0, random)), expected);
        let (a, b) = (new_event_id(), new_event_id());
        assert!(a != b && a[6] >> 4 == 7 && b[8] >> 6 == 2);
    }
}
