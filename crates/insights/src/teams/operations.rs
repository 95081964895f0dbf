//! Operations: availability, utilisation, incidents, objectives, capacity.

use std::collections::BTreeMap;

use super::item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend, as_asked};
use crate::filters::{DAY, NONE, SERVICES, time_text};
use crate::forecast::{forecast, reaches};
use crate::slo::{Requests, budget_left, burn_rate, firing};
use crate::table::{Table, Value};

/// The team's page.
pub const TEAM: Team = Team {
    name: "operations",
    title: "Operations",
    items: [AVAILABILITY, UTILISATION, INCIDENTS, OBJECTIVES, CAPACITY],
};

const AVAILABILITY: Item = Item {
    name: "availability",
    title: "Availability",
    question: "Do the services answer?",
    definition: "Server spans that didn't fail / server spans, by service. Where only the metric up is known: minutes in which it was 1.",
    days: 30.0,
    kinds: &["trace_span"],
    empty: "There are no server spans and no metric up: unknown, not 100 %.",
    filters: SERVICES,
    sql: "SELECT service, count(*) AS requests, count(*) FILTER (WHERE status = 'error') AS bad, \
          100.0 * count(*) FILTER (WHERE status <> 'error') / count(*) AS \"availability, %\", 'spans' AS source FROM spans \
          WHERE kind = 'server' AND {where} GROUP BY service \
          UNION ALL SELECT service, count(*), count(*) FILTER (WHERE value < 1), 100.0 * avg(CASE WHEN value >= 1 THEN 1 ELSE 0 END), 'up' \
          FROM metrics WHERE metric_name = 'up' AND {where} AND service NOT IN (SELECT service FROM spans WHERE kind = 'server' AND {period}) \
          GROUP BY service ORDER BY 4, 1",
    compute: Compute::Rows(as_asked),
    headline: Headline::Rest("availability, %", "bad", "requests"),
    chart: Chart::Bars("service", "availability, %"),
    behind: Behind {
        what: "failed requests",
        rows: "spans WHERE kind = 'server' AND status = 'error' AND {where}",
        named: &[("service", "service"), ("series", "service")],
    },
    trend: Some(Trend {
        title: "Availability by service, %",
        sql: "SELECT {bucket} AS bucket, service AS series, 100.0 * count(*) FILTER (WHERE status <> 'error') / count(*) AS value FROM spans \
              WHERE kind = 'server' AND {where} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Open,
        behind: None,
    }),
};

const UTILISATION: Item = Item {
    name: "utilisation",
    title: "Utilisation",
    question: "How busy are the hosts?",
    definition: "CPU and memory as shares of what the resource was given, disk used / capacity: mean, p95 and maximum by resource.",
    days: 1.0,
    kinds: &["infrastructure_metric"],
    empty: "There is no infrastructure metric in this period. The agent sends them; so does a Prometheus scrape of node_exporter.",
    filters: NONE,
    sql: "SELECT resource_id AS resource, 100.0 * avg(cpu_usage) AS \"CPU mean, %\", 100.0 * quantile_sketch(cpu_usage, 0.95) AS \"CPU p95, %\", \
          100.0 * max(cpu_usage) AS \"CPU max, %\", 100.0 * avg(memory_usage) AS \"memory mean, %\", 100.0 * max(memory_usage) AS \"memory max, %\", \
          100.0 * max(disk_used / nullif(disk_capacity, 0)) AS \"disk, %\" FROM infrastructure WHERE {where} \
          GROUP BY resource_id ORDER BY 3 DESC, 1",
    compute: Compute::Rows(as_asked),
    headline: Headline::Rows("resources"),
    chart: Chart::Bars("resource", "CPU p95, %"),
    behind: Behind {
        what: "the host's measurements, and the requests that it served",
        rows: "(SELECT event_id, timestamp_ns, resource_id AS resource FROM infrastructure WHERE {where} UNION ALL SELECT event_id, \
          timestamp_ns, host_name FROM spans WHERE {where} AND host_name IS NOT NULL) WHERE TRUE",
        named: &[("resource", "resource"), ("series", "resource")],
    },
    trend: Some(Trend {
        title: "CPU by resource, %",
        sql: "SELECT {bucket} AS bucket, resource_id AS series, 100.0 * avg(cpu_usage) AS value FROM infrastructure WHERE {where} \
              GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Open,
        behind: None,
    }),
};

