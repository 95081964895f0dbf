//! `tickstream-bare-loop`: the floor. A server that does the least that a client of tickstream can bear, to measure
//! what the kernel alone costs: it accepts, answers the first bytes with two ACKs without looking at them, and
//! sends one frame, encoded once, to every connection whenever one is due. No limits, no authentication, no
//! heartbeat deadline, no replay; what a socket doesn't take at once is lost (and counted).

#![forbid(unsafe_code)]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use socket2::{Domain, SockRef, Socket, Type};
use tickstream_load::{CpuList, Schedule, wall_us};
use tickstream_uring::{
    ring::{Completion, Ring, Setup},
    system::{own_descriptor_table, raise_limit, run_on},
};
use tickstream_wire::{
    frame::{OVERHEAD, heartbeat, seal},
    messages::{Ack, DataBatch, Mode, MsgType, SCHEMA_VERSION, Tick},
};

const RING: Setup = Setup { submissions: 1024, completions: 8192, buffers: 1024, buffer_bytes: 512 };
const BACKLOG: i32 = 4096;
/// The token of SENDs, and that of ACCEPTs; those of receives are the number of the connection.
const SENT: u64 = 1 << 32;
const ACCEPTED: u64 = 2 << 32;
/// As tickstream announces it.
const HEARTBEAT_INTERVAL_MS: u32 = 15_000;
/// Longest sleep of the loop.
const IDLE: Duration = Duration::from_secs(1);

/// A server without features that speaks just enough of tickstream's protocol for tickstream-load.
#[derive(Clone, Debug, Parser)]
#[command(name = "tickstream-bare-loop", version)]
struct Options {
    /// Way of sending frames: batches of SENDs on io_uring, or a send(2) each
    #[arg(long, default_value = "uring")]
    engine: Engine,
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 900)]
    port: u16,
    /// CPUs of the threads, in turn
    #[arg(long, alias = "cpus")]
    cpu: Option<CpuList>,
    /// Threads, each with a listener and a descriptor table of its own
    #[arg(long, default_value = "1")]
    threads: NonZeroU32,
    /// Frames per second to each connection
    #[arg(long, default_value = "1")]
    rate: NonZeroU32,
    /// Ticks in a frame; tickstream-load wants --ticks-per-second rate × this
    #[arg(long, default_value = "1")]
    ticks_per_frame: NonZeroU32,
    /// Times of frames: to all connections at once, or to each in a phase of its own
    #[arg(long, default_value = "aligned")]
    phase: Phase,
    /// SENDs per io_uring_enter
    #[arg(long, default_value = "256")]
    batch: NonZeroU32,
    /// Answer heartbeats, as tickstream does
    #[arg(long)]
    echo_heartbeats: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Uring,
    Send,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    Aligned,
    Spread,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    raise_limit(libc::RLIMIT_NOFILE)?;
    let loops = (0..options.threads.get()).map(|number| {
        let options = options.clone();
        thread::spawn(move || Loop::new(&options, number as usize)?.run())
    });
    // The first that ends, ends all: none ever should.
    for one in loops.collect::<Vec<_>>() {
        one.join().map_err(|_| anyhow::anyhow!("a loop panicked"))??;
    }
    Ok(())
}

struct Client {
    socket: OwnedFd,
    /// Its phase, and its place in that. `None` before its first bytes.
    place: Option<(usize, usize)>,
}

struct Loop {
    options: Options,
    ring: Ring,
    listener: OwnedFd,
    timetable: Timetable,
    clients: Vec<Option<Client>>,
    free: Vec<u32>,
    /// The connections of each phase.
    phases: Vec<Vec<u32>>,
    next_phase: usize,
    next_step: u64,
    completions: Vec<Completion>,
    /// Arrivals that came up while a frame was being sent.
    deferred: Vec<Completion>,
    refused: u64,
    reported: u64,
    reported_us: u64,
}

