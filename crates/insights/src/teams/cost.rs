//! Cost: resources, usage, optimisation, budgets, return.

use std::collections::BTreeMap;

use super::item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend, as_asked};
use crate::cost::{Allocation, Charge, Nanos, allocate};
use crate::filters::{DAY, Filters, NONE, time_text};
use crate::forecast::forecast_sum;
use crate::statistics::quantile;
use crate::table::{Table, Value};

/// The team's page.
pub const TEAM: Team =
    Team { name: "cost", title: "Cost", items: [RESOURCES, USAGE, OPTIMISATION, BUDGET, RETURN] };

const EMPTY: &str = "There are no cost rows in this period. Import FOCUS exports with `tickstream-warehouse import --format focus`.";

const RESOURCES: Item = Item {
    name: "resources",
    title: "Resources",
    question: "Which resources cost most, and what changed?",
    definition: "Effective cost (billed where there is none) by resource, with the period before and the change.",
    days: 30.0,
    kinds: &["cost"],
    empty: EMPTY,
    filters: NONE,
    sql: "SELECT coalesce(resource_id, '(none)') AS resource, service_name AS service, region_id AS region, currency, \
          sum(cost) FILTER (WHERE timestamp_ns >= {from}) AS cost, sum(cost) FILTER (WHERE timestamp_ns < {from}) AS before, \
          sum(CASE WHEN timestamp_ns >= {from} THEN cost ELSE -cost END) AS change \
          FROM (SELECT resource_id, service_name, region_id, currency, timestamp_ns, coalesce(effective_cost, billed_cost) AS cost FROM costs \
          WHERE timestamp_ns >= {from} - ({to} - {from}) AND timestamp_ns < {to}) GROUP BY 1, 2, 3, 4 ORDER BY cost DESC NULLS LAST, resource LIMIT 200",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("cost"),
    chart: Chart::Bars("resource", "cost"),
    behind: Behind {
        what: "charges",
        rows: "costs WHERE {where}",
        named: &[
            ("resource", "coalesce(resource_id, '(none)')"),
            ("service", "coalesce(service_name, '–')"),
            ("region", "coalesce(region_id, '–')"),
            ("series", "coalesce(service_name, '(none)')"),
        ],
    },
    trend: Some(Trend {
        title: "Cost by service",
        sql: "SELECT date_trunc('day', timestamp) AS bucket, coalesce(service_name, '(none)') AS series, \
              sum(coalesce(effective_cost, billed_cost)) AS value FROM costs WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Zero,
        behind: None,
    }),
};

const USAGE: Item = Item {
    name: "usage",
    title: "Usage",
    question: "What is used, and what does a unit cost?",
    definition: "Consumed quantity and cost by service and unit; cost / unit. Rows without a quantity are counted.",
    days: 30.0,
    kinds: &["cost"],
    empty: EMPTY,
    filters: NONE,
    sql: "SELECT service_name AS service, consumed_unit AS unit, sum(consumed_quantity) AS quantity, \
          sum(coalesce(effective_cost, billed_cost)) AS cost, sum(coalesce(effective_cost, billed_cost)) \
          / nullif(sum(consumed_quantity), 0) AS \"cost / unit\", count(*) FILTER (WHERE consumed_quantity IS NULL) AS \"rows without quantity\", currency \
          FROM costs WHERE {where} GROUP BY 1, 2, currency ORDER BY cost DESC, service",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("cost"),
    chart: Chart::Bars("service", "cost"),
    behind: Behind {
        what: "charges",
        rows: "costs WHERE {where}",
        named: &[("service", "coalesce(service_name, '–')"), ("unit", "coalesce(consumed_unit, '–')")],
    },
    trend: None,
};

const OPTIMISATION: Item = Item {
    name: "optimisation",
    title: "Optimisation",
    question: "Which resources are idle or too large?",
    definition: "Idle: p95 of CPU below 5 %; oversized: p95 of CPU and of memory, which must be known, below 40 %. Saving a month: all of an idle resource's cost, else \
                 cost · (1 − larger p95 / 60 %).",
    days: 14.0,
    kinds: &["infrastructure_metric", "cost"],
    empty: "No resource has both cost rows and CPU measurements under the same resource_id.",
    filters: NONE,
    sql: "SELECT u.resource_id AS resource, CASE WHEN cpu < 0.05 THEN 'idle' WHEN cpu < 0.4 AND memory < 0.4 THEN 'oversized' ELSE 'in use' END AS state, \
          100.0 * cpu AS \"CPU p95, %\", 100.0 * memory AS \"memory p95, %\", cost * 30.0 * 86400e9 / ({to} - {from}) AS \"cost / month\", \
          CASE WHEN cpu < 0.05 THEN 1.0 WHEN cpu < 0.4 AND memory < 0.4 THEN 1.0 - greatest(cpu, memory) / 0.6 ELSE 0.0 END \
          * cost * 30.0 * 86400e9 / ({to} - {from}) AS \"saving / month\", currency \
          FROM (SELECT resource_id, quantile_sketch(cpu_usage, 0.95) AS cpu, quantile_sketch(memory_usage, 0.95) AS memory \
          FROM infrastructure WHERE {where} AND cpu_usage IS NOT NULL GROUP BY resource_id) u \
          JOIN (SELECT resource_id, sum(coalesce(effective_cost, billed_cost)) AS cost, currency FROM costs WHERE {where} GROUP BY resource_id, currency) c \
          ON u.resource_id = c.resource_id ORDER BY 6 DESC, 1",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("saving / month"),
    chart: Chart::Bars("resource", "saving / month"),
    behind: Behind {
        what: "charges and measurements of the resource",
        rows: "(SELECT event_id, timestamp_ns, resource_id AS resource FROM costs WHERE {where} UNION ALL SELECT event_id, \
          timestamp_ns, resource_id FROM infrastructure WHERE {where}) WHERE TRUE",
        named: &[("resource", "resource")],
    },
    trend: None,
};

