//! Security: accesses, threats, compliance, vulnerabilities, posture.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend, as_asked};
use crate::filters::{ACCESSES, NONE, SECOND};
use crate::table::{Table, Value};

/// The team's page.
pub const TEAM: Team = Team {
    name: "security",
    title: "Security",
    items: [PATTERNS, THREATS, COMPLIANCE, VULNERABILITIES, POSTURE],
};

const PATTERNS: Item = Item {
    name: "access",
    title: "Access patterns",
    question: "Who signs in, who is refused, and where is somebody new?",
    definition: "Attempts by action: successes, failures (wrong credentials), denials (no permission), and principals that reached a target for the \
                 first time in the period.",
    days: 7.0,
    kinds: &["access"],
    empty: "There are no Access events: nothing is watched. Send sign-ins and permission checks as access.",
    filters: ACCESSES,
    sql: "SELECT action, sum(tried) AS attempts, sum(failed) AS failures, sum(refused) AS denials, \
          100.0 * sum(refused) / sum(tried) AS \"denied, %\", count(*) FILTER (WHERE first_ns >= {from}) AS \"first accesses\" \
          FROM (SELECT action, principal, target, min(timestamp_ns) AS first_ns, count(*) FILTER (WHERE timestamp_ns >= {from}) AS tried, \
          count(*) FILTER (WHERE outcome = 'failure' AND timestamp_ns >= {from}) AS failed, \
          count(*) FILTER (WHERE outcome = 'denied' AND timestamp_ns >= {from}) AS refused FROM accesses WHERE {until} GROUP BY 1, 2, 3) \
          GROUP BY action HAVING sum(tried) > 0 ORDER BY attempts DESC, action",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("attempts"),
    chart: Chart::Bars("action", "attempts"),
    behind: Behind {
        what: "attempts",
        rows: "accesses WHERE {where}",
        named: &[("action", "action"), ("series", "outcome")],
    },
    trend: Some(Trend {
        title: "Attempts by outcome",
        sql: "SELECT {bucket} AS bucket, outcome AS series, count(*) AS value FROM accesses WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Zero,
        behind: None,
    }),
};

const THREATS: Item = Item {
    name: "threats",
    title: "Threats",
    question: "Who attacks, and how?",
    definition: "In 5 minutes: brute force, 10 failures of a principal; credential stuffing, 10 principals failing from an address; scanner, 20 different \
                 targets that an address was denied or didn't find. Impossible travel: successes of a principal in two countries within an hour.",
    days: 1.0,
    kinds: &["access"],
    empty: "None was found. Without Access events nothing is watched.",
    filters: ACCESSES,
    sql: "SELECT timestamp_ns, outcome, principal, coalesce(target, '') AS target, client_address, country FROM accesses WHERE {where} \
          ORDER BY timestamp_ns",
    compute: Compute::Rows(|rows, _| threats(&rows)),
    headline: Headline::Rows("cases"),
    chart: Chart::Table,
    behind: Behind {
        what: "attempts of or on this subject",
        rows: "accesses WHERE {where}",
        named: &[("subject", "(principal = {value} OR client_address = {value})")],
    },
    trend: Some(Trend {
        title: "Failed and denied attempts",
        sql: "SELECT {bucket} AS bucket, outcome AS series, count(*) AS value FROM accesses WHERE {where} AND outcome <> 'success' \
              GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Zero,
        behind: Some(Behind {
            what: "attempts that failed or were denied",
            rows: "accesses WHERE {where} AND outcome <> 'success'",
            named: &[("series", "outcome")],
        }),
    }),
};

/// One kind of attack: different values of one field under another within a window.
struct Rule {
    name: &'static str,
    /// Columns: of the subject, and of what is counted; the same place as the time: each attempt.
    subject: usize,
    counted: usize,
    outcomes: &'static [&'static str],
    window: i64,
    least: usize,
}

const RULES: [Rule; 4] = [
    Rule {
        name: "brute force",
        subject: 2,
        counted: 0,
        outcomes: &["failure"],
        window: 300 * SECOND,
        least: 10,
    },
    Rule {
        name: "credential stuffing",
        subject: 4,
        counted: 2,
        outcomes: &["failure"],
        window: 300 * SECOND,
        least: 10,
    },
    Rule {
        name: "scanner",
        subject: 4,
        counted: 3,
        outcomes: &["denied", "failure"],
        window: 300 * SECOND,
        least: 20,
    },
    Rule {
        name: "impossible travel",
        subject: 2,
        counted: 5,
        outcomes: &["success"],
        window: 3_600 * SECOND,
        least: 2,
    },
];

