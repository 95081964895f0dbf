//! PostHog's capture API: `/batch/`, `/i/v0/e/`, `/e/`, `/capture/`.
//! <https://posthog.com/docs/api/capture>

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json, value::RawValue};
use tickstream_client::events::{
    Alias, Body, CustomEvent, DeviceInfo, Event, EventType, Group, Identify, Page,
};

use super::{keep_rest, object, revenue};
use crate::{
    http::{Encoding, Head, HttpSource, Refusal, Reply, form_parameter},
    outcome::{Malformed, Outcome},
    sources::json::{maps, take_object, take_text, time},
    writer::EventWriter,
};

/// All of PostHog's paths: the body tells one event from many.
pub struct PostHog;

/// First bytes of what gzip has packed, with which no JSON and no form begins.
const GZIP: [u8; 2] = [0x1F, 0x8B];

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    batch: Option<Vec<&'a RawValue>>,
    #[serde(alias = "sentAt")]
    sent_at: Option<Json>,
}

#[derive(Deserialize)]
struct Secret {
    #[serde(alias = "token", alias = "$token")]
    api_key: Option<String>,
    properties: Option<Token>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
}

impl HttpSource for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    /// Browsers can't set Content-Encoding without a preflight: older libraries say it in the query, those of today nowhere.
    fn encoding(&self, _: &Head, body: &[u8]) -> Option<Encoding> {
        body.starts_with(&GZIP).then_some(Encoding::Gzip)
    }

    fn decode(&self, _: &Head, body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
        let body = unwrapped(body)?;
        let malformed = |error| Malformed(format!("the body is no event of PostHog's API in JSON: {error}"));
        if body.trim_ascii_start().starts_with(b"[") {
            let events: Vec<&RawValue> = serde_json::from_slice(&body).map_err(malformed)?;
            events.iter().for_each(|event| take(event.get(), writer));
            return Ok(());
        }
        let envelope: Envelope<'_> = serde_json::from_slice(&body).map_err(malformed)?;
        if let Some(sent_at) = envelope.sent_at.as_ref().and_then(time) {
            writer.set_send_time(sent_at);
        }
        match envelope.batch {
            Some(events) => events.iter().for_each(|event| take(event.get(), writer)),
            None => {
                let text = std::str::from_utf8(&body).map_err(|error| Malformed(error.to_string()))?;
                take(text, writer);
            }
        }
        Ok(())
    }

    fn may_have_secret_in_body(&self) -> bool {
        true
    }

    fn secret_in_body(&self, _: &Head, body: &[u8]) -> Option<String> {
        let body = unwrapped(body).ok()?;
        let secret = match body.trim_ascii_start().first() {
            Some(b'[') => serde_json::from_slice::<Vec<Secret>>(&body).ok()?.into_iter().next()?,
            _ => serde_json::from_slice(&body).ok()?,
        };
        secret.api_key.or_else(|| secret.properties?.token)
    }

    fn success(&self, _: &Head, outcome: &Outcome) -> Reply {
        if outcome.rejected.is_empty() {
            return Reply::json(StatusCode::OK, &json!({ "status": "Ok" }));
        }
        let stored = outcome.accepted + outcome.duplicates;
        let status = if stored == 0 { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Reply::json(status, &json!({ "status": "Partial", "detail": outcome.summary() }))
    }

    fn refusal(&self, _: &Head, refusal: &Refusal) -> Reply {
        let body = json!({ "type": "server_error", "code": refusal.code(), "detail": refusal.to_string() });
        Reply::json(refusal.status(), &body)
    }
}