const BUDGET: Item = Item {
    name: "budget",
    title: "Budget and forecast",
    question: "What was spent, and what will the next month cost?",
    definition: "Cost of the full days of the period, and of the 30 days after it by Holt-Winters over the last 28 full days, with a season of 7 \
                 days and the interval of 80 % of their sum. A day beyond Tukey's outer fences (3 IQR) counts as the fence: a spike isn't projected. An alert \
                 rule holds the budget itself.",
    days: 60.0,
    kinds: &["cost"],
    empty: EMPTY,
    filters: NONE,
    sql: "SELECT date_trunc('day', timestamp) AS day, sum(coalesce(effective_cost, billed_cost)) AS cost, \
          CASE WHEN min(currency) = max(currency) THEN max(currency) ELSE 'several' END AS currency FROM costs WHERE {where} \
          GROUP BY 1 ORDER BY 1",
    compute: Compute::Rows(|rows, filters| budget(&rows, filters)),
    headline: Headline::Last("expected in the next 30 days", "cost"),
    chart: Chart::Bars("what", "cost"),
    behind: Behind {
        what: "charges",
        rows: "costs WHERE {where}",
        named: &[("what", "{value} = 'spent'"), ("series", "{value} = 'cost'")],
    },
    trend: Some(Trend {
        title: "Cost by day",
        sql: "SELECT date_trunc('day', timestamp) AS bucket, 'cost' AS series, sum(coalesce(effective_cost, billed_cost)) AS value FROM costs \
              WHERE {where} GROUP BY 1 ORDER BY 1",
        gaps: Gaps::Zero,
        behind: None,
    }),
};

const AHEAD: usize = 30;
/// Days that a forecast is made of.
const RECENT: usize = 28;

/// The newest days, within Tukey's outer fences.
fn without_spikes(days: &[f64]) -> Vec<f64> {
    let recent = &days[days.len().saturating_sub(RECENT)..];
    let (Some(low), Some(high)) = (quantile(recent, 0.25), quantile(recent, 0.75)) else { return Vec::new() };
    let fence = 3.0 * (high - low);
    recent.iter().map(|cost| cost.clamp(low - fence, high + fence)).collect()
}

/// The currency of all amounts; "several" where they have more than one, which no sum is right of.
fn currency_of<'a>(mut of_rows: impl Iterator<Item = &'a Value>) -> Value {
    let Some(first) = of_rows.next() else { return Value::Null };
    if of_rows.all(|other| other == first) { first.clone() } else { "several".into() }
}

fn budget(rows: &Table, filters: &Filters) -> Table {
    let mut table = Table::new(&["what", "until", "cost", "from", "to", "currency"]);
    // A day that isn't over, at either end, would bend the forecast.
    let is_full = |row: &&Vec<Value>| match row[0] {
        Value::Time(day) => day >= filters.from && day + DAY <= filters.to,
        _ => false,
    };
    let days: Vec<f64> = rows.rows.iter().filter(is_full).filter_map(|row| row[1].number()).collect();
    if days.is_empty() {
        return table;
    }
    let currency = currency_of(rows.rows.iter().map(|row| &row[2]));
    let until = |time: i64| Value::from(&time_text(time)[..10]);
    table.rows.push(vec![
        "spent".into(),
        until(filters.to),
        days.iter().sum::<f64>().into(),
        Value::Null,
        Value::Null,
        currency.clone(),
    ]);
    // The last row is the forecast, for the headline, also where there is none.
    let sum = forecast_sum(&without_spikes(&days), 7, AHEAD, 0.8);
    table.rows.push(vec![
        if sum.is_some() { "next 30 days".into() } else { "next 30 days: two weeks are needed".into() },
        until(filters.to + AHEAD as i64 * DAY),
        sum.map(|sum| sum.value).into(),
        sum.map(|sum| sum.interval.0.max(0.0)).into(),
        sum.map(|sum| sum.interval.1).into(),
        currency,
    ]);
    table
}

