//! `--dribble`: connections that send a byte a second and never say anything (slowloris), and when the server has had
//! enough of each.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use socket2::{SockAddr, SockRef};
use tickstream_uring::ring::{Completion, Ring, Setup};
use tickstream_wire::{
    Decoder, FrameType,
    frame::seal,
    messages::{Auth, ErrorMsg, Message},
};

use super::{
    outcome::Outcome,
    threads::{Run, ServerCost, on_threads},
};
use crate::{
    clock::wall_us,
    figures::{Percentiles, percentiles},
    pace::Pace,
    plan::Plan,
    socket::{errno_name, open_socket, send_whole},
    stats::{Class, coarse, count},
    tls::TlsSessions,
    token::{Kind, Token},
};

const RING: Setup = Setup { submissions: 1024, completions: 8192, buffers: 1024, buffer_bytes: 512 };
const STEP: Duration = Duration::from_millis(5);
/// Connections that are opened in one step.
const OPENED_PER_STEP: usize = 64;
/// Interval between two bytes of a connection, µs.
const INTERVAL_US: u64 = 1_000_000;
/// An ERROR is short.
const PAYLOAD_MAX: u32 = 4096;
/// The first byte of a TLS record with an alert.
const TLS_ALERT: u8 = 0x15;
/// So long that no connection lives to send it whole.
const CREDENTIAL_LEN: usize = 255;

#[derive(Debug, Serialize)]
pub struct Dribble {
    connections: u32,
    /// By how the server ended them, or why there was no connection.
    ends: BTreeMap<String, u64>,
    left_open: u64,
    took_s: f64,
    /// From the TCP connection to its end.
    until_closed: Option<Percentiles>,
    bytes_sent: u64,
    server: Option<ServerCost>,
}

/// Counts of one thread.
struct Seen {
    ends: BTreeMap<String, u64>,
    until_closed: Histogram<u32>,
    bytes_sent: u64,
    left_open: u64,
}

/// Makes the run.
///
/// # Errors
/// If a thread fails.
pub fn run(plan: &Arc<Plan>) -> anyhow::Result<Dribble> {
    let Run { results, took, server } = on_threads(plan, |number| Thread::new(plan, number)?.run())?;
    let mut sum = Seen { ends: BTreeMap::new(), until_closed: coarse(), bytes_sent: 0, left_open: 0 };
    for seen in results {
        for (end, times) in seen.ends {
            *sum.ends.entry(end).or_default() += times;
        }
        sum.until_closed.add(seen.until_closed).expect("all are built alike");
        sum.bytes_sent += seen.bytes_sent;
        sum.left_open += seen.left_open;
    }
    Ok(Dribble {
        connections: plan.options.connections.get(),
        ends: sum.ends,
        left_open: sum.left_open,
        took_s: took.as_secs_f64(),
        until_closed: Percentiles::of(&sum.until_closed),
        bytes_sent: sum.bytes_sent,
        server,
    })
}

struct Dribbler {
    socket: Option<OwnedFd>,
    connected_us: Option<u64>,
    sent: usize,
    decoder: Decoder,
    /// The server's ERROR, if it said one.
    word: Option<String>,
}

struct Thread {
    plan: Arc<Plan>,
    number: u32,
    ring: Ring,
    target: &'static SockAddr,
    /// Bytes to be sent, one by one.
    bytes: Vec<u8>,
    dribblers: Vec<Dribbler>,
    opened: usize,
    over: usize,
    seen: Seen,
}

impl Thread {
    fn new(plan: &Arc<Plan>, number: u32) -> io::Result<Self> {
        let bytes = match &plan.tls {
            None => {
                let long = "x".repeat(CREDENTIAL_LEN);
                seal(&Auth { username: long.clone(), password: long, client: None })
            }
            Some(tls) => {
                let mut tls = TlsSessions::new(tls, 1);
                tls.enter(0, 0).map_err(io::Error::other)?;
                tls.output().to_vec()
            }
        };
        let dribbler =
            |_| Dribbler { socket: None, connected_us: None, sent: 0, decoder: Decoder::new(), word: None };
        Ok(Self {
            ring: Ring::new(RING)?,
            target: Box::leak(Box::new(SockAddr::from(plan.options.addr))),
            bytes,
            dribblers: plan.indices(number).map(dribbler).collect(),
            opened: 0,
            over: 0,
            seen: Seen { ends: BTreeMap::new(), until_closed: coarse(), bytes_sent: 0, left_open: 0 },
            plan: plan.clone(),
            number,
        })
    }

