//! Pages over the planted events: all answer, roles hold, and what an attacker sends stays text.

use tickstream_insights::filters::encoded;
use tickstream_insights::teams::TEAMS;
use tickstream_schema::events::Event;
use tickstream_schema::json::{parse_event, write_event};
use tickstream_warehouse_core::query::Role;
use tickstream_warehouse_core::sample::planted::{Facts, planted};
use tickstream_warehouse_core::serve::Page;

use crate::world::{NOW, WORLD, World};

const TO: &str = "to=2026-11-28T09:13:54Z";

fn text(page: &Page) -> String {
    String::from_utf8(page.body.clone()).unwrap()
}

#[track_caller]
fn ok(path: &str, query: &str) -> String {
    let page = WORLD.page(path, query, &Role::local());
    assert_eq!(page.status, 200, "{path}?{query}: {}", text(&page));
    text(&page)
}

#[test]
fn each_page_answers_and_no_item_is_empty() {
    ok("/", "");
    for team in &TEAMS {
        let html = ok(&format!("/{}", team.name), TO);
        assert!(!html.contains("class=\"problem\""), "{}", team.name);
        for item in &team.items {
            assert!(!html.contains(item.empty), "{}/{} is empty", team.name, item.name);
            let page = ok(&format!("/{}/{}", team.name, item.name), TO);
            assert!(page.contains("SELECT") && page.contains("<table"), "{}", item.name);
            let csv = ok(&format!("/{}/{}.csv", team.name, item.name), TO);
            assert!(csv.lines().count() > 1, "{}: {csv}", item.name);
            serde_json::from_str::<serde_json::Value>(&ok(&format!("/{}/{}.json", team.name, item.name), TO))
                .unwrap();
        }
    }
}

