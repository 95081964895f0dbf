//! Product: features, flows, experiments, retention, feedback.

use std::collections::BTreeMap;

use super::item::{Chart, Compute, Headline, Item, Team, Trend, as_asked};
use super::marketing::week_of;
use crate::experiment::{Effect, RATIO_ALARM, Variant, effect, sample_ratio};
use crate::filters::{CLIENT, DAY, Filters, time_text};
use crate::journeys::{Event, Journeys, sessions_of};
use crate::paths::{Direction, PathRules, paths};
use crate::retention::{Cohorts, Periods, Person, RetentionRules, retention};
use crate::table::{Table, Value};

/// The team's page.
pub const TEAM: Team =
    Team { name: "product", title: "Product", items: [FEATURES, FLOWS, EXPERIMENTS, RETENTION, FEEDBACK] };

const FEATURES: Item = Item {
    name: "features",
    title: "Feature usage",
    definition: "Interactions by event name: persons who used it / active persons, uses / person, days on which a person used it.",
    days: 30.0,
    kinds: &["user_interaction"],
    empty: "There are no interactions in this period.",
    filters: CLIENT,
    sql: "SELECT f.feature, f.persons, round(100.0 * f.persons / nullif(a.active, 0), 2) AS \"of active persons, %\", f.uses, \
          1.0 * f.uses / nullif(f.persons, 0) AS \"uses / person\", 1.0 * f.days / nullif(f.persons, 0) AS \"days / person\" \
          FROM (SELECT feature, count(DISTINCT person) AS persons, sum(uses) AS uses, count(*) AS days \
          FROM (SELECT event_name AS feature, person, date_trunc('day', timestamp) AS day, count(*) AS uses FROM {clients} \
          WHERE {where} AND person IS NOT NULL AND event_type = 'user_interaction' GROUP BY 1, 2, 3) GROUP BY feature) f \
          CROSS JOIN (SELECT count(DISTINCT person) AS active FROM {clients} WHERE {where}) a ORDER BY f.persons DESC, f.feature LIMIT 200",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("uses"),
    chart: Chart::Bars("feature", "persons"),
    trend: Some(Trend {
        title: "Active persons",
        sql: "SELECT {bucket} AS bucket, 'persons' AS series, count(DISTINCT person) AS value FROM {clients} WHERE {where} \
              GROUP BY 1 ORDER BY 1",
    }),
};

const FLOWS: Item = Item {
    name: "flows",
    title: "User flows",
    definition: "The first five different events of each session, one after the other; the 20 most frequent paths, the rest as other. Each \
                 session counts once. Paths to or around an event: Explore.",
    days: 7.0,
    kinds: &["user_interaction"],
    empty: "No session of this period has an interaction.",
    filters: CLIENT,
    sql: "SELECT user_id, anonymous_id, timestamp_ns, event_name FROM client_events WHERE {where} \
          AND event_type IN ('user_interaction', 'custom')",
    compute: Compute::Journeys(|events, _| flows(events, None, Direction::From, 4)),
    headline: Headline::Sum("sessions"),
    chart: Chart::Flows("path", "sessions"),
    trend: None,
};

/// Paths of most sessions, the rest as other. `anchor` is the name of an event.
pub fn flows(events: &Journeys, anchor: Option<&str>, direction: Direction, steps: usize) -> Table {
    let mut table = Table::new(&["path", "sessions", "share, %"]);
    let sessions: Vec<Vec<u32>> = events
        .persons()
        .flat_map(sessions_of)
        .map(|session| session.iter().map(|event| event.name).collect())
        .collect();
    // A name that no event has is no session's.
    let anchor = anchor.map(|anchor| events.number(anchor).unwrap_or(u32::MAX));
    let found = paths(&sessions, PathRules { anchor, direction, steps, is_collapsed: true }, 20);
    let total = found.other + found.top.iter().map(|path| path.sessions).sum::<u64>();
    let mut push = |path: String, sessions: u64| {
        table.rows.push(vec![path.into(), sessions.into(), (sessions as f64 / total as f64 * 100.0).into()]);
    };
    for path in &found.top {
        let name = |(place, event): (usize, &Option<u32>)| match event {
            Some(event) => events.name(*event),
            None if place == 0 => "(begin)",
            None => "(end)",
        };
        let steps: Vec<_> = path.events.iter().enumerate().map(name).collect();
        push(steps.join(" → "), path.sessions);
    }
    if found.other > 0 {
        push("other".to_owned(), found.other);
    }
    table
}

