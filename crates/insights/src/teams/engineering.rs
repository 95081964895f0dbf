//! Engineering: performance, errors, health, interfaces, technical debt.

use std::collections::BTreeMap;

use super::item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend, as_asked};
use crate::errors::{Report, groups};
use crate::filters::{SERVICES, SPANS};
use crate::table::{Table, Value};

/// The team's page.
pub const TEAM: Team = Team {
    name: "engineering",
    title: "Engineering",
    items: [PERFORMANCE, ERRORS, HEALTH, INTERFACES, DEBT],
};

const PERFORMANCE: Item = Item {
    name: "performance",
    title: "Performance",
    question: "Which endpoints are slow, and since which version?",
    definition: "Durations of server spans by service, operation and version: p50, p95, p99 by DDSketch (1 % relative error).",
    days: 1.0,
    kinds: &["trace_span"],
    empty: "There are no server spans. Send OTLP traces to the collector; spans need kind server.",
    filters: SPANS,
    sql: "SELECT service, operation, service_version AS version, count(*) AS requests, quantile_sketch(duration_ms, 0.5) AS \"p50, ms\", \
          quantile_sketch(duration_ms, 0.95) AS \"p95, ms\", quantile_sketch(duration_ms, 0.99) AS \"p99, ms\" \
          FROM spans WHERE kind = 'server' AND {where} GROUP BY 1, 2, 3 ORDER BY 6 DESC LIMIT 200",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("requests"),
    chart: Chart::BarsBeside("operation", "p95, ms", "version"),
    behind: Behind {
        what: "requests, the newest first",
        rows: "spans WHERE kind = 'server' AND {where}",
        named: &[
            ("service", "service"),
            ("operation", "operation"),
            ("version", "coalesce(service_version, '–')"),
            ("series", "service"),
        ],
    },
    trend: Some(Trend {
        title: "p95 by service, ms",
        sql: "SELECT {bucket} AS bucket, service AS series, quantile_sketch(duration_ms, 0.95) AS value FROM spans \
              WHERE kind = 'server' AND {where} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Open,
        behind: None,
    }),
};

/// SQL of a text with a star for each quoted part, and for each word with a digit.
macro_rules! without_variables {
    ($text:literal) => {
        concat!("regexp_replace(", $text, r#", '"[^"/]*"|''[^''/]*''|`[^`/]*`|[\w-]*[0-9][\w-]*', '*', 'g')"#)
    };
}

const ERRORS: Item = Item {
    name: "errors",
    title: "Error groups",
    question: "Which errors are frequent, and when did they begin?",
    definition: "Logs of level error and fatal, and crashes, grouped by fingerprint: the application's own, else exception and frames, else the \
                 message without numbers. The line has failed spans / spans.",
    days: 7.0,
    kinds: &["log", "crash", "trace_span"],
    empty: "There was no error in this period: good. If there are no logs at all, nothing was watched.",
    filters: SERVICES,
    sql: "SELECT service, '' AS exception, message, stack_trace, '' AS fingerprint, '' AS \"release\", timestamp_ns, trace_id FROM logs \
          WHERE level IN ('error', 'fatal') AND {where} \
          UNION ALL SELECT service, exception_type, message, stack_trace, fingerprint, app_version, timestamp_ns, NULL AS trace_id \
          FROM (SELECT *, coalesce(app_name, platform) AS service FROM crashes) WHERE {where} ORDER BY timestamp_ns",
    compute: Compute::Rows(|rows, _| error_groups(&rows)),
    headline: Headline::Sum("errors"),
    chart: Chart::Bars("group", "errors"),
    behind: Behind {
        what: "reports of this error",
        rows: "(SELECT event_id, timestamp_ns, service, message AS title FROM logs WHERE level IN ('error', 'fatal') AND {where} \
          UNION ALL SELECT event_id, timestamp_ns, service, coalesce(fingerprint, exception_type, message) \
          FROM (SELECT *, coalesce(app_name, platform) AS service FROM crashes) WHERE {where}) WHERE TRUE",
        named: &[
            // What differs between the messages of a group is left out, as its fingerprint does.
            ("group", concat!(without_variables!("title"), " = ", without_variables!("{value}"))),
            ("service", "coalesce(service, '–')"),
        ],
    },
    trend: Some(Trend {
        title: "Failed spans by service, %",
        sql: "SELECT {bucket} AS bucket, service AS series, 100.0 * count(*) FILTER (WHERE status = 'error') / count(*) AS value \
              FROM spans WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Open,
        behind: Some(Behind {
            what: "failed spans",
            rows: "spans WHERE status = 'error' AND {where}",
            named: &[("series", "service")],
        }),
    }),
};

/// Groups that are shown.
const GROUPS_MAX: usize = 200;

fn error_groups(rows: &Table) -> Table {
    let mut table =
        Table::new(&["group", "service", "errors", "first seen", "last seen", "first release", "trace_id"]);
    let report = |row: &'_ [Value]| -> Option<i64> {
        match &row[6] {
            Value::Integer(time) => Some(*time),
            _ => None,
        }
    };
    let reports: Vec<_> = rows
        .rows
        .iter()
        .map(|row| Report {
            service: row[0].text(),
            exception: row[1].text(),
            message: row[2].text(),
            stack_trace: row[3].text(),
            fingerprint: row[4].text(),
            release: row[5].text(),
            time: report(row).unwrap_or_default(),
        })
        .collect();
    let mut newest = BTreeMap::new();
    for (report, row) in reports.iter().zip(&rows.rows) {
        newest.insert(crate::errors::fingerprint(report), row);
    }
    let mut found: Vec<_> = groups(&reports).into_iter().collect();
    found.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(&b.0)));
    for (fingerprint, group) in found.into_iter().take(GROUPS_MAX) {
        let Some(row) = newest.get(&fingerprint) else { continue };
        let title = [row[4].text(), row[1].text(), row[2].text()].into_iter().find(|text| !text.is_empty());
        table.rows.push(vec![
            title.unwrap_or("(no message)").into(),
            row[0].clone(),
            group.count.into(),
            Value::Time(group.first_seen),
            Value::Time(group.last_seen),
            group.first_release.as_str().into(),
            row[7].clone(),
        ]);
    }
    table
}

