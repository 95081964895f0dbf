//! One function for each analysis.

mod persons;
mod series;

use serde_json::{Value, json};
use tickstream_insights::funnel::{
    Event, Funnel, FunnelError, Order, Strict, Ties, WindowFrom, window_funnel,
};

pub fn answer(case: &Value) -> Value {
    match case["analysis"].as_str() {
        Some("funnel") => funnel(case),
        Some("identity") => persons::identity(case),
        Some("sessions") => persons::sessions(case),
        Some("retention") => persons::retention(case),
        Some("activity") => persons::activity(case),
        Some("paths") => persons::paths(case),
        Some("attribution") => series::attribution(case),
        Some("changes") => series::changes(case),
        Some("forecast") => series::forecast(case),
        Some("ratio") => series::ratio(case),
        Some("tails") => series::tails(case),
        other => json!({ "error": format!("no analysis {other:?}") }),
    }
}

/// Events are pairs of time and steps' bits.
fn funnel(case: &Value) -> Value {
    let events: Vec<_> = list(&case["events"])
        .map(|event| Event { time: integer(&event[0]), steps: integer(&event[1]) as u32, exclusions: 0 })
        .collect();
    let (steps, window) = (integer(&case["steps"]) as usize, integer(&case["window"]));
    let has = |mode: &str| list(&case["modes"]).any(|known| known == mode);
    let strict = Strict {
        deduplication: has("strict_deduplication"),
        order: has("strict_order"),
        increase: has("strict_increase"),
    };
    let level = |ties| {
        let funnel = Funnel::new(steps, window)?.rules(ties, WindowFrom::Latest, Order::Ordered)?;
        Ok::<_, FunnelError>(funnel.convert(&events).level())
    };
    json!({
        "level": window_funnel(&events, steps, window, strict),
        "general": level(Ties::ByStep).ok(),
        "strict_ties": level(Ties::Strict).ok(),
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn integers(value: &Value) -> Vec<i64> {
    list(value).map(integer).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).filter_map(Value::as_f64).collect()
}