/// The JSON of a body, which old clients send as a form: `data=`, Base64.
fn unwrapped(body: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, Malformed> {
    if !body.starts_with(b"data=") {
        return Ok(body.into());
    }
    let form = std::str::from_utf8(body).map_err(|error| Malformed(error.to_string()))?;
    let data = form_parameter(form, "data").unwrap_or_default();
    // A plus of Base64 that wasn't escaped is a space in a form.
    let decoded = STANDARD.decode(data.trim().replace(' ', "+"));
    decoded.map(Into::into).map_err(|error| Malformed(format!("data is no Base64: {error}")))
}

fn take(text: &str, writer: &mut EventWriter<'_>) {
    match object(text).and_then(|object| event(object, writer)) {
        Ok(event) => writer.event(event),
        Err(problem) => writer.reject("MALFORMED", problem),
    }
}

fn event(mut call: Map<String, Json>, writer: &EventWriter<'_>) -> Result<Event, String> {
    let name = take_text(&mut call, "event").filter(|name| !name.is_empty()).ok_or("event: it has none")?;
    let mut properties = take_object(&mut call, "properties");
    // The secret isn't stored.
    properties.remove("token");
    let mut text = |key: &str| take_text(&mut properties, key).unwrap_or_default();
    let mut event = Event {
        session_id: text("$session_id"),
        device: Some(DeviceInfo {
            r#type: text("$device_type").to_ascii_lowercase(),
            os: text("$os"),
            version: text("$os_version"),
            manufacturer: text("$device_manufacturer"),
            model: text("$device_model"),
            ..DeviceInfo::default()
        }),
        page: Some(Page {
            url: text("$current_url"),
            referrer: text("$referrer"),
            title: text(if name == "$pageview" { "title" } else { "$title" }),
        }),
        ..Event::default()
    };
    event.device = event.device.filter(|device| *device != DeviceInfo::default());
    event.page = event.page.filter(|page| *page != Page::default());
    let id = take_text(&mut call, "uuid").or_else(|| take_text(&mut properties, "$insert_id"));
    event.event_id = id.map(|id| writer.id_of(&id)).unwrap_or_default();
    let offset = call.get("offset").and_then(Json::as_u64);
    event.timestamp = call.get("timestamp").and_then(time).unwrap_or_else(|| {
        // Milliseconds since the event, where the sender has no time of its own.
        offset.map_or(0, |ms| writer.receive_time().saturating_sub(ms.saturating_mul(1_000_000)))
    });
    let of_call = take_text(&mut call, "distinct_id");
    let distinct_id = of_call.or_else(|| take_text(&mut properties, "distinct_id")).unwrap_or_default();
    let library = properties.get("$lib").and_then(Json::as_str).unwrap_or_default();
    event.platform = platform(library).to_owned();
    fill(&mut event, name, distinct_id, call, properties)?;
    Ok(event)
}

fn platform(library: &str) -> &'static str {
    match library {
        "web" | "js" => "web",
        "posthog-ios" => "ios",
        "posthog-android" => "android",
        "posthog-react-native" => "react-native",
        "posthog-flutter" => "flutter",
        _ => "server",
    }
}

fn fill(
    event: &mut Event,
    name: String,
    distinct_id: String,
    mut call: Map<String, Json>,
    mut properties: Map<String, Json>,
) -> Result<(), String> {
    let device_id = take_text(&mut properties, "$device_id");
    // A person that isn't identified has the id of its device.
    let is_anonymous = properties.get("$process_person_profile") == Some(&Json::Bool(false))
        || properties.get("$is_identified") == Some(&Json::Bool(false))
        || device_id.as_deref() == Some(&distinct_id[..]);
    event.anonymous_id = device_id.unwrap_or_default();
    let id = Some(distinct_id).filter(|id| !id.is_empty());
    if is_anonymous {
        event.anonymous_id = id.unwrap_or_default();
    } else {
        event.user_id = id;
    }
    let (event_type, body) = match &name[..] {
        "$identify" => {
            if let Some(anonymous) = take_text(&mut properties, "$anon_distinct_id") {
                event.anonymous_id = anonymous;
            }
            let mut traits = take_object(&mut properties, "$set");
            traits.extend(take_object(&mut call, "$set"));
            let (traits, typed_traits) = maps(traits);
            (EventType::Identify, Body::Identify(Identify { traits, typed_traits }))
        }
        "$create_alias" => {
            let previous_id = take_text(&mut properties, "alias").ok_or("properties.alias: it has none")?;
            let user_id = event.user_id.clone().unwrap_or_else(|| event.anonymous_id.clone());
            (EventType::Alias, Body::Alias(Alias { previous_id, user_id }))
        }
        "$groupidentify" => {
            let group_id =
                take_text(&mut properties, "$group_key").ok_or("properties.$group_key: it has none")?;
            let r#type = take_text(&mut properties, "$group_type").unwrap_or_default();
            // The id that libraries make up where nobody is meant.
            if event.user_id.as_deref() == Some(&*["$", &r#type, "_", &group_id].concat()) {
                event.user_id = None;
            }
            let (traits, typed_traits) = maps(take_object(&mut properties, "$group_set"));
            event.group_id.clone_from(&group_id);
            (EventType::Group, Body::Group(Group { group_id, r#type, traits, typed_traits }))
        }
        _ => {
            let custom = CustomEvent { schema: "posthog/capture".to_owned(), ..CustomEvent::default() };
            (EventType::Custom, Body::Custom(custom))
        }
    };
    event.event_name = name;
    event.event_type = event_type.into();
    event.body = Some(body);
    event.revenue = revenue(&properties);
    (event.properties, event.typed_properties) = maps(properties);
    keep_rest(event, call, &["timestamp", "sent_at", "offset", "api_key", "token", "$token"]);
    Ok(())
}
