//! Definitions of items at their edges: each expected value is counted by hand over a few events.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};
use tickstream_insights::filters::{DAY, HOUR, encoded, time_text};
use tickstream_insights::table::Value;
use tickstream_schema::events::Event;
use tickstream_warehouse_core::query::Role;
use tickstream_warehouse_core::sample::planted::Facts;

use crate::derived::{MINUTE, event, merge};
use crate::near;
use crate::world::{NOW, Rows, World, count_of};

/// Events that are written down one by one.
#[derive(Default)]
struct Written(Vec<Event>);

impl Written {
    fn add(&mut self, at: i64, platform: &str, kind: &str, body: &Json, more: &Json) {
        let mut all = json!({"platform": platform, kind: body});
        merge(&mut all, more);
        self.0.push(event(self.0.len() as u32, at, kind, "written", &all));
    }

    /// A visit; a purchase, if it has an amount.
    fn visit(&mut self, at: i64, user: &str, platform: &str, more: &Json) {
        let mut all = json!({"user_id": user, "session_id": format!("{user}-{at}")});
        merge(&mut all, more);
        self.add(
            at,
            platform,
            "user_interaction",
            &json!({"properties": {"screen_name": "home", "action": "tap"}}),
            &all,
        );
    }

    fn cost(&mut self, at: i64, amount: f64, more: &Json) {
        let mut body = json!({"billed_cost": amount, "effective_cost": amount, "billing_currency": "EUR", "charge_category": "Usage",
            "provider_name": "Example Cloud", "charge_period_start": time_text(at), "charge_period_end": time_text(at + DAY)});
        merge(&mut body, more);
        self.add(at, "cloud", "cost", &body, &json!({}));
    }

    fn span(&mut self, at: i64, service: &str, operation: &str, trace: u32, status: &str) {
        let body = json!({"trace_id": format!("{trace:032x}"), "span_id": format!("{:016x}", self.0.len() + 1), "service": service,
            "operation": operation, "start_time": time_text(at), "end_time": time_text(at + MINUTE), "duration_ms": 60_000,
            "status": status, "kind": "server"});
        self.add(at, "linux", "trace_span", &body, &json!({}));
    }

    fn incident(&mut self, at: i64, id: &str, status: &str, severity: &str, title: &str) {
        let body = json!({"incident_id": id, "status": status, "severity": severity, "title": title, "service": "pay"});
        self.add(at, "linux", "incident", &body, &json!({}));
    }

    fn host(&mut self, at: i64, id: &str, measurements: &Json) {
        let body = json!({"resource_type": "vm", "resource_id": id, "provider": "on-premises", "measurements": measurements});
        self.add(at, "linux", "infrastructure_metric", &body, &json!({}));
    }

    fn view(&mut self, at: i64, view: &str, name: &str, more: &Json) {
        let mut body = json!({"video_id": "film", "title": "Edges", "view_id": view, "player_type": "hls.js", "event_name": name});
        merge(&mut body, more);
        self.add(at, "web", "video", &body, &json!({"session_id": view, "user_id": view}));
    }
}

/// Day of the last measurement of the disk.
const MEASURED: i64 = NOW - 5 * DAY;

static EDGES: LazyLock<World> = LazyLock::new(|| {
    let mut of = Written::default();
    people(&mut of);
    services(&mut of);
    views(&mut of);
    World::new(of.0, Facts::default())
});