const INCIDENTS: Item = Item {
    name: "incidents",
    title: "Incidents",
    question: "What broke, how fast did somebody react, and how long did it take?",
    definition: "Incidents opened in the period, by the severity that was reported last. MTTA: mean minutes from opened to acknowledged; MTTR: to \
                 resolved. Open ones, also those that were opened again, count apart.",
    days: 90.0,
    kinds: &["incident"],
    empty: "No incident was opened: good. If none is ever reported here, connect the pager's webhook.",
    filters: SERVICES,
    sql: "SELECT severity, count(*) AS incidents, count(*) FILTER (WHERE status <> 'resolved') AS open, \
          avg((acknowledged_ns - opened_ns) / 60e9) AS \"MTTA, min\", \
          avg(CASE WHEN status = 'resolved' THEN (resolved_ns - opened_ns) / 60e9 END) AS \"MTTR, min\", \
          first_value(title ORDER BY opened_ns DESC) AS latest FROM (SELECT incident_id, \
          first_value(severity ORDER BY timestamp_ns DESC) FILTER (WHERE severity IS NOT NULL) AS severity, \
          first_value(title ORDER BY timestamp_ns DESC) FILTER (WHERE title IS NOT NULL) AS title, \
          first_value(status ORDER BY timestamp_ns DESC) AS status, \
          min(CASE WHEN status = 'opened' THEN timestamp_ns END) AS opened_ns, \
          min(CASE WHEN status = 'acknowledged' THEN timestamp_ns END) AS acknowledged_ns, \
          max(CASE WHEN status = 'resolved' THEN timestamp_ns END) AS resolved_ns FROM incidents WHERE {until} GROUP BY incident_id) \
          WHERE opened_ns >= {from} GROUP BY severity ORDER BY incidents DESC, severity",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("incidents"),
    chart: Chart::Bars("severity", "incidents"),
    behind: Behind {
        what: "reports of these incidents",
        rows: "(SELECT event_id, timestamp_ns, last_severity, opened_ns FROM incidents JOIN (SELECT incident_id AS id, \
          first_value(severity ORDER BY timestamp_ns DESC) FILTER (WHERE severity IS NOT NULL) AS last_severity, \
          min(CASE WHEN status = 'opened' THEN timestamp_ns END) AS opened_ns FROM incidents WHERE {until} GROUP BY incident_id) \
          ON incident_id = id WHERE {until}) WHERE opened_ns >= {from}",
        named: &[("severity", "coalesce(last_severity, '–')")],
    },
    trend: None,
};

const OBJECTIVES: Item = Item {
    name: "objectives",
    title: "SLA and error budgets",
    question: "How much of the error budget is left, and how fast does it burn?",
    definition: "Target 99.9 % of server spans by service. Budget left: 1 − bad / (0.1 % · valid). Burn rate: share of bad spans / 0.1 %, over 1 h, 6 h \
                 and 3 d before the period's end, however short the period is. Alarms: 14.4 over 1 h and 5 min, 6 over 6 h and 30 min, 1 over 3 d and 6 h.",
    days: 30.0,
    kinds: &["trace_span"],
    empty: "There are no valid requests: nothing is spent, and nothing is known.",
    filters: SERVICES,
    sql: "SELECT service, count(*) FILTER (WHERE timestamp_ns >= {from}) AS valid, \
          count(*) FILTER (WHERE status = 'error' AND timestamp_ns >= {from}) AS bad, \
          count(*) FILTER (WHERE {to} - timestamp_ns <= 300e9) AS v300, count(*) FILTER (WHERE status = 'error' AND {to} - timestamp_ns <= 300e9) AS b300, \
          count(*) FILTER (WHERE {to} - timestamp_ns <= 1800e9) AS v1800, count(*) FILTER (WHERE status = 'error' AND {to} - timestamp_ns <= 1800e9) AS b1800, \
          count(*) FILTER (WHERE {to} - timestamp_ns <= 3600e9) AS v3600, count(*) FILTER (WHERE status = 'error' AND {to} - timestamp_ns <= 3600e9) AS b3600, \
          count(*) FILTER (WHERE {to} - timestamp_ns <= 21600e9) AS v21600, count(*) FILTER (WHERE status = 'error' AND {to} - timestamp_ns <= 21600e9) AS b21600, \
          count(*) FILTER (WHERE {to} - timestamp_ns <= 259200e9) AS v259200, \
          count(*) FILTER (WHERE status = 'error' AND {to} - timestamp_ns <= 259200e9) AS b259200 \
          FROM spans WHERE kind = 'server' AND timestamp_ns >= least({from}, {to} - 259200000000000) AND {until} GROUP BY service ORDER BY service",
    compute: Compute::Rows(|rows, _| objectives(&rows)),
    headline: Headline::Rest("good requests, %", "bad", "valid"),
    chart: Chart::Bars("service", "budget left, %"),
    behind: Behind {
        what: "failed requests",
        rows: "spans WHERE kind = 'server' AND status = 'error' AND {where}",
        named: &[("service", "service")],
    },
    trend: None,
};

const TARGET: f64 = 0.999;