impl Loop {
    fn new(options: &Options, number: usize) -> io::Result<Self> {
        own_descriptor_table()?;
        if let Some(cpus) = &options.cpu {
            run_on(&[cpus.of_thread(number)])?;
        }
        let mut ring = Ring::new(RING)?;
        let listener: OwnedFd = listen(options.port)?.into();
        ring.accept(listener.as_fd(), ACCEPTED);
        let timetable = Timetable::new(options);
        Ok(Self {
            ring,
            listener,
            clients: Vec::new(),
            free: Vec::new(),
            phases: vec![Vec::new(); timetable.phases as usize],
            // Threads begin apart, so that they don't load the same phases first.
            next_phase: number * timetable.phases as usize / options.threads.get() as usize,
            next_step: timetable.step_after(wall_us()),
            timetable,
            completions: Vec::new(),
            deferred: Vec::new(),
            refused: 0,
            reported: 0,
            reported_us: 0,
            options: options.clone(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let mut now_us = wall_us();
            while self.timetable.due_us(self.next_step) <= now_us {
                self.send_frame(self.next_step);
                self.next_step += 1;
                now_us = wall_us();
            }
            self.handle_deferred();
            self.report_losses(now_us);
            let pause = Duration::from_micros(self.timetable.due_us(self.next_step) - now_us);
            self.ring.wait(RING.completions as usize / 8, Duration::ZERO, pause.min(IDLE))?;
            self.take_completions(0);
            self.handle_deferred();
        }
    }

    fn send_frame(&mut self, step: u64) {
        let phase = self.timetable.phase(step) as usize;
        if self.phases[phase].is_empty() {
            return;
        }
        let frame: Rc<[u8]> = self.timetable.frame(step).into();
        // Arrivals are deferred meanwhile, so that nobody changes the list.
        let members = std::mem::take(&mut self.phases[phase]);
        let batch = self.options.batch.get() as usize;
        for chunk in members.chunks(batch) {
            let Self { clients, ring, .. } = self;
            let sockets =
                chunk.iter().filter_map(|&slot| Some(clients[slot as usize].as_ref()?.socket.as_fd()));
            match self.options.engine {
                Engine::Uring => {
                    sockets.for_each(|socket| ring.send(socket, Rc::clone(&frame), 0, SENT));
                    ring.submit();
                    self.take_completions(frame.len() as u32);
                }
                Engine::Send => {
                    let refused = sockets.filter(|socket| !sent(*socket, &frame)).count();
                    self.refused += refused as u64;
                }
            }
        }
        self.phases[phase] = members;
    }

    /// Counts what became of SENDs, and keeps the rest for later.
    fn take_completions(&mut self, frame_len: u32) {
        self.ring.completions(&mut self.completions);
        for completion in self.completions.drain(..) {
            if completion.token == SENT {
                // A peer that has just gone is no loss.
                let gone = matches!(completion.result, Err(libc::EPIPE | libc::ECONNRESET));
                self.refused += u64::from(completion.result != Ok(frame_len) && !gone);
            } else {
                self.deferred.push(completion);
            }
        }
    }

    fn handle_deferred(&mut self) {
        let mut deferred = std::mem::take(&mut self.deferred);
        for completion in deferred.drain(..) {
            if completion.token == ACCEPTED {
                self.accepted(completion);
            } else {
                self.received(completion);
            }
        }
        self.deferred = deferred;
    }

    fn accepted(&mut self, completion: Completion) {
        if !completion.more {
            self.ring.accept(self.listener.as_fd(), ACCEPTED);
        }
        let Some(socket) = completion.accepted else {
            let errno = completion.result.err().unwrap_or(0);
            eprintln!("accept: {}", io::Error::from_raw_os_error(errno));
            return;
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            (self.clients.len() - 1) as u32
        });
        self.ring.receive(socket.as_fd(), u64::from(slot));
        self.clients[slot as usize] = Some(Client { socket, place: None });
    }

    fn received(&mut self, completion: Completion) {
        let slot = completion.token as u32;
        if let Some(received) = completion.received {
            self.ring.recycle(received);
        }
        let Some(client) = &mut self.clients[slot as usize] else {
            return;
        };
        match completion.result {
            Ok(len) if len > 0 => {
                if client.place.is_none() {
                    let phase = self.next_phase;
                    self.next_phase = (self.next_phase + 1) % self.phases.len();
                    client.place = Some((phase, self.phases[phase].len()));
                    self.phases[phase].push(slot);
                    let acks = self.timetable.acks(self.next_step, phase as u64);
                    self.refused += u64::from(!sent(client.socket.as_fd(), &acks));
                } else if self.options.echo_heartbeats {
                    let echo = heartbeat().repeat((len as usize / OVERHEAD).max(1));
                    self.refused += u64::from(!sent(client.socket.as_fd(), &echo));
                }
                if !completion.more {
                    self.ring.receive(client.socket.as_fd(), u64::from(slot));
                }
            }
            Err(libc::ENOBUFS) => self.ring.receive(client.socket.as_fd(), u64::from(slot)),
            _ => self.close(slot),
        }
    }

    /// Once a second, if there are new ones.
    fn report_losses(&mut self, now_us: u64) {
        if self.refused > self.reported && now_us > self.reported_us + 1_000_000 {
            eprintln!("{} frames were not taken whole so far", self.refused);
            (self.reported, self.reported_us) = (self.refused, now_us);
        }
    }

    fn close(&mut self, slot: u32) {
        if let Some((phase, place)) = self.clients[slot as usize].take().and_then(|client| client.place) {
            self.phases[phase].swap_remove(place);
            if let Some(&moved) = self.phases[phase].get(place)
                && let Some(client) = &mut self.clients[moved as usize]
            {
                client.place = Some((phase, place));
            }
        }
        self.free.push(slot);
    }
}

/// Times of frames and phases: step `frame × phases + phase`, in the order of time.
struct Timetable {
    schedule: Schedule,
    ticks_per_frame: u64,
    /// Phases, each 1 ms after the one before.
    phases: u64,
}

impl Timetable {
    fn new(options: &Options) -> Self {
        let rate = options.rate.saturating_mul(options.ticks_per_frame);
        let schedule = Schedule::new(Mode::Second, rate);
        let phases = match options.phase {
            Phase::Aligned => 1,
            Phase::Spread => (1_000 / u64::from(options.rate.get())).max(1),
        };
        Self { schedule, ticks_per_frame: u64::from(options.ticks_per_frame.get()), phases }
    }