const RETURN: Item = Item {
    name: "return",
    title: "Return on cost",
    question: "What does a feature cost, and what does a converted user?",
    definition: "Cost rows with the tag feature go to it; all others are shared by the interactions with each feature (screen). Cost by converted \
                 person who used the feature, and their revenue minus the cost. The cost column sums to the bill; the last row has the bill by all \
                 converted persons, each once.",
    days: 30.0,
    kinds: &["cost", "user_interaction"],
    empty: EMPTY,
    filters: NONE,
    sql: "SELECT 'cost' AS kind, feature, sum(coalesce(effective_cost, billed_cost)) AS amount, 0 AS persons, \
          CASE WHEN min(currency) = max(currency) THEN max(currency) ELSE 'several' END AS currency FROM costs WHERE {period} GROUP BY feature \
          UNION ALL SELECT 'use', screen_name, 1.0 * count(*), 0, NULL FROM {clients} WHERE {period} AND screen_name IS NOT NULL GROUP BY screen_name \
          UNION ALL SELECT 'revenue', u.screen_name, sum(r.revenue), count(*), NULL FROM (SELECT DISTINCT person, screen_name FROM {clients} \
          WHERE {period} AND screen_name IS NOT NULL AND person IS NOT NULL) u JOIN (SELECT person, sum(revenue) AS revenue FROM {clients} \
          WHERE {period} AND revenue > 0 AND person IS NOT NULL GROUP BY person) r ON u.person = r.person GROUP BY u.screen_name \
          UNION ALL SELECT 'all', NULL, sum(revenue), count(DISTINCT person), NULL FROM {clients} WHERE {period} AND revenue > 0 AND person IS NOT NULL \
          ORDER BY 1, 2",
    compute: Compute::Rows(|rows, _| of_features(&rows)),
    headline: Headline::Last("cost / converted person", "cost / converted person"),
    chart: Chart::BarsBeside("feature", "cost", "cost / converted person"),
    behind: Behind {
        what: "charges of the feature, and its uses",
        rows: "(SELECT event_id, timestamp_ns, feature FROM costs WHERE {period} AND feature IS NOT NULL UNION ALL SELECT event_id, \
          timestamp_ns, screen_name FROM {clients} WHERE {period} AND screen_name IS NOT NULL) WHERE TRUE",
        named: &[("feature", "feature")],
    },
    trend: None,
};

/// Row of all features together.
const ALL: &str = "(all)";

fn of_features(rows: &Table) -> Table {
    let mut table = Table::new(&[
        "feature",
        "cost",
        "converted",
        "cost / converted person",
        "revenue",
        "revenue − cost",
        "currency",
    ]);
    let of_kind = |kind: &'static str| rows.rows.iter().filter(move |row| row[0].text() == kind);
    let used: BTreeMap<String, f64> =
        of_kind("use").map(|row| (row[1].text().to_owned(), row[2].number().unwrap_or(0.0))).collect();
    let charge = |row: &Vec<Value>| {
        let cost = (row[2].number().unwrap_or(0.0) * 1e9).round() as Nanos;
        let rule = match row[1].text() {
            "" => Allocation::ByUse { used: used.clone(), capacity: None },
            feature => Allocation::Direct(feature.to_owned()),
        };
        Charge { cost, rule }
    };
    let charges: Vec<_> = of_kind("cost").map(charge).collect();
    let earned: BTreeMap<&str, (f64, f64)> = of_kind("revenue")
        .map(|row| (row[1].text(), (row[2].number().unwrap_or(0.0), row[3].number().unwrap_or(0.0))))
        .collect();
    let currency = currency_of(of_kind("cost").map(|row| &row[4]));
    let mut costs: Vec<_> = allocate(&charges).into_iter().collect();
    costs.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (feature, nanos) in costs {
        let cost = nanos as f64 / 1e9;
        let (revenue, converted) = earned.get(feature.as_str()).copied().unwrap_or_default();
        table.rows.push(vec![
            feature.as_str().into(),
            cost.into(),
            (converted as u64).into(),
            (converted > 0.0).then(|| cost / converted).into(),
            revenue.into(),
            (revenue - cost).into(),
            currency.clone(),
        ]);
    }
    let all = of_kind("all").filter_map(|row| Some((row[2].number()?, row[3].number()?))).next();
    if let (Some((revenue, converted)), false) = (all, table.rows.is_empty()) {
        let bill: f64 = table.column("cost").filter_map(Value::number).sum();
        table.rows.push(vec![
            ALL.into(),
            // It stands in the rows above, whose sum is the bill.
            Value::Null,
            (converted as u64).into(),
            (converted > 0.0).then(|| bill / converted).into(),
            revenue.into(),
            (revenue - bill).into(),
            currency,
        ]);
    }
    table
}
