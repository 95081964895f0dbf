//! The line of an event, in the form that is wanted.

use tickstream_collector::sources::otlp::export::telemetry;
use tickstream_schema::events::Event;
use tickstream_server::stored::{self, end_line};

pub use tickstream_server::stored::time;

use super::batch::Batch;
use super::text;

/// The form in which events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As JSON; bare, without what the server added.
    Json {
        /// As it was published.
        bare: bool,
    },
    /// Telemetry alone, as OTLP in JSON.
    Otlp,
    /// For people.
    Text {
        /// With colours.
        colours: bool,
    },
}

/// Appends the event's line.
pub fn event(out: &mut Vec<u8>, journal: &str, batch: &Batch, index: usize, view: View) {
    match view {
        View::Text { colours } => text::event(out, &batch.stored.events[index], colours),
        View::Json { bare } => stored::event(out, batch.record(journal), index, bare),
        View::Otlp => otlp(out, &batch.stored.events[index]),
    }
}

/// Appends the line of a log, a span or a series; none of another event.
fn otlp(out: &mut Vec<u8>, event: &Event) {
    if let Some(telemetry) = telemetry(event.clone()) {
        telemetry.write_json(out);
        end_line(out);
    }
}

/// Appends the line of a dead letter. False if it has none in this form.
pub fn dead_letter(out: &mut Vec<u8>, journal: &str, batch: &Batch, place: usize, view: View) -> bool {
    match view {
        View::Text { colours } => {
            text::dead_letter(out, batch.stored.receive_time_ns, &batch.stored.dead_letters[place], colours);
            true
        }
        View::Json { bare } => stored::dead_letter(out, batch.record(journal), place, bare),
        View::Otlp => stored::dead_letter(out, batch.record(journal), place, false),
    }
}
