//! Product: features, flows, experiments, retention, feedback.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use super::item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend, as_asked};
use super::marketing::week_of;
use crate::experiment::{Effect, RATIO_ALARM, Variant, effect, sample_ratio};
use crate::filters::{CLIENT, Columns, DAY, Filters, time_text};
use crate::journeys::{Event, Journeys, Named, Selection, sessions_of};
use crate::paths::{Direction, PathRules, THEN, paths};
use crate::retention::{Cohorts, Periods, Person, RetentionRules, retention};
use crate::statistics::hundredths;
use crate::table::{Table, Value};

/// The team's page.
pub const TEAM: Team =
    Team { name: "product", title: "Product", items: [FEATURES, FLOWS, EXPERIMENTS, RETENTION, FEEDBACK] };

const FEATURES: Item = Item {
    name: "features",
    title: "Feature usage",
    question: "Which features are used, by how many, how often?",
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
    compute: Compute::Counted { select: Selection::uses, answer: features, trend: active_persons },
    headline: Headline::Sum("uses"),
    chart: Chart::Bars("feature", "persons"),
    behind: Behind {
        what: "uses of the feature",
        rows: "{clients} WHERE {where} AND person IS NOT NULL AND event_type = 'user_interaction'",
        named: &[("feature", "event_name")],
    },
    trend: Some(Trend {
        title: "Active persons",
        sql: "SELECT {bucket} AS bucket, 'persons' AS series, count(DISTINCT person) AS value FROM {clients} WHERE {where} \
              GROUP BY 1 ORDER BY 1",
        gaps: Gaps::Zero,
        behind: Some(Behind {
            what: "events of active persons",
            rows: "{clients} WHERE {where} AND person IS NOT NULL",
            named: &[("series", "{value} = 'persons'")],
        }),
    }),
};

/// Use of a feature.
#[derive(Clone, Debug, Default)]
struct Use {
    persons: u64,
    uses: u64,
    /// Days of persons.
    days: u64,
    /// Person and day that came last: counted from 1, and since 1970.
    last: (usize, i64),
}

/// Features that are shown.
const FEATURES_MAX: usize = 200;

fn features(events: &Journeys, _: &Filters) -> Table {
    let mut by_name = vec![Use::default(); events.names()];
    let mut active = 0;
    for person in events.persons() {
        active += 1;
        for event in person.iter().filter(|event| event.name != 0) {
            let (feature, day) = (&mut by_name[event.name as usize], event.time.div_euclid(DAY));
            let is_new = feature.last.0 != active;
            feature.persons += u64::from(is_new);
            feature.days += u64::from(is_new || feature.last.1 != day);
            feature.uses += 1;
            feature.last = (active, day);
        }
    }
    let mut features: Vec<_> = (0..).zip(by_name).filter(|(_, feature)| feature.uses > 0).collect();
    features.sort_by_cached_key(|(name, feature)| (Reverse(feature.persons), events.name(*name)));
    let mut table =
        Table::new(&["feature", "persons", "of active persons, %", "uses", "uses / person", "days / person"]);
    for (name, Use { persons, uses, days, .. }) in features.into_iter().take(FEATURES_MAX) {
        table.rows.push(vec![
            events.name(name).into(),
            persons.into(),
            hundredths(100.0 * persons as f64 / active as f64).into(),
            uses.into(),
            (uses as f64 / persons as f64).into(),
            (days as f64 / persons as f64).into(),
        ]);
    }
    table
}

fn active_persons(events: &Journeys, filters: &Filters) -> Table {
    let step = filters.step("{bucket}");
    let mut by_bucket = BTreeMap::<i64, u64>::new();
    for person in events.persons() {
        let mut last = None;
        for event in person {
            let bucket = event.time.div_euclid(step) * step;
            if last.replace(bucket) != Some(bucket) {
                *by_bucket.entry(bucket).or_default() += 1;
            }
        }
    }
    let mut table = Table::new(&["bucket", "series", "value"]);
    let row = |(bucket, persons)| vec![Value::Time(bucket), "persons".into(), Value::from(persons)];
    table.rows.extend(by_bucket.into_iter().map(row));
    table
}

