//! The command line; options that tickstream-load has, too, mean the same there.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use tickstream_load::CpuList;

use crate::{message::Message, protocol::Peer};

/// Connections per thread where `--threads` isn't given.
const CONNECTIONS_PER_THREAD: u32 = 15_000;
/// Connections per source address: below the kernel's default range of ports.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;
/// The first source address, where there is more than one.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// Subscriber load for the servers that tickstream is compared with: one channel, one publisher, the latency of
/// every delivery.
#[derive(Clone, Debug, Parser)]
#[command(name = "tickstream-peer-load", version, max_term_width = 110)]
pub struct Options {
    /// Protocol of the server
    pub peer: Peer,
    /// Server, IP:port
    #[arg(long)]
    pub addr: SocketAddr,
    /// Subscribers to hold
    #[arg(short = 'n', long, default_value = "1000")]
    pub connections: NonZeroU32,
    /// Threads, each with a descriptor table of its own [default: one per 15,000 connections]
    #[arg(long)]
    pub threads: Option<NonZeroU32>,
    /// CPUs to keep the threads on, in turn; the publisher is on the last
    #[arg(long)]
    pub cpus: Option<CpuList>,
    /// Connections that may be on their way at a time
    #[arg(long, default_value = "64", value_name = "N")]
    pub in_flight: NonZeroU32,
    /// Longest time that all connections may take
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,

    /// Messages to publish per second, evenly from each whole second on
    #[arg(long, default_value = "1", value_name = "PER_SECOND")]
    pub rate: NonZeroU32,
    /// Bytes of a message; tickstream's frame of one tick has as many as the default
    #[arg(long, default_value_t = Message::LEN, value_parser = message_len, value_name = "BYTES")]
    pub size: usize,
    /// Channel, subject or topic
    #[arg(long, default_value = "ticks", value_parser = channel)]
    pub channel: String,
    /// Time after all are connected that isn't measured
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// Time that is measured
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Wait for late ticks at the end
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub grace: Duration,

    /// Process whose CPU and memory to sample [default: who listens on --addr, if that is this host]
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Completions that wake a thread before --receive-wait is over
    #[arg(long, default_value = "256", value_name = "N")]
    pub receive_batch: NonZeroU32,
    /// Longest time for which a thread lets arrivals gather before it wakes for fewer than --receive-batch
    #[arg(long, default_value = "200us", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub receive_wait: Duration,

    /// Write the results as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress, only the summary
    #[arg(short, long)]
    pub quiet: bool,
}

impl Options {
    /// Threads that hold the subscribers: no more than there are of these.
    pub fn threads(&self) -> u32 {
        let default = self.connections.get().div_ceil(CONNECTIONS_PER_THREAD);
        self.threads.map_or(default, NonZeroU32::get).min(self.connections.get())
    }

    /// Number of subscribers of the thread with this number.
    pub fn share(&self, thread: u32) -> u32 {
        let (all, threads) = (self.connections.get(), self.threads());
        all / threads + u32::from(thread < all % threads)
    }

    /// The address to connect from; `None` leaves it to the kernel.
    pub fn source(&self, thread: u32, slot: u32) -> Option<Ipv4Addr> {
        let sources = self.connections.get().div_ceil(CONNECTIONS_PER_SOURCE);
        if sources == 1 || !self.addr.ip().is_loopback() || !self.addr.is_ipv4() {
            return None;
        }
        let index = slot.wrapping_mul(self.threads()).wrapping_add(thread);
        Some(Ipv4Addr::from(u32::from(FIRST_SOURCE) + index % sources))
    }
}

fn message_len(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(len) if (Message::LEN..=Message::LEN_MAX).contains(&len) => Ok(len),
        _ => Err(format!("a message has {} to {} bytes", Message::LEN, Message::LEN_MAX)),
    }
}

fn channel(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("a channel is 1 to 64 letters, digits, - and _".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str) -> Options {
        let arguments = format!("tickstream-peer-load redis --addr 127.0.0.1:900 {arguments}");
        Options::parse_from(arguments.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Options as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn connections_are_shared_out_once_each() {
        let options = options("-n 100003");
        assert_eq!(options.threads(), 7);
        assert_eq!((0..7).map(|thread| options.share(thread)).sum::<u32>(), 100_003);
        assert_eq!(options.source(3, 0), Some(Ipv4Addr::new(127, 0, 1, 4)));
    }

    #[test]
    fn few_connections_need_one_source_and_no_idle_thread() {
        let options = options("-n 2 --threads 5");
        assert_eq!((options.threads(), options.source(0, 0)), (2, None));
    }
}
