//! The files that a run leaves.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use hdrhistogram::serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder};
use serde::Serialize;

use crate::{options::Options, report, summary::Summary};

/// Prints the summary and writes the files that were asked for.
///
/// # Errors
/// If a file can't be written.
pub(crate) fn write(summary: &Summary, options: &Options) -> anyhow::Result<()> {
    print(summary, options.json.as_deref())?;
    if let Some(path) = &options.hdr {
        write_hdr(summary, path).with_context(|| format!("--hdr {}", path.display()))?;
    }
    if let Some(path) = &options.report {
        fs::write(path, report::page(summary)).with_context(|| format!("--report {}", path.display()))?;
    }
    Ok(())
}

/// Prints the outcome of a run, and writes it as JSON to `json`; `-` is standard output, and people then read standard error.
///
/// # Errors
/// If it can't be written.
pub fn print(outcome: &(impl Serialize + fmt::Display), json: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = json else {
        print!("{outcome}");
        return Ok(());
    };
    let text = serde_json::to_string_pretty(outcome)? + "\n";
    if path == Path::new("-") {
        eprint!("{outcome}");
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    print!("{outcome}");
    fs::write(path, text).with_context(|| format!("--json {}", path.display()))
}

fn write_hdr(summary: &Summary, path: &Path) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    let mut serializer = V2DeflateSerializer::new();
    let start = UNIX_EPOCH + Duration::from_millis(summary.started_ms);
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[tickstream-load: latency of live ticks in the measured time, in microseconds]")
        .with_start_time(start)
        .with_max_value_divisor(1_000.0)
        .begin_log_with(&mut file, &mut serializer)?;
    let length = Duration::from_secs_f64(summary.measured_s);
    log.write_histogram(&summary.histogram, Duration::from_millis(summary.started_ms), length, None)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(())
}
