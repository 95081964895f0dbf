//! The line of an event, in the form that is wanted.

use tickstream_server::stored;

use super::feed::Batch;
use super::text;

pub use tickstream_server::stored::{event_of, time};

/// The form in which events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As JSON; bare, without what the server added.
    Json {
        /// As it was published.
        bare: bool,
    },
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
    }
}
