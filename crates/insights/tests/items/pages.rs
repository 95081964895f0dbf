//! Pages over the planted events: all answer, roles hold, and what an attacker sends stays text.

use std::sync::Arc;
use std::time::Duration;

use tickstream_insights::answers::Answers;
use tickstream_insights::ask::Asker;
use tickstream_insights::filters::{Filters, Parameters, encoded, time_text};
use tickstream_insights::pages::{Format, report};
use tickstream_insights::table::Value;
use tickstream_insights::teams::{self, TEAMS, Trend};
use tickstream_warehouse_core::query::Role;
use tickstream_warehouse_core::sample::planted::Facts;
use tickstream_warehouse_core::serve::Page;

use crate::world::{NOW, WORLD, World, count_of};

pub const TO: &str = "to=2026-11-28T09:13:54Z";

pub fn text(page: &Page) -> String {
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

/// Addresses of events behind points, as a page has them.
fn behind(html: &str) -> Vec<String> {
    let links = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    links.filter(|link| link.contains("/behind?")).map(|link| link.replace("&amp;", "&")).collect()
}

#[track_caller]
fn open(address: &str) -> String {
    let (path, query) = address.split_once('?').unwrap();
    ok(path, query)
}

#[test]
fn each_drawing_leads_to_the_events_behind_its_points() {
    for (team, item) in TEAMS.iter().flat_map(|team| team.items.iter().map(move |item| (team, item))) {
        let path = format!("/{}/{}", team.name, item.name);
        let points = behind(&ok(&path, TO));
        // Not each has an event, such as a service without errors.
        let has_events = |point: &String| open(point).contains("/moment/");
        let rows: Vec<_> = points.iter().filter(|point| !point.contains("&line=1")).take(8).collect();
        assert!(rows.iter().any(|point| has_events(point)), "{path}: {points:#?}");
        let Some(trend) = item.trend else { continue };
        assert!(points.iter().any(|point| point.contains("&line=1")), "{path}");
        assert!(extremes(&path, &trend).iter().any(has_events), "{path}");
    }
}

/// Addresses of the events behind the largest and the smallest value of a line.
fn extremes(path: &str, trend: &Trend) -> Vec<String> {
    let answer = WORLD.answer_of(path.trim_start_matches('/'), TO, &Role::local());
    let mut rows = answer.trend.unwrap().rows;
    rows.sort_by(|a, b| a[2].number().unwrap_or(0.0).total_cmp(&b[2].number().unwrap_or(0.0)));
    let step = answer_step(path, trend);
    let address = |row: &Vec<Value>| {
        let Value::Time(from) = row[0] else { panic!("{row:?}") };
        let [from, to] = [from, from + step].map(time_text);
        format!("{path}/behind?line=1&is.series={}&from={from}&to={to}", encoded(row[1].text()))
    };
    [rows.last(), rows.first()].into_iter().flatten().map(address).collect()
}

fn answer_step(path: &str, trend: &Trend) -> i64 {
    let (team, item) = path.trim_start_matches('/').split_once('/').unwrap();
    let item = teams::team(team).unwrap().item(item).unwrap();
    Filters::read(&Parameters::parse(TO), item.days, NOW).step(trend.sql)
}

/// Number of events behind the first point of a page whose address has a part.
#[track_caller]
fn count_behind(html: &str, part: &str) -> u64 {
    let points = behind(html);
    let ends = points.iter().find(|address| address.ends_with(part));
    let point = ends.or_else(|| points.iter().find(|address| address.contains(part)));
    let point = point.unwrap_or_else(|| panic!("{part}: {points:#?}"));
    let html = open(point);
    let count = count_of(&html);
    // What is listed are the newest of them.
    assert_eq!(html.matches("/moment/").count() as u64, u64::min(count, 200), "{point}");
    count
}

/// SQL that a page shows.
fn sql_of(html: &str) -> String {
    let sql = html.split("<code>").nth(1).and_then(|rest| rest.split("</code>").next()).unwrap();
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")]
        .iter()
        .fold(sql.to_owned(), |sql, (is, of)| sql.replace(is, of))
}

#[test]
fn events_behind_a_point_are_looked_up_in_its_time_alone() {
    let hour = "line=1&is.series=payments&from=2026-11-24T10:00:00Z&to=2026-11-24T11:00:00Z";
    for (path, query, longest) in [
        ("/engineering/errors/behind", hour, 3_600_000_000_000),
        ("/marketing/channels/behind", "to=2026-11-28T09:13:54Z&is.channel=Email", 30 * 86_400_000_000_000),
        (
            "/explore/behind",
            "kind=trend&event=purchased&is.series=all&from=2026-11-20&to=2026-11-22",
            2 * 86_400_000_000_000,
        ),
    ] {
        let sql = sql_of(&ok(path, query));
        let (_, range) = sql.split_once("WHERE timestamp_ns BETWEEN ").unwrap_or_else(|| panic!("{sql}"));
        let (first, rest) = range.split_once(" AND ").unwrap();
        let (last, _) = rest.split_once(" AND ").unwrap();
        let [first, last] = [first, last].map(|time| time.parse::<i64>().unwrap());
        assert!(first <= last && last - first < longest, "{first} to {last}");
        let found = WORLD.sql(&sql);
        assert!(!found.rows.is_empty());
        assert_eq!(
            found,
            WORLD.sql(&sql.replace(&format!("timestamp_ns BETWEEN {first} AND {last} AND "), ""))
        );
    }
}

/// Each cell and path of Explore leads to as many events as it counts persons and sessions.
#[test]
fn points_of_retention_and_paths_of_ones_own_lead_to_their_events() {
    for query in [
        "kind=retention",
        "kind=retention&event=product_viewed&return=purchased",
        "kind=retention&event=product_viewed&platform=web",
    ] {
        let html = ok("/explore", &format!("{TO}&days=56&{query}"));
        let rows = WORLD.csv("/explore.csv", &format!("{TO}&days=56&{query}"));
        for row in &rows[1..] {
            let size: u64 = row[1].parse().unwrap();
            assert_eq!(count_behind(&html, &format!("is.week={}&is.cell=persons", encoded(&row[0]))), size);
            let Ok(share) = row[2].parse::<f64>() else { continue };
            let cell = format!("is.week={}&is.cell=week%201", encoded(&row[0]));
            assert_eq!(
                count_behind(&html, &cell),
                (share / 100.0 * size as f64).round() as u64,
                "{query}, {row:?}"
            );
        }
    }
    for query in
        ["", "&anchor=purchased&direction=to", "&anchor=added_to_cart&direction=around", "&platform=web"]
    {
        let query = format!("{TO}&kind=paths{query}");
        let html = ok("/explore", &query);
        let rows = WORLD.csv("/explore.csv", &query);
        assert!(rows.len() > 1, "{rows:?}");
        for row in &rows[1..] {
            assert_eq!(
                count_behind(&html, &format!("is.path={}", encoded(&row[0]))),
                row[1].parse::<u64>().unwrap(),
                "{row:?}"
            );
        }
        // An event at its place has the sessions of all paths through it.
        let at_first = |row: &&Vec<String>| row[0].starts_with("product_viewed");
        let sessions: u64 = rows.iter().filter(at_first).map(|row| row[1].parse::<u64>().unwrap()).sum();
        if sessions > 0 {
            assert_eq!(count_behind(&html, "&is.step%201=product%5Fviewed"), sessions);
        }
    }
}

#[test]
fn what_is_behind_a_point_is_what_was_counted() {
    let count = |page: &str, point: &str| count_behind(&ok(page, TO), point);
    assert_eq!(count("/marketing/channels", "channel=Email"), WORLD.facts.channels["Email"][0]);
    assert_eq!(count("/marketing/funnel", "step=2%2E%20added"), WORLD.facts.funnel[1]);
    assert_eq!(count("/marketing/funnel", "step=3%2E%20purchased"), WORLD.facts.funnel[2]);
    assert_eq!(count("/marketing/campaigns", "campaign=digest"), WORLD.facts.campaigns["digest"][0]);
    assert_eq!(count("/product/experiments", "variant=green"), 1_000);
    assert_eq!(count("/product/feedback", "survey=nps"), 100);
    let retention = WORLD.answer_of("product/retention", TO, &Role::local()).table;
    let again = retention.rows[0][2].number().unwrap() / 100.0 * retention.rows[0][1].number().unwrap();
    assert_eq!(count("/product/retention", "cell=week%201"), again.round() as u64);
    let flows = WORLD.answer_of("product/flows", TO, &Role::local()).table;
    let path = encoded(flows.rows[0][0].text());
    assert_eq!(count("/product/flows", &path), flows.rows[0][1].number().unwrap() as u64);
}

#[test]
fn a_rise_of_errors_leads_to_its_cause() {
    // On Tuesday, all requests to payments failed for four hours.
    let point = "line=1&is.series=payments&from=2026-11-24T10:00:00Z&to=2026-11-24T11:00:00Z";
    let html = ok("/engineering/errors/behind", point);
    assert!(html.contains("POST /payments"), "{html}");
    let trace = html.split("href=\"/trace/").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(ok(&format!("/trace/{trace}"), "").contains("the gateway timed out after"), "{html}");
    let moment = ok("/moment/2026-11-24T10:13:30Z", "");
    assert!(moment.contains("POST /payments") && moment.contains("the gateway timed out after"), "{moment}");
    assert_eq!(WORLD.page("/moment/yesterday", "", &Role::local()).status, 404);
}

/// A first visitor doesn't wait for what takes long, and gets it as soon as it is there.
#[test]
fn answers_that_arent_ready_come_later() {
    let answers = Answers::new(WORLD.engine()).with_quick(Duration::ZERO).with_patience(Duration::ZERO);
    let answers = Arc::new(answers);
    let visit = |path: &str| text(&WORLD.page_of(&answers, path, TO));
    for path in ["/product", "/video/playback"] {
        let first = visit(path);
        assert!(
            first.contains("class=\"card pending\"")
                || first.contains("<div class=\"pending\" id=\"answer\">"),
            "{first}"
        );
        assert!(first.contains("is being computed") && !first.contains("<svg"), "{first}");
        let ready = (0..600).map(|_| visit(path)).find(|html| {
            std::thread::sleep(Duration::from_millis(100));
            !html.contains("pending")
        });
        assert!(ready.expect("it is ready within a minute").contains("<svg"), "{path}");
    }
    // One that fails says so, and isn't awaited for ever.
    let world = World::within(Vec::new(), Facts::default(), |limits| limits.time = Duration::from_nanos(1));
    let answers = Answers::new(world.engine()).with_quick(Duration::ZERO).with_patience(Duration::ZERO);
    let answers = Arc::new(answers);
    let failed = (0..100).map(|_| text(&world.page_of(&answers, "/product/features", TO))).find(|html| {
        std::thread::sleep(Duration::from_millis(20));
        html.contains("No answer")
    });
    assert!(failed.is_some());
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
        "/services/behind",
        "/explore/behind",
        "/marketing/channels/behind",
        "/moment/2026-11-24T10:13:30Z",
        "/user/x",
        "/trace/x",
    ] {
        assert_eq!(WORLD.page(path, "kind=sql&sql=SELECT+1", &role).status, 403, "{path}");
    }
    assert!(!text(&WORLD.page("/", "", &role)).contains("/security"));
}

