//! A report as text and as JSON.

use std::fmt::Write;

use serde_json::json;

use super::{AREAS, Check, Report, Verdict, grouped};
use tickstream_server::placement::format_cpus;
use tickstream_service::text::{counted, noun_for, one_line, one_painted_line};

/// Columns after which prose is broken; commands are not.
const WIDTH: usize = 110;
/// Width before details: two spaces, a verdict, two spaces.
const INDENT: usize = 13;

/// ANSI colours; see ECMA-48, SGR.
const BOLD: &str = "1";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const GREEN: &str = "32";
const DIM: &str = "2";

pub(super) fn text(report: &Report, colour: bool) -> String {
    let mut out = Text { out: String::new(), colour };
    let plan = &report.plan;
    out.line(&format!(
        "{} {} on {}, CPUs {}",
        grouped(plan.connections.into()),
        noun_for(plan.connections.into(), "connection"),
        counted(plan.shards as u64, "shard"),
        format_cpus(&plan.cpus)
    ));
    for (area, _) in AREAS {
        let mut checks = report.checks.iter().filter(|check| check.area == *area).peekable();
        // Events are collected only where there is a journal.
        if checks.peek().is_none() {
            continue;
        }
        out.line("");
        let heading = out.painted(BOLD, area);
        out.line(&heading);
        for check in checks {
            out.check(check);
        }
    }
    out.line("");
    out.line(&summary(report));
    out.out
}

pub(super) fn json(report: &Report) -> String {
    let checks: Vec<_> = report
        .checks
        .iter()
        .map(|check| {
            json!({
                "area": check.area,
                "name": check.name,
                "verdict": check.verdict.as_str(),
                "found": check.found,
                "wanted": check.wanted,
                "why": check.why,
                "fix": check.fix,
            })
        })
        .collect();
    let plan = &report.plan;
    let report = json!({
        "connections": plan.connections,
        "shards": plan.shards,
        "cpus": format_cpus(&plan.cpus),
        "fit": report.is_fit(),
        "must_fix": report.count(Verdict::MustFix),
        "advice": report.count(Verdict::Advice),
        "unknown": report.count(Verdict::Unknown),
        "ok": report.count(Verdict::Ok),
        "checks": checks,
    });
    format!("{}\n", tickstream_service::text::json(&format!("{report:#}")))
}

fn summary(report: &Report) -> String {
    let count = |verdict| report.count(verdict);
    let mut text = format!(
        "{} must be fixed, {} advised, {} ok, {} unknown.",
        count(Verdict::MustFix),
        count(Verdict::Advice),
        count(Verdict::Ok),
        count(Verdict::Unknown)
    );
    let is_fix =
        |part: &str| report.checks.iter().any(|check| check.fix.iter().any(|fix| fix.contains(part)));
    if is_fix("sysctl -w") {
        text += " What sysctl -w sets is gone after a boot; files in /etc/sysctl.d stay.";
    }
    text
}

struct Text {
    out: String,
    colour: bool,
}

impl Text {
    fn check(&mut self, check: &Check) {
        let (label, code) = match check.verdict {
            Verdict::Ok => ("ok", GREEN),
            Verdict::Unknown => ("unknown", DIM),
            Verdict::Advice => ("advice", YELLOW),
            Verdict::MustFix => ("must fix", RED),
        };
        // Padded before it is painted: the codes have no width.
        let label = self.painted(code, &format!("{label:<9}"));
        for (at, line) in wrapped(&format!("{}: {}", check.name, check.found)).into_iter().enumerate() {
            let line = if at == 0 { format!("  {label}  {line}") } else { format!("{:INDENT$}{line}", "") };
            self.line(&line);
        }
        if check.verdict < Verdict::Advice {
            return;
        }
        self.detail("wanted: ", &check.wanted);
        self.detail("why: ", check.why);
        for fix in &check.fix {
            let line = format!("{:INDENT$}→ {}", "", self.painted(BOLD, &one_line(fix)));
            self.line(&line);
        }
    }

    fn detail(&mut self, name: &str, text: &str) {
        for line in wrapped(&format!("{name}{text}")) {
            let line = format!("{:INDENT$}{}", "", self.painted(DIM, &line));
            self.line(&line);
        }
    }

    fn line(&mut self, text: &str) {
        // Names of devices, mounts and control groups come from files.
        writeln!(self.out, "{}", one_painted_line(text)).expect("writing to a String can't fail");
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Lines that fit beside the indentation, broken at spaces.
fn wrapped(text: &str) -> Vec<String> {
    // Before colours are added, so that ESC in it is no colour either.
    let text = &one_line(text);
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line from the start");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - INDENT {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
