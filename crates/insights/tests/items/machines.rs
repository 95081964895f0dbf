//! Items of Engineering, Operations and Security.

use tickstream_warehouse_core::sample::planted::{security, services};

use crate::near;
use crate::world::{WORLD, rows};

#[test]
fn performance() {
    let found = rows("engineering/performance", "days=30");
    let p95 = |version: &str| {
        let row = found.0.rows.iter().find(|row| row[1].text() == "POST /orders" && row[2].text() == version);
        row.unwrap()[5].number().unwrap()
    };
    near(p95(services::RELEASES[0]), services::DURATION as f64, services::DURATION as f64 / 100.0);
    near(p95(services::RELEASES[1]), services::SLOW as f64, services::SLOW as f64 / 100.0);
}

#[test]
fn errors() {
    let found = rows("engineering/errors", "days=30");
    // The number in the message makes no group of its own.
    let failed = services::OUTAGE.1 / 900;
    assert_eq!(found.number("payments", "errors"), failed as f64);
    assert_eq!(found.number("NullPointerException", "errors"), services::CRASHES as f64);
    assert_eq!(found.cell("NullPointerException", "first release").text(), "4.2.0");
    assert_eq!(found.0.rows.len(), 2, "{found:#?}");
}

#[test]
fn health() {
    // During the outage, and ten minutes after the last request.
    let outage = rows("engineering/health", "to=2026-11-24T12:05:00Z");
    assert_eq!(outage.cell("payments", "state").text(), "bad");
    assert_eq!(outage.number("payments", "failed"), 4.0);
    assert_eq!(outage.cell("orders", "state").text(), "healthy");
    let after = rows("engineering/health", "to=2026-11-28T09:30:00Z");
    assert_eq!(after.cell("payments", "state").text(), "unknown");
}

#[test]
fn interfaces() {
    let found = rows("engineering/interfaces", "days=30");
    let calls = 29.0 * 96.0;
    assert_eq!(found.number("GET /products/{id}", "calls"), calls);
    near(found.number("GET /products/{id}", "4xx, %"), 100.0 * (calls / 10.0).ceil() / calls, 1e-9);
    assert_eq!(found.number("POST /payments", "keys"), 2.0);
    near(found.number("POST /payments", "5xx, %"), 100.0 * 16.0 / calls, 1e-9);
}

#[test]
fn debt() {
    let found = rows("engineering/debt", "");
    assert_eq!(found.number("deprecated call", "value"), services::DEPRECATED as f64);
    assert_eq!(found.number("flaky endpoint", "value"), services::FLAKY as f64);
    let (_, duration) = services::SLOW_STATEMENTS;
    near(found.number("slow statement", "value"), duration as f64, duration as f64 / 100.0);
    let [valid, bad] = WORLD.facts.requests["payments"];
    let spent =
        found.0.rows.iter().find(|row| row[0].text() == "error budget spent" && row[1].text() == "payments");
    near(spent.unwrap()[3].number().unwrap(), bad as f64 / (valid as f64 * 0.001) * 100.0, 1e-6);
}

#[test]
fn availability() {
    let found = rows("operations/availability", "");
    for (service, [valid, bad]) in &WORLD.facts.requests {
        assert_eq!(found.number(service, "requests"), *valid as f64, "{service}");
        assert_eq!(found.number(service, "bad"), *bad as f64, "{service}");
    }
    near(found.number("orders", "availability, %"), 100.0, 1e-9);
}

#[test]
fn utilisation() {
    let found = rows("operations/utilisation", "days=30");
    for (host, cpu, memory) in services::HOSTS {
        near(found.number(host, "CPU mean, %"), cpu * 100.0, 0.01);
        near(found.number(host, "memory max, %"), memory * 100.0, 1e-6);
    }
    near(found.number("db-1", "disk, %"), services::DISK.0 * 100.0, 0.1);
}