fn people(of: &mut Written) {
    let campaign = |name: &str| json!({"page": {"url": "https://shop.example/"}, "campaign": {"source": "ads", "medium": "display", "name": name}});
    let mail = json!({"page": {"url": "https://shop.example/"}, "campaign": {"source": "newsletter", "medium": "email", "name": "digest"}});
    let paid = |amount: f64, currency: &str| json!({"revenue": {"amount": amount, "currency": currency}});
    // By the newsletter before the period, and a purchase in it.
    of.visit(NOW - 15 * DAY, "ann", "web", &mail);
    of.visit(NOW - 5 * DAY, "ann", "web", &paid(10.0, "EUR"));
    for (user, name, amount, currency) in [("bob", "abroad", 50.0, "USD"), ("cas", "home", 60.0, "EUR")] {
        let mut more = campaign(name);
        merge(&mut more, &paid(amount, currency));
        of.visit(NOW - 3 * DAY, user, "web", &more);
    }
    for (name, amount) in [("abroad", 25.0), ("home", 30.0), ("nobody_came", 100.0)] {
        of.cost(NOW - 3 * DAY, amount, &json!({"service_name": "Advertising", "tags": {"campaign": name}}));
    }
    // On the web first, and again on a phone.
    of.visit(NOW - 21 * DAY, "dot", "web", &json!({}));
    of.visit(NOW - 14 * DAY, "dot", "android", &json!({}));
    // An answer to no survey of a known type, and a score without its scale.
    of.add(NOW - DAY, "web", "feedback", &json!({"survey_id": "untyped"}), &json!({"user_id": "eve"}));
    of.add(
        NOW - DAY,
        "web",
        "feedback",
        &json!({"survey_id": "scale", "type": "csat", "score": 4}),
        &json!({"user_id": "eve"}),
    );
}

fn services(of: &mut Written) {
    of.add(
        NOW - DAY,
        "linux",
        "log",
        &json!({"service": "pay", "level": "error", "message": "refused 17"}),
        &json!({}),
    );
    for message in ["no user 'ada' in cart-9f3a", "no user 'bob' in cart-b7", "no user 'ada' in the cart"] {
        of.add(
            NOW - DAY,
            "linux",
            "log",
            &json!({"service": "carts", "level": "error", "message": message}),
            &json!({}),
        );
    }
    let crash = json!({"type": "exception", "exception_type": "E", "message": "no price"});
    of.add(
        NOW - DAY,
        "android",
        "crash",
        &crash,
        &json!({"app": {"name": "shop", "version": "1.0"}, "user_id": "eve"}),
    );
    for number in 0..30 {
        let (at, status) = match number {
            0..10 => (NOW - 2 * DAY, "error"),
            10..20 => (NOW - 2 * DAY, "success"),
            _ => (NOW - HOUR, "unset"),
        };
        of.span(at + i64::from(number), "burner", "GET /", 100 + number, status);
    }
    // As OpenTelemetry's libraries have it: what didn't fail is unset.
    let spans = [
        ("A", 1, "error"),
        ("A", 1, "unset"),
        ("B", 1, "unset"),
        ("B", 2, "error"),
        ("B", 2, "unset"),
        ("A", 2, "unset"),
    ];
    for (place, (operation, trace, status)) in spans.into_iter().enumerate() {
        of.span(NOW - DAY + place as i64, "flaky", operation, trace, status);
    }
    of.incident(NOW - 3 * DAY, "one", "opened", "high", "the older one");
    of.incident(NOW - 3 * DAY + 5 * MINUTE, "one", "acknowledged", "critical", "the older one");
    of.incident(NOW - 3 * DAY + 60 * MINUTE, "one", "resolved", "critical", "the older one");
    of.incident(NOW - DAY, "one", "opened", "critical", "the older one");
    of.incident(NOW - 2 * HOUR, "two", "opened", "critical", "a newer one");
    of.incident(NOW - 2 * HOUR + 30 * MINUTE, "two", "resolved", "critical", "a newer one");
    for (days, status) in [(20, "open"), (15, "fixed"), (1, "fixed")] {
        let body = json!({"finding_id": "f", "status": status, "severity": "low", "category": "vulnerability", "scanner": "scan"});
        of.add(NOW - days * DAY, "linux", "finding", &body, &json!({}));
    }
    of.host(NOW - DAY, "no-memory", &json!({"cpu_usage": 0.1}));
    of.cost(NOW - 2 * DAY, 10.0, &json!({"service_name": "Compute", "resource_id": "no-memory"}));
    // One percent more each day, but for three days that nobody measured.
    for day in (0..36).filter(|day| !(20..23).contains(day)) {
        let used = json!({"disk_used": 50.0 + day as f64, "disk_capacity": 99.5});
        of.host(MEASURED - (35 - day) * DAY, "disk", &used);
    }
}

