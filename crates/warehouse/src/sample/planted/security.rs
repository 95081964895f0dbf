//! Sign-ins, three attacks, impossible travel, vulnerabilities and checks.

use serde_json::json;

use super::plant::Plant;
use crate::sample::common::{DAY, SECOND, time};

/// Successful sign-ins by single sign-on and by password.
pub const SIGN_INS: [u64; 2] = [150, 50];
/// Denied reads.
pub const DENIED: u64 = 20;
/// Failures of `admin` from one address within three minutes.
pub const BRUTE_FORCE: u64 = 30;
/// Principals that failed from one address within three minutes.
pub const STUFFED: u64 = 25;
/// Targets that one address was denied within three minutes.
pub const SCANNED: u64 = 25;
/// Principal whose accesses succeed from two countries within 40 minutes.
pub const TRAVELLER: &str = "employee-7";
/// Address of each attack.
pub const ATTACKERS: [&str; 3] = ["198.51.100.9", "203.0.113.5", "203.0.113.77"];
/// Open findings: severity and number; the first critical one is overdue.
pub const OPEN: [(&str, u64); 2] = [("critical", 2), ("high", 3)];
/// Findings that were fixed after ten days.
pub const FIXED: u64 = 4;
/// Checks of the configuration, and those that are right.
pub const CHECKS: [u64; 2] = [8, 6];

struct Attempt<'a> {
    action: &'a str,
    outcome: &'a str,
    principal: String,
    target: String,
    method: &'a str,
    address: &'a str,
}

/// Adds them.
pub fn plant(plant: &mut Plant) {
    for number in 0..SIGN_INS[0] + SIGN_INS[1] {
        let at = plant.days_ago(number % 6, 0) - (number + 2) * 300 * SECOND;
        let method = if number < SIGN_INS[0] { "sso" } else { "password" };
        attempt(
            plant,
            at,
            &Attempt {
                action: "login",
                outcome: "success",
                principal: format!("employee-{}", number % 40),
                target: String::new(),
                method,
                address: "192.0.2.10",
            },
        );
    }
    for number in 0..DENIED {
        let at = plant.days_ago(number % 6, 0) - (number + 3) * 400 * SECOND;
        attempt(
            plant,
            at,
            &Attempt {
                action: "read",
                outcome: "denied",
                principal: format!("employee-{}", number % 4),
                target: "/payroll".to_owned(),
                method: "sso",
                address: "192.0.2.10",
            },
        );
    }
    attacks(plant);
    travel(plant);
    findings(plant);
}

fn attempt(plant: &mut Plant, at: u64, attempt: &Attempt<'_>) {
    let body = json!({"action": attempt.action, "outcome": attempt.outcome, "principal": attempt.principal, "target": attempt.target,
        "method": attempt.method, "client_address": attempt.address, "service": "accounts"});
    plant.push(at, "linux", "access", "access", body, json!({}));
}

fn attacks(plant: &mut Plant) {
    let begin = plant.now_ns - 12 * 3_600 * SECOND;
    for number in 0..BRUTE_FORCE {
        attempt(
            plant,
            begin + number * 5 * SECOND,
            &Attempt {
                action: "login",
                outcome: "failure",
                principal: "admin".to_owned(),
                target: String::new(),
                method: "password",
                address: ATTACKERS[0],
            },
        );
    }
    for number in 0..STUFFED {
        attempt(
            plant,
            begin + (3_600 + number * 5) * SECOND,
            &Attempt {
                action: "login",
                outcome: "failure",
                principal: format!("leaked-{number}"),
                target: String::new(),
                method: "password",
                address: ATTACKERS[1],
            },
        );
    }
    for number in 0..SCANNED {
        attempt(
            plant,
            begin + (7_200 + number * 5) * SECOND,
            &Attempt {
                action: "read",
                outcome: "denied",
                principal: "guest".to_owned(),
                target: format!("/.hidden/{number}"),
                method: "none",
                address: ATTACKERS[2],
            },
        );
    }
}

/// The same account at home, and 40 minutes later on another continent.
fn travel(plant: &mut Plant) {
    let begin = plant.now_ns - 9 * 3_600 * SECOND;
    for (minutes, address) in [(0, "192.0.2.10"), (40, "203.0.113.9")] {
        attempt(
            plant,
            begin + minutes * 60 * SECOND,
            &Attempt {
                action: "download",
                outcome: "success",
                principal: TRAVELLER.to_owned(),
                target: "/reports".to_owned(),
                method: "sso",
                address,
            },
        );
    }
}

fn findings(plant: &mut Plant) {
    let found = plant.days_ago(20, 0);
    for (severity, count) in OPEN {
        for number in 0..count {
            let is_overdue = severity == "critical" && number == 0;
            let due = if is_overdue { found + 10 * DAY } else { found + 60 * DAY };
            let body = json!({"finding_id": format!("{severity}-{number}"), "status": "open", "severity": severity, "category": "vulnerability",
                "vulnerability_id": format!("CVE-2026-{}", 1_000 + number), "package": "libshop", "scanner": "scan", "due_time": time(due)});
            plant.push(found, "linux", "finding", "finding_reported", body, json!({}));
        }
    }
    for number in 0..FIXED {
        for (days, status) in [(20, "open"), (10, "fixed")] {
            let body = json!({"finding_id": format!("fixed-{number}"), "status": status, "severity": "medium", "category": "vulnerability", "scanner": "scan"});
            plant.push(plant.days_ago(days, 60), "linux", "finding", "finding_reported", body, json!({}));
        }
    }
    for number in 0..CHECKS[0] {
        // One of the right ones was wrong before.
        let status = match number {
            0 => "fixed",
            _ if number < CHECKS[1] => "passed",
            _ => "open",
        };
        let body = json!({"finding_id": format!("check-{number}"), "status": status, "severity": "low", "category": "misconfiguration", "scanner": "bench"});
        plant.push(plant.days_ago(9, 60 + number), "linux", "finding", "check_reported", body, json!({}));
    }
}
