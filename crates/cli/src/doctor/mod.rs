//! `tickstream doctor`: what of this machine stands in the way of so many connections, and the command that
//! changes it.
//!
//! A topic is one question, such as whether descriptors suffice. Topics read through [`Host`] alone, so that tests
//! give them a machine of files. What can't be read is unknown, never wrong.

mod cgroup;
mod cpus;
mod host;
mod journal;
mod limits;
mod memory;
mod nics;
mod print;
mod system;
mod tcp;

use std::num::NonZeroU32;

use tickstream_server::config::Config;

pub use host::Host;
pub use journal::JournalPlan;

/// Connections to check for where neither `--connections` nor `max_connections` says.
pub const CONNECTIONS_DEFAULT: u32 = 100_000;

/// Load that the machine is to carry.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections of the process at once.
    pub connections: u32,
    /// The setting; `None`: as many as descriptors allow.
    pub max_connections: Option<NonZeroU32>,
    /// Number of shards.
    pub shards: usize,
    /// CPUs that shards run on, ascending, each once.
    pub cpus: Vec<usize>,
    /// Ports that the server listens on.
    pub ports: Vec<u16>,
    /// True if one of them speaks TLS.
    pub tls: bool,
    /// Connections that may wait to be accepted, per shard.
    pub listen_backlog: u32,
    /// SO_SNDBUF of a connection, bytes.
    pub send_buffer: u32,
    /// Journals, if events are collected.
    pub journal: Option<JournalPlan>,
}

impl Plan {
    /// So many connections (by default those that the settings allow) on a server with these settings.
    pub fn new(config: &Config, connections: Option<NonZeroU32>) -> Self {
        let mut cpus = config.shard_cpus();
        cpus.sort_unstable();
        cpus.dedup();
        Self {
            connections: connections
                .or(config.settings.max_connections)
                .map_or(CONNECTIONS_DEFAULT, NonZeroU32::get),
            max_connections: config.settings.max_connections,
            shards: config.shards.get(),
            cpus,
            ports: config.listeners().iter().map(|listen| listen.address.port()).collect(),
            tls: config.tls.is_some(),
            listen_backlog: config.settings.listen_backlog.get(),
            send_buffer: config.settings.send_buffer.get(),
            journal: config.events.as_ref().map(|events| JournalPlan {
                directory: events.journal.clone(),
                segment_bytes: events.segment_bytes,
                bytes_max: events.journal_bytes_max,
                is_bounded_by_age: events.journal_age_max.is_some(),
            }),
        }
    }

    /// Connections of the fullest shard.
    fn connections_per_shard(&self) -> u64 {
        u64::from(self.connections).div_ceil(self.shards as u64)
    }
}

/// Consequence of a diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// The fact can't be read here.
    Unknown,
    /// Works, but less well than it could.
    Advice,
    /// The plan can't be met like this.
    MustFix,
}

impl Verdict {
    /// Its name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Advice => "advice",
            Self::MustFix => "must_fix",
        }
    }
}

/// Value found, value wanted and remedy of a topic.
#[derive(Clone, Debug)]
struct Diagnosis {
    verdict: Verdict,
    found: String,
    wanted: String,
    /// Commands, or settings of systemd; several are steps, or ways to choose from.
    fix: Vec<String>,
}

impl Diagnosis {
    fn ok(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, found: found.into(), wanted: wanted.into(), fix: Vec::new() }
    }

    fn unknown(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::ok(found, wanted) }
    }

    /// The same diagnosis, but this is to be done about it.
    fn but<T: Into<String>>(self, verdict: Verdict, fix: impl IntoIterator<Item = T>) -> Self {
        Self { verdict, fix: fix.into_iter().map(Into::into).collect(), ..self }
    }
}

/// One question about a machine.
struct Topic {
    name: &'static str,
    /// Why the answer matters.
    why: &'static str,
    look: fn(&Host, &Plan) -> Diagnosis,
}

/// The topics, under their headings.
const AREAS: &[(&str, &[Topic])] = &[
    ("Kernel and clock", system::TOPICS),
    ("Limits", limits::TOPICS),
    ("Memory", memory::TOPICS),
    ("TCP", tcp::TOPICS),
    ("CPUs", cpus::TOPICS),
    ("Network cards", nics::TOPICS),
    (EVENTS, journal::TOPICS),
];
/// Looked at only where events are collected.
const EVENTS: &str = "Event collection";

/// One answered question.
#[derive(Clone, Debug)]
pub struct Check {
    /// The heading that it belongs under.
    pub area: &'static str,
    /// Subject of the check, in a word or two.
    pub name: &'static str,
    /// Consequence of the value found.
    pub verdict: Verdict,
    /// The value found.
    pub found: String,
    /// The value expected.
    pub wanted: String,
    /// Why that matters.
    pub why: &'static str,
    /// Remedy: commands, or settings of systemd.
    pub fix: Vec<String>,
}

/// All that was found.
#[derive(Clone, Debug)]
pub struct Report {
    plan: Plan,
    checks: Vec<Check>,
}

impl Report {
    /// Looks at everything.
    pub fn of(host: &Host, plan: Plan) -> Self {
        let answer = |area, topic: &Topic| {
            let Diagnosis { verdict, found, wanted, fix } = (topic.look)(host, &plan);
            Check { area, name: topic.name, verdict, found, wanted, why: topic.why, fix }
        };
        let areas = AREAS.iter().filter(|(area, _)| *area != EVENTS || plan.journal.is_some());
        let checks = areas.flat_map(|(area, topics)| topics.iter().map(|topic| answer(*area, topic)));
        Self { checks: checks.collect(), plan }
    }

    /// True if the plan can be met.
    pub fn is_fit(&self) -> bool {
        self.count(Verdict::MustFix) == 0
    }

    /// For people.
    pub fn text(&self, colour: bool) -> String {
        print::text(self, colour)
    }

    /// For programs: one JSON object.
    pub fn json(&self) -> String {
        print::json(self)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with a binary unit, rounded to one decimal.
fn in_bytes(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64).replace(".0 ", " "),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests;