const EXPERIMENTS: Item = Item {
    name: "experiments",
    title: "A/B results",
    definition: "Persons by the first variant that they saw; converted: revenue after it. Difference to the control (control, a or the first by \
                 name) with an interval and p-value that hold at every look (mSPRT, 95 %). A sample ratio below p = 0.001 makes the result void; \
                 equal shares are taken as the plan.",
    days: 30.0,
    kinds: &["exposure", "user_interaction"],
    empty: "Nobody was exposed to an experiment. Send exposures with experiment and variant.",
    filters: CLIENT,
    sql: "SELECT experiment, variant, count(*) AS persons, sum(converts) AS converted, sum(revenue) AS revenue \
          FROM (SELECT f.person, f.experiment, f.variant, coalesce(sum(c.revenue), 0) AS revenue, \
          max(CASE WHEN c.revenue > 0 THEN 1 ELSE 0 END) AS converts \
          FROM (SELECT person, experiment, first_value(variant ORDER BY timestamp_ns) AS variant, min(timestamp_ns) AS at_ns FROM {clients} \
          WHERE event_type = 'exposure' AND person IS NOT NULL AND {where} GROUP BY person, experiment) f \
          LEFT JOIN (SELECT person, timestamp_ns, revenue FROM {clients} WHERE {where} AND revenue IS NOT NULL) c \
          ON c.person = f.person AND c.timestamp_ns >= f.at_ns GROUP BY f.person, f.experiment, f.variant) \
          GROUP BY experiment, variant ORDER BY experiment, variant",
    compute: Compute::Rows(|rows, _| experiments(&rows)),
    headline: Headline::Sum("persons"),
    chart: Chart::Table,
    trend: None,
};

/// Usual size of effects on a rate, of which most are some percentage points.
const PRIOR: f64 = 0.05;

fn experiments(rows: &Table) -> Table {
    let mut table = Table::new(&[
        "experiment",
        "variant",
        "persons",
        "converted",
        "conversion, %",
        "difference, points",
        "from, points",
        "to, points",
        "p-value",
        "revenue / person",
        "verdict",
    ]);
    let mut by_experiment = BTreeMap::<&str, Vec<&Vec<Value>>>::new();
    for row in &rows.rows {
        by_experiment.entry(row[0].text()).or_default().push(row);
    }
    for (experiment, variants) in by_experiment {
        let number = |row: &[Value], place: usize| row[place].number().unwrap_or(0.0);
        let counts: Vec<_> = variants.iter().map(|row| number(row, 2) as u64).collect();
        let is_void = sample_ratio(&counts, &vec![1.0; counts.len()]).is_some_and(|p| p < RATIO_ALARM);
        let of = |row: &[Value]| Variant::of_conversions(number(row, 2) as u64, number(row, 3) as u64);
        let is_control = |row: &&&Vec<Value>| matches!(row[1].text(), "control" | "a" | "A");
        let control = variants.iter().find(is_control).unwrap_or(&variants[0]);
        for row in &variants {
            let is_control = row[1] == control[1];
            let found = if is_control { None } else { effect(&of(control), &of(row), 0.05, PRIOR) };
            let points = |of: fn(&Effect) -> f64| found.as_ref().map(|effect| of(effect) * 100.0);
            let verdict = match &found {
                _ if is_void => "sample ratio mismatch: void",
                None if is_control => "control",
                None => "too few persons",
                Some(effect) if effect.p_value > 0.05 => "no difference shown yet",
                Some(effect) if effect.difference > 0.0 => "better",
                Some(_) => "worse",
            };
            table.rows.push(vec![
                experiment.into(),
                row[1].clone(),
                row[2].clone(),
                row[3].clone(),
                of(row).mean().map(|mean| mean * 100.0).into(),
                points(|effect| effect.difference).into(),
                points(|effect| effect.interval.0).into(),
                points(|effect| effect.interval.1).into(),
                found.as_ref().map(|effect| effect.p_value).into(),
                (number(row, 4) / number(row, 2).max(1.0)).into(),
                verdict.into(),
            ]);
        }
    }
    table
}

