//! Elasticsearch's `_bulk`, for shippers that speak nothing else: documents become logs. And what they ask before.
//! <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>

use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Map, Value as Json, json};
use tickstream_client::events::{Body, Event, EventType, Log, LogContext};

use super::{
    fields::{self, SERVICE_BYTES_MAX, clipped_or, hex_id, set_message},
    json::{RECORD_BYTES_MAX, maps, parse, take_text, time},
};
use crate::{
    http::{Head, HttpSource, Refusal, Reply},
    outcome::{Malformed, Outcome, Rejection},
    writer::EventWriter,
};

/// `POST /_bulk` and `POST /{index}/_bulk`
pub struct Bulk;

/// Requests of shippers before they send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET /`
    Root,
    /// `GET /_license`
    License,
    /// `GET /_xpack`
    Xpack,
    /// `GET /_cluster/health`
    Health,
    /// `GET /_cat/health`, of rsyslog
    CatHealth,
    /// Templates, policies, data streams: there are none here, and whoever wants some is told that they stand.
    Setup,
}

/// Clients of Elasticsearch refuse a server without it.
const PRODUCT: HeaderName = HeaderName::from_static("x-elastic-product");
/// The version whose `_bulk` this is.
const VERSION: &str = "8.19.0";

fn reply(status: StatusCode, body: &Json) -> Reply {
    Reply::json(status, body).header(PRODUCT, HeaderValue::from_static("Elasticsearch"))
}

fn error(refusal: &Refusal) -> Reply {
    let status = refusal.status_to_repeat();
    let error = json!({ "type": refusal.code(), "reason": refusal.to_string() });
    reply(status, &json!({ "error": error, "status": status.as_u16() }))
}

impl HttpSource for Probe {
    fn name(&self) -> &'static str {
        "elasticsearch"
    }

    fn decode(&self, _: &Head, _: &[u8], _: &mut EventWriter<'_>) -> Result<(), Malformed> {
        Ok(())
    }

    fn success(&self, _: &Head, _: &Outcome) -> Reply {
        let body = match self {
            Self::CatHealth => {
                return Reply::new(StatusCode::OK, "text/plain; charset=utf-8", "tickstream green\n")
                    .header(PRODUCT, HeaderValue::from_static("Elasticsearch"));
            }
            Self::Setup => json!({ "acknowledged": true }),
            Self::Xpack => json!({
                "license": { "uid": "tickstream", "type": "basic", "mode": "basic", "status": "active" },
                "features": { "ilm": { "available": false, "enabled": false } },
            }),
            Self::Root => json!({
                "name": "tickstream",
                "cluster_name": "tickstream",
                "cluster_uuid": "tickstream",
                "version": {
                    "number": VERSION,
                    "build_flavor": "default",
                    "build_type": "tar",
                    "lucene_version": "9.12.2",
                    "minimum_wire_compatibility_version": "7.17.0",
                    "minimum_index_compatibility_version": "7.0.0",
                },
                "tagline": "You Know, for Search",
            }),
            Self::License => {
                json!({ "license": { "status": "active", "type": "basic", "uid": "tickstream" } })
            }
            Self::Health => json!({ "cluster_name": "tickstream", "status": "green", "timed_out": false }),
        };
        reply(StatusCode::OK, &body)
    }

    fn refusal(&self, _: &Head, refusal: &Refusal) -> Reply {
        error(refusal)
    }
}