/// A page says what it left out of an address; a file has no place for that, and there is none.
#[test]
fn a_period_that_cant_be_read_is_told() {
    for wrong in ["from=yesterday", "to=31.12.2026", "days=-1", "from=2026-11-20&to=2026-11-10"] {
        let html = ok("/marketing/channels", wrong);
        assert!(
            html.contains("role=\"alert\"") && html.contains("The page shows another period."),
            "{wrong}: {html}"
        );
        for path in ["/marketing/channels.csv", "/marketing/channels.json", "/explore.csv"] {
            let page = WORLD.page(path, &format!("kind=sql&sql=SELECT+1&{wrong}"), &Role::local());
            assert_eq!(page.status, 400, "{path}?{wrong}");
            assert!(
                text(&page).contains("the period can&#39;t be read")
                    || text(&page).contains("the period can't be read")
            );
        }
        let role = Role::local();
        let engine = WORLD.engine();
        let asker = Asker::new(&engine, &role);
        assert!(WORLD.block_on(report(asker, &TEAMS[0], wrong, Format::Csv)).is_err());
    }
    assert!(
        !ok("/marketing/channels", "from=2026-11-01 08:00&to=2026-11-02T08:00:00%2B01:00")
            .contains("role=\"alert\"")
    );
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

/// Serves the planted month, for `tests/insights/pages.py`: `cargo test --test items serve -- --ignored --nocapture`.
#[test]
#[ignore = "serves until it is ended"]
fn serve() {
    WORLD.serve("127.0.0.1:18098");
}
