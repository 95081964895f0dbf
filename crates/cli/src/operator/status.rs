//! `tickstream status`: a running server in some lines.

use std::fmt::Write;

use tickstream_server::admin::report::{CollectionReport, Report, ShardReport};
use tickstream_service::text::{json, noun_for, one_line};

use super::{OperatorError, failed, print};
use crate::admin_client::{AdminClient, PATIENCE};
use crate::top::units::{bytes, count, duration};

pub fn run(admin: &AdminClient, as_json: bool) -> Result<(), OperatorError> {
    if as_json {
        let answer = admin.get("/snapshot", PATIENCE).map_err(failed(admin))?;
        return print(&format!("{}\n", json(String::from_utf8_lossy(&answer).trim_end())));
    }
    let report: Report = admin.json("/snapshot").map_err(failed(admin))?;
    print(&text(&report))
}

/// The report as lines for people.
fn text(report: &Report) -> String {
    let total = |of: fn(&ShardReport) -> u64| report.shards.iter().map(of).sum::<u64>();
    let up = report.now_unix_ms.saturating_sub(report.started_unix_ms) / 1_000 * 1_000;
    let mut lines = vec![
        ("State", state(report)),
        ("Version", format!("{}, process {}, up {}", one_line(&report.version), report.pid, duration(up))),
        ("Address", one_line(&report.address).into_owned()),
        ("Shards", shards(report)),
        (
            "Connections",
            format!(
                "{}, {} not authenticated, {} lagging",
                count(total(|shard| shard.connections.into())),
                count(total(|shard| shard.unauthenticated.into())),
                count(total(|shard| shard.lagging.into())),
            ),
        ),
    ];
    let mut streams: Vec<_> = report.shards.iter().flat_map(|shard| shard.streams.keys()).collect();
    streams.sort_unstable();
    streams.dedup();
    // SECOND before MINUTE, as everywhere.
    for name in streams.into_iter().rev() {
        let of =
            |shard: &ShardReport| shard.streams.get(name).map_or(0, |stream| u64::from(stream.subscribers));
        let subscribers: u64 = report.shards.iter().map(of).sum();
        lines.push((
            "Stream",
            format!("{}, {} {}", one_line(name), count(subscribers), noun_for(subscribers, "subscriber")),
        ));
    }
    let received = bytes(total(|shard| shard.bytes_received) as f64);
    let sent = bytes(total(|shard| shard.bytes_sent) as f64);
    lines.push(("Traffic", format!("{received} received, {sent} sent since the start")));
    if let Some(events) = events(report) {
        lines.push(("Events", events));
    }
    let process = &report.process;
    let resident = bytes(process.resident_bytes as f64);
    lines
        .push(("Process", format!("{resident} of memory, {} log lines lost", count(process.log_lines_lost))));
    let mut text = String::new();
    for (label, value) in lines {
        writeln!(text, "{label:<12} {value}").expect("writing to a String can't fail");
    }
    text
}

fn state(report: &Report) -> String {
    let health = if report.healthy { "healthy" } else { "unhealthy: the loop of a shard doesn't turn" };
    format!("{}, {health}", one_line(&report.state))
}

fn shards(report: &Report) -> String {
    let number = report.shards.len() as u64;
    let silent: Vec<_> = report.shards.iter().filter(|shard| !shard.answered && !shard.retired).collect();
    let names: Vec<_> = silent.iter().map(|shard| shard.shard.to_string()).collect();
    match names.as_slice() {
        [] => count(number),
        names => format!("{}, without an answer from {}", count(number), names.join(", ")),
    }
}

fn events(report: &Report) -> Option<String> {
    let all: Vec<&CollectionReport> =
        report.shards.iter().filter_map(|shard| shard.events.as_ref()).collect();
    let total = |of: fn(&CollectionReport) -> u64| all.iter().map(|events| of(events)).sum::<u64>();
    let is_full = all.iter().any(|events| events.journal.full_since_unix_ms.is_some());
    (!all.is_empty()).then(|| {
        format!(
            "{} stored, {} known already, {} rejected; journals of {}{}",
            count(total(|events| events.accepted)),
            count(total(|events| events.duplicates)),
            count(total(CollectionReport::rejected_in_all)),
            bytes(total(|events| events.journal.disk_bytes) as f64),
            if is_full { "; the disk is full: events are refused until there is room" } else { "" },
        )
    })
}