impl HttpSource for Bulk {
    fn name(&self) -> &'static str {
        "elasticsearch"
    }

    fn decode(&self, head: &Head, body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
        let mut segments = head.path.trim_matches('/').split('/');
        let index = segments.next().filter(|segment| *segment != "_bulk").unwrap_or_default();
        // Each document and each item of the answer has it.
        if index.len() > INDEX_BYTES_MAX {
            return Err(Malformed(format!("an index has a name of {INDEX_BYTES_MAX} bytes at most")));
        }
        let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        while let Some(line) = lines.next() {
            let action: Action = action(line, index)?;
            writer.note(format!("{}\n{}\n{}", action.name, action.index, action.id));
            if action.name == "delete" {
                writer.reject("UNSUPPORTED", "documents can't be deleted");
                continue;
            }
            let document =
                lines.next().ok_or_else(|| Malformed("the last action has no document".to_owned()))?;
            if document.len() > RECORD_BYTES_MAX {
                writer.reject("EVENT_TOO_LARGE", format!("the document has {} bytes", document.len()));
                continue;
            }
            let document = std::str::from_utf8(document).map_err(|error| error.to_string()).and_then(parse);
            match (action.name, document) {
                ("update", _) => writer.reject("UNSUPPORTED", "documents can't be updated"),
                (_, Ok(document)) => writer.event(event(&action, document, writer)),
                (_, Err(problem)) => writer.reject("MALFORMED", problem),
            }
        }
        Ok(())
    }

    fn success(&self, _: &Head, outcome: &Outcome) -> Reply {
        reply(StatusCode::OK, &items(outcome))
    }

    /// Documents that can't be stored at present are told one by one: a shipper sends only those again.
    fn refusal(&self, _: &Head, refusal: &Refusal) -> Reply {
        match refusal {
            Refusal::Partly(outcome) => reply(StatusCode::OK, &items(outcome)),
            _ => error(refusal),
        }
    }
}

/// Elasticsearch's limit.
const INDEX_BYTES_MAX: usize = 255;
const ACTIONS: [&str; 4] = ["index", "create", "update", "delete"];

struct Action {
    name: &'static str,
    index: String,
    id: String,
}

fn action(line: &[u8], path_index: &str) -> Result<Action, Malformed> {
    let malformed = |problem: String| {
        Malformed(format!("an action is no JSON object such as {{\"index\":{{}}}}: {problem}"))
    };
    let mut object: Map<String, Json> =
        serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    // Beside the action some shippers have members of their own, such as a number of attempts.
    let found = ACTIONS.into_iter().find_map(|name| Some((name, object.remove(name)?)));
    let (name, parameters) = found.ok_or_else(|| match object.keys().next() {
        Some(other) => malformed(format!("there is no {other}")),
        None => malformed("it is empty".to_owned()),
    })?;
    let Json::Object(mut parameters) = parameters else {
        return Err(malformed(format!("{name} has no object")));
    };
    let index = take_text(&mut parameters, "_index").unwrap_or_else(|| path_index.to_owned());
    Ok(Action { name, index, id: take_text(&mut parameters, "_id").unwrap_or_default() })
}

fn event(action: &Action, source: Map<String, Json>, writer: &EventWriter<'_>) -> Event {
    let mut event = document(source, "unknown_service");
    // The index is a part of the document's name: a document without an id has a new one each time.
    if !action.id.is_empty() {
        event.event_id = writer.id_of(&format!("{}/{}", action.index, action.id));
    }
    if !action.index.is_empty() {
        event.context.insert("index".to_owned(), action.index.clone());
    }
    event
}

