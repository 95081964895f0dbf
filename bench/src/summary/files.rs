//! The files that a run leaves.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use hdrhistogram::serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder};

use super::Summary;
use crate::{options::Options, report};

impl Summary {
    /// Prints the summary and writes the files that were asked for.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn write(&self, options: &Options) -> anyhow::Result<()> {
        let json_to_stdout = options.json.as_deref() == Some(Path::new("-"));
        if json_to_stdout {
            eprint!("{self}");
        } else {
            print!("{self}");
        }
        if let Some(path) = &options.json {
            let mut json = serde_json::to_string_pretty(self)?;
            json.push('\n');
            if json_to_stdout {
                io::stdout().write_all(json.as_bytes())?;
            } else {
                fs::write(path, json).with_context(|| format!("--json {}", path.display()))?;
            }
        }
        if let Some(path) = &options.hdr {
            self.write_hdr(path).with_context(|| format!("--hdr {}", path.display()))?;
        }
        if let Some(path) = &options.report {
            fs::write(path, report::page(self)).with_context(|| format!("--report {}", path.display()))?;
        }
        Ok(())
    }

    fn write_hdr(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = File::create(path)?;
        let mut serializer = V2DeflateSerializer::new();
        let start = UNIX_EPOCH + Duration::from_millis(self.started_ms);
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("[tickstream-load: latency of live ticks in the measured time, in microseconds]")
            .with_start_time(start)
            .with_max_value_divisor(1_000.0)
            .begin_log_with(&mut file, &mut serializer)?;
        let length = Duration::from_secs_f64(self.measured_s);
        log.write_histogram(&self.histogram, Duration::from_millis(self.started_ms), length, None)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(())
    }
}
