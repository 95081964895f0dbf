//! An event as JSON.

use tickstream_wire::messages::events::Event;

/// Appends the event as one JSON object.
pub fn write_event(event: &Event, out: &mut Vec<u8>) {
    let object = serde_json::json!({"event_name": event.event_name, "platform": event.platform});
    serde_json::to_writer(out, &object).expect("writing to a Vec can't fail");
}