/// Events that paths consist of.
pub const FLOWS_SQL: &str = "SELECT user_id, anonymous_id, timestamp_ns, event_name FROM client_events WHERE {where} \
                             AND event_type IN ('user_interaction', 'custom')";

const FLOWS: Item = Item {
    name: "flows",
    title: "User flows",
    question: "Which ways do people take, and where do they leave?",
    definition: "The first five different events of each session, one after the other; the 20 most frequent paths, the rest as other. Each \
                 session counts once. Paths to or around an event: Explore.",
    days: 7.0,
    kinds: &["user_interaction"],
    empty: "No session of this period has an interaction.",
    filters: CLIENT,
    sql: FLOWS_SQL,
    compute: Compute::Selected(Selection::steps, |events, _| flows(events, &FIRST_EVENTS)),
    headline: Headline::Sum("sessions"),
    chart: Chart::Flows("path", "sessions"),
    behind: Behind { what: SESSIONS_BEHIND, rows: "", named: PATHS },
    trend: None,
};

/// The way of the item.
pub const FIRST_EVENTS: Way<'static> = Way { anchor: None, direction: Direction::From, steps: 4 };
/// Meaning of what is behind a point of paths.
pub const SESSIONS_BEHIND: &str = "the first event of each session that goes this way";
/// Columns that name a point of paths: the whole path, or its events by their place. [`sessions_on`] answers them.
pub const PATHS: Columns = &[
    ("path", ""),
    ("step 1", ""),
    ("step 2", ""),
    ("step 3", ""),
    ("step 4", ""),
    ("step 5", ""),
    ("step 6", ""),
    ("step 7", ""),
];
/// Paths that are shown; the others are one row.
const PATHS_MAX: usize = 20;
const OTHER: &str = "other";

/// Part of the sessions that paths show.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Name of an event; none: the session's begin or end.
    pub anchor: Option<&'a str>,
    /// Before or after it.
    pub direction: Direction,
    /// Events before or after it.
    pub steps: usize,
}

impl Way<'_> {
    fn rules(&self, events: &Journeys) -> PathRules {
        // A name that no event has is no session's.
        let anchor = self.anchor.map(|anchor| events.number(anchor).unwrap_or(u32::MAX));
        PathRules { anchor, direction: self.direction, steps: self.steps, is_collapsed: true }
    }
}

fn names(session: &[Event]) -> Vec<u32> {
    session.iter().map(|event| event.name).collect()
}

fn path_name(events: &Journeys, path: &[Option<u32>]) -> String {
    let name = |(place, event): (usize, &Option<u32>)| match event {
        Some(event) => events.name(*event),
        None if place == 0 => "(begin)",
        None => "(end)",
    };
    path.iter().enumerate().map(name).collect::<Vec<_>>().join(THEN)
}

/// Paths of most sessions, the rest as other.
pub fn flows(events: &Journeys, way: &Way<'_>) -> Table {
    let mut table = Table::new(&["path", "sessions", "share, %"]);
    let sessions: Vec<_> = events.persons().flat_map(sessions_of).map(names).collect();
    let found = paths(&sessions, way.rules(events), PATHS_MAX);
    let total = found.other + found.top.iter().map(|path| path.sessions).sum::<u64>();
    let top = found.top.iter().map(|path| (path_name(events, &path.events), path.sessions));
    let other = (found.other > 0).then(|| (OTHER.to_owned(), found.other));
    for (path, sessions) in top.chain(other) {
        table.rows.push(vec![path.into(), sessions.into(), (sessions as f64 / total as f64 * 100.0).into()]);
    }
    table
}