/// Attempts that belong together.
struct Case {
    attempts: u64,
    first: i64,
    last: i64,
}

/// The newest attempts on or of one subject, and the cases that were found.
#[derive(Default)]
struct Watch {
    window: VecDeque<(i64, String)>,
    /// Attempts of the window by what is counted.
    different: HashMap<String, u64>,
    cases: Vec<Case>,
}

impl Watch {
    fn attempt(&mut self, time: i64, counted: String, rule: &Rule) {
        *self.different.entry(counted.clone()).or_default() += 1;
        self.window.push_back((time, counted));
        while let Some((_, gone)) = self.window.pop_front_if(|(first, _)| time - *first > rule.window) {
            if let Entry::Occupied(mut left) = self.different.entry(gone) {
                *left.get_mut() -= 1;
                if *left.get() == 0 {
                    left.remove();
                }
            }
        }
        if self.different.len() < rule.least {
            return;
        }
        match self.cases.last_mut().filter(|case| time - case.last <= rule.window) {
            Some(case) => *case = Case { attempts: case.attempts + 1, last: time, ..*case },
            None => {
                let attempts = self.window.len() as u64;
                self.cases.push(Case { attempts, first: self.window[0].0, last: time });
            }
        }
    }
}

fn threats(rows: &Table) -> Table {
    let mut table = Table::new(&["threat", "subject", "attempts", "first seen", "last seen"]);
    for rule in &RULES {
        let mut watches = BTreeMap::<&str, Watch>::new();
        for (number, row) in rows.rows.iter().enumerate() {
            let (Value::Integer(time), subject) = (&row[0], row[rule.subject].text()) else { continue };
            let counted = match rule.counted {
                0 => number.to_string(),
                column => row[column].text().to_owned(),
            };
            if !subject.is_empty() && !counted.is_empty() && rule.outcomes.contains(&row[1].text()) {
                watches.entry(subject).or_default().attempt(*time, counted, rule);
            }
        }
        for (subject, watch) in watches {
            for Case { attempts, first, last } in watch.cases {
                let times = [Value::Time(first), Value::Time(last)];
                let mut row = vec![rule.name.into(), subject.into(), attempts.into()];
                row.extend(times);
                table.rows.push(row);
            }
        }
    }
    table
}

const COMPLIANCE: Item = Item {
    name: "compliance",
    title: "Compliance",
    question: "What did people agree to, and how old is what is stored?",
    definition: "Latest decision of each person by purpose: granted / decided. Age of the oldest event by kind, to compare with retention.",
    days: 90.0,
    kinds: &["consent"],
    empty: "Nobody decided about a purpose in this period, and there are no events.",
    filters: NONE,
    sql: "SELECT 'consent' AS subject, purpose AS name, count(*) AS decided, count(*) FILTER (WHERE is_granted = 'true') AS granted, \
          100.0 * count(*) FILTER (WHERE is_granted = 'true') / count(*) AS \"granted, %\", CAST(NULL AS DOUBLE) AS \"oldest, days\" \
          FROM (SELECT coalesce(user_id, anonymous_id) AS person, purpose, first_value(is_granted ORDER BY timestamp_ns DESC) AS is_granted \
          FROM consents WHERE {where} GROUP BY 1, 2) GROUP BY purpose \
          UNION ALL SELECT 'stored', event_type, NULL, NULL, NULL, ({to} - min(timestamp_ns)) / 86400e9 FROM events \
          WHERE timestamp_ns < {to} GROUP BY event_type ORDER BY 1, 2",
    compute: Compute::Rows(as_asked),
    headline: Headline::Share("granted", "decided"),
    chart: Chart::Bars("name", "granted, %"),
    behind: Behind {
        what: "decisions, or stored events",
        rows: "(SELECT event_id, timestamp_ns, 'consent' AS subject, purpose AS name FROM consents WHERE {where} UNION ALL SELECT \
          event_id, timestamp_ns, 'stored', event_type FROM events WHERE timestamp_ns < {to}) WHERE TRUE",
        named: &[("subject", "subject"), ("name", "name")],
    },
    trend: None,
};