/// A document as a log: fields by the names of the Elastic Common Schema, and what shippers call them. `service` is that of
/// a document that names none.
pub(super) fn document(mut document: Map<String, Json>, service: &str) -> Event {
    let timestamp = take_time(&mut document);
    let mut first = |keys: &[&str]| keys.iter().find_map(|key| take_path(&mut document, key));
    let message = first(&["message", "msg", "log", "event.original"]);
    let level = first(&["log.level", "level", "severity", "syslog-severity", "loglevel"]).unwrap_or_default();
    let named = first(&["service.name", "service", "programname", "app-name"]);
    let logger = first(&["log.logger", "logger_name", "logger"]).unwrap_or_default();
    let thread = first(&["process.thread.name", "thread_name"]).unwrap_or_default();
    let stack_trace = first(&["error.stack_trace", "stack_trace"]).unwrap_or_default();
    let trace_id = first(&["trace.id", "trace_id"]);
    // A host stands for a service that isn't named, and stays where it is.
    let named = named.or_else(|| host(&document).map(str::to_owned)).unwrap_or_default();
    let (metadata, typed_metadata) = maps(document);
    let mut log = Log {
        service: clipped_or(&named, SERVICE_BYTES_MAX, service).to_owned(),
        level: fields::level(&level).into(),
        severity_text: level,
        logger_name: logger,
        thread_name: thread,
        stack_trace,
        metadata,
        typed_metadata,
        ..Log::default()
    };
    if let Some(id) = trace_id {
        let bytes = hex_id(&id, 16);
        if bytes.is_none() {
            log.metadata.insert("trace.id".to_owned(), id);
        }
        log.context = bytes.map(|trace_id| LogContext { trace_id: Some(trace_id), ..LogContext::default() });
    }
    set_message(&mut log, message.unwrap_or_default());
    Event {
        timestamp: timestamp.unwrap_or_default(),
        platform: "elasticsearch".to_owned(),
        event_type: EventType::Log.into(),
        event_name: "log".to_owned(),
        body: Some(Body::Log(log)),
        ..Event::default()
    }
}

/// The document's time, taken out of it where it can be read.
fn take_time(document: &mut Map<String, Json>) -> Option<u64> {
    let keys = ["@timestamp", "timestamp", "time"];
    let (key, at) = keys.into_iter().find_map(|key| Some((key, document.get(key).and_then(time)?)))?;
    document.remove(key);
    Some(at)
}

fn host(document: &Map<String, Json>) -> Option<&str> {
    let host = document.get("host.name").or_else(|| document.get("host"))?;
    host.as_str().or_else(|| host.get("name")?.as_str())
}

/// A text under a dotted path: one key, or objects in each other.
fn take_path(document: &mut Map<String, Json>, path: &str) -> Option<String> {
    if let Some(text) = take_text(document, path) {
        return Some(text);
    }
    let (outer, rest) = path.split_once('.')?;
    match document.get_mut(outer)? {
        Json::Object(inner) => take_path(inner, rest),
        _ => None,
    }
}

fn items(outcome: &Outcome) -> Json {
    let mut rejected = outcome.rejected.iter().peekable();
    let item = |(index, note): (u32, &String)| {
        let rejection = rejected.next_if(|rejection| rejection.index == index);
        item(note, rejection)
    };
    let items: Vec<_> = (0..).zip(&outcome.notes).map(item).collect();
    json!({ "took": 1, "errors": !outcome.rejected.is_empty(), "items": items })
}

fn item(note: &str, rejection: Option<&Rejection>) -> Json {
    let mut parts = note.splitn(3, '\n');
    let (name, index, id) = (parts.next(), parts.next(), parts.next());
    let mut item = json!({ "_index": index, "_id": id, "status": 201, "result": "created" });
    if let Some(Rejection { code, message, retryable, .. }) = rejection {
        let status = if *retryable { 429 } else { 400 };
        let error = json!({ "type": code, "reason": message });
        item = json!({ "_index": index, "_id": id, "status": status, "error": error });
    }
    json!({ (name.unwrap_or("index")): item })
}

#[cfg(test)]
mod tests {
    use tickstream_client::events::LogLevel;

    use super::*;
    use crate::{
        http::test_head,
        keys::Key,
        upstream::BatchLimits,
        writer::{
            Ids, Request,
            tests::{decoded, origin},
        },
    };

    fn decode(path: &str, body: &str) -> Result<Request, Malformed> {
        let origin = origin(Key::unrestricted("k"));
        let limits = BatchLimits { events: 100, bytes: 100_000 };
        let mut writer = EventWriter::new(&origin, Ids::OfBody(body.as_bytes()), limits, 1000);
        Bulk.decode(&test_head("POST", path, &[]), body.as_bytes(), &mut writer)?;
        Ok(writer.finish().unwrap())
    }

