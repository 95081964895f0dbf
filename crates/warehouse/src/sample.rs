//! Generated events whose truth is known: a shop with visitors, carts, purchases, videos and its own telemetry.

mod common;
pub mod planted;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tickstream_schema::events::Event;
use tickstream_schema::json::parse_event;

use common::{DAY, SECOND, merge, time};

/// Visitors of the shop.
const USERS: u64 = 400;

/// Facts about the generated events, to compare answers with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// All events.
    pub events: u64,
    /// Users who came.
    pub users: u64,
    /// Users who viewed a product; of these, those who put one into the cart within an hour; of these, those who paid
    /// within an hour after the view.
    pub funnel: [u64; 3],
    /// Sum of all purchases, euros.
    pub revenue: u64,
    /// Log lines of level error.
    pub errors: u64,
    /// Video views.
    pub views: u64,
}

/// Events of the last `days` days before `now_ns`, the oldest first.
pub struct History {
    random: fastrand::Rng,
    next_day_ns: u64,
    end_ns: u64,
    visitors: [BTreeSet<u64>; 4],
    waiting: std::vec::IntoIter<Value>,
    truth: Truth,
}

impl History {
    /// The same events for the same arguments.
    pub fn new(days: u64, now_ns: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(7),
            next_day_ns: now_ns - days * DAY,
            end_ns: now_ns,
            visitors: Default::default(),
            waiting: Vec::new().into_iter(),
            truth: Truth::default(),
        }
    }

    /// Facts about the events so far.
    pub fn truth(&self) -> Truth {
        let [users, viewed, carted, paid] = self.visitors.each_ref().map(|users| users.len() as u64);
        Truth { users, funnel: [viewed, carted, paid], ..self.truth.clone() }
    }

    fn day(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        let visits = 120 + self.random.u64(..60);
        for visit in 0..visits {
            let at = self.next_day_ns + visit * (DAY - 3_600 * SECOND) / visits;
            self.visit(at, &mut events);
        }
        for minute in (0..24 * 60).step_by(10) {
            self.telemetry(self.next_day_ns + minute * 60 * SECOND, &mut events);
        }
        self.next_day_ns += DAY;
        events.retain(|event| event["at"].as_u64() < Some(self.end_ns));
        events.sort_by_key(|event| event["at"].as_u64());
        events
    }

    fn visit(&mut self, start: u64, events: &mut Vec<Value>) {
        let user = self.random.u64(..USERS);
        let session = format!("session-{user}-{start}");
        let platform = ["web", "ios", "android", "tv"][self.random.usize(..4)];
        let referrer = ["", "https://www.google.com/", "https://news.example.org/", "https://t.co/x"]
            [self.random.usize(..4)];
        let mut at = start;
        let mut push = |at: u64, kind: &str, name: &str, body: Value, more: Value| {
            let mut event = json!({
                "at": at, "platform": platform, "session_id": session, "user_id": format!("user-{user}"),
                "event_type": kind, "event_name": name, "page": {"url": "https://shop.example.org/", "referrer": referrer},
                kind: body,
            });
            merge(&mut event, more);
            events.push(event);
        };
        let click =
            |screen: &str, action: &str| json!({"properties": {"screen_name": screen, "action": action}});
        self.visitors[0].insert(user);
        push(
            at,
            "performance",
            "page_loaded",
            json!({"category": "rendering", "measurements": [
            {"name": "largest_contentful_paint", "value": 600 + self.random.u32(..2_000), "unit": "ms"}]}),
            json!({}),
        );
        for _ in 0..=self.random.u32(..4) {
            at += (5 + self.random.u64(..60)) * SECOND;
            push(at, "user_interaction", "product_viewed", click("product", "view"), json!({}));
        }
        self.visitors[1].insert(user);
        if self.random.u8(..10) < 4 {
            at += (10 + self.random.u64(..120)) * SECOND;
            push(at, "user_interaction", "added_to_cart", click("product", "add"), json!({}));
            self.visitors[2].insert(user);
            if self.random.u8(..10) < 5 {
                at += (30 + self.random.u64(..300)) * SECOND;
                let amount = 5 + self.random.u64(..95);
                let revenue =
                    json!({"revenue": {"amount": amount, "currency": "EUR", "order_id": format!("o-{at}")}});
                push(at, "user_interaction", "purchased", click("checkout", "pay"), revenue);
                self.truth.revenue += amount;
                self.visitors[3].insert(user);
            }
        }
        if platform == "tv" || self.random.u8(..10) < 2 {
            let startup = 200 + self.random.u32(..1_500);
            let video = json!({"video_id": format!("film-{}", user % 9), "view_id": format!("view-{start}")});
            let mut begun = video.clone();
            merge(&mut begun, json!({"event_name": "start", "measurements": {"startup_time": startup}}));
            let mut ended = video;
            merge(&mut ended, json!({"event_name": "end", "measurements": {"watched_time": 590_000}}));
            push(at + SECOND, "video", "video_started", begun, json!({}));
            push(at + 600 * SECOND, "video", "video_ended", ended, json!({}));
            self.truth.views += 1;
        }
    }

    fn telemetry(&mut self, at: u64, events: &mut Vec<Value>) {
        let is_error = self.random.u8(..20) == 0;
        self.truth.errors += u64::from(is_error && at < self.end_ns);
        let (level, message) =
            if is_error { ("error", "the card was declined") } else { ("info", "order stored") };
        let trace: u128 = self.random.u128(1..);
        let (trace, span) = (format!("{trace:032x}"), format!("{:016x}", trace as u64 | 1));
        let duration = 5.0 + f64::from(self.random.u32(..200));
        let end = at + (duration * 1e6) as u64;
        let base = |kind: &str, name: &str, body: Value| json!({"at": at, "platform": "linux", "event_type": kind, "event_name": name, kind: body});
        events.push(base(
            "log",
            "log",
            json!({"service": "orders", "level": level, "message": message,
            "context": {"trace_id": trace, "span_id": span}}),
        ));
        events.push(base("trace_span", "span", json!({"trace_id": trace, "span_id": span, "service": "orders",
            "operation": "POST /orders", "start_time": time(at), "end_time": time(end), "duration_ms": duration,
            "status": if is_error { "error" } else { "success" }})));
        events.push(base(
            "application_metric",
            "queue_length",
            json!({"service": "orders", "metric_type": "gauge",
            "name": "queue_length", "value": self.random.u32(..50)}),
        ));
    }
}