fn objectives(rows: &Table) -> Table {
    let mut table = Table::new(&[
        "service",
        "valid",
        "bad",
        "budget left, %",
        "burn rate, 1 h",
        "burn rate, 6 h",
        "burn rate, 3 d",
        "alarm",
    ]);
    for row in &rows.rows {
        let count = |name: &str| -> u64 {
            rows.place(name).and_then(|place| row[place].number()).unwrap_or(0.0) as u64
        };
        let last = |seconds: u64| Requests {
            valid: count(&format!("v{seconds}")),
            bad: count(&format!("b{seconds}")),
        };
        let all = Requests { valid: count("valid"), bad: count("bad") };
        let alarm = match firing(TARGET, last).first() {
            Some(rule) if rule.is_page => "page",
            Some(_) => "ticket",
            None => "none",
        };
        table.rows.push(vec![
            row[0].clone(),
            all.valid.into(),
            all.bad.into(),
            budget_left(all, TARGET).map(|left| left * 100.0).into(),
            burn_rate(last(3_600), TARGET).into(),
            burn_rate(last(21_600), TARGET).into(),
            burn_rate(last(259_200), TARGET).into(),
            alarm.into(),
        ]);
    }
    table
}

const CAPACITY: Item = Item {
    name: "capacity",
    title: "Capacity forecasts",
    question: "Which disks will be full, and when?",
    definition: "Largest disk_used of each day by resource; Holt-Winters with a season of 7 days, 180 days ahead. Full: first day on which the forecast \
                 reaches disk_capacity; earliest: on which the upper bound of 95 % does.",
    days: 90.0,
    kinds: &["infrastructure_metric"],
    empty: "No resource reports disk_used and disk_capacity.",
    filters: NONE,
    sql: "SELECT resource_id, date_trunc('day', timestamp) AS day, max(disk_used) AS used, max(disk_capacity) AS capacity \
          FROM infrastructure WHERE {where} AND disk_used IS NOT NULL AND disk_capacity > 0 GROUP BY 1, 2 ORDER BY 1, 2",
    compute: Compute::Rows(|rows, _| capacity(&rows)),
    headline: Headline::Rows("disks"),
    chart: Chart::BarsBeside("resource", "used, %", "full"),
    behind: Behind {
        what: "measurements of the disk",
        rows: "infrastructure WHERE {where} AND disk_used IS NOT NULL",
        named: &[("resource", "resource_id"), ("series", "resource_id")],
    },
    trend: Some(Trend {
        title: "Disk used, %",
        sql: "SELECT {bucket} AS bucket, resource_id AS series, 100.0 * max(disk_used / nullif(disk_capacity, 0)) AS value FROM infrastructure \
              WHERE {where} AND disk_used IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Open,
        behind: None,
    }),
};

const SEASON: usize = 7;
const AHEAD: usize = 180;
/// Cell of a disk that no forecast fills.
const NOT_FULL: &str = "not in 180 days";

/// Use of a disk by day.
#[derive(Debug, Default)]
struct Disk {
    used: Vec<f64>,
    last_day: i64,
    capacity: f64,
}

impl Disk {
    /// Adds a later day. Days without a measurement lie on the line to it: a forecast needs each.
    fn add(&mut self, day: i64, used: f64) {
        if let Some(last) = self.used.last().copied() {
            let days = (day - self.last_day) / DAY;
            self.used.extend((1..days).map(|n| last + (used - last) * n as f64 / days as f64));
        }
        self.used.push(used);
        self.last_day = day;
    }
}

fn capacity(rows: &Table) -> Table {
    let mut table = Table::new(&["resource", "used, %", "in 30 days, %", "full", "earliest"]);
    let mut resources = BTreeMap::<&str, Disk>::new();
    for row in &rows.rows {
        if let (Value::Time(day), Some(used)) = (&row[1], row[2].number()) {
            let disk = resources.entry(row[0].text()).or_default();
            disk.add(*day, used);
            disk.capacity = row[3].number().unwrap_or(disk.capacity);
        }
    }
    for (resource, Disk { used, last_day, capacity }) in resources {
        let (Some(last), true) = (used.last(), capacity > 0.0) else { continue };
        let steps = forecast(&used, SEASON, AHEAD, 0.95);
        let day = |steps: Option<usize>| match steps {
            Some(days) => Value::from(&time_text(last_day + days as i64 * DAY)[..10]),
            None => NOT_FULL.into(),
        };
        let full = steps.as_deref().and_then(|steps| steps.iter().position(|step| step.value >= capacity));
        table.rows.push(vec![
            resource.into(),
            (last / capacity * 100.0).into(),
            steps.as_deref().and_then(|steps| steps.get(29)).map(|step| step.value / capacity * 100.0).into(),
            if steps.is_none() { "two weeks are needed".into() } else { day(full.map(|place| place + 1)) },
            if steps.is_none() {
                Value::Null
            } else {
                day(steps.as_deref().and_then(|steps| reaches(steps, capacity)))
            },
        ]);
    }
    table.rows.sort_by(|a, b| b[1].number().unwrap_or(0.0).total_cmp(&a[1].number().unwrap_or(0.0)));
    table
}
