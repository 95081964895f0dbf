//! Events as JSON, one on each line: what `tickstream publish` reads and `tickstream events export` writes.
//! docs/publishing.md describes the mapping for people.
//!
//! An event becomes one line and the line the same event again, whatever the event, even one that a server would
//! reject. A key that the schema doesn't have, or one that comes twice, is an error: it would be lost without a word.
//!
//! ```
//! use tickstream_schema::json::{parse_event, write_event};
//!
//! let line = r#"{"platform":"web","event_type":"custom","event_name":"signed_up","custom":{"schema":"sign-up/1"}}"#;
//! let event = parse_event(line)?;
//! let mut out = Vec::new();
//! write_event(&event, &mut out);
//! assert_eq!(out, line.as_bytes());
//!
//! let error = parse_event(r#"{"custom":{"measurements":[{"name":7}]}}"#).unwrap_err();
//! assert_eq!(error.path, "custom.measurements[0].name");
//! # Ok::<(), tickstream_schema::json::JsonError>(())
//! ```

mod message;
mod schema;
mod time;
mod typed;
mod value;

use crate::events::Event;
use serde::{Serialize, de::DeserializeSeed};

use message::{Message, MessageSeed};
pub use time::parse as parse_time;

/// Text that is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct JsonError {
    /// Place at which reading ended, in bytes of the line, from 1.
    pub column: usize,
    /// The field, by the names of the keys around it: `video.measurements.fps`. Empty: the event as a whole.
    pub path: String,
    /// The problem there.
    pub problem: String,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { column, path, problem } = self;
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "column {column}: {path}{colon}{problem}")
    }
}

/// The event that a line describes. What the line leaves out is absent: the client's `fill_event` adds an id
/// and a time.
///
/// # Errors
/// [`JsonError`] says where.
pub fn parse_event(line: &str) -> Result<Event, JsonError> {
    let mut json = serde_json::Deserializer::from_str(line);
    let event = DeserializeSeed::deserialize(MessageSeed::<Event>::new(), &mut json);
    // Keeping track of the path copies each key, which only those need who have done something wrong.
    event.and_then(|event| json.end().map(|()| event)).or_else(|_| parse_tracked(line))
}

fn parse_tracked(line: &str) -> Result<Event, JsonError> {
    let mut json = serde_json::Deserializer::from_str(line);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let event = DeserializeSeed::deserialize(MessageSeed::<Event>::new(), tracked);
    let (event, path) = match event {
        Ok(event) => (json.end().map(|()| event), String::new()),
        Err(error) => (Err(error), track.path().to_string()),
    };
    event.map_err(|error| {
        let problem = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let problem = problem.strip_suffix(&place).unwrap_or(&problem).to_owned();
        // "." is the whole, "?" a key that hasn't been read.
        let path = path.trim_end_matches(['.', '?']).to_owned();
        JsonError { column: error.column(), path, problem }
    })
}

/// Appends the event's line to `out`, without a line feed.
pub fn write_event(event: &Event, out: &mut Vec<u8>) {
    let mut json = serde_json::Serializer::new(out);
    Message(event).serialize(&mut json).expect("a Vec grows as long as there is memory, and keys are texts");
}

#[cfg(test)]
mod tests;
