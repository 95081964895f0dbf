//! Marketing: channels, campaigns, funnels, attribution, engagement.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use super::item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend, as_asked};
use crate::attribution::{Journey, Rule, Touch, credits, markov, shapley};
use crate::filters::{CLIENT, DAY, Filters, SECOND};
use crate::funnel::{self, Funnel};
use crate::journeys::{Event, Journeys, Named, Selection, sessions_of};
use crate::statistics::{hundredths, median};
use crate::table::{Table, Value};

/// The team's page.
pub const TEAM: Team = Team {
    name: "marketing",
    title: "Marketing",
    items: [CHANNELS, CAMPAIGNS, FUNNEL, ATTRIBUTION, ENGAGEMENT],
};

const CHANNELS: Item = Item {
    name: "channels",
    title: "Acquisition channels",
    question: "Which channels bring new people, and which of them convert best?",
    definition: "Persons whose first event lies in the period, by the channel of that event; of these, those with revenue.",
    days: 30.0,
    kinds: &["user_interaction"],
    empty: "No new person came in this period. Client events need an anonymous_id or user_id, and page or campaign for the channel.",
    filters: CLIENT,
    sql: "SELECT channel, count(*) AS persons, round(100.0 * count(*) / sum(count(*)) OVER (), 2) AS \"share, %\", \
          sum(converts) AS converted, round(100.0 * sum(converts) / count(*), 2) AS \"conversion, %\" \
          FROM (SELECT person, min(timestamp_ns) AS first_ns, first_value(coalesce(channel, 'Unknown') ORDER BY timestamp_ns) AS channel, \
          max(CASE WHEN revenue > 0 THEN 1 ELSE 0 END) AS converts FROM {clients} \
          WHERE person IS NOT NULL AND {until} GROUP BY person) \
          WHERE first_ns >= {from} GROUP BY channel ORDER BY persons DESC, channel",
    compute: Compute::Counted {
        select: |filters| vec![Selection::first_channels(filters)],
        answer: channels,
        trend: new_persons,
    },
    headline: Headline::Sum("persons"),
    chart: Chart::BarsBeside("channel", "persons", "conversion, %"),
    behind: Behind {
        what: "the first event of each new person",
        rows: "(SELECT first_value(event_id ORDER BY timestamp_ns) AS event_id, min(timestamp_ns) AS timestamp_ns, \
          first_value(coalesce(channel, 'Unknown') ORDER BY timestamp_ns) AS channel FROM {clients} WHERE person IS NOT NULL AND \
          {until} GROUP BY person) WHERE timestamp_ns >= {from}",
        named: &[("channel", "channel"), ("series", "channel")],
    },
    trend: Some(Trend {
        title: "New persons by channel",
        sql: "SELECT date_trunc('day', first) AS bucket, channel AS series, count(*) AS value \
              FROM (SELECT person, min(timestamp) AS first, min(timestamp_ns) AS first_ns, \
              first_value(coalesce(channel, 'Unknown') ORDER BY timestamp_ns) AS channel FROM {clients} \
              WHERE person IS NOT NULL AND {until} GROUP BY person) WHERE first_ns >= {from} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Zero,
        behind: None,
    }),
};

