//! A month of a shop, the same for the same end.

use std::collections::VecDeque;

use tickstream_schema::events::{
    Body, Campaign, Cost, Event, EventType, Identify, InfrastructureMeasurements, InfrastructureMetric,
    InteractionProperties, Log, LogLevel, Page, ResourceType, Revenue, SpanKind, SpanStatus, TraceSpan,
    UserInteraction, Video, VideoEventName, VideoMeasurements,
};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// Length of the month.
const DAYS: u64 = 30;
/// Persons who come.
const PERSONS: u64 = 200_000;
/// Visits of one day; 14 of 20 events are theirs.
const VISITS: u64 = 40_000;
const SERVICES: [&str; 4] = ["shop", "orders", "search", "accounts"];
const STEPS: [&str; 5] = ["product_viewed", "added_to_cart", "checkout_begun", "address_given", "purchased"];

/// Events, one day after the other.
pub struct Shop {
    random: fastrand::Rng,
    begin: u64,
    visit: u64,
    number: u64,
    visits: u64,
    waiting: VecDeque<Event>,
}

impl Shop {
    /// The month before `now`, nanoseconds since 1970.
    pub fn new(now: i64) -> Self {
        let begin = now as u64 - DAYS * DAY;
        Self {
            random: fastrand::Rng::with_seed(17),
            begin,
            visit: 0,
            number: 0,
            visits: DAYS * VISITS,
            waiting: VecDeque::new(),
        }
    }

    /// More events of the last day, with other ids than the first `events` ones.
    pub fn late(now: i64, events: u64) -> Self {
        let begin = now as u64 - DAY;
        let number = (events + 1) << 20 | (now as u64 & 0xF_FFFF);
        Self {
            random: fastrand::Rng::with_seed(now as u64),
            begin,
            visit: 0,
            number,
            visits: VISITS,
            waiting: VecDeque::new(),
        }
    }

    fn event(&mut self, time: u64, kind: EventType, name: &str, body: Body) -> Event {
        self.number += 1;
        let mut id = self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec();
        id.extend_from_slice(&self.number.to_be_bytes());
        Event {
            event_id: id,
            timestamp: time,
            platform: "linux".into(),
            event_type: kind.into(),
            event_name: name.into(),
            body: Some(body),
            ..Event::default()
        }
    }

    /// One visit with what the services do for it. Days are passed again and again, so that a smaller number of events is a month, too.
    fn visit(&mut self) {
        let days = self.visits / VISITS;
        let (day, of_day) = (self.visit % days, self.visit / days);
        let mut time = self.begin
            + day * DAY
            + of_day * (DAY - 3_600 * SECOND) / VISITS.max(1)
            + self.random.u64(..SECOND);
        self.visit += 1;
        let person = self.random.u64(..PERSONS);
        let session = format!("session-{person}-{time}");
        let platform = ["web", "ios", "android", "tv"][(person % 4) as usize];
        let campaign = ["", "", "autumn_sale", "digest"][self.random.usize(..4)];
        let is_known = !person.is_multiple_of(3) || self.random.u8(..10) < 3;
        let mut clients = self.interactions(&mut time);
        if platform == "tv" {
            clients.push(self.video(time + SECOND, person));
        }
        if is_known && person.is_multiple_of(3) {
            clients.push(self.event(
                time,
                EventType::Identify,
                "identify",
                Body::Identify(Identify::default()),
            ));
        }
        for event in &mut clients {
            event.platform = platform.into();
            event.session_id = session.clone();
            event.anonymous_id = format!("device-{person}");
            event.user_id = is_known.then(|| format!("user-{person}"));
            event.page = Some(Page { url: "https://shop.example.org/".into(), ..Page::default() });
            event.campaign =
                Some(Campaign { name: campaign.into(), source: "mail".into(), ..Campaign::default() })
                    .filter(|_| !campaign.is_empty());
        }
        self.waiting.extend(clients);
        for _ in 0..4 {
            let span = self.span(time);
            self.waiting.push_back(span);
        }
        let log = self.log(time);
        self.waiting.push_back(log);
        if of_day % 100 == 0 {
            self.host(time);
        }
    }

