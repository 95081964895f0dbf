//! `events tail --admin`: the newest events of a server elsewhere, from its admin endpoint.

use std::time::Duration;

use serde_json::Value;
use tickstream_schema::json::parse_event;
use tickstream_server::admin::tap::TapHead;
use tickstream_service::pattern::Pattern;

use super::lines::View;
use super::{EventsError, Filter, Output, say, text};
use crate::admin_client::{AdminClient, AdminClientError, with_query};
use crate::cli::StopFlag;

/// Longest wait for an answer, which the server holds back until there is an event.
const PATIENCE: Duration = Duration::from_secs(15);

/// A tap on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapArgs {
    /// The server.
    pub admin: AdminClient,
    /// Events to begin with.
    pub lines: usize,
    /// Go on with those that come.
    pub follow: bool,
    /// Only these; without times.
    pub filter: Filter,
    /// In this form.
    pub view: View,
}

/// Prints events until a signal comes.
pub fn run(args: &TapArgs, stop: &StopFlag, out: &mut Output) -> Result<(), EventsError> {
    let mut tap: Option<String> = None;
    let mut lines = args.lines;
    while !stop.is_set() {
        let path = match &tap {
            Some(tap) => with_query("/events", [("tap", tap.as_str())]),
            None => first_path(lines, &args.filter),
        };
        let answer = match args.admin.get(&path, PATIENCE) {
            Ok(answer) => answer,
            Err(_) if stop.is_set() => break,
            Err(AdminClientError::Refused { status: 410, text }) => {
                say(&format!("warning: {text}; events that came meanwhile are missing here"));
                (tap, lines) = (None, 0);
                continue;
            }
            Err(source) => {
                return Err(EventsError::Tap { address: args.admin.address.clone(), source });
            }
        };
        let head = print(&answer, args.view, out)?;
        tap = Some(head.tap);
        head.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
        if !args.follow {
            break;
        }
        // Also where nothing came: whoever has gone is noticed at the next line.
        out.flush()?;
    }
    Ok(())
}

/// The path of the first request. Several patterns of one kind are alternatives.
fn first_path(lines: usize, filter: &Filter) -> String {
    let mut pairs = vec![("lines", lines.to_string())];
    let names: Vec<_> = filter.kinds.iter().map(|kind| super::KINDS[*kind as usize - 1]).collect();
    if !names.is_empty() {
        pairs.push(("kind", names.join(",")));
    }
    pairs.extend(filter.shard.map(|shard| ("shard", shard.to_string())));
    let hex = |id: [u8; 16]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    pairs.extend(filter.producer.map(|id| ("producer", hex(id))));
    for (key, patterns) in [("user", &filter.users), ("name", &filter.names), ("service", &filter.services)] {
        pairs.extend(patterns.iter().map(|Pattern(text)| (key, text.clone())));
    }
    with_query("/events", pairs.iter().map(|(key, value)| (*key, value.as_str())))
}

/// Prints the events of an answer. Answers with its head.
fn print(answer: &[u8], view: View, out: &mut Output) -> Result<TapHead, EventsError> {
    let mut lines = answer.split_inclusive(|byte| *byte == b'\n');
    let head = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(EventsError::TapLine)?;
    for line in lines {
        match view {
            // `tail` has no view as OTLP, which is for exports.
            View::Json { .. } | View::Otlp => out.write(line)?,
            View::Text { colours } => out.write(&text_of(line, colours)?)?,
        }
    }
    Ok(head)
}

/// A line of JSON as one for people.
fn text_of(line: &[u8], colours: bool) -> Result<Vec<u8>, EventsError> {
    let mut value: Value = serde_json::from_slice(line).map_err(EventsError::TapLine)?;
    if let Value::Object(members) = &mut value {
        members.remove("enrichment");
    }
    let mut out = Vec::new();
    match parse_event(&value.to_string()) {
        Ok(event) => text::event(&mut out, &event, colours),
        // Of a newer server: as it came.
        Err(_) => out.extend_from_slice(line),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_has_the_filter() {
        let pattern = |text: &str| Pattern(text.to_owned());
        let filter = Filter {
            kinds: vec![super::super::kind("log").unwrap(), super::super::kind("video").unwrap()],
            users: vec![pattern("a*"), pattern("b")],
            producer: Some([0xab; 16]),
            ..Filter::default()
        };
        let producer = "ab".repeat(16);
        assert_eq!(
            first_path(3, &filter),
            format!("/events?lines=3&kind=log%2Cvideo&producer={producer}&user=a%2A&user=b")
        );
        assert_eq!(first_path(0, &Filter::default()), "/events?lines=0");
    }

    #[test]
    fn a_line_is_told_to_people_without_what_the_server_added() {
        let line = r#"{"timestamp":7000000,"event_type":"custom","event_name":"a\u001b","custom":{"schema":"x/1"},"enrichment":{"peer":"::1"}}"#;
        let text = String::from_utf8(text_of(line.as_bytes(), false).unwrap()).unwrap();
        assert_eq!(text, "1970-01-01T00:00:00.007Z custom \"a\\u001b\" schema=x/1\n");
    }
}
