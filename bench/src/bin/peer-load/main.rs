//! `tickstream-peer-load`: what `tickstream-load` measures, of the servers that tickstream is compared with. It holds
//! subscribers of one channel of Redis (RESP), NATS (core) or Mosquitto (MQTT 3.1.1, QoS 0), publishes a message at
//! each whole second or at a rate, and measures how late it reaches each subscriber. No client libraries: subscribers
//! receive as those of tickstream-load do, from the same ring, so that the client's side costs alike.
//!
//! `protocol` decides what bytes mean, without I/O; `subscribers` and `publisher` are a thread each (one or more of the
//! former); `run` leads them; `summary` tells, under the names of tickstream-load's JSON where they mean the same.

#![forbid(unsafe_code)]

mod collector;
mod message;
mod options;
mod protocol;
mod publisher;
mod run;
mod subscribers;
mod summary;

use std::process::ExitCode;

use clap::Parser;

use crate::options::Options;

/// Messages were lost, or connections.
const EXIT_FAULTS: u8 = 1;
/// The run couldn't be made. (Wrong usage is clap's 2.)
const EXIT_NOT_RUN: u8 = 3;

fn main() -> ExitCode {
    match try_main(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAULTS),
        Err(error) => {
            eprintln!("tickstream-peer-load: {error:#}");
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}

fn try_main(options: &Options) -> anyhow::Result<bool> {
    tickstream_uring::system::raise_limit(libc::RLIMIT_NOFILE)?;
    let summary = run::run(options)?;
    summary.write(options.json.as_deref())?;
    Ok(summary.passed)
}
