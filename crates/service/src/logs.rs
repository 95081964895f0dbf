//! The log: lines on stderr that never hold up a shard.
//!
//! Whoever logs puts a line into a queue of bounded length; a thread of its own writes it. Where stderr is slow,
//! closed or on a full disk, lines are lost and counted, and serving goes on.

use crate::text;
use std::{
    io::{self, IsTerminal, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tracing::Dispatch;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{FormatFields, debug_fn};
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, reload};

/// Lines that may wait to be written. At some 300 bytes each, 2.4 MB.
const QUEUE_LINES_MAX: usize = 8_192;

/// The format of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// [`LogFormat::Human`] where stderr is a terminal, else [`LogFormat::Json`].
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// Errors of setting up the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level isn't a filter; one that was read from settings is.
    #[error("invalid log level: {0}")]
    Filter(#[from] ParseError),
    /// [`init`] was called before.
    #[error("the log is already set up")]
    Twice,
}

/// Starts logging to stderr, for all threads. `level` is an `EnvFilter` directive.
///
/// Keep the guard until the end: dropping it writes what waits, for at most some 1.2 s.
///
/// # Errors
///
/// [`LogError::Filter`], and [`LogError::Twice`] if there is a global subscriber already.
pub fn init(level: &str, format: LogFormat) -> Result<LogGuard, LogError> {
    let terminal = io::stderr().is_terminal();
    let colors = text::has_colours(&io::stderr());
    let (queue, mut guard) = start(io::stderr(), QUEUE_LINES_MAX);
    let style = match format {
        LogFormat::Human => Style::Human { colors },
        LogFormat::Auto if terminal => Style::Human { colors },
        LogFormat::Auto | LogFormat::Json => Style::Json,
    };
    let (dispatch, filter) = subscriber(level, style, queue)?;
    guard.filter = Some(filter);
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogError::Twice)?;
    Ok(guard)
}

/// Keeps the log's thread running.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    worker: Option<WorkerGuard>,
    probe: NonBlocking,
    losses: LogLosses,
    filter: Option<LogFilter>,
}

/// Changes what is logged, while it is logged.
#[derive(Clone)]
pub struct LogFilter(Arc<dyn Fn(EnvFilter) + Send + Sync>);

/// Counts the lines that were lost. Clones count the same.
#[derive(Clone, Debug)]
pub struct LogLosses {
    queue_full: ErrorCounter,
    unwritable: Arc<AtomicU64>,
}

impl LogGuard {
    /// The way to change what is logged.
    pub fn filter(&self) -> Option<LogFilter> {
        self.filter.clone()
    }

    /// The counter of lost lines, for the metrics.
    pub fn losses(&self) -> LogLosses {
        self.losses.clone()
    }
}

impl LogFilter {
    /// Logs what `level` says from now on: a directive of `EnvFilter`, which must be valid.
    pub fn set(&self, level: &str) {
        if let Ok(filter) = EnvFilter::builder().parse(level) {
            self.0(filter);
        }
    }
}

impl std::fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogFilter(…)")
    }
}

impl LogLosses {
    /// Lines lost since the start: the queue was full, or stderr refused them.
    pub fn lines(&self) -> u64 {
        self.queue_full.dropped_lines() as u64 + self.unwritable.load(Ordering::Relaxed)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // Where the queue stays full, WorkerGuard says so by println!, which panics if stdout is closed, too.
        if !has_room(&mut self.probe) {
            mem::forget(self.worker.take());
        }
    }
}

/// Tries for 100 ms whether the queue takes a line, here an empty one.
fn has_room(queue: &mut NonBlocking) -> bool {
    let refused = queue.error_counter();
    (0..10).any(|attempt| {
        if attempt > 0 {
            thread::sleep(Duration::from_millis(10));
        }
        let before = refused.dropped_lines();
        queue.write(b"").is_ok() && refused.dropped_lines() == before
    })
}

#[derive(Clone, Copy)]
enum Style {
    Human { colors: bool },
    Json,
}

fn start(output: impl Write + Send + 'static, lines_max: usize) -> (NonBlocking, LogGuard) {
    let unwritable = Arc::new(AtomicU64::new(0));
    let output = Lossy { output, unwritable: unwritable.clone() };
    let (queue, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(lines_max)
        .lossy(true)
        .thread_name("log")
        .finish(output);
    let losses = LogLosses { queue_full: queue.error_counter(), unwritable };
    let guard = LogGuard { worker: Some(worker), probe: queue.clone(), losses, filter: None };
    (queue, guard)
}

fn subscriber(level: &str, style: Style, queue: NonBlocking) -> Result<(Dispatch, LogFilter), ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    // Internal errors would be reported by eprintln!, which panics where stderr fails.
    let writer = move || OneLine { queue: queue.clone(), style };
    let builder = fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    Ok(match style {
        Style::Human { colors } => {
            let builder = builder.with_ansi(colors).fmt_fields(escaped_fields()).with_filter_reloading();
            let filter = handle(builder.reload_handle());
            (builder.into(), filter)
        }
        Style::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let filter = handle(builder.reload_handle());
            (builder.into(), filter)
        }
    })
}

/// Writes fields for people, `name=value`, with control characters of each value escaped before colours are around it.
fn escaped_fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", text::one_line(&value)),
            name => write!(writer, "{name}={}", text::one_line(&value)),
        }
    })
    .delimited(" ")
}

fn handle<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> LogFilter {
    LogFilter(Arc::new(move |filter| {
        // It fails only once the log is gone.
        let _ = handle.reload(filter);
    }))
}