/// First event of each person who came in the period, with the channel's name, and whether the person has converted.
fn came<'a>(events: &'a Journeys, filters: &Filters) -> impl Iterator<Item = (&'a str, i64, bool)> + use<'a> {
    let from = filters.from;
    events.persons().filter(move |person| person[0].time >= from).map(|person| {
        let channel = Some(events.name(person[0].name)).filter(|name| !name.is_empty());
        (channel.unwrap_or("Unknown"), person[0].time, person.iter().any(|event| event.is_marked))
    })
}

fn channels(events: &Journeys, filters: &Filters) -> Table {
    let mut by_channel = BTreeMap::<&str, (u64, u64)>::new();
    for (channel, _, converts) in came(events, filters) {
        let (persons, converted) = by_channel.entry(channel).or_default();
        *persons += 1;
        *converted += u64::from(converts);
    }
    let all = by_channel.values().map(|(persons, _)| persons).sum::<u64>() as f64;
    let mut channels: Vec<_> = by_channel.into_iter().collect();
    channels.sort_by_key(|(_, (persons, _))| Reverse(*persons));
    let mut table = Table::new(&["channel", "persons", "share, %", "converted", "conversion, %"]);
    for (channel, (persons, converted)) in channels {
        let percent = |part: f64, whole: f64| Value::from(hundredths(100.0 * part / whole));
        let (share, conversion) = (percent(persons as f64, all), percent(converted as f64, persons as f64));
        table.rows.push(vec![channel.into(), persons.into(), share, converted.into(), conversion]);
    }
    table
}

fn new_persons(events: &Journeys, filters: &Filters) -> Table {
    let mut by_day = BTreeMap::<(i64, &str), u64>::new();
    for (channel, first, _) in came(events, filters) {
        *by_day.entry((first.div_euclid(DAY) * DAY, channel)).or_default() += 1;
    }
    let mut table = Table::new(&["bucket", "series", "value"]);
    let row = |((day, channel), persons): ((i64, &str), u64)| {
        vec![Value::Time(day), channel.into(), persons.into()]
    };
    table.rows.extend(by_day.into_iter().map(row));
    table
}

const CAMPAIGNS: Item = Item {
    name: "campaigns",
    title: "Campaign performance",
    question: "Which campaigns earn more than they cost?",
    definition: "Sessions with a campaign, persons of them with revenue in such a session, their revenue; cost rows with the tag campaign, \
                 which may have no session. Amounts in several currencies have no ratio.",
    days: 30.0,
    kinds: &["user_interaction", "cost"],
    empty: "No session has a campaign. Send utm_ parameters as campaign; import spend with `tickstream-warehouse import --format ad-spend`.",
    filters: CLIENT,
    sql: "SELECT campaign, sessions, converted, revenue, cost, cost / nullif(converted, 0) AS \"cost per converted person\", \
          CASE WHEN least_currency IS NOT DISTINCT FROM currency THEN revenue / nullif(cost, 0) END AS \"revenue per cost\", \
          CASE WHEN least_currency = currency THEN currency WHEN currency IS NOT NULL THEN 'several' END AS currency \
          FROM (SELECT coalesce(s.campaign, c.campaign) AS campaign, coalesce(s.sessions, 0) AS sessions, coalesce(s.converted, 0) AS converted, \
          coalesce(s.revenue, 0) AS revenue, c.cost, least(s.low, c.low) AS least_currency, greatest(s.high, c.high) AS currency \
          FROM (SELECT campaign, count(*) AS sessions, count(DISTINCT CASE WHEN revenue > 0 THEN person END) AS converted, \
          sum(revenue) AS revenue, min(low) AS low, max(high) AS high \
          FROM (SELECT session_id, max(person) AS person, max(campaign) AS campaign, sum(revenue) AS revenue, min(currency) AS low, \
          max(currency) AS high FROM {clients} WHERE {where} AND session_id IS NOT NULL AND (campaign IS NOT NULL OR revenue IS NOT NULL) \
          GROUP BY session_id) \
          WHERE campaign IS NOT NULL GROUP BY campaign) s \
          FULL JOIN (SELECT campaign, sum(coalesce(effective_cost, billed_cost)) AS cost, min(currency) AS low, max(currency) AS high FROM costs \
          WHERE {period} AND campaign IS NOT NULL GROUP BY campaign) c ON s.campaign = c.campaign) \
          ORDER BY revenue DESC, cost DESC NULLS LAST, campaign",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("revenue"),
    chart: Chart::Bars("campaign", "revenue"),
    behind: Behind {
        what: "the first event of each session with this campaign",
        rows: "(SELECT first_value(event_id ORDER BY timestamp_ns) AS event_id, min(timestamp_ns) AS timestamp_ns, max(campaign) AS \
          campaign FROM {clients} WHERE {where} AND session_id IS NOT NULL GROUP BY session_id) WHERE campaign IS NOT NULL",
        named: &[("campaign", "campaign")],
    },
    trend: None,
};

/// Steps of the funnel of the page; others are made under Explore.
const STEPS: [&str; 3] = ["product_viewed", "added_to_cart", "purchased"];

const FUNNEL: Item = Item {
    name: "funnel",
    title: "Conversion funnel",
    question: "How many go on from a product to the payment, and where do the others stop?",
    definition: "Persons who did product_viewed, then added_to_cart, then purchased within 7 days of the first; median time from the \
                 step before. Other funnels: Explore.",
    days: 30.0,
    kinds: &["user_interaction"],
    empty: "Nobody did the first step. The tracking plan has the names product_viewed, added_to_cart and purchased.",
    filters: CLIENT,
    sql: "SELECT user_id, anonymous_id, timestamp_ns, event_name FROM client_events WHERE {where} \
          AND event_name IN ('product_viewed', 'added_to_cart', 'purchased')",
    compute: Compute::Selected(
        |filters| Selection::events(filters, Named::OneOf(&STEPS)),
        |events, _| funnel_of(events, &STEPS, 7 * DAY),
    ),
    headline: Headline::Last("of the first step, %", "share, %"),
    chart: Chart::Steps("step", "persons"),
    behind: Behind {
        what: "the first event of each person who reached this step",
        rows: "(SELECT first_value(event_id ORDER BY timestamp_ns) AS event_id, min(timestamp_ns) AS timestamp_ns, \
          window_funnel(604800000000000, timestamp_ns, event_name = 'product_viewed', event_name = 'added_to_cart', event_name = \
          'purchased') AS level FROM {clients} WHERE {where} AND person IS NOT NULL GROUP BY person) CROSS JOIN (VALUES (1, '1. \
          product_viewed'), (2, '2. added_to_cart'), (3, '3. purchased')) AS s(number, step) WHERE level >= number",
        named: &[("step", "step")],
    },
    trend: None,
};

/// A funnel of events whose names are steps.
pub fn funnel_of(events: &Journeys, steps: &[&str], window: i64) -> Table {
    let mut table = Table::new(&["step", "persons", "share, %", "of the step before, %", "median time, s"]);
    let Ok(funnel) = Funnel::new(steps.len(), window) else { return table };
    let bits: Vec<u32> = (0..events.names() as u32)
        .map(|name| {
            (0..steps.len()).filter(|step| steps[*step] == events.name(name)).map(|step| 1 << step).sum()
        })
        .collect();
    let mut report = funnel::Report::default();
    let mut of_person = Vec::new();
    for person in events.persons() {
        of_person.clear();
        of_person.extend(person.iter().map(|event| funnel::Event {
            time: event.time,
            steps: bits[event.name as usize],
            ..funnel::Event::default()
        }));
        report.add("", &funnel.convert(&of_person));
    }
    let Some((_, all)) = report.by_value().next().filter(|(_, all)| all.reached(0) > 0) else { return table };
    for (step, name) in steps.iter().enumerate() {
        let before = all.reached(step.saturating_sub(1));
        let share = (before > 0).then(|| all.reached(step) as f64 / before as f64 * 100.0);
        table.rows.push(vec![
            format!("{}. {name}", step + 1).into(),
            all.reached(step).into(),
            all.share(step).map(|share| share * 100.0).into(),
            share.into(),
            all.median_time(step).map(|time| time / SECOND as f64).into(),
        ]);
    }
    table
}

const ATTRIBUTION: Item = Item {
    name: "attribution",
    title: "Attribution",
    question: "Which channels deserve the credit for conversions, by seven models?",
    definition: "Conversions (events with revenue) shared out to the channels of the sessions in the 30 days before, by seven models; each \
                 column sums to the conversions. A conversion without a session with a channel is Direct's.",
    days: 90.0,
    kinds: &["user_interaction"],
    empty: "No event of this period has revenue.",
    filters: CLIENT,
    sql: "SELECT user_id, anonymous_id, timestamp_ns, channel, revenue > 0 AS converts FROM client_events \
          WHERE timestamp_ns >= {from} - 2592000000000000 AND {until}",
    compute: Compute::Selected(
        |filters| Selection::channels(&Filters { from: filters.from - WINDOW, ..filters.clone() }),
        |events, filters| attribution(events, filters.from),
    ),
    headline: Headline::Total("conversions", "last"),
    chart: Chart::Grid,
    behind: Behind {
        what: "events with this channel, from 30 days before the period on, of persons who converted in it",
        rows: "(SELECT c.event_id, c.timestamp_ns, c.channel FROM {clients} c JOIN (SELECT DISTINCT person AS buyer FROM {clients} \
          WHERE {where} AND revenue > 0) b ON c.person = b.buyer WHERE timestamp_ns >= {from} - 2592000000000000 AND {until}) WHERE TRUE",
        named: &[("channel", "channel")],
    },
    trend: None,
};

const WINDOW: i64 = 30 * DAY;
const DIRECT: &str = "Direct";

/// Attribution of the conversions since `from`; events before it are touches alone.
fn attribution(events: &Journeys, from: i64) -> Table {
    const RULES: [Rule; 5] = [Rule::First, Rule::Last, Rule::Linear, Rule::Position, Rule::Decay];
    let mut table =
        Table::new(&["channel", "first", "last", "linear", "position", "decay", "Markov", "Shapley"]);
    // The events' numbers of channels, and one more for conversions without a touch.
    let direct = events.number(DIRECT).map_or(events.names(), |number| number as usize);
    let count = events.names() + 1;
    let (mut by_rule, mut paths) = (vec![vec![0.0; count]; RULES.len()], Vec::new());
    for person in events.persons() {
        let channel = |session: &[Event]| session.iter().find(|event| event.name != 0).copied();
        let touches: Vec<_> = sessions_of(person)
            .filter_map(|session| {
                let channel = channel(session)?.name as usize;
                Some(Touch { channel, time: session[0].time })
            })
            .collect();
        let mut converted = None;
        for Event { time, .. } in person.iter().filter(|event| event.is_marked) {
            converted = Some(*time);
            if *time < from {
                continue;
            }
            let known = touches.iter().filter(|touch| touch.time <= *time && *time - touch.time <= WINDOW);
            let mut channels: Vec<_> = known.map(|touch| touch.channel).collect();
            let touches = if channels.is_empty() {
                vec![Touch { channel: direct, time: *time }]
            } else {
                touches.clone()
            };
            if channels.is_empty() {
                channels.push(direct);
            }
            for (rule, sums) in RULES.into_iter().zip(&mut by_rule) {
                let shares = credits(&touches, *time, WINDOW, rule, count).unwrap_or_default();
                sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
            }
            paths.push(Journey { channels, conversions: 1.0, lost: 0.0 });
        }
        let is_after = |touch: &&Touch| touch.time >= from && converted.is_none_or(|time| touch.time > time);
        let after = touches.iter().filter(is_after);
        let channels: Vec<_> = after.map(|touch| touch.channel).collect();
        if !channels.is_empty() {
            paths.push(Journey { channels, conversions: 0.0, lost: 1.0 });
        }
    }
    if !paths.iter().any(|path| path.conversions > 0.0) {
        return table;
    }
    by_rule.push(markov(&paths, count));
    by_rule.push(shapley(&paths, count));
    for number in 0..count {
        let name = if number < events.names() { events.name(number as u32) } else { DIRECT };
        let shares = by_rule.iter().map(|sums| sums.get(number).copied());
        if by_rule.iter().any(|sums| sums.get(number).is_some_and(|share| *share > 0.0)) {
            table.rows.push(std::iter::once(name.into()).chain(shares.map(Value::from)).collect());
        }
    }
    table
}

const ENGAGEMENT: Item = Item {
    name: "engagement",
    title: "Engagement",
    question: "How often do people come, and how long do they stay?",
    definition: "Sessions end after 30 minutes without an event, or 24 hours. Sessions / person, median length, interactions / session, and \
                 bounces: sessions with one interaction / sessions; by week from Monday.",
    days: 30.0,
    kinds: &["user_interaction", "video"],
    empty: "No client event of this period names a person.",
    filters: CLIENT,
    sql: "SELECT user_id, anonymous_id, timestamp_ns, '' AS event_name FROM client_events WHERE {where} \
          AND event_type IN ('user_interaction', 'video', 'custom')",
    compute: Compute::Selected(Selection::visits, |events, _| engagement(events)),
    headline: Headline::Sum("sessions"),
    chart: Chart::Bars("week", "sessions"),
    behind: Behind {
        what: "the first event of each session_id of the week; of a person without one, the first event",
        rows: "(SELECT first_value(event_id ORDER BY timestamp_ns) AS event_id, min(timestamp_ns) AS timestamp_ns, \
          substr(CAST(date_trunc('week', min(timestamp)) AS VARCHAR), 1, 10) AS week FROM {clients} WHERE {where} AND event_type \
          IN ('user_interaction', 'video', 'custom') AND person IS NOT NULL GROUP BY coalesce(session_id, person)) WHERE TRUE",
        named: &[("week", "week")],
    },
    trend: None,
};

#[derive(Default)]
struct Week {
    persons: HashSet<usize>,
    lengths_s: Vec<f64>,
    interactions: u64,
    bounces: u64,
}

fn engagement(events: &Journeys) -> Table {
    let mut table = Table::new(&[
        "week",
        "persons",
        "sessions",
        "interactions",
        "sessions / person",
        "median length, s",
        "interactions / session",
        "bounces, %",
    ]);
    let mut weeks = BTreeMap::<i64, Week>::new();
    for (person, events) in events.persons().enumerate() {
        for session in sessions_of(events) {
            let (first, last) = (session[0].time, session[session.len() - 1].time);
            let week = weeks.entry(week_of(first)).or_default();
            week.persons.insert(person);
            week.lengths_s.push((last - first) as f64 / SECOND as f64);
            week.interactions += session.len() as u64;
            week.bounces += u64::from(session.len() == 1);
        }
    }
    for (begin, week) in weeks {
        let sessions = week.lengths_s.len() as f64;
        table.rows.push(vec![
            crate::filters::time_text(begin)[..10].into(),
            (week.persons.len() as u64).into(),
            (sessions as u64).into(),
            week.interactions.into(),
            (sessions / week.persons.len() as f64).into(),
            median(&week.lengths_s).into(),
            (week.interactions as f64 / sessions).into(),
            (week.bounces as f64 / sessions * 100.0).into(),
        ]);
    }
    table
}

/// Monday before a time, 00:00 UTC.
pub fn week_of(time: i64) -> i64 {
    // 1970 began on a Thursday.
    let offset = 3 * DAY;
    (time + offset).div_euclid(7 * DAY) * 7 * DAY - offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_monday() {
        assert_eq!(crate::filters::time_text(week_of(0)), "1969-12-29T00:00:00Z");
        assert_eq!(week_of(4 * DAY), 4 * DAY);
    }
}
