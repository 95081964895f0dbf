//! Analyses of persons.

use serde_json::{Value, json};
use tickstream_insights::identity::{Identities, Link};
use tickstream_insights::paths::{Direction, PathRules, paths as find_paths};
use tickstream_insights::retention::{
    Cohorts, Periods, Person, RetentionRules, lifecycle, retention as find_retention, stickiness,
};
use tickstream_insights::sessions::{SessionRules, sessions as find_sessions};

use super::{integer, integers, list};

/// Links are lists of time, from, to and alias.
pub fn identity(case: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let link = |link: &Value| Link {
        time: integer(&link[0]),
        from: text(&link[1]),
        to: text(&link[2]),
        is_alias: link[3] == true,
    };
    let identities = Identities::new(list(&case["links"]).map(link).collect());
    let persons: Vec<_> =
        list(&case["ids"]).filter_map(Value::as_str).map(|id| identities.person(id)).collect();
    json!({ "persons": persons, "refused": identities.refused().len() })
}

/// Begin and end of each session, as places in the times.
pub fn sessions(case: &Value) -> Value {
    let rules = SessionRules { idle: integer(&case["idle"]), length_max: integer(&case["length_max"]) };
    let found = find_sessions(&integers(&case["times"]), rules);
    json!(found.into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>())
}

/// Persons are pairs of lists: starts and returns.
pub fn retention(case: &Value) -> Value {
    let person = |person: &Value| Person { starts: integers(&person[0]), returns: integers(&person[1]) };
    let persons: Vec<_> = list(&case["persons"]).map(person).collect();
    let is_recurring = case["is_recurring"] == true;
    let rules = RetentionRules {
        cohorts: if is_recurring { Cohorts::Recurring } else { Cohorts::FirstTime },
        periods: match case["length"].as_i64() {
            Some(length) => Periods::FromStart(length),
            None => Periods::Calendar(integers(&case["bounds"])),
        },
        count: integer(&case["count"]) as usize,
        times: integer(&case["times"]) as usize,
        is_rolling: case["is_rolling"] == true,
        now: integer(&case["now"]),
    };
    let rows = find_retention(&persons, &rules);
    json!(rows.into_iter().map(|row| json!([row.begin, row.size, row.retained])).collect::<Vec<_>>())
}

/// Lifecycle and stickiness; persons are lists of active periods.
pub fn activity(case: &Value) -> Value {
    let persons: Vec<_> = list(&case["persons"]).map(integers).collect();
    let count = integer(&case["count"]) as usize;
    let rows: Vec<_> = lifecycle(&persons, count)
        .into_iter()
        .map(|row| [row.new, row.returning, row.resurrected, row.dormant])
        .collect();
    json!({ "lifecycle": rows, "stickiness": stickiness(&persons, count) })
}

/// All paths with their number of sessions.
pub fn paths(case: &Value) -> Value {
    let sessions: Vec<Vec<u32>> = list(&case["sessions"])
        .map(|session| integers(session).into_iter().map(|event| event as u32).collect())
        .collect();
    let rules = PathRules {
        anchor: case["anchor"].as_i64().map(|anchor| anchor as u32),
        direction: match case["direction"].as_str() {
            Some("to") => Direction::To,
            Some("around") => Direction::Around,
            _ => Direction::From,
        },
        steps: integer(&case["steps"]) as usize,
        is_collapsed: case["is_collapsed"] == true,
    };
    let found = find_paths(&sessions, rules, integer(&case["top"]) as usize);
    let top: Vec<_> = found.top.into_iter().map(|path| json!([path.events, path.sessions])).collect();
    json!({ "top": top, "other": found.other })
}