#[test]
fn incidents() {
    let found = rows("operations/incidents", "");
    let [first, second] = services::INCIDENTS;
    assert_eq!(found.number("high", "incidents"), 2.0);
    near(found.number("high", "MTTA, min"), (first.0 + second.0) as f64 / 2.0, 1e-9);
    near(found.number("high", "MTTR, min"), (first.1 + second.1) as f64 / 2.0, 1e-9);
    assert_eq!(found.number("medium", "open"), 1.0);
}

#[test]
fn objectives() {
    let found = rows("operations/objectives", "");
    let [valid, bad] = WORLD.facts.requests["payments"];
    near(
        found.number("payments", "budget left, %"),
        (1.0 - bad as f64 / (valid as f64 * 0.001)) * 100.0,
        1e-6,
    );
    assert_eq!(found.cell("payments", "alarm").text(), "none");
    // In the outage all fail: 1,000 times the rate of the budget.
    let outage = rows("operations/objectives", "to=2026-11-24T12:05:00Z");
    near(outage.number("payments", "burn rate, 1 h"), 1_000.0, 1e-6);
    assert_eq!(outage.cell("payments", "alarm").text(), "page");
}

#[test]
fn capacity() {
    let found = rows("operations/capacity", "");
    near(found.number("db-1", "used, %"), services::DISK.0 * 100.0, 0.1);
    let full = found.cell("db-1", "full").text();
    // 20 % are left, and it grows by 1 % a day.
    assert!(("2026-12-16".."2026-12-20").contains(&full), "{full}");
    assert_eq!(found.cell("web-1", "full").text(), "not in 180 days");
}

#[test]
fn access() {
    let found = rows("security/access", "");
    let sign_ins = security::SIGN_INS.iter().sum::<u64>() + security::BRUTE_FORCE + security::STUFFED;
    assert_eq!(found.number("login", "attempts"), sign_ins as f64);
    assert_eq!(found.number("read", "denials"), (security::DENIED + security::SCANNED) as f64);
    assert_eq!(found.number("read", "denied, %"), 100.0);
}

#[test]
fn threats() {
    let found = rows("security/threats", "");
    assert_eq!(found.number("brute force", "attempts"), security::BRUTE_FORCE as f64);
    assert_eq!(found.cell("brute force", "subject").text(), "admin");
    assert_eq!(found.number("credential stuffing", "attempts"), security::STUFFED as f64);
    assert_eq!(found.cell("credential stuffing", "subject").text(), security::ATTACKERS[1]);
    assert_eq!(found.number("scanner", "attempts"), security::SCANNED as f64);
    assert_eq!(found.cell("impossible travel", "subject").text(), security::TRAVELLER);
    assert_eq!(found.0.rows.len(), 4, "{found:#?}");
}

#[test]
fn compliance() {
    use tickstream_warehouse_core::sample::planted::people::CONSENTS;
    let found = rows("security/compliance", "");
    let [decided, analytics, marketing] = CONSENTS.map(|count| count as f64);
    assert_eq!(found.number("analytics", "decided"), decided);
    assert_eq!(found.number("analytics", "granted"), analytics);
    assert_eq!(found.number("marketing", "granted"), marketing);
    near(found.number("cost", "oldest, days"), 60.0, 0.01);
}

#[test]
fn vulnerabilities() {
    let found = rows("security/vulnerabilities", "");
    for (severity, count) in security::OPEN {
        assert_eq!(found.number(severity, "open"), count as f64);
    }
    assert_eq!(found.number("critical", "overdue"), 1.0);
    near(found.number("critical", "mean age, days"), 20.0, 0.001);
    assert_eq!(found.number("medium", "fixed"), security::FIXED as f64);
    near(found.number("medium", "time to fix, days"), 10.0, 0.001);
}

#[test]
fn posture() {
    let found = rows("security/posture", "");
    let [checks, passed] = security::CHECKS.map(|count| count as f64);
    near(found.number("configuration", "passed, %"), passed / checks * 100.0, 1e-9);
    let [strong, weak] = security::SIGN_INS.map(|count| count as f64);
    near(found.number("strong sign-ins", "passed, %"), strong / (strong + weak) * 100.0, 1e-9);
}