#[test]
fn headers_allow_no_foreign_script() {
    let page = WORLD.page("/", "", &Role::local());
    let header = |name: &str| page.headers.iter().find(|(other, _)| *other == name).unwrap().1.clone();
    assert!(header("content-security-policy").contains("script-src 'self'"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    let html = text(&page);
    assert!(!html.contains("<style") && !html.contains("style=") && !html.contains(" onclick"), "{html}");
    assert_eq!(WORLD.page("/nothing/here", "", &Role::local()).status, 404);
}

#[test]
fn fault_87_a_user_of_one_team_sees_no_other() {
    let role = Role { user: "ada".to_owned(), sees_personal: false, teams: vec!["marketing".to_owned()] };
    assert_eq!(WORLD.page("/marketing", TO, &role).status, 200);
    assert_eq!(WORLD.page("/marketing/channels.csv", TO, &role).status, 200);
    for path in [
        "/security",
        "/security/threats",
        "/cost/return.csv",
        "/explore",
        "/explore.csv",
        "/services",
        "/user/x",
        "/trace/x",
    ] {
        assert_eq!(WORLD.page(path, "kind=sql&sql=SELECT+1", &role).status, 403, "{path}");
    }
    assert!(!text(&WORLD.page("/", "", &role)).contains("/security"));
}

#[test]
fn a_masked_user_gets_the_same_counts_and_no_names() {
    let masked = Role::masked();
    for path in
        ["marketing/channels", "marketing/campaigns", "marketing/funnel", "product/experiments", "cost/usage"]
    {
        let clear = WORLD.answer_of(path, "", &Role::local()).table;
        assert_eq!(WORLD.answer_of(path, "", &masked).table, clear, "{path}");
    }
    let threats = WORLD.answer_of("security/threats", "", &masked).table.csv();
    assert!(!threats.contains("admin") && !threats.contains("198.51.100.9"), "{threats}");
}

#[test]
fn one_time_line_has_the_tap_the_request_the_statement_the_log_the_host_and_the_cost() {
    // The first visitor of the newsletter buys.
    let user = WORLD.identifier("buyer-421");
    let html = ok(&format!("/user/{user}"), TO);
    for part in ["purchased", "POST /orders", "INSERT orders", "db-1", "CPU ", "EUR", "/trace/", "/session/"]
    {
        assert!(html.contains(part), "{part} isn't on the time line: {html}");
    }
    let trace = format!("{:032x}", 421_u128 + (7 << 64));
    let html = ok(&format!("/trace/{trace}"), TO);
    assert!(html.contains("purchased") && html.contains("order stored"), "{html}");
    // The services of the trace, and of the month.
    assert!(html.contains("orders → mailer"), "{html}");
    let html = ok("/services", &format!("{TO}&days=30"));
    assert!(html.contains("orders → mailer") && html.contains("<svg"), "{html}");
    let found = WORLD.page("/find", "in=user&id=buyer-421", &Role::local());
    assert_eq!(found.status, 303);
    assert!(found.headers.contains(&("location", format!("/user/{}", encoded(&user)))));
}

#[test]
fn explore_answers_each_kind() {
    let html = ok("/explore", &format!("{TO}&kind=trend&event=purchased&measure=persons&by=channel"));
    assert!(html.contains("Email") && html.contains("<svg"), "{html}");
    let html = ok("/explore", &format!("{TO}&kind=funnel&step=product_viewed&step=purchased"));
    assert!(html.contains("2. purchased"), "{html}");
    let html = ok("/explore", &format!("{TO}&kind=retention&event=product_viewed"));
    assert!(html.contains("week 1, %"), "{html}");
    let html = ok("/explore", &format!("{TO}&kind=paths&anchor=purchased&direction=to"));
    assert!(html.contains("→ purchased"), "{html}");
    let html = ok("/explore", "kind=sql&sql=SELECT+count(*)+AS+n+FROM+events");
    assert!(html.contains("<table"), "{html}");
    let csv = ok("/explore.csv", "kind=sql&sql=SELECT+1+AS+n");
    assert_eq!(csv, "n\r\n1\r\n");
    let html = ok("/explore", "kind=sql&sql=DROP+TABLE+events");
    assert!(html.contains("read-only"), "{html}");
}

const ATTACKS: [&str; 4] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'; DROP TABLE events; --",
    "=HYPERLINK(\"https://attacker.example\")",
];

/// Replaces each text below that isn't of a fixed form.
fn poison(value: &mut serde_json::Value, key: &str, attack: &str) {
    const FIXED: [&str; 36] = [
        "timestamp",
        "event_id",
        "event_type",
        "trace_id",
        "span_id",
        "parent_span_id",
        "start_time",
        "end_time",
        "status",
        "kind",
        "level",
        "severity",
        "outcome",
        "due_time",
        "charge_period_start",
        "charge_period_end",
        "billing_currency",
        "currency",
        "client_address",
        "resource_type",
        "http_status_code",
        "source",
        "stream_type",
        "category",
        "metric_type",
        "medium",
        "user_id",
        "session_id",
        "anonymous_id",
        "name",
        "url",
        "referrer",
        "drm_type",
        "type",
        "score",
        "region_id",
    ];
    match value {
        serde_json::Value::Object(object) => {
            object.iter_mut().for_each(|(key, value)| poison(value, key, attack));
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|value| poison(value, key, attack)),
        serde_json::Value::String(text) if !FIXED.contains(&key) => attack.clone_into(text),
        _ => {}
    }
}

/// Each kind of planted event once for each attack, with the attack in each text that an attacker chooses.
fn poisoned() -> Vec<Event> {
    let mut kinds = std::collections::BTreeMap::new();
    for event in planted(NOW as u64).0 {
        let mut json = Vec::new();
        write_event(&event, &mut json);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let body = value["event_type"].as_str().unwrap().to_owned();
        let detail = value[&body]["event_name"]
            .as_str()
            .or(value[&body]["kind"].as_str())
            .unwrap_or_default()
            .to_owned();
        kinds.insert((body, detail), value);
    }
    let mut events = Vec::new();
    for value in kinds.values() {
        for attack in ATTACKS {
            let mut value = value.clone();
            let kind = value["event_type"].as_str().unwrap().to_owned();
            let video_event = value[&kind]["event_name"].clone();
            poison(&mut value, "", attack);
            if kind == "video" {
                value[&kind]["event_name"] = video_event;
            }
            for id in ["user_id", "session_id"] {
                value[id] = attack.into();
            }
            value["event_id"] = format!("d5000000-0000-8000-8000-{:012x}", events.len()).into();
            value["timestamp"] = "2026-11-28T09:00:00Z".into();
            events.push(parse_event(&value.to_string()).unwrap_or_else(|error| panic!("{error}: {value}")));
        }
    }
    events
}

#[test]
fn fault_86_an_attack_in_each_text_of_each_kind_stays_text() {
    let world = World::new(poisoned(), Facts::default());
    let role = Role::local();
    let check = |path: &str, query: &str| {
        let page = world.page(path, query, &role);
        let html = text(&page);
        assert!(matches!(page.status, 200 | 303), "{path}?{query}: {html}");
        assert!(!html.contains("<script>") && !html.contains("<img"), "{path}?{query}: {html}");
        html
    };
    let mut seen = 0;
    for team in &TEAMS {
        for query in [TO.to_owned(), format!("{TO}&days=365")] {
            seen += check(&format!("/{}", team.name), &query).matches("&lt;script&gt;").count();
        }
        for item in &team.items {
            check(&format!("/{}/{}", team.name, item.name), TO);
            let csv = check_csv(&world, &format!("/{}/{}.csv", team.name, item.name));
            assert!(!csv, "{}/{} has a formula", team.name, item.name);
        }
    }
    assert!(seen > 10, "the attack is on the pages, as text: {seen}");
    for attack in ATTACKS {
        let attack = encoded(attack);
        for kind in ["session", "user", "trace"] {
            check(&format!("/{kind}/{attack}"), TO);
        }
        for name in ["platform", "version", "country", "service", "from", "to", "days", "live"] {
            check("/marketing", &format!("{name}={attack}"));
        }
        for query in [
            "kind=trend&event=",
            "kind=trend&by=",
            "kind=funnel&step=",
            "kind=retention&event=",
            "kind=paths&anchor=",
            "kind=",
            "kind=sql&sql=",
        ] {
            check("/explore", &format!("{query}{attack}"));
        }
        check("/find", &format!("in=user&id={attack}"));
    }
}

/// True if a cell of CSV begins as a formula.
fn check_csv(world: &World, path: &str) -> bool {
    let csv = text(&world.page(path, TO, &Role::local()));
    csv.split(['\n', ',']).any(|cell| cell.trim_start_matches('"').starts_with("=HYPERLINK"))
}

/// Serves the planted month, for `tests/insights/pages.py`: `cargo test --test items serve -- --ignored --nocapture`.
#[test]
#[ignore = "serves until it is ended"]
fn serve() {
    WORLD.serve("127.0.0.1:18098");
}