    fn phase(&self, step: u64) -> u64 {
        step % self.phases
    }

    /// A frame goes when its last tick is due.
    fn due_us(&self, step: u64) -> u64 {
        let last_tick = (step / self.phases + 1) * self.ticks_per_frame - 1;
        self.schedule.due_us(last_tick, self.phase(step) as u32)
    }

    fn step_after(&self, now_us: u64) -> u64 {
        let frame = self.schedule.last_due(now_us, 0) / self.ticks_per_frame;
        let first = frame.saturating_sub(1) * self.phases;
        (first..).find(|&step| self.due_us(step) > now_us).unwrap_or(first)
    }

    fn frame(&self, step: u64) -> Vec<u8> {
        let first_sequence = step / self.phases * self.ticks_per_frame;
        let ticks = (first_sequence..first_sequence + self.ticks_per_frame).map(|sequence| Tick {
            mode: Mode::Second as i32,
            epoch_ms: self.schedule.label_ms(sequence) + self.phase(step),
        });
        seal(&DataBatch { schema_version: SCHEMA_VERSION, ticks: ticks.collect(), first_sequence })
    }

    /// Both ACKs, for a connection in `phase` while `next_step` is the next.
    fn acks(&self, next_step: u64, phase: u64) -> Vec<u8> {
        let frame = next_step / self.phases + u64::from(phase < self.phase(next_step));
        let ack = |acked_type| Ack {
            acked_type: acked_type as i32,
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
            heartbeat_timeout_ms: HEARTBEAT_INTERVAL_MS + 5_000,
            max_msg_size: 65_536,
            batch_window_ms: 5,
            next_sequence: frame * self.ticks_per_frame,
            server_time_ms: wall_us() / 1_000,
            ..Ack::default()
        };
        [seal(&ack(MsgType::Auth)), seal(&ack(MsgType::Subscribe))].concat()
    }
}

fn listen(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Inherited by what it accepts.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Sends `bytes`; true if the socket took all of it.
fn sent(socket: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    match SockRef::from(&socket).send_with_flags(bytes, flags) {
        Ok(len) => len == bytes.len(),
        // A peer that has just gone is no loss.
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timetable(arguments: &str) -> Timetable {
        let arguments = format!("tickstream-bare-loop {arguments}");
        Timetable::new(&Options::parse_from(arguments.split_whitespace()))
    }

    #[test]
    fn frames_go_in_the_order_of_time() {
        for arguments in ["", "--rate 200 --ticks-per-frame 50", "--phase spread", "--phase spread --rate 4"]
        {
            let timetable = timetable(arguments);
            let now_us = 1_767_225_600_123_456;
            let first = timetable.step_after(now_us);
            assert!(timetable.due_us(first) > now_us && timetable.due_us(first - 1) <= now_us, "{arguments}");
            let due: Vec<u64> = (first..first + 3_000).map(|step| timetable.due_us(step)).collect();
            assert!(due.is_sorted_by(|a, b| a < b), "{arguments}");
        }
    }

    #[test]
    fn a_frame_of_many_ticks_goes_with_its_last() {
        let timetable = timetable("--rate 200 --ticks-per-frame 50");
        assert_eq!(timetable.due_us(0), 4_900);
        assert_eq!(timetable.due_us(1), 9_900);
    }
}