fn views(of: &mut Written) {
    let end =
        |watched: f64, bitrate: u64| json!({"measurements": {"watched_time": watched, "bitrate": bitrate}});
    let start = json!({"measurements": {"startup_time": 1_000}});
    let error =
        json!({"error": {"code": "1", "message": "the network went", "source": "network", "is_fatal": true}});
    // Of the day before, though its error is of the last 24 hours.
    of.view(NOW - 25 * HOUR, "of-yesterday", "start", &start);
    of.view(NOW - 23 * HOUR, "of-yesterday", "error", &error);
    for (view, watched, bitrate) in [("long", 3e6, 4_000_000), ("short", 1e6, 2_000_000)] {
        of.view(NOW - 3 * HOUR, view, "start", &start);
        of.view(NOW - 2 * HOUR, view, "end", &end(watched, bitrate));
    }
}

#[track_caller]
fn rows(path: &str, query: &str) -> Rows {
    Rows(EDGES.answer_of(path, query, &Role::local()).table)
}

/// Number of events behind a point.
#[track_caller]
fn behind(path: &str, query: &str) -> u64 {
    let page = EDGES.page(path, &format!("to={}&{query}", encoded(&time_text(NOW))), &Role::local());
    let html = String::from_utf8(page.body).unwrap();
    assert_eq!(page.status, 200, "{html}");
    count_of(&html)
}

#[test]
fn visits_before_the_period_have_a_part_in_its_conversions() {
    let found = rows("marketing/attribution", "days=10");
    for model in ["first", "last", "linear", "position", "decay", "Markov", "Shapley"] {
        near(found.number("Email", model), 1.0, 1e-9);
        near(found.sum(model), 3.0, 1e-9);
    }
    // A conversion before the period isn't one of it.
    assert_eq!(rows("marketing/attribution", "days=2").0.rows.len(), 0);
}

#[test]
fn a_campaign_that_nobody_came_by_has_its_cost_and_currencies_are_not_mixed() {
    let found = rows("marketing/campaigns", "");
    assert_eq!((found.number("nobody_came", "cost"), found.number("nobody_came", "sessions")), (100.0, 0.0));
    assert_eq!(found.number("home", "revenue per cost"), 2.0);
    assert_eq!(*found.cell("abroad", "revenue per cost"), Value::Null);
    assert_eq!(found.cell("abroad", "currency").text(), "several");
    assert_eq!(found.cell("home", "currency").text(), "EUR");
}

#[test]
fn filters_hold_for_crashes_and_for_what_is_behind_retention() {
    assert_eq!(rows("engineering/errors", "").0.rows.len(), 4);
    for (service, title) in [("pay", "refused 17"), ("shop", "E")] {
        let found = rows("engineering/errors", &format!("service={service}"));
        assert_eq!((found.0.rows.len(), found.0.rows[0][0].text()), (1, title));
        assert_eq!(behind("/engineering/errors/behind", &format!("service={service}")), 1);
    }
    assert_eq!(rows("engineering/errors", "platform=web").0.rows.len(), 0);
    let cell = "is.week=2026-11-02&is.cell=week%201%2C%20%25";
    assert_eq!(rows("product/retention", "").number("2026-11-02", "week 1, %"), 100.0);
    assert_eq!(behind("/product/retention/behind", cell), 1);
    assert_eq!(rows("product/retention", "platform=web").number("2026-11-02", "week 1, %"), 0.0);
    assert_eq!(behind("/product/retention/behind", &format!("platform=web&{cell}")), 0);
}

#[test]
fn the_messages_of_a_group_of_errors_are_behind_it() {
    let found = rows("engineering/errors", "service=carts");
    assert_eq!((found.0.rows.len(), found.0.rows[0][2].number()), (2, Some(2.0)), "{found:?}");
    for row in &found.0.rows {
        let point = format!("is.service=carts&is.group={}", encoded(row[0].text()));
        assert_eq!(behind("/engineering/errors/behind", &point) as f64, row[2].number().unwrap(), "{point}");
    }
}

#[test]
fn burn_rates_have_their_windows_however_short_the_period_is() {
    let found = rows("operations/objectives", "days=1");
    assert_eq!((found.number("burner", "valid"), found.number("burner", "bad")), (10.0, 0.0));
    near(found.number("burner", "budget left, %"), 100.0, 1e-9);
    near(found.number("burner", "burn rate, 3 d"), 10.0 / 30.0 / 0.001, 1e-6);
    near(found.number("burner", "burn rate, 1 h"), 0.0, 1e-9);
}