const HEALTH: Item = Item {
    name: "health",
    title: "System health",
    question: "Are all services well now?",
    definition: "Services of the last day: requests, failed share and p95 in the period. Bad: more than 5 % fail; degraded: more than 1 %; unknown: \
                 no span for 10 minutes.",
    days: 1.0 / 24.0,
    kinds: &["trace_span"],
    empty: "No service sent a span within a day: nothing is known, which isn't healthy.",
    filters: SERVICES,
    sql: "SELECT service, CASE WHEN {to} - max(timestamp_ns) > 600000000000 THEN 'unknown' \
          WHEN 100.0 * count(*) FILTER (WHERE status = 'error' AND timestamp_ns >= {from}) / nullif(count(*) FILTER (WHERE timestamp_ns >= {from}), 0) > 5 \
          THEN 'bad' WHEN 100.0 * count(*) FILTER (WHERE status = 'error' AND timestamp_ns >= {from}) \
          / nullif(count(*) FILTER (WHERE timestamp_ns >= {from}), 0) > 1 THEN 'degraded' ELSE 'healthy' END AS state, \
          count(*) FILTER (WHERE timestamp_ns >= {from}) AS requests, \
          count(*) FILTER (WHERE status = 'error' AND timestamp_ns >= {from}) AS failed, \
          quantile_sketch(CASE WHEN timestamp_ns >= {from} THEN duration_ms END, 0.95) AS \"p95, ms\", max(timestamp) AS \"last seen\" \
          FROM spans WHERE timestamp_ns >= {from} - 86400000000000 AND {until} GROUP BY service ORDER BY failed DESC, service",
    compute: Compute::Rows(as_asked),
    headline: Headline::Share("failed", "requests"),
    chart: Chart::Bars("service", "failed"),
    behind: Behind {
        what: "spans of the service",
        rows: "spans WHERE {where}",
        named: &[("service", "service"), ("series", "service")],
    },
    trend: Some(Trend {
        title: "Requests by service",
        sql: "SELECT {bucket} AS bucket, service AS series, count(*) AS value FROM spans WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Zero,
        behind: None,
    }),
};

