//! The files that a run leaves.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use hdrhistogram::serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder};

use crate::{options::Options, report, summary::Summary};

/// Prints the summary and writes the files that were asked for.
///
/// # Errors
/// If a file can't be written.
pub fn write(summary: &Summary, options: &Options) -> anyhow::Result<()> {
    let json_to_stdout = options.json.as_deref() == Some(Path::new("-"));
    if json_to_stdout {
        eprint!("{summary}");
    } else {
        print!("{summary}");
    }
    if let Some(path) = &options.json {
        let mut json = serde_json::to_string_pretty(summary)?;
        json.push('\n');
        if json_to_stdout {
            io::stdout().write_all(json.as_bytes())?;
        } else {
            fs::write(path, json).with_context(|| format!("--json {}", path.display()))?;
        }
    }
    if let Some(path) = &options.hdr {
        write_hdr(summary, path).with_context(|| format!("--hdr {}", path.display()))?;
    }
    if let Some(path) = &options.report {
        fs::write(path, report::page(summary)).with_context(|| format!("--report {}", path.display()))?;
    }
    Ok(())
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
