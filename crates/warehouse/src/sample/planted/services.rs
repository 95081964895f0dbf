//! Services and hosts: requests, a bad release, an outage, errors, a disk that fills, incidents.

use serde_json::{Value, json};

use super::plant::{DAYS, Plant};
use crate::sample::common::{DAY, SECOND, merge, time};

/// Time between two requests of a service, seconds.
const REQUESTS_EVERY: u64 = 900;
/// Duration of requests, milliseconds; of orders since the bad release.
pub const DURATION: u64 = 100;
/// Of the bad release.
pub const SLOW: u64 = 900;
/// Versions of orders before and since.
pub const RELEASES: [&str; 2] = ["3.1.0", "3.2.0"];
/// The bad release came so many days ago.
pub const RELEASED_DAYS: u64 = 2;
/// All requests to payments failed on one day, for so many seconds.
pub const OUTAGE: (u64, u64) = (4, 4 * 3_600);
/// Calls of a deprecated interface.
pub const DEPRECATED: u64 = 40;
/// Slow statements, and their duration, milliseconds.
pub const SLOW_STATEMENTS: (u64, u64) = (30, 1_500);
/// Traces in which a request failed and was repeated with success.
pub const FLAKY: u64 = 12;
/// Crashes of one cause in the release 4.2.0 of the application.
pub const CRASHES: u64 = 25;
/// Hosts, their use of CPU and memory.
pub const HOSTS: [(&str, f64, f64); 5] = [
    ("web-1", 0.62, 0.55),
    ("web-2", 0.58, 0.52),
    ("db-1", 0.66, 0.7),
    ("idle-1", 0.02, 0.1),
    ("big-1", 0.2, 0.25),
];
/// Share of db-1's disk now, and its growth a day.
pub const DISK: (f64, f64) = (0.8, 0.01);
/// Minutes from opened to acknowledged and resolved of incidents of severity high.
pub const INCIDENTS: [(u64, u64); 2] = [(5, 60), (15, 120)];

/// Services and their main operations.
pub const SERVICES: [(&str, &str); 3] =
    [("orders", "POST /orders"), ("catalog", "GET /products/{id}"), ("payments", "POST /payments")];

/// One request.
struct Span<'a> {
    service: &'static str,
    operation: &'a str,
    at: u64,
    duration_ms: u64,
    is_error: bool,
    more: Value,
}

/// Adds them.
pub fn plant(plant: &mut Plant) {
    for (service, operation) in SERVICES {
        for number in 0..(DAYS * DAY / SECOND) / REQUESTS_EVERY {
            let at = plant.days_ago(DAYS, number * REQUESTS_EVERY + 30);
            request(plant, service, operation, number, at);
        }
    }
    debt(plant);
    crashes(plant);
    hosts(plant);
    incidents(plant);
}

fn request(plant: &mut Plant, service: &'static str, operation: &str, number: u64, at: u64) {
    let is_new = service == "orders" && at >= plant.days_ago(RELEASED_DAYS, 0);
    let begin = plant.days_ago(OUTAGE.0, 0);
    let is_out = service == "payments" && (begin..begin + OUTAGE.1 * SECOND).contains(&at);
    let version = if service == "orders" { RELEASES[usize::from(is_new)] } else { "1.0.0" };
    // Each tenth product isn't there.
    let code = match service {
        _ if is_out => 503,
        "catalog" if number.is_multiple_of(10) => 404,
        _ => 200,
    };
    let duration_ms = if is_new { SLOW } else { DURATION };
    let more = json!({"attributes": {"http_method": operation.split(' ').next(), "http_status_code": code},
        "resource": {"service_name": service, "service_version": version, "host_name": HOSTS[(number % 2) as usize].0}});
    let span = Span { service, operation, at, duration_ms, is_error: is_out, more };
    let trace = format!("{:032x}", (u128::from(at) << 32) + service.len() as u128);
    span.push(plant, &trace, 1, "server", json!({"sender": {"key_id": format!("key-{}", number % 2)}}));
    if is_out {
        let body = json!({"service": service, "level": "error", "message": format!("the gateway timed out after {} ms", 30_000 + number),
            "context": {"trace_id": trace}});
        plant.push(at + SECOND, "linux", "log", "log", body, json!({}));
    }
}