    fn run(mut self) -> io::Result<Seen> {
        let until_us = wall_us() + self.plan.options.duration.as_micros() as u64;
        let mut pace = Pace::new(wall_us(), self.dribblers.len() as u64, INTERVAL_US);
        let mut completions = Vec::new();
        while self.over < self.dribblers.len() && wall_us() < until_us {
            let last = (self.opened + OPENED_PER_STEP).min(self.dribblers.len());
            (self.opened..last).for_each(|slot| self.open(slot));
            self.opened = last;
            for at in pace.due(wall_us()) {
                self.send((at % self.dribblers.len() as u64) as usize);
            }
            self.ring.wait(1, Duration::ZERO, STEP)?;
            let now_us = wall_us();
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                self.complete(&completion, now_us);
                if let Some(received) = completion.received {
                    self.ring.recycle(received);
                }
            }
        }
        self.seen.left_open = (self.dribblers.len() - self.over) as u64;
        Ok(self.seen)
    }

    fn open(&mut self, slot: usize) {
        let index = u64::from(self.number) + slot as u64 * u64::from(self.plan.threads);
        match open_socket(&self.plan, Class::Steady, index) {
            Ok(socket) => {
                self.ring.connect(socket.as_fd(), self.target, token(Kind::Connect, slot));
                self.dribblers[slot].socket = Some(socket);
            }
            Err(error) => self.end(slot, &errno_name(error.raw_os_error().unwrap_or(0)), wall_us()),
        }
    }

    fn complete(&mut self, completion: &Completion, now_us: u64) {
        let Token { kind, slot, .. } = Token::unpack(completion.token);
        let slot = slot as usize;
        let dribbler = &mut self.dribblers[slot];
        let Some(socket) = &dribbler.socket else { return };
        match (kind, completion.result) {
            (Kind::Connect, Ok(_)) => {
                dribbler.connected_us = Some(now_us);
                self.ring.receive(socket.as_fd(), token(Kind::Receive, slot));
            }
            (Kind::Connect, Err(errno)) => self.end(slot, &format!("connect: {}", errno_name(errno)), now_us),
            (_, Ok(len)) if len > 0 => {
                if !completion.more {
                    self.ring.receive(socket.as_fd(), token(Kind::Receive, slot));
                }
                if let Some(received) = &completion.received {
                    dribbler.listen(self.ring.bytes(received));
                }
            }
            (_, Err(libc::ENOBUFS)) => self.ring.receive(socket.as_fd(), token(Kind::Receive, slot)),
            (_, result) => {
                let how = match (dribbler.word.take(), result) {
                    (Some(word), _) => word,
                    (None, Ok(_)) => "closed without a word".to_owned(),
                    (None, Err(errno)) => errno_name(errno),
                };
                self.end(slot, &how, now_us);
            }
        }
    }

    fn send(&mut self, slot: usize) {
        let dribbler = &mut self.dribblers[slot];
        let Some(socket) = dribbler.socket.as_ref().filter(|_| dribbler.connected_us.is_some()) else {
            return;
        };
        // The last byte is never sent: it would say something.
        if dribbler.sent + 1 < self.bytes.len()
            && send_whole(socket, &self.bytes[dribbler.sent..=dribbler.sent]).is_ok()
        {
            dribbler.sent += 1;
            self.seen.bytes_sent += 1;
        }
    }

    fn end(&mut self, slot: usize, how: &str, now_us: u64) {
        let dribbler = &mut self.dribblers[slot];
        if let Some(connected_us) = dribbler.connected_us {
            self.seen.until_closed.saturating_record(now_us.saturating_sub(connected_us));
        }
        count(&mut self.seen.ends, how);
        self.over += 1;
        // Nothing is underway on it any more.
        if let Some(socket) = dribbler.socket.take() {
            let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
        }
    }
}

impl Dribbler {
    fn listen(&mut self, mut bytes: &[u8]) {
        let first = bytes.first().copied();
        loop {
            match self.decoder.next(&mut bytes, PAYLOAD_MAX) {
                Ok(Some(frame)) if frame.kind == FrameType::Error as u8 => {
                    self.word = ErrorMsg::decode(frame.payload).ok().map(|error| error.code);
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => {
                    let what = if first == Some(TLS_ALERT) { "TLS alert" } else { "bytes that are no frame" };
                    self.word.get_or_insert(what.to_owned());
                    return;
                }
            }
        }
    }
}

fn token(kind: Kind, slot: usize) -> u64 {
    Token { kind, generation: 0, slot: slot as u32 }.pack()
}

impl Outcome for Dribble {
    fn passed(&self) -> bool {
        self.left_open == 0
    }
}

impl fmt::Display for Dribble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        row(
            "dribbled",
            format!(
                "{} bytes over {} connections in {:.1} s; {} left open",
                self.bytes_sent, self.connections, self.took_s, self.left_open
            ),
        )?;
        for (end, count) in &self.ends {
            row("  ended by", format!("{count} × {end}"))?;
        }
        if let Some(latency) = &self.until_closed {
            row("until closed", percentiles(latency))?;
        }
        if let Some(server) = &self.server {
            let mb = |bytes: u64| bytes as f64 / 1e6;
            row(
                "server",
                format!(
                    "CPU {:.0} ms; RSS {:.1} MB before, {:.1} MB after, peak {:.1} MB",
                    (server.user_us + server.system_us) as f64 / 1e3,
                    mb(server.rss_before_bytes),
                    mb(server.rss_after_bytes),
                    mb(server.rss_peak_bytes)
                ),
            )?;
        }
        if !self.passed() {
            row("FAILED", format!("{} connections were left open", self.left_open))?;
        }
        Ok(())
    }
}