    /// Interactions of a visit; `time` moves to the last one.
    fn interactions(&mut self, time: &mut u64) -> Vec<Event> {
        let mut clients = Vec::new();
        for _ in 0..6 + self.random.u64(..6) {
            *time += (2 + self.random.u64(..90)) * SECOND;
            let step = self.random.usize(..20);
            let name = match step {
                0..5 => STEPS[step],
                5..12 => STEPS[0],
                _ => ["screen_viewed", "searched", "scrolled"][step % 3],
            };
            let screen = ["home", "product", "cart", "checkout", "film"][step % 5];
            let properties = InteractionProperties {
                screen_name: screen.into(),
                action: "tap".into(),
                ..InteractionProperties::default()
            };
            let body = Body::UserInteraction(UserInteraction {
                properties: Some(properties),
                ..UserInteraction::default()
            });
            let mut event = self.event(*time, EventType::UserInteraction, name, body);
            if name == "purchased" {
                let amount = 5.0 + f64::from(self.random.u8(..90));
                event.revenue =
                    Some(Revenue { amount: Some(amount), currency: "EUR".into(), ..Revenue::default() });
            }
            clients.push(event);
        }
        clients
    }

    fn video(&mut self, time: u64, person: u64) -> Event {
        let measurements = VideoMeasurements {
            startup_time: Some(300.0 + f64::from(self.random.u16(..2_000))),
            watched_time: Some(600_000.0),
            ..VideoMeasurements::default()
        };
        let video = Video {
            video_id: format!("film-{}", person % 50),
            view_id: format!("view-{time}"),
            event_name: VideoEventName::Start.into(),
            measurements: Some(measurements),
            ..Video::default()
        };
        self.event(time, EventType::Video, "video_started", Body::Video(video))
    }

    fn span(&mut self, time: u64) -> Event {
        let service = SERVICES[self.random.usize(..4)];
        let duration = 1 + self.random.u64(..200);
        let status = if self.random.u16(..500) == 0 { SpanStatus::Error } else { SpanStatus::Success };
        let body = TraceSpan {
            trace_id: self.random.u128(1..).to_be_bytes().to_vec(),
            span_id: self.random.u64(1..).to_be_bytes().to_vec(),
            service: service.into(),
            operation: format!("GET /{service}/{}", self.random.u8(..8)),
            start_time: time,
            end_time: time + duration * 1_000_000,
            duration_ms: Some(duration as f64),
            status: status.into(),
            kind: SpanKind::Server.into(),
            ..TraceSpan::default()
        };
        self.event(time, EventType::TraceSpan, "span", Body::TraceSpan(body))
    }

    fn log(&mut self, time: u64) -> Event {
        let is_error = self.random.u8(..100) == 0;
        let level = if is_error { LogLevel::Error } else { LogLevel::Info };
        let message = format!("order {} {}", self.random.u32(..), if is_error { "failed" } else { "stored" });
        let body = Log { service: "orders".into(), level: level.into(), message, ..Log::default() };
        self.event(time, EventType::Log, "log", Body::Log(body))
    }

    /// Metrics and cost of a host.
    fn host(&mut self, time: u64) {
        let host = format!("host-{}", self.random.u8(..20));
        let measurements = InfrastructureMeasurements {
            cpu_usage: Some(self.random.f64()),
            memory_usage: Some(self.random.f64()),
            disk_used: Some(4e11),
            disk_capacity: Some(1e12),
            ..InfrastructureMeasurements::default()
        };
        let metric = InfrastructureMetric {
            resource_type: ResourceType::Vm.into(),
            resource_id: host.clone(),
            measurements: Some(measurements),
            ..InfrastructureMetric::default()
        };
        let metric =
            self.event(time, EventType::InfrastructureMetric, "host", Body::InfrastructureMetric(metric));
        let day = time / DAY * DAY;
        let cost = Cost {
            billed_cost: Some(1.25),
            effective_cost: Some(1.25),
            billing_currency: "EUR".into(),
            charge_period_start: day,
            charge_period_end: day + DAY,
            charge_category: "Usage".into(),
            service_name: "Compute".into(),
            resource_id: host,
            ..Cost::default()
        };
        let cost = self.event(day, EventType::Cost, "compute", Body::Cost(cost));
        self.waiting.extend([metric, cost]);
    }
}

impl Iterator for Shop {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.visit >= self.visits {
                // Another round over the same days.
                self.visit = 0;
            }
            self.visit();
        }
    }
}