impl Span<'_> {
    fn push(self, plant: &mut Plant, trace: &str, number: u64, kind: &str, envelope: Value) {
        let mut body = json!({"trace_id": trace, "span_id": format!("{number:016x}"), "service": self.service, "operation": self.operation,
            "start_time": time(self.at), "end_time": time(self.at + self.duration_ms * 1_000_000), "duration_ms": self.duration_ms,
            "status": if self.is_error { "error" } else { "success" }, "kind": kind});
        merge(&mut body, self.more);
        plant.push(self.at, "linux", "trace_span", "span", body, envelope);
        if kind == "server" {
            let found = plant.facts.requests.entry(self.service).or_default();
            *found = [found[0] + 1, found[1] + u64::from(self.is_error)];
        }
    }
}

/// Service that each order calls.
pub const MAILER: &str = "mailer";

/// Requests, statement and log behind an order, in the name of its user.
pub fn order(plant: &mut Plant, at: u64, trace: &str, person: &Value) {
    let names = json!({"session_id": person["session_id"], "user_id": person["user_id"]});
    let is_new = at >= plant.days_ago(RELEASED_DAYS, 0);
    let version = RELEASES[usize::from(is_new)];
    let resource = json!({"service_name": "orders", "service_version": version, "host_name": "web-1"});
    let server =
        json!({"attributes": {"http_method": "POST", "http_status_code": 201}, "resource": resource});
    let duration_ms = if is_new { SLOW } else { DURATION };
    let span =
        Span { service: "orders", operation: "POST /orders", at, duration_ms, is_error: false, more: server };
    span.push(plant, trace, 1, "server", names.clone());
    let statement = json!({"parent_span_id": format!("{:016x}", 1), "attributes": {"db_statement": "INSERT INTO orders VALUES ($1, $2)"},
        "resource": {"service_name": "orders", "service_version": version, "host_name": "db-1"}});
    let at_database = at + 10_000_000;
    let span = Span {
        service: "orders",
        operation: "INSERT orders",
        at: at_database,
        duration_ms: 12,
        is_error: false,
        more: statement,
    };
    span.push(plant, trace, 2, "client", names.clone());
    let receipt = json!({"parent_span_id": format!("{:016x}", 1), "resource": {"service_name": MAILER, "service_version": "1.0.0"}});
    let span = Span {
        service: MAILER,
        operation: "send receipt",
        at: at + 25_000_000,
        duration_ms: 8,
        is_error: false,
        more: receipt,
    };
    span.push(plant, trace, 3, "consumer", names);
    let log = json!({"service": "orders", "level": "info", "message": "order stored", "context": {"trace_id": trace}});
    plant.push(at + 30_000_000, "linux", "log", "log", log, json!({}));
}

fn debt(plant: &mut Plant) {
    let span = |service, operation, at, duration_ms, is_error, more| Span {
        service,
        operation,
        at,
        duration_ms,
        is_error,
        more,
    };
    for number in 0..DEPRECATED {
        let at = plant.days_ago(1 + number % 28, 5_000);
        let more = json!({"attributes": {"http_status_code": 200, "other": {"deprecated": true}}, "resource": {"service_version": "1.0.0"}});
        let trace = format!("{:032x}", (11_u128 << 64) + u128::from(number));
        span("catalog", "GET /v1/products", at, DURATION, false, more).push(
            plant,
            &trace,
            1,
            "server",
            json!({}),
        );
    }
    for number in 0..SLOW_STATEMENTS.0 {
        let at = plant.days_ago(1 + number % 28, 6_000);
        let more = json!({"attributes": {"db_statement": "SELECT * FROM orders WHERE note LIKE $1"}});
        let trace = format!("{:032x}", (12_u128 << 64) + u128::from(number));
        span("orders", "SELECT orders", at, SLOW_STATEMENTS.1, false, more).push(
            plant,
            &trace,
            1,
            "client",
            json!({}),
        );
    }
    for number in 0..FLAKY {
        let at = plant.days_ago(5 + number, 7_000);
        let trace = format!("{:032x}", (13_u128 << 64) + u128::from(number));
        for (attempt, is_error) in [(1, true), (2, false)] {
            let more = json!({"attributes": {"http_status_code": if is_error { 502 } else { 200 }}, "resource": {"service_version": "1.0.0"}});
            let span = span("catalog", "GET /stock", at + attempt * SECOND, DURATION, is_error, more);
            span.push(plant, &trace, attempt, "server", json!({}));
        }
    }
}