/// Escapes what would forge a second line or steer the terminal, in a line that holds text from elsewhere (CWE-117,
/// CWE-150). In lines for people, `escaped_fields` has done so with the values; here the rest of the line follows.
struct OneLine {
    queue: NonBlocking,
    style: Style,
}

impl Write for OneLine {
    /// The formatter writes each line whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let whole = String::from_utf8_lossy(line);
        let content = whole.strip_suffix('\n').unwrap_or(&whole);
        let safe = match self.style {
            Style::Json => text::json(content),
            Style::Human { colors: false } => text::one_line(content),
            // The escapes that are left are the formatter's own colours.
            Style::Human { colors: true } => text::one_painted_line(content),
        };
        match safe {
            std::borrow::Cow::Borrowed(_) => self.queue.write_all(line)?,
            std::borrow::Cow::Owned(safe) => self.queue.write_all(format!("{safe}\n").as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.flush()
    }
}

/// A writer that never fails, and counts the lines that its output refused. tracing_appender's thread would drop
/// an error on most of its ways, but report one at its end by eprintln!, which panics where stderr fails.
struct Lossy<W> {
    output: W,
    unwritable: Arc<AtomicU64>,
}

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.output.write_all(line).is_err() {
            self.unwritable.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.output.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        sync::{Condvar, Mutex},
        time::Instant,
    };

    /// Log in `style`, after everything was written.
    fn check(level: &str, style: Style, expected: impl Fn(&str) -> bool) {
        let mut file = tempfile::tempfile().unwrap();
        let (queue, guard) = start(file.try_clone().unwrap(), 16);
        tracing::dispatcher::with_default(&subscriber(level, style, queue).unwrap().0, || {
            tracing::info!(conn = 7, reason = "x y", "closed");
            tracing::debug!("detail");
        });
        assert_eq!(guard.losses().lines(), 0);
        drop(guard);
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert!(expected(&text), "{text}");
    }

    fn log_lines(output: impl Write + Send + 'static, queue_lines_max: usize, lines: usize) -> LogGuard {
        let (queue, guard) = start(output, queue_lines_max);
        tracing::dispatcher::with_default(&subscriber("info", Style::Json, queue).unwrap().0, || {
            (0..lines).for_each(|line| tracing::info!(line, "line"));
        });
        guard
    }

    fn lost_after(guard: LogGuard) -> u64 {
        let losses = guard.losses();
        drop(guard);
        losses.lines()
    }

    #[test]
    fn json_is_one_object_a_line() {
        check("info", Style::Json, |text| {
            let line: serde_json::Value = serde_json::from_str(text).unwrap();
            let is = |key: &str, value: &str| line[key] == value;
            line["conn"] == 7 && is("reason", "x y") && is("message", "closed") && is("level", "INFO")
        });
    }

    #[test]
    fn human_lines_have_colors_only_when_told() {
        check("info", Style::Human { colors: false }, |text| {
            text.ends_with("closed conn=7 reason=\"x y\"\n")
        });
        check("info", Style::Human { colors: true }, |text| text.contains("\x1b["));
    }

    #[test]
    fn text_from_elsewhere_forges_no_line_and_steers_no_terminal() {
        let hostile = "a\nERROR forged\r\x1b[31mb\u{9b}2Jc\u{202e}d";
        for style in [Style::Json, Style::Human { colors: false }, Style::Human { colors: true }] {
            let mut file = tempfile::tempfile().unwrap();
            let (queue, guard) = start(file.try_clone().unwrap(), 16);
            tracing::dispatcher::with_default(&subscriber("info", style, queue).unwrap().0, || {
                tracing::info!(peer = %hostile, reason = hostile, "{hostile}");
            });
            drop(guard);
            let mut text = String::new();
            io::Seek::rewind(&mut file).unwrap();
            io::Read::read_to_string(&mut file, &mut text).unwrap();
            assert_eq!(text.lines().count(), 1, "{text:?}");
            let is_steered =
                text.trim_end().replace("\x1b[0m", "").replace("\x1b[2m", "").replace("\x1b[3m", "");
            let is_steered = is_steered.replace("\x1b[32m", "");
            assert!(!is_steered.chars().any(crate::text::steers), "{text:?}");
            assert!(text.contains("ERROR forged"), "{text:?}");
        }
    }

    #[test]
    fn the_level_filters() {
        check("debug", Style::Json, |text| text.lines().count() == 2);
        check("off", Style::Json, str::is_empty);
        check("info,other=debug", Style::Json, |text| text.lines().count() == 1);
        assert!(subscriber("a=b", Style::Json, start(io::sink(), 1).0).is_err());
    }

    #[test]
    fn a_full_disk_costs_lines_only() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(lost_after(log_lines(full, 64, 20)), 20);
    }

    #[test]
    fn a_closed_pipe_costs_lines_only() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(lost_after(log_lines(writer, 64, 20)), 20);
    }

    #[test]
    fn an_output_that_is_stuck_blocks_nobody() {
        /// Blocks until the gate opens.
        struct Stuck(Arc<(Mutex<bool>, Condvar)>);
        impl Write for Stuck {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                let (open, changed) = &*self.0;
                drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
                Ok(line.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let started = Instant::now();
        let lost = lost_after(log_lines(Stuck(gate.clone()), 8, 1_000));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        // All but the queue's eight and the one that is stuck; closing adds its probes.
        assert!((991..1_100).contains(&lost), "{lost}");
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    }
}