const VULNERABILITIES: Item = Item {
    name: "vulnerabilities",
    title: "Vulnerabilities",
    question: "Which weaknesses are open or overdue?",
    definition: "Newest state of each finding of category vulnerability at the period's end: open and overdue by severity, mean age of open ones, mean \
                 days from found to the first report that it is fixed.",
    days: 90.0,
    kinds: &["finding"],
    empty: "There are no reports of a scanner. Import SARIF or CycloneDX with `tickstream-warehouse import`.",
    filters: NONE,
    sql: "SELECT severity, count(*) FILTER (WHERE status = 'open') AS open, count(*) FILTER (WHERE status = 'open' AND due < {to}) AS overdue, \
          avg(CASE WHEN status = 'open' THEN ({to} - found_ns) / 86400e9 END) AS \"mean age, days\", \
          avg(CASE WHEN status = 'fixed' THEN (fixed_ns - found_ns) / 86400e9 END) AS \"time to fix, days\", \
          count(*) FILTER (WHERE status = 'fixed') AS fixed FROM (SELECT finding_id, \
          first_value(severity ORDER BY timestamp_ns DESC) AS severity, first_value(status ORDER BY timestamp_ns DESC) AS status, \
          min(timestamp_ns) AS found_ns, min(CASE WHEN status = 'fixed' THEN timestamp_ns END) AS fixed_ns, max(CAST(due_time AS BIGINT)) AS due FROM findings \
          WHERE coalesce(category, 'vulnerability') = 'vulnerability' AND timestamp_ns < {to} GROUP BY finding_id) \
          GROUP BY severity ORDER BY CASE severity WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'medium' THEN 2 WHEN 'low' THEN 3 ELSE 4 END",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("open"),
    chart: Chart::Bars("severity", "open"),
    behind: Behind {
        what: "reports of the findings",
        rows: "findings WHERE coalesce(category, 'vulnerability') = 'vulnerability' AND timestamp_ns < {to}",
        named: &[("severity", "coalesce(severity, '–')")],
    },
    trend: None,
};

const POSTURE: Item = Item {
    name: "posture",
    title: "Posture",
    question: "Are configurations and sign-ins as they should be?",
    definition: "Checks of category misconfiguration whose newest finding is passed or fixed / checks; sign-ins with a strong method (sso, passkey, webauthn, mfa, \
                 certificate) / sign-ins that succeeded.",
    days: 90.0,
    kinds: &["finding", "access"],
    empty: "No check was reported, and nobody signed in.",
    filters: NONE,
    sql: "SELECT 'configuration' AS area, count(*) AS checks, count(*) FILTER (WHERE status IN ('passed', 'fixed')) AS passed, \
          100.0 * count(*) FILTER (WHERE status IN ('passed', 'fixed')) / nullif(count(*), 0) AS \"passed, %\" FROM (SELECT finding_id, \
          first_value(status ORDER BY timestamp_ns DESC) AS status FROM findings WHERE category = 'misconfiguration' AND timestamp_ns < {to} \
          GROUP BY finding_id) HAVING count(*) > 0 \
          UNION ALL SELECT 'strong sign-ins', count(*), count(*) FILTER (WHERE method IN ('sso', 'passkey', 'webauthn', 'mfa', 'certificate')), \
          100.0 * count(*) FILTER (WHERE method IN ('sso', 'passkey', 'webauthn', 'mfa', 'certificate')) / nullif(count(*), 0) FROM accesses \
          WHERE action = 'login' AND outcome = 'success' AND {where} HAVING count(*) > 0 ORDER BY 1",
    compute: Compute::Rows(as_asked),
    headline: Headline::Share("passed", "checks"),
    chart: Chart::Bars("area", "passed, %"),
    behind: Behind {
        what: "checks, or sign-ins",
        rows: "(SELECT event_id, timestamp_ns, 'configuration' AS area FROM findings WHERE category = 'misconfiguration' AND \
          timestamp_ns < {to} UNION ALL SELECT event_id, timestamp_ns, 'strong sign-ins' FROM accesses WHERE action = 'login' \
          AND outcome = 'success' AND {where}) WHERE TRUE",
        named: &[("area", "area")],
    },
    trend: None,
};