#[test]
fn incidents_have_their_last_severity_and_title_and_can_open_again() {
    let found = rows("operations/incidents", "");
    assert_eq!(found.0.rows.len(), 1, "{found:?}");
    assert_eq!((found.number("critical", "incidents"), found.number("critical", "open")), (2.0, 1.0));
    near(found.number("critical", "MTTR, min"), 30.0, 1e-9);
    near(found.number("critical", "MTTA, min"), 5.0, 1e-9);
    assert_eq!(found.cell("critical", "latest").text(), "a newer one");
    assert_eq!(behind("/operations/incidents/behind", "is.severity=critical"), 6);
}

#[test]
fn a_flaky_endpoint_fails_and_is_unset_in_one_trace() {
    let found = rows("engineering/debt", "");
    let flaky: Vec<_> = found.0.rows.iter().filter(|row| row[0].text() == "flaky endpoint").collect();
    let of_rows: Vec<_> = flaky.iter().map(|row| (row[2].text(), row[3].number())).collect();
    assert_eq!(of_rows.len(), 2, "{of_rows:?}");
    assert!(of_rows.contains(&("A", Some(1.0))) && of_rows.contains(&("B", Some(1.0))), "{of_rows:?}");
    let point = "is.indicator=flaky%20endpoint&is.service=flaky&is.subject=A";
    assert_eq!(behind("/engineering/debt/behind", point), 2);
}

#[test]
fn a_fix_that_is_reported_again_was_made_once() {
    near(rows("security/vulnerabilities", "").number("low", "time to fix, days"), 5.0, 1e-9);
}

#[test]
fn a_disk_is_full_on_the_day_that_its_line_says() {
    let found = rows("operations/capacity", "");
    // 85 of 99.5 on the last day that was measured, and one more each day.
    let full = time_text(MEASURED + 15 * DAY);
    assert_eq!(found.cell("disk", "full").text(), &full[..10]);
    near(found.number("disk", "in 30 days, %"), 115.0 / 99.5 * 100.0, 1e-3);
}

#[test]
fn what_is_not_known_is_no_figure() {
    assert_eq!(*rows("product/feedback", "").cell("scale", "CSAT, %"), Value::Null);
    let found = rows("cost/optimisation", "");
    assert_eq!(found.cell("no-memory", "state").text(), "in use");
    assert_eq!(found.number("no-memory", "saving / month"), 0.0);
    assert_eq!(behind("/product/feedback/behind", "is.survey=untyped&is.type=%E2%80%93"), 1);
    // What was spent is no forecast.
    let budget = EDGES.answer_of("cost/budget", "", &Role::local());
    assert_eq!(budget.figures[0], None, "{budget:?}");
    assert_eq!(Rows(budget.table).number("spent", "cost"), 165.0);
}

#[test]
fn a_view_counts_where_it_began_and_bitrates_by_the_time_watched() {
    assert_eq!(rows("video/playback", "").sum("views"), 2.0);
    let found = rows("video/streaming", "");
    assert_eq!(found.number("Edges", "failed before start, %"), 0.0);
    near(found.number("Edges", "bitrate, kbit/s"), 3_500.0, 1e-9);
    let before = rows("video/streaming", &format!("days=1&to={}", encoded(&time_text(NOW - DAY))));
    assert_eq!(before.number("Edges", "views"), 1.0);
}

/// A line of counts that stops is a line of zeros, and the hour that isn't over yet says nothing.
#[test]
fn a_service_that_falls_silent_is_unusual() {
    let mut of = Written::default();
    let end = NOW / HOUR * HOUR;
    let stops = end - 5 * HOUR;
    for hour in 0..28 * 24 {
        let at = end - (28 * 24 - hour) * HOUR;
        for number in 0..4 {
            of.span(at + number * MINUTE, "even", "GET /", 1, "unset");
            if at < stops {
                of.span(at + number * MINUTE, "silent", "GET /", 2, "unset");
            }
        }
    }
    of.span(end + MINUTE, "even", "GET /", 1, "unset");
    let found = World::new(of.0, Facts::default()).unusual("engineering/health");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].series.as_str(), found[0].time, found[0].value), ("silent", stops, 0.0));
}
