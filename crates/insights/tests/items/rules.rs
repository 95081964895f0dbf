//! Alerts and the tracking plan over the planted events.

use tickstream_insights::alerts::Rules;
use tickstream_insights::filters::time_text;
use tickstream_insights::plan::{Plan, STANDARD};

use tickstream_schema::events::Event;
use tickstream_schema::json::parse_event;
use tickstream_warehouse_core::sample::planted::Facts;

use crate::world::{NOW, WORLD, World};

const RULES: &str = r#"
pages = "https://insights.example.org"
[[alert]]
name = "budget burns"
item = "operations/objectives"
column = "alarm"
is = "page"
[[alert]]
name = "slow CDN"
item = "video/cdns"
column = "startup, ms"
above = 2000
[[alert]]
name = "low availability"
item = "operations/availability"
filters = "days=1"
column = "availability, %"
below = 99.0
[[alert]]
name = "no costs"
item = "cost/resources"
filters = "from=2020-01-01&days=1&to=2020-01-02"
is_missing = true
[[alert]]
name = "quiet"
item = "cost/resources"
is_missing = true
[[silence]]
alert = "slow CDN"
until = "2026-12-01T08:00:00Z"
"#;

/// 2026-11-24, 12:05:00 UTC: within the outage.
const OUTAGE: i64 = 1_795_521_900_000_000_000;

#[test]
fn alerts_fire_in_the_outage_and_not_today() {
    let rules = Rules::read(RULES).unwrap();
    let named = |at: i64| -> Vec<(String, String)> {
        WORLD.firing(&rules, at).into_iter().map(|firing| (firing.name, firing.subject)).collect()
    };
    let pair = |name: &str, subject: &str| (name.to_owned(), subject.to_owned());
    let slow = pair("slow CDN", "south");
    let missing = pair("no costs", "cost/resources");
    let expected = [
        pair("budget burns", "payments"),
        slow.clone(),
        pair("low availability", "payments"),
        missing.clone(),
    ];
    assert_eq!(named(OUTAGE), expected);
    assert_eq!(named(NOW), [slow, missing]);
    let firing = WORLD.firing(&rules, OUTAGE);
    assert_eq!(
        firing[0].link,
        "https://insights.example.org/operations/objectives?to=2026%2D11%2D24T12%3A05%3A00Z"
    );
    assert_eq!(firing.iter().map(|firing| firing.is_silent).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(firing[0].alertmanager(OUTAGE)["labels"]["subject"], "payments");
}

/// A rule over a column that isn't there can never fire: it says so, and the others go on.
#[test]
fn a_rule_without_its_column_tells_of_itself() {
    let rules = Rules::read(&RULES.replace("startup, ms", "start, ms")).unwrap();
    let firing = WORLD.firing(&rules, OUTAGE);
    let names: Vec<_> = firing.iter().map(|firing| firing.name.as_str()).collect();
    assert_eq!(names, ["budget burns", "slow CDN", "low availability", "no costs"]);
    assert!(
        firing[1].summary.contains("has no column \"start, ms\"; it has cdn, views, startup, ms"),
        "{firing:?}"
    );
}

/// The streaming detector, which the benchmark NAB scores, over the line of an item.
#[test]
fn the_outage_is_unusual_by_the_streaming_detector() {
    let rules = "[[alert]]\nname = \"odd\"\nitem = \"operations/availability\"\nis_unusual = true\n";
    let rules = Rules::read(rules).unwrap();
    // It begins at 09:13:54. In the hour after its begin, and not a day before.
    let named = |at: i64| -> Vec<String> {
        WORLD.firing(&rules, at).into_iter().map(|firing| firing.subject).collect()
    };
    assert_eq!(named(OUTAGE - 95 * 60_000_000_000), ["payments"]);
    assert!(named(OUTAGE - 86_400_000_000_000).is_empty());
}

/// Sales of one hour of the week: 30 in each of five weeks, then 120.
fn sales() -> Vec<Event> {
    const HOUR: i64 = 3_600_000_000_000;
    let mut events = Vec::new();
    for (weeks, count) in [(5, 30), (4, 30), (3, 30), (2, 30), (1, 30), (0, 120)] {
        let begin = NOW / HOUR * HOUR - HOUR - weeks * 168 * HOUR;
        for number in 0..count {
            let time = time_text(begin + number * 20_000_000_000);
            let id = events.len();
            let json = format!(
                r#"{{"event_id":"d6000000-0000-8000-8000-{id:012x}","timestamp":"{time}","platform":"web","session_id":"s",
                "event_type":"custom","event_name":"sale","custom":{{}}}}"#
            );
            events.push(parse_event(&json).unwrap());
        }
    }
    events
}

#[test]
fn an_unusual_hour_is_told_and_a_usual_one_is_not() {
    let world = World::new(sales(), Facts::default());
    let rules = Rules::read("[[alert]]\nname = \"sales\"\nunusual_event = \"sale\"\n").unwrap();
    let firing = world.firing(&rules, NOW);
    assert_eq!(firing.len(), 1);
    assert!(firing[0].summary.starts_with("120 in an hour"), "{firing:?}");
    assert!(world.firing(&rules, NOW - 168 * 3_600_000_000_000).is_empty());
}

#[test]
fn the_planted_month_keeps_the_plan() {
    let check = WORLD.plan(&Plan::read(STANDARD).unwrap());
    assert!(check.items.is_empty(), "{:?}", check.items);
    assert!(check.is_kept(), "{:?}", check.rules);
    let strict = "[[rule]]\ntype = \"crash\"\nneeds = [\"crash.exception_type\", \"crash.fingerprint\"]\nwhy = \"groups\"\n";
    let check = WORLD.plan(&Plan::read(strict).unwrap());
    assert!(!check.is_kept());
    assert_eq!(check.rules[0].2, [("crash.fingerprint".to_owned(), 25)]);
}