/// Persons and begins of the sessions behind a point of [`flows`], whose columns are of [`PATHS`]; the newest first.
pub fn sessions_on(events: &Journeys, way: &Way<'_>, point: &[(&str, String)]) -> Vec<(String, i64)> {
    let (rules, shown) = (way.rules(events), flows(events, way));
    let shown: HashSet<&str> = shown.column("path").map(Value::text).filter(|path| *path != OTHER).collect();
    let is_on = |path: &str| {
        point.iter().all(|(column, value)| match column.strip_prefix("step ").map(str::parse::<usize>) {
            Some(Ok(step)) => shown.contains(path) && path.split(THEN).nth(step - 1) == Some(value.as_str()),
            _ => path == value || (value == OTHER && !shown.contains(path)),
        })
    };
    let mut found = Vec::new();
    for (person, of_person) in events.named_persons() {
        for session in sessions_of(of_person) {
            let path = rules.path(&names(session));
            if path.is_some_and(|path| is_on(&path_name(events, &path))) {
                found.push((person.to_owned(), session[0].time));
            }
        }
    }
    found.sort_unstable_by(|(one, a), (other, b)| b.cmp(a).then_with(|| one.cmp(other)));
    found
}

const EXPERIMENTS: Item = Item {
    name: "experiments",
    title: "A/B results",
    question: "Which variant is better, and is the split as planned?",
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
    behind: Behind {
        what: "the first exposure of each person to this variant",
        rows: "(SELECT first_value(event_id ORDER BY timestamp_ns) AS event_id, min(timestamp_ns) AS timestamp_ns, experiment, \
          first_value(variant ORDER BY timestamp_ns) AS variant FROM {clients} WHERE event_type = 'exposure' AND person IS NOT \
          NULL AND {where} GROUP BY person, experiment) WHERE TRUE",
        named: &[("experiment", "experiment"), ("variant", "variant")],
    },
    trend: None,
};

/// Usual size of effects on a rate, of which most are some percentage points.
const PRIOR: f64 = 0.05;

fn experiments(rows: &Table) -> Table {
    let mut table = Table::new(&[
        "experiment",
        "variant",
        "verdict",
        "persons",
        "converted",
        "conversion, %",
        "difference, points",
        "from, points",
        "to, points",
        "p-value",
        "revenue / person",
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
                verdict.into(),
                row[2].clone(),
                row[3].clone(),
                of(row).mean().map(|mean| mean * 100.0).into(),
                points(|effect| effect.difference).into(),
                points(|effect| effect.interval.0).into(),
                points(|effect| effect.interval.1).into(),
                found.as_ref().map(|effect| effect.p_value).into(),
                (number(row, 4) / number(row, 2).max(1.0)).into(),
            ]);
        }
    }
    table
}

/// SQL of the first event in each week of each person of a cohort. The conditions select the start event, and the event that is shown.
macro_rules! retained {
    ($start:literal, $shown:literal) => {
        concat!(
            "(SELECT first_value(e.event_id ORDER BY e.timestamp_ns) AS event_id, min(e.timestamp_ns) AS timestamp_ns, \
             substr(CAST(date_trunc('week', max(f.first)) AS VARCHAR), 1, 10) AS week, CASE (e.timestamp_ns + 259200000000000) / \
             604800000000000 - (f.first_ns + 259200000000000) / 604800000000000 WHEN 0 THEN 'persons' ELSE concat('week ', \
             (e.timestamp_ns + 259200000000000) / 604800000000000 - (f.first_ns + 259200000000000) / 604800000000000, ', %') END AS \
             cell FROM {clients} e JOIN (SELECT person, min(timestamp) AS first, min(timestamp_ns) AS first_ns FROM {clients} WHERE \
             person IS NOT NULL AND {until} AND ",
            $start,
            " GROUP BY person) f ON e.person = f.person WHERE {until} AND ",
            $shown,
            " GROUP BY e.person, 4) WHERE TRUE"
        )
    };
}

