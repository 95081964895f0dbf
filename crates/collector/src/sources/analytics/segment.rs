//! Segment's HTTP API: track, identify, page, screen, group, alias, batch, import.
//! <https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/>

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json, value::RawValue};
use tickstream_client::events::{Alias, Body, CustomEvent, Event, EventType, Group, Identify, Page};

use super::{keep_rest, object, revenue, take_context};
use crate::{
    http::{Head, HttpSource, Refusal, Reply},
    outcome::{Malformed, Outcome},
    sources::json::{maps, take_object, take_text, time},
    writer::EventWriter,
};

/// A path of Segment's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// One call, whose type the path tells.
    Call(&'static str),
    /// Many calls, each with its type.
    Batch,
}

/// The parts of a body that aren't calls.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    batch: Vec<&'a RawValue>,
    sent_at: Option<Json>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

/// Longest context of a batch, which each of its calls has, bytes: as much as Segment takes for a whole call.
const CONTEXT_BYTES_MAX: usize = 32 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    write_key: Option<String>,
}

impl HttpSource for Segment {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn decode(&self, _: &Head, body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
        let malformed = |error| Malformed(format!("the body is no call of Segment's API in JSON: {error}"));
        let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(malformed)?;
        if let Some(sent_at) = envelope.sent_at.as_ref().and_then(time) {
            writer.set_send_time(sent_at);
        }
        match self {
            Self::Call(call) => {
                let text = std::str::from_utf8(body).map_err(|error| Malformed(error.to_string()))?;
                take(text, Some(call), &Map::new(), writer);
            }
            Self::Batch => {
                let context = envelope.context.map_or("{}", RawValue::get);
                if context.len() > CONTEXT_BYTES_MAX {
                    let problem = format!("the batch's context has more than {CONTEXT_BYTES_MAX} bytes");
                    return Err(Malformed(problem));
                }
                let context = serde_json::from_str(context).map_err(malformed)?;
                for call in envelope.batch {
                    if !writer.is_overfull() {
                        take(call.get(), None, &context, writer);
                    }
                }
            }
        }
        Ok(())
    }

    fn may_have_secret_in_body(&self) -> bool {
        true
    }

    fn secret_in_body(&self, _: &Head, body: &[u8]) -> Option<String> {
        serde_json::from_slice::<Secret>(body).ok()?.write_key
    }

    /// Segment has no words for a call of many that isn't taken; ours say which, and why.
    fn success(&self, _: &Head, outcome: &Outcome) -> Reply {
        if outcome.rejected.is_empty() {
            return Reply::json(StatusCode::OK, &json!({ "success": true }));
        }
        let stored = outcome.accepted + outcome.duplicates;
        let status = if stored == 0 { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Reply::json(status, &json!({ "success": stored > 0, "message": outcome.summary() }))
    }

    fn refusal(&self, _: &Head, refusal: &Refusal) -> Reply {
        Reply::json(refusal.status(), &json!({ "success": false, "message": refusal.to_string() }))
    }
}

fn take(text: &str, call: Option<&str>, context: &Map<String, Json>, writer: &mut EventWriter<'_>) {
    match object(text).and_then(|object| event(object, call, context, writer)) {
        Ok(event) => writer.event(event),
        Err(problem) => writer.reject("MALFORMED", problem),
    }
}

fn event(
    mut call: Map<String, Json>,
    by_path: Option<&str>,
    batch_context: &Map<String, Json>,
    writer: &EventWriter<'_>,
) -> Result<Event, String> {
    let by_body = take_text(&mut call, "type");
    let call_type = by_path.map(str::to_owned).or(by_body).ok_or("type: it has none")?;
    let mut event = Event::default();
    if let Some(id) = take_text(&mut call, "messageId") {
        event.event_id = writer.id_of(&id);
    }
    let original = call.get("originalTimestamp").and_then(time);
    event.timestamp = original.or_else(|| call.get("timestamp").and_then(time)).unwrap_or_default();
    event.user_id = take_text(&mut call, "userId").filter(|id| !id.is_empty());
    event.anonymous_id = take_text(&mut call, "anonymousId").unwrap_or_default();
    let mut context = take_object(&mut call, "context");
    for (key, value) in batch_context {
        context.entry(key).or_insert_with(|| value.clone());
    }
    event.platform = platform(&context, &call);
    take_context(&mut event, context);
    fill(&mut event, &call_type, call)?;
    Ok(event)
}

fn platform(context: &Map<String, Json>, call: &Map<String, Json>) -> String {
    let text = |object: &str, key: &str| context.get(object)?.get(key)?.as_str().map(str::to_ascii_lowercase);
    let device = text("device", "type").unwrap_or_default();
    let library = text("library", "name").unwrap_or_default();
    let channel = call.get("channel").and_then(Json::as_str).unwrap_or_default();
    let known = ["ios", "android", "tvos", "watchos"].into_iter().find(|known| device == *known);
    let is_web =
        library.contains("analytics.js") || library.contains("analytics-next") || channel == "browser";
    known.unwrap_or(if is_web { "web" } else { "server" }).to_owned()
}

/// Fills name, body and properties by the type of the call.
fn fill(event: &mut Event, call_type: &str, mut call: Map<String, Json>) -> Result<(), String> {
    let properties = take_object(&mut call, "properties");
    let traits = take_object(&mut call, "traits");
    let custom = |schema: &str| CustomEvent { schema: format!("segment/{schema}"), ..CustomEvent::default() };
    let (name, event_type, body) = match call_type {
        "track" => {
            let name =
                take_text(&mut call, "event").filter(|name| !name.is_empty()).ok_or("event: it has none")?;
            (name, EventType::Custom, Body::Custom(custom("track")))
        }
        "page" | "screen" => (call_type.to_owned(), EventType::Custom, Body::Custom(custom(call_type))),
        "identify" => {
            let (traits, typed_traits) = maps(traits);
            ("identify".to_owned(), EventType::Identify, Body::Identify(Identify { traits, typed_traits }))
        }
        "group" => {
            let group_id = take_text(&mut call, "groupId").ok_or("groupId: it has none")?;
            event.group_id.clone_from(&group_id);
            let (traits, typed_traits) = maps(traits);
            let group = Group { group_id, r#type: String::new(), traits, typed_traits };
            ("group".to_owned(), EventType::Group, Body::Group(group))
        }
        "alias" => {
            let previous_id = take_text(&mut call, "previousId").ok_or("previousId: it has none")?;
            let user_id = event.user_id.clone().ok_or("userId: it has none")?;
            ("alias".to_owned(), EventType::Alias, Body::Alias(Alias { previous_id, user_id }))
        }
        other => return Err(format!("type: there is no \"{other}\"")),
    };
    event.event_name = name;
    event.event_type = event_type.into();
    event.body = Some(body);
    event.revenue = revenue(&properties);
    if call_type == "page" {
        let Page { url, referrer, title } = event.page.get_or_insert_default();
        for (key, field) in [("url", url), ("referrer", referrer), ("title", title)] {
            let text = properties.get(key).and_then(Json::as_str).filter(|text| !text.is_empty());
            if let Some(text) = text {
                text.clone_into(field);
            }
        }
    }
    let (texts, typed) = maps(properties);
    event.properties.extend(texts);
    event.typed_properties.extend(typed);
    for key in ["name", "category"] {
        if let Some(text) = take_text(&mut call, key) {
            event.properties.entry(key.to_owned()).or_insert(text);
        }
    }
    keep_rest(event, call, &["timestamp", "originalTimestamp", "sentAt", "receivedAt", "writeKey"]);
    Ok(())
}
