//! A line for what ends a connection, a bound on such lines, and a line for each limit that fires.

use tickstream_engine::{ClockStep, CloseReason, Counters, Limit, Report, Severity};

/// Lines of one second. A storm of closes is summed up instead.
const LINES_PER_SECOND: u32 = 50;

/// Logs the ends of one shard's connections.
#[derive(Debug)]
pub struct CloseLog {
    shard: usize,
    second: u64,
    lines: u32,
    left_out: u64,
    /// Counters at the last turn.
    fired: [u64; Limit::ALL.len()],
}

impl CloseLog {
    pub fn new(shard: usize) -> Self {
        Self { shard, second: 0, lines: 0, left_out: 0, fired: [0; Limit::ALL.len()] }
    }

    /// Logs one end, unless this second had enough of them; `subject` is that of the client's certificate.
    pub fn log(&mut self, report: &Report, subject: impl FnOnce() -> Option<String>) {
        // What isn't printed uses nothing up.
        let is_printed = match report.reason.severity() {
            Severity::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Severity::Info => tracing::enabled!(tracing::Level::INFO),
            Severity::Warn => tracing::enabled!(tracing::Level::WARN),
            Severity::Error => tracing::enabled!(tracing::Level::ERROR),
        };
        if !is_printed {
            return;
        }
        // Who reads too slowly is named always: operators look for them, and each had to authenticate first.
        if report.reason != CloseReason::SlowConsumer {
            if self.lines == LINES_PER_SECOND {
                self.left_out += 1;
                return;
            }
            self.lines += 1;
        }
        // Parsed for lines alone that are printed.
        let subject = subject();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    conn = %format_args!("{}-{}", self.shard, report.number),
                    peer = %report.peer,
                    reason = report.reason.as_str(),
                    detail = &*report.detail,
                    subject,
                    mode = report.mode.map_or("none", |mode| mode.as_str_name()),
                    open_ms = report.open_ms,
                    unsent_ms = report.unsent_ms,
                    "connection closed"
                )
            };
        }
        match report.reason.severity() {
            Severity::Debug => line!(debug),
            Severity::Info => line!(info),
            Severity::Warn => line!(warn),
            Severity::Error => line!(error),
        }
    }

    /// Says what there is left to say when the shard ends.
    pub fn finish(&mut self, counters: &Counters) {
        self.turn_to(self.second + 1, counters);
        if counters.connections > 0 {
            tracing::warn!(
                shard = self.shard,
                connections = counters.connections,
                "connections were still open at the end"
            );
        }
    }

    /// Logs that the wall clock was set. Each shard sees it; the first one says so.
    pub fn clock_was_set(&self, step: ClockStep) {
        let (direction, by_ns) = match step {
            ClockStep::Forward(by_ns) => ("forward", by_ns),
            ClockStep::Back(by_ns) => ("back", by_ns),
        };
        if self.shard == 0 {
            tracing::warn!(direction, by_ms = by_ns / 1_000_000, "the wall clock was set");
        }
    }

    /// True if it is time for [`CloseLog::turn_to`].
    pub fn is_over(&self, second: u64) -> bool {
        second != self.second
    }

    /// Once a second is over: says how many lines were left out of it, and which limits fired in it.
    pub fn turn_to(&mut self, second: u64, counters: &Counters) {
        if self.left_out > 0 {
            tracing::warn!(
                shard = self.shard,
                closes = self.left_out,
                "more connections closed than are logged in a second"
            );
        }
        for limit in Limit::ALL {
            let times = counters.fired(limit) - self.fired[limit as usize];
            if times > 0 {
                tracing::warn!(shard = self.shard, limit = limit.as_str(), times, "a limit fired");
            }
        }
        (self.second, self.lines, self.left_out, self.fired) = (second, 0, 0, counters.fired);
    }
}
