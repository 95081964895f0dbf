//! A line for what ends a connection, and a bound on such lines.

use tickstream_engine::{CloseReason, Report, Severity};

/// Lines of one second. A storm of closes is summed up instead.
const LINES_PER_SECOND: u32 = 50;

/// Logs the ends of one shard's connections.
#[derive(Debug)]
pub struct CloseLog {
    shard: usize,
    second: u64,
    lines: u32,
    left_out: u64,
}

impl CloseLog {
    pub fn new(shard: usize) -> Self {
        Self { shard, second: 0, lines: 0, left_out: 0 }
    }

    /// Logs one end, unless this second had enough of them.
    pub fn log(&mut self, report: &Report, mono_ns: u64) {
        self.turn_to(mono_ns / 1_000_000_000);
        // Who reads too slowly is named always: operators look for them, and each had to authenticate first.
        if report.reason != CloseReason::SlowConsumer {
            if self.lines == LINES_PER_SECOND {
                self.left_out += 1;
                return;
            }
            self.lines += 1;
        }
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    conn = %format_args!("{}-{}", self.shard, report.number),
                    peer = %report.peer,
                    reason = report.reason.as_str(),
                    detail = &*report.detail,
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

    /// Says what there is left to say when the shard ends with so many connections.
    pub fn finish(&mut self, connections: u32) {
        self.turn_to(self.second + 1);
        if connections > 0 {
            tracing::warn!(shard = self.shard, connections, "connections were still open at the end");
        }
    }

    /// Says how many lines were left out, once their second is over.
    pub fn turn_to(&mut self, second: u64) {
        if second == self.second {
            return;
        }
        if self.left_out > 0 {
            tracing::warn!(
                shard = self.shard,
                closes = self.left_out,
                "more connections closed than are logged in a second"
            );
        }
        (self.second, self.lines, self.left_out) = (second, 0, 0);
    }
}
