//! Output of `watch`: for people, a line for each batch; as JSON, an object for each tick. Text from the server has its
//! control characters escaped.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tickstream_client::{Error, Mode, Tick, with_causes};

use tickstream_service::text::{counted, one_line, push_json_line};

/// The end of the year 9999, up to which RFC 3339 has a form for times, Unix milliseconds. Servers may say what they like.
const EPOCH_MS_END: u64 = 253_402_300_800_000;

/// Something to print.
pub enum Line<'a> {
    Ticks { mode: Mode, ticks: &'a [Tick], latencies: &'a [Option<Duration>] },
    Gap { expected: u64, got: u64 },
    Reset { expected: u64, got: u64 },
    Subscribed { mode: Mode, next_sequence: u64 },
    Disconnected { error: &'a Error, retry_in: Duration },
    Reconnected { server: &'a str, next_sequence: u64 },
    GoAway { reason: &'a str, retry_after: Option<Duration> },
    ClocksDiffer { server_ahead_ms: i64 },
    Summary { ticks: u64, missed: u64, latency: &'a Histogram<u64> },
}

/// Prints lines in one of the two formats.
pub struct Printer<W> {
    out: W,
    json: bool,
    colours: bool,
}

impl<W: Write> Printer<W> {
    pub fn new(out: W, json: bool, colours: bool) -> Self {
        Self { out, json, colours }
    }

    /// Prints one thing.
    ///
    /// # Errors
    /// If the output is closed, or takes no more.
    pub fn print(&mut self, line: &Line<'_>) -> io::Result<()> {
        // At once and whole, so that a reader of the other end sees each line as it comes.
        let mut text = Vec::new();
        if self.json {
            as_json(&mut text, line);
        } else {
            self.as_text(&mut text, line)?;
        }
        self.out.write_all(&text)?;
        self.out.flush()
    }

    fn as_text(&self, out: &mut Vec<u8>, line: &Line<'_>) -> io::Result<()> {
        let warning = match line {
            Line::Ticks { mode, ticks, latencies } => return text_of_ticks(out, *mode, ticks, latencies),
            Line::Subscribed { mode, next_sequence } => {
                return writeln!(out, "subscribed to {}, next tick {next_sequence}", mode.as_str_name());
            }
            Line::Reconnected { server, next_sequence } => {
                return writeln!(out, "connected to {} again, next tick {next_sequence}", one_line(server));
            }
            Line::Summary { ticks, missed, latency } => {
                write!(out, "{}, {missed} missed", counted(*ticks, "tick"))?;
                if !latency.is_empty() {
                    let [p50, p95, max] = quantiles(latency);
                    write!(out, "; latency p50 {p50:.2} ms, p95 {p95:.2} ms, max {max:.2} ms")?;
                }
                return writeln!(out);
            }
            Line::Gap { expected, got } => match got - expected {
                1 => format!("gap: tick {expected} is missing"),
                missing => format!("gap: {} from {expected} to {}", counted(missing, "tick"), got - 1),
            },
            Line::Reset { expected, got } => {
                format!("reset: the server goes on with tick {got}, behind the expected tick {expected}")
            }
            Line::Disconnected { error, retry_in } => {
                format!(
                    "disconnected: {}; again in {} ms",
                    one_line(&with_causes(error)),
                    retry_in.as_millis()
                )
            }
            Line::GoAway { reason, retry_after } => {
                let again =
                    retry_after.map_or("shortly".to_owned(), |after| format!("in {} ms", after.as_millis()));
                format!("the server says goodbye: {}; to reconnect {again}", one_line(reason))
            }
            Line::ClocksDiffer { server_ahead_ms } => {
                let seconds = server_ahead_ms.unsigned_abs() as f64 / 1e3;
                let way = if *server_ahead_ms > 0 { "behind" } else { "ahead of" };
                format!(
                    "this machine's clock is {seconds:.1} s {way} the server's: latencies allow for that, to some milliseconds"
                )
            }
        };
        if self.colours { writeln!(out, "\x1b[33m{warning}\x1b[0m") } else { writeln!(out, "{warning}") }
    }
}

/// One line for a batch: its first tick, and its last where there are several.
fn text_of_ticks(
    out: &mut Vec<u8>,
    mode: Mode,
    ticks: &[Tick],
    latencies: &[Option<Duration>],
) -> io::Result<()> {
    let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
        return Ok(());
    };
    if last.epoch_ms < EPOCH_MS_END {
        let due = std::time::UNIX_EPOCH + Duration::from_millis(last.epoch_ms);
        write!(out, "{}", humantime::format_rfc3339_millis(due))?;
    } else {
        write!(out, "{} ms", last.epoch_ms)?;
    }
    write!(out, "  {}  tick {}", mode.as_str_name(), first.sequence)?;
    if ticks.len() > 1 {
        write!(out, " to {} ({})", last.sequence, counted(ticks.len() as u64, "tick"))?;
    }
    match latencies.last().copied().flatten() {
        Some(latency) => writeln!(out, "  {:.2} ms", latency.as_secs_f64() * 1e3),
        None => writeln!(out, "  replayed"),
    }
}

fn as_json(out: &mut Vec<u8>, line: &Line<'_>) {
    let mut object = |value: serde_json::Value| push_json_line(out, &value);
    match line {
        Line::Ticks { mode, ticks, latencies } => {
            for (tick, latency) in ticks.iter().zip(*latencies) {
                let latency_ms = latency.map(|latency| latency.as_micros() as f64 / 1e3);
                object(json!({
                    "event": "tick", "mode": mode.as_str_name(), "sequence": tick.sequence,
                    "epoch_ms": tick.epoch_ms, "latency_ms": latency_ms,
                }));
            }
        }
        Line::Gap { expected, got } => object(json!({"event": "gap", "expected": expected, "got": got})),
        Line::Reset { expected, got } => object(json!({"event": "reset", "expected": expected, "got": got})),
        Line::Subscribed { mode, next_sequence } => {
            object(
                json!({"event": "subscribed", "mode": mode.as_str_name(), "next_sequence": next_sequence}),
            );
        }
        Line::Disconnected { error, retry_in } => object(json!({
            "event": "disconnected", "error": with_causes(error), "retry_in_ms": retry_in.as_millis() as u64,
        })),
        Line::Reconnected { server, next_sequence } => {
            object(json!({"event": "reconnected", "server": server, "next_sequence": next_sequence}));
        }
        Line::GoAway { reason, retry_after } => object(json!({
            "event": "goaway", "reason": reason, "retry_after_ms": retry_after.map(|after| after.as_millis() as u64),
        })),
        Line::ClocksDiffer { server_ahead_ms } => {
            object(json!({"event": "clocks_differ", "server_ahead_ms": server_ahead_ms}));
        }
        Line::Summary { ticks, missed, latency } => {
            let [p50, p95, max] = quantiles(latency);
            let latency_ms = (!latency.is_empty()).then(|| json!({"p50": p50, "p95": p95, "max": max}));
            object(json!({"event": "summary", "ticks": ticks, "missed": missed, "latency_ms": latency_ms}));
        }
    }
}

/// p50, p95 and the maximum of a histogram of microseconds, milliseconds.
fn quantiles(latency: &Histogram<u64>) -> [f64; 3] {
    [0.5, 0.95, 1.0].map(|quantile| latency.value_at_quantile(quantile) as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &Line<'_>, text: &str, json: &str) {
        for (as_json, expected) in [(false, text), (true, json)] {
            let mut out = Vec::new();
            Printer::new(&mut out, as_json, false).print(line).unwrap();
            assert_eq!(String::from_utf8(out).unwrap().trim_end(), expected);
        }
    }

    #[test]
    fn lines_in_both_formats() {
        let ticks = [Tick { sequence: 1_795_291_200, epoch_ms: 1_795_291_200_000 }];
        let latencies = [Some(Duration::from_micros(420))];
        check(
            &Line::Ticks { mode: Mode::Second, ticks: &ticks, latencies: &latencies },
            "2026-11-21T20:00:00.000Z  SECOND  tick 1795291200  0.42 ms",
            r#"{"epoch_ms":1795291200000,"event":"tick","latency_ms":0.42,"mode":"SECOND","sequence":1795291200}"#,
        );
        check(
            &Line::Ticks { mode: Mode::Second, ticks: &ticks, latencies: &[None] },
            "2026-11-21T20:00:00.000Z  SECOND  tick 1795291200  replayed",
            r#"{"epoch_ms":1795291200000,"event":"tick","latency_ms":null,"mode":"SECOND","sequence":1795291200}"#,
        );
        for epoch_ms in [EPOCH_MS_END, u64::MAX] {
            check(
                &Line::Ticks {
                    mode: Mode::Minute,
                    ticks: &[Tick { sequence: 1, epoch_ms }],
                    latencies: &[None],
                },
                &format!("{epoch_ms} ms  MINUTE  tick 1  replayed"),
                &format!(
                    r#"{{"epoch_ms":{epoch_ms},"event":"tick","latency_ms":null,"mode":"MINUTE","sequence":1}}"#
                ),
            );
        }
        check(
            &Line::Gap { expected: 3, got: 7 },
            "gap: 4 ticks from 3 to 6",
            r#"{"event":"gap","expected":3,"got":7}"#,
        );
        check(
            &Line::Reset { expected: 9, got: 4 },
            "reset: the server goes on with tick 4, behind the expected tick 9",
            r#"{"event":"reset","expected":9,"got":4}"#,
        );
        check(
            &Line::Summary { ticks: 2, missed: 0, latency: &Histogram::new(3).unwrap() },
            "2 ticks, 0 missed",
            r#"{"event":"summary","latency_ms":null,"missed":0,"ticks":2}"#,
        );
        check(
            &Line::Summary { ticks: 1, missed: 1, latency: &Histogram::new(3).unwrap() },
            "1 tick, 1 missed",
            r#"{"event":"summary","latency_ms":null,"missed":1,"ticks":1}"#,
        );
        check(
            &Line::Gap { expected: 3, got: 4 },
            "gap: tick 3 is missing",
            r#"{"event":"gap","expected":3,"got":4}"#,
        );
        check(
            &Line::ClocksDiffer { server_ahead_ms: -20_000 },
            "this machine's clock is 20.0 s ahead of the server's: latencies allow for that, to some milliseconds",
            r#"{"event":"clocks_differ","server_ahead_ms":-20000}"#,
        );
    }

    #[test]
    fn the_server_s_words_forge_no_line() {
        let reason = "bye\x1b[2J\r\ngap: \u{9b}x\u{202e}";
        for as_json in [false, true] {
            let mut out = Vec::new();
            let mut printer = Printer::new(&mut out, as_json, false);
            let error = Error::GoAway { reason: reason.to_owned() };
            printer.print(&Line::Disconnected { error: &error, retry_in: Duration::ZERO }).unwrap();
            printer.print(&Line::GoAway { reason, retry_after: None }).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out.lines().count(), 2, "{out:?}");
            assert!(!out.lines().any(|line| line.chars().any(tickstream_service::text::steers)), "{out:?}");
        }
    }
}
