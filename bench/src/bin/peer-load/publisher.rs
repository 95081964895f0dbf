//! The one publisher: a thread that says each message when it is due.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use anyhow::Context;
use hdrhistogram::Histogram;
use tickstream_load::{latency_histogram, wall_us};
use tickstream_uring::system::run_on;

use crate::{
    message::Message,
    options::Options,
    protocol::{Event, Inbox},
    subscribers::Shared,
};

/// Longest sleep of the publisher before it looks whether it is to stop.
const STEP_US: u64 = 100_000;
/// Messages that are said in one go at most, if the publisher is late.
const MESSAGES_PER_WRITE: usize = 256;
/// A server that takes nothing for this long has failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// When messages are due: `rate` in each second from `from_us` on, a whole second, until `until_us`.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    pub from_us: u64,
    pub until_us: u64,
    pub rate: u64,
}

impl Timetable {
    fn due_us(&self, sequence: u64) -> u64 {
        let within_us = sequence % self.rate * 1_000_000 / self.rate;
        self.from_us + sequence / self.rate * 1_000_000 + within_us
    }
}

/// Counts of published messages.
#[derive(Debug)]
pub struct Published {
    pub messages: u64,
    /// Delay of writing a message, µs. It is part of the latencies.
    pub late: Histogram<u64>,
}

/// The publisher's connection.
pub struct Publisher {
    options: Arc<Options>,
    stream: TcpStream,
    inbox: Inbox,
}

impl Publisher {
    /// Connects.
    ///
    /// # Errors
    /// If the server doesn't take it.
    pub fn connect(options: Arc<Options>) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(options.addr).context("the publisher can't connect")?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        stream.write_all(&options.peer.hello("publisher"))?;
        Ok(Self { options, stream, inbox: Inbox::default() })
    }

    /// Publishes by `timetable`, or until it is told to stop.
    ///
    /// # Errors
    /// If the server refuses, or the connection breaks.
    pub fn run(mut self, timetable: Timetable, shared: &Shared) -> anyhow::Result<Published> {
        if let Some(cpus) = &self.options.cpus {
            run_on(&[cpus.of_thread(self.options.threads() as usize - 1)])?;
        }
        let mut published = Published { messages: 0, late: latency_histogram() };
        while !shared.stop_publishing.load(Ordering::Acquire) {
            let due_us = timetable.due_us(published.messages);
            if due_us >= timetable.until_us {
                break;
            }
            let now_us = wall_us();
            if now_us < due_us {
                thread::sleep(Duration::from_micros((due_us - now_us).min(STEP_US)));
                continue;
            }
            self.publish_due(timetable, now_us, &mut published)?;
            self.listen()?;
        }
        Ok(published)
    }

    fn publish_due(
        &mut self,
        timetable: Timetable,
        now_us: u64,
        published: &mut Published,
    ) -> anyhow::Result<()> {
        let Options { peer, channel, size, .. } = &*self.options;
        let mut said = Vec::new();
        for _ in 0..MESSAGES_PER_WRITE {
            let message =
                Message { sequence: published.messages, due_us: timetable.due_us(published.messages) };
            if message.due_us > now_us || message.due_us >= timetable.until_us {
                break;
            }
            said.extend(peer.publish(channel, &message.encode(*size)));
            published.messages += 1;
            published.late.saturating_record(now_us - message.due_us);
        }
        self.stream.write_all(&said).context("the publisher can't write")
    }

    /// Takes what the server has said, without waiting for it, and answers its pings.
    fn listen(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 16 << 10];
        let mut pings = 0;
        self.stream.set_nonblocking(true)?;
        let read = self.stream.read(&mut buffer);
        self.stream.set_nonblocking(false)?;
        match read {
            Ok(0) => {
                return Err(io::Error::from(ErrorKind::UnexpectedEof)).context("the publisher was closed");
            }
            Ok(len) => self.inbox.feed(self.options.peer, &buffer[..len], |event| {
                pings += usize::from(event == Event::Ping);
            })?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("the publisher can't read"),
        }
        self.stream.write_all(&self.options.peer.pong().repeat(pings))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly_from_each_whole_second_on() {
        let timetable = Timetable { from_us: 5_000_000, until_us: 9_000_000, rate: 3 };
        let due_us: Vec<u64> = (0..5).map(|sequence| timetable.due_us(sequence)).collect();
        assert_eq!(due_us, [5_000_000, 5_333_333, 5_666_666, 6_000_000, 6_333_333]);
    }
}