const INTERFACES: Item = Item {
    name: "interfaces",
    title: "API usage",
    question: "Who calls which interface, and how often is it refused?",
    definition: "Server spans by operation: calls, keys that called, share of answers 4xx and 5xx.",
    days: 7.0,
    kinds: &["trace_span"],
    empty: "There are no server spans in this period.",
    filters: SPANS,
    sql: "SELECT service, operation, count(*) AS calls, count(DISTINCT key_id) AS keys, \
          100.0 * count(*) FILTER (WHERE http_status_code BETWEEN 400 AND 499) / count(*) AS \"4xx, %\", \
          100.0 * count(*) FILTER (WHERE http_status_code >= 500) / count(*) AS \"5xx, %\" \
          FROM spans WHERE kind = 'server' AND {where} GROUP BY 1, 2 ORDER BY calls DESC, operation LIMIT 200",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("calls"),
    chart: Chart::Bars("operation", "calls"),
    behind: Behind {
        what: "calls",
        rows: "spans WHERE kind = 'server' AND {where}",
        named: &[("service", "service"), ("operation", "operation"), ("series", "service")],
    },
    trend: Some(Trend {
        title: "Calls by service",
        sql: "SELECT {bucket} AS bucket, service AS series, count(*) AS value FROM spans WHERE kind = 'server' AND {where} \
              GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Zero,
        behind: None,
    }),
};

const DEBT: Item = Item {
    name: "debt",
    title: "Technical debt",
    question: "What is deprecated, slow or flaky, and what has used up the error budget?",
    definition: "Deprecated calls (spans with the attribute deprecated); statements with p95 above 1 s; operations that failed and succeeded in one \
                 trace; error budget of 99.9 % that a service spent.",
    days: 30.0,
    kinds: &["trace_span"],
    empty: "None of the four was found. Without spans, nothing was looked at.",
    filters: SPANS,
    sql: "SELECT 'deprecated call' AS indicator, service, operation AS subject, 1.0 * count(*) AS value, 'calls' AS unit FROM spans \
          WHERE {where} AND json_text(attributes, 'deprecated') = 'true' GROUP BY 2, 3 \
          UNION ALL SELECT 'slow statement', service, db_statement, quantile_sketch(duration_ms, 0.95), 'ms, p95' FROM spans \
          WHERE {where} AND service IN (SELECT service FROM spans WHERE {where} AND duration_ms > 1000) AND db_statement IS NOT NULL \
          GROUP BY 2, 3 HAVING quantile_sketch(duration_ms, 0.95) > 1000 \
          UNION ALL SELECT 'flaky endpoint', service, operation, 1.0 * count(*), 'traces' FROM (SELECT service, operation, trace_id FROM spans \
          WHERE {where} AND trace_id IN (SELECT trace_id FROM spans WHERE {where} AND status = 'error') GROUP BY 1, 2, 3 HAVING count(*) FILTER (WHERE status = 'error') > 0 AND count(*) FILTER (WHERE status <> 'error') > 0) \
          GROUP BY 2, 3 \
          UNION ALL SELECT 'error budget spent', service, 'availability 99.9 %', \
          100.0 * count(*) FILTER (WHERE status = 'error') / (0.001 * count(*)), '%' FROM spans WHERE kind = 'server' AND {where} GROUP BY 2, 3 \
          ORDER BY 1, 4 DESC",
    compute: Compute::Rows(as_asked),
    headline: Headline::Rows("indicators"),
    chart: Chart::Table,
    behind: Behind {
        what: "spans behind this indicator",
        rows: "(SELECT event_id, timestamp_ns, service, 'deprecated call' AS indicator, operation AS subject FROM spans WHERE {where} \
          AND json_text(attributes, 'deprecated') = 'true' UNION ALL SELECT event_id, timestamp_ns, service, 'slow statement', \
          db_statement FROM spans WHERE {where} AND db_statement IS NOT NULL UNION ALL SELECT event_id, timestamp_ns, service, \
          'flaky endpoint', operation FROM spans WHERE {where} AND concat(service, ' ', operation, ' ', trace_id) IN (SELECT \
          concat(service, ' ', operation, ' ', trace_id) FROM spans WHERE {where} GROUP BY service, operation, trace_id \
          HAVING count(*) FILTER (WHERE status = 'error') > 0 AND count(*) FILTER (WHERE status <> 'error') > 0) UNION ALL SELECT event_id, timestamp_ns, service, 'error budget spent', 'availability 99.9 %' FROM \
          spans WHERE kind = 'server' AND status = 'error' AND {where}) WHERE TRUE",
        named: &[("indicator", "indicator"), ("service", "service"), ("subject", "subject")],
    },
    trend: None,
};