    const BODY: &str = concat!(
        "{\"index\":{\"_id\":\"1\"}}\n",
        "{\"@timestamp\":\"2026-10-14T17:46:40.250Z\",\"message\":\"declined\",\"log\":{\"level\":\"error\"},\"service\":{\"name\":\"pay\"},\"n\":5}\n",
        "{\"delete\":{\"_index\":\"x\",\"_id\":\"2\"}}\n",
        "{\"create\":{\"_index\":\"y\"}}\n",
        "{\"msg\":\n",
        "{\"create\":{\"_index\":\"y\"}}\n",
        "{\"msg\":\"hi\",\"severity\":4,\"trace\":{\"id\":\"0102030405060708090a0b0c0d0e0f10\"}}\n",
    );

    #[test]
    fn documents_become_logs_and_each_gets_its_item() {
        let request = decode("/logs/_bulk", BODY).unwrap();
        let events = decoded(&request);
        let logs: Vec<_> = events
            .iter()
            .map(|event| match &event.body {
                Some(Body::Log(log)) => log,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            (&logs[0].message[..], &logs[0].service[..], logs[0].level()),
            ("declined", "pay", LogLevel::Error)
        );
        assert_eq!((&logs[1].message[..], logs[1].level()), ("hi", LogLevel::Warn));
        assert_eq!(logs[1].context.as_ref().unwrap().trace_id.as_ref().unwrap()[15], 16);
        assert_eq!(
            (events[0].timestamp, &events[0].context["index"][..]),
            (1_792_000_000_250_000_000, "logs")
        );
        assert!(logs[0].typed_metadata.contains_key("n"));
        let outcome = Outcome { rejected: request.rejected, notes: request.notes, ..Outcome::default() };
        let items = items(&outcome);
        let statuses: Vec<_> = items["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item.as_object().unwrap().values().next().unwrap()["status"].as_u64().unwrap())
            .collect();
        assert_eq!(statuses, [201, 400, 400, 201]);
        assert_eq!((&items["errors"], &items["items"][0]["index"]["_index"]), (&json!(true), &json!("logs")));
    }

    #[test]
    fn what_can_be_stored_later_is_told_item_by_item() {
        let full = Rejection { retryable: true, ..Rejection::last(1, "STORAGE_FULL", "") };
        let outcome = Outcome {
            rejected: vec![full],
            notes: vec!["index\ni\na".into(), "index\ni\nb".into()],
            ..Outcome::default()
        };
        let reply = Bulk.refusal(&test_head("POST", "/_bulk", &[]), &Refusal::Partly(outcome));
        let body: Json = serde_json::from_slice(reply.body()).unwrap();
        assert_eq!((reply.status(), &body["items"][0]["index"]["status"]), (StatusCode::OK, &json!(201)));
        assert_eq!(body["items"][1]["index"]["status"], json!(429));
    }

    #[test]
    fn actions_that_are_none_are_refused() {
        for body in ["[]\n", "{}\n{}", "{\"index\":7}\n{}", "{\"drop\":{}}\n{}", "{\"index\":{}}\n", "\u{1}"]
        {
            assert!(decode("/_bulk", body).is_err(), "{body}");
        }
        assert!(decode("/_bulk", "").unwrap().batches.is_empty());
        let long = format!("{{\"index\":{{}}}}\n{{\"a\":[{}1]}}\n", "1,".repeat(RECORD_BYTES_MAX / 2));
        assert_eq!(&decode("/_bulk", &long).unwrap().rejected[0].code[..], "EVENT_TOO_LARGE");
        assert!(decode(&format!("/{}/_bulk", "i".repeat(255)), BODY).is_ok());
        assert!(decode(&format!("/{}/_bulk", "i".repeat(256)), BODY).is_err());
    }
}