fn crashes(plant: &mut Plant) {
    for number in 0..CRASHES {
        let at = plant.days_ago(number % RELEASED_DAYS + 1, 8_000 + number);
        let body = json!({"type": "exception", "exception_type": "NullPointerException", "message": format!("item {number} has no price"),
            "stack_trace": "at shop.Cart.total(Cart.java:17)\nat shop.Checkout.show(Checkout.java:40)", "view_name": "checkout"});
        let person = json!({"session_id": format!("crash-{number}"), "user_id": format!("crashing-{number}"),
            "app": {"name": "shop", "version": "4.2.0"}});
        plant.push(at, "android", "crash", "crashed", body, person);
        plant.visited(&format!("crashing-{number}"), at);
    }
    for (version, previous, days) in [(RELEASES[0], "3.0.9", 20), (RELEASES[1], RELEASES[0], RELEASED_DAYS)] {
        let body = json!({"service": "orders", "version": version, "previous_version": previous, "status": "succeeded", "environment": "production"});
        plant.push(plant.days_ago(days, 0), "linux", "deployment", "deployed", body, json!({}));
    }
}

fn hosts(plant: &mut Plant) {
    const GIB: f64 = 1_073_741_824.0;
    for hour in 0..DAYS * 24 {
        let at = plant.days_ago(DAYS, hour * 3_600);
        let days_left = (DAYS * 24 - hour) as f64 / 24.0;
        for (host, cpu, memory) in HOSTS {
            let share = if host == "db-1" { DISK.0 - DISK.1 * days_left } else { 0.3 };
            // Some life, the same each day.
            let swing = 0.03
                * ((hour % 24) as f64 / 24.0 * std::f64::consts::TAU).sin()
                * if cpu > 0.1 { 1.0 } else { 0.1 };
            let body = json!({"resource_type": "vm", "resource_id": host, "provider": "on-premises", "region": "eu-1", "measurements": {
                "cpu_usage": cpu + swing, "memory_usage": memory, "disk_used": (share * 100.0 * GIB).round(), "disk_capacity": 100.0 * GIB}});
            plant.push(at, "linux", "infrastructure_metric", "host_usage", body, json!({}));
        }
    }
}

fn incidents(plant: &mut Plant) {
    for (number, (acknowledged, resolved)) in INCIDENTS.into_iter().enumerate() {
        let begin = plant.days_ago(OUTAGE.0 + 10 * number as u64, 120);
        for (status, minutes) in [("opened", 0), ("acknowledged", acknowledged), ("resolved", resolved)] {
            let at = begin + minutes * 60 * SECOND;
            incident(plant, at, &format!("inc-{}", number + 1), status, "high", "Payments are refused");
        }
    }
    let at = plant.days_ago(1, 0);
    incident(plant, at, "inc-3", "opened", "medium", "Orders are slow");
}

fn incident(plant: &mut Plant, at: u64, id: &str, status: &str, severity: &str, title: &str) {
    let body = json!({"incident_id": id, "status": status, "severity": severity, "title": title, "service": "payments"});
    plant.push(at, "linux", "incident", &format!("incident_{status}"), body, json!({}));
}