impl Iterator for History {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.next() {
                self.truth.events += 1;
                return Some(parsed(event, self.truth.events));
            }
            if self.next_day_ns >= self.end_ns {
                return None;
            }
            self.waiting = self.day().into_iter();
        }
    }
}

/// Visitors at the same time, of live events.
const LIVE_USERS: u64 = 50;

/// Live events in turn; `USER` and `NUMBER` are replaced.
const LIVE: [&str; 4] = [
    r#"{"platform":"web","session_id":"live-USER","user_id":"user-USER","event_type":"user_interaction","event_name":"product_viewed",
        "user_interaction":{"properties":{"screen_name":"product","element_id":"item-NUMBER","action":"view"}}}"#,
    r#"{"platform":"linux","event_type":"log","event_name":"log","log":{"service":"orders","level":"info","message":"order NUMBER stored"}}"#,
    r#"{"platform":"ios","session_id":"live-USER","user_id":"user-USER","event_type":"user_interaction","event_name":"added_to_cart",
        "user_interaction":{"properties":{"screen_name":"product","action":"add"}}}"#,
    r#"{"platform":"linux","event_type":"application_metric","event_name":"queue_length",
        "application_metric":{"service":"orders","metric_type":"gauge","name":"queue_length","value":NUMBER}}"#,
];

/// Live event of this number, without id and time.
pub fn live(number: u64) -> Event {
    let turn = (number % (LIVE.len() as u64 + 1)) as usize;
    let Some(template) = LIVE.get(turn) else { return live_request(number) };
    let user = (number * 7 % LIVE_USERS).to_string();
    let json = template.replace("USER", &user).replace("NUMBER", &(number % 1_000).to_string());
    parse_event(&json).expect("a template of an event")
}

/// A request to one of the planted services that ends now.
fn live_request(number: u64) -> Event {
    let (service, operation) = planted::services::SERVICES[(number / 5 % 3) as usize];
    let duration = 20 + number * 31 % 150;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let json = json!({"platform": "linux", "event_type": "trace_span", "event_name": "span", "trace_span": {
        "trace_id": format!("{:032x}", u128::from(now)), "span_id": format!("{:016x}", number + 1), "service": service,
        "operation": operation, "start_time": time(now - duration * 1_000_000), "end_time": time(now), "duration_ms": duration,
        "status": "success", "kind": "server", "resource": {"service_name": service, "service_version": "3.2.0"}}});
    parse_event(&json.to_string()).expect("a request")
}

fn parsed(mut event: Value, number: u64) -> Event {
    let at = event["at"].as_u64().unwrap_or_default();
    if let Some(event) = event.as_object_mut() {
        event.remove("at");
        event.insert("timestamp".to_owned(), time(at).into());
        event.insert("event_id".to_owned(), format!("d3000000-0000-8000-8000-{number:012x}").into());
    }
    parse_event(&event.to_string()).expect("a generated event")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_an_event() {
        assert!((0..10).all(|number| !live(number).platform.is_empty()));
    }

    #[test]
    fn the_same_month_comes_again_and_has_facts() {
        let now = 1_795_857_234 * SECOND;
        let (mut one, mut other) = (History::new(30, now), History::new(30, now));
        let events: Vec<Event> = one.by_ref().collect();
        assert_eq!(events, other.by_ref().collect::<Vec<_>>());
        let truth = one.truth();
        assert_eq!(truth, other.truth());
        assert_eq!(truth.events, events.len() as u64);
        assert!(
            truth.events > 20_000 && truth.funnel[0] > truth.funnel[2] && truth.errors > 100,
            "{truth:?}"
        );
        assert!(events.iter().all(|event| event.timestamp < now && event.timestamp >= now - 30 * DAY));
    }
}