const RETENTION: Item = Item {
    name: "retention",
    title: "Retention",
    definition: "Persons by the week (from Monday) of their first event ever; share of them that came again in each week after. A week that \
                 isn't over has no figure.",
    days: 56.0,
    kinds: &["user_interaction"],
    empty: "Nobody came for the first time in this period.",
    filters: CLIENT,
    sql: "SELECT user_id, anonymous_id, timestamp_ns / 86400000000000 * 86400000000000 AS day, '' AS event_name FROM client_events WHERE {until}",
    compute: Compute::Journeys(|events, filters| weekly(events, filters, [None, None])),
    headline: Headline::Sum("persons"),
    chart: Chart::Grid,
    trend: None,
};

/// Weeks of a cohort that are shown.
const WEEKS: usize = 8;

/// Weekly retention of events by day: those of the first name start, those of the second return; without a name, all.
pub fn weekly(events: &Journeys, filters: &Filters, names: [Option<&str>; 2]) -> Table {
    let first = week_of(filters.from);
    // A name that no event has is no event's.
    let [start, back] = names.map(|name| name.map(|name| events.number(name).unwrap_or(u32::MAX)));
    let days = |events: &[Event], name: Option<u32>| {
        let named = events.iter().filter(|event| name.is_none_or(|name| event.name == name));
        let mut days: Vec<_> = named.map(|event| event.time).collect();
        days.dedup();
        days
    };
    let persons: Vec<_> = events
        .persons()
        .map(|events| Person { starts: days(events, start), returns: days(events, back) })
        .filter(|person| person.starts.first().is_some_and(|day| *day >= first))
        .collect();
    let weeks = filters.length() / (7 * DAY) + 2;
    let rules = RetentionRules {
        cohorts: Cohorts::FirstTime,
        periods: Periods::Calendar((0..=weeks).map(|week| first + week * 7 * DAY).collect()),
        count: WEEKS,
        times: 1,
        is_rolling: false,
        now: filters.to,
    };
    let mut table = Table::new(&["week", "persons"]);
    table.columns.extend((1..=WEEKS).map(|week| format!("week {week}, %")));
    for cohort in retention(&persons, &rules) {
        let mut row = vec![time_text(cohort.begin)[..10].into(), cohort.size.into()];
        let shares =
            cohort.retained.iter().map(|share| share.map(|share| share as f64 / cohort.size as f64 * 100.0));
        row.extend(shares.map(Value::from));
        row.resize(WEEKS + 2, Value::Null);
        table.rows.push(row);
    }
    table
}

const FEEDBACK: Item = Item {
    name: "feedback",
    title: "User feedback",
    definition: "NPS: % of scores 9 and 10 − % of 0 to 6. CSAT: % of scores in the top 40 % of the scale. Mean as the survey's scale has it.",
    days: 30.0,
    kinds: &["feedback"],
    empty: "Nobody answered a survey. Send feedback with survey_id, type and score.",
    filters: &[("platform", "platform")],
    sql: "SELECT survey_id AS survey, type, count(*) AS answers, avg(score) AS mean, \
          CASE WHEN type = 'nps' THEN 100.0 * (count(*) FILTER (WHERE score >= 9) - count(*) FILTER (WHERE score <= 6)) \
          / nullif(count(score), 0) END AS \"NPS, points\", \
          CASE WHEN type = 'csat' THEN 100.0 * count(*) FILTER (WHERE score > 0.6 * score_max) / nullif(count(score), 0) END AS \"CSAT, %\", \
          first_value(text ORDER BY timestamp_ns DESC) FILTER (WHERE text IS NOT NULL) AS \"latest text\" \
          FROM feedback WHERE {where} GROUP BY survey_id, type ORDER BY survey_id, type",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("answers"),
    chart: Chart::Bars("survey", "answers"),
    trend: Some(Trend {
        title: "Answers",
        sql: "SELECT {bucket} AS bucket, type AS series, count(*) AS value FROM feedback WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
    }),
};