const RETENTION: Item = Item {
    name: "retention",
    title: "Retention",
    question: "How many come again in the weeks after their first visit?",
    definition: "Persons by the week (from Monday) of their first event ever; share of them that came again in each week after. A week that \
                 isn't over has no figure.",
    days: 56.0,
    kinds: &["user_interaction"],
    empty: "Nobody came for the first time in this period.",
    filters: CLIENT,
    sql: "SELECT user_id, anonymous_id, timestamp_ns / 86400000000000 * 86400000000000 AS day, '' AS event_name FROM client_events WHERE {until}",
    compute: Compute::Selected(
        |filters| Selection::days(filters, Named::Nameless),
        |events, filters| weekly(events, filters, [None, None]),
    ),
    headline: Headline::Sum("persons"),
    chart: Chart::Grid,
    behind: Behind {
        what: RETAINED_BEHIND,
        rows: retained!("TRUE", "TRUE"),
        named: &[("week", "week"), ("cell", "cell")],
    },
    trend: None,
};

/// Meaning of what is behind a cell of retention.
pub const RETAINED_BEHIND: &str = "the first event in that week of each person of the cohort who came";
/// Rows behind a cell of retention, with the conditions of the start event and of the event that is shown.
pub const RETAINED: &str = retained!("{start}", "{shown}");

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
    question: "How satisfied are people, and what do they say?",
    definition: "NPS: % of scores 9 and 10 − % of 0 to 6. CSAT: % of scores in the top 40 % of the scale. Mean as the survey's scale has it.",
    days: 30.0,
    kinds: &["feedback"],
    empty: "Nobody answered a survey. Send feedback with survey_id, type and score.",
    filters: &[("platform", "platform")],
    sql: "SELECT survey_id AS survey, type, count(*) AS answers, avg(score) AS mean, \
          CASE WHEN type = 'nps' THEN 100.0 * (count(*) FILTER (WHERE score >= 9) - count(*) FILTER (WHERE score <= 6)) \
          / nullif(count(score), 0) END AS \"NPS, points\", \
          CASE WHEN type = 'csat' THEN 100.0 * count(*) FILTER (WHERE score > 0.6 * score_max) / nullif(count(score * score_max), 0) END AS \"CSAT, %\", \
          first_value(text ORDER BY timestamp_ns DESC) FILTER (WHERE text IS NOT NULL) AS \"latest text\" \
          FROM feedback WHERE {where} GROUP BY survey_id, type ORDER BY survey_id, type",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("answers"),
    chart: Chart::Bars("survey", "answers"),
    behind: Behind {
        what: "answers",
        rows: "feedback WHERE {where}",
        named: &[("survey", "survey_id"), ("type", "type"), ("series", "type")],
    },
    trend: Some(Trend {
        title: "Answers",
        sql: "SELECT {bucket} AS bucket, type AS series, count(*) AS value FROM feedback WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Zero,
        behind: None,
    }),
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

    use super::*;
    use crate::journeys::Reader;

    /// Of 22 paths, each of one session, 20 are shown.
    #[test]
    fn paths_that_arent_shown_are_behind_other() {
        let texts = |of: fn(usize) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..22).map(of)))
        };
        let rows = RecordBatch::try_from_iter([
            ("user_id", texts(|n| format!("user-{n}"))),
            ("anonymous_id", texts(|_| String::new())),
            ("timestamp_ns", Arc::new(Int64Array::from_iter_values(0..22)) as ArrayRef),
            ("event_name", texts(|n| format!("e{n:02}"))),
        ]);
        let reader = Reader::default();
        reader.add(&rows.expect("rows")).expect("columns");
        let events = reader.finish(&[]).expect("no persons");
        let count = |column: &'static str, value: &str| {
            sessions_on(&events, &FIRST_EVENTS, &[(column, value.to_owned())]).len()
        };
        let shown = flows(&events, &FIRST_EVENTS);
        assert_eq!((shown.rows.len(), count("path", OTHER)), (PATHS_MAX + 1, 2));
        assert!(shown.rows[..PATHS_MAX].iter().all(|row| count("path", row[0].text()) == 1), "{shown:?}");
        // A band has what is drawn.
        assert_eq!(
            (count("step 1", "e00"), count("step 1", "e21"), count("step 2", "(end)")),
            (1, 0, PATHS_MAX)
        );
        assert_eq!(
            sessions_on(&events, &FIRST_EVENTS, &[("path", OTHER.to_owned())])[0],
            ("user-21".to_owned(), 21)
        );
    }
}
