//! A driver, a network and clients that live in virtual time.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tickstream_schema::events::PublishAck;
use tickstream_wire::messages::{Ack, Auth, DataBatch, ErrorMsg, GoAway, Message, Mode, MsgType, Subscribe};
use tickstream_wire::{Decoder, FrameType, frame};

use crate::batch::SealedFrame;
use crate::clock::{MS, Now, SECOND};
use crate::{
    Action, CloseReason, Config, ConnId, Credentials, Limits, Phase, ProxyProtocol, Rate, Refused,
    SendOutcome, Shard,
};

/// The driver's longest sleep.
const LONGEST_SLEEP: u64 = 100 * MS;

pub(crate) fn config() -> Config {
    Config {
        shard: 0,
        credentials: Credentials::new("ada", "s3cret").unwrap(),
        second: Rate::new(Mode::Second, 1).unwrap(),
        minute: Rate::new(Mode::Minute, 1).unwrap(),
        phase: Phase::Aligned,
        batch_window_ms: 5,
        heartbeat_interval_ms: 15_000,
        heartbeat_timeout_ms: 20_000,
        proxy_protocol: ProxyProtocol::Off,
        proxy_trusted: Vec::new(),
        seed: 0x5EED,
        ingest: None,
        limits: Limits {
            connections: 100_000,
            connections_per_address: None,
            unauthenticated: 100_000,
            unauthenticated_per_address: None,
            connections_per_second: None,
            auth_failures_per_minute: 10,
            lag_ms: 0,
            handshake_timeout_ms: 5_000,
            payload_bytes: 65_536,
            auth_timeout_ms: 5_000,
            write_deadline_ms: 5_000,
            frames_per_second: 100,
            replay_window_ms: 600_000,
            replay_ticks: 100_000,
        },
    }
}

/// Something that a client saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    AckAuth,
    AckSubscribe { next: u64 },
    Heartbeat,
    Batch { first: u64, end: u64 },
    GoAway { retry_after_ms: u32 },
    PublishAck(PublishAck),
    Error(String),
    Fin,
    Reset,
}

pub struct Client {
    pub id: ConnId,
    /// Bytes that its socket still takes; `None`: any number.
    pub room: Option<u64>,
    pub closed: bool,
    pub released: bool,
    /// Sequences and labels of all ticks.
    pub labels: Vec<(u64, u64)>,
    pub ticks: u64,
    /// Lateness of the latest tick.
    pub latest_ns: u64,
    /// The last ACK.
    pub ack: Ack,
    awaiting: bool,
    announced: Vec<u64>,
    next: Option<u64>,
    batches: Vec<(u64, u64)>,
    seen: Vec<Seen>,
    decoder: Decoder,
}

impl Client {
    /// Things that it saw since the last call.
    pub fn take(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    pub fn sequences(&self) -> Vec<u64> {
        self.labels.iter().map(|(sequence, _)| *sequence).collect()
    }

    pub fn batches(&self) -> Vec<(u64, u64)> {
        self.batches.clone()
    }

    /// The last `next_sequence` that it was told.
    pub fn next_announced(&self) -> u64 {
        *self.announced.last().expect("a subscription")
    }
}

pub struct World {
    pub shard: Shard,
    pub actions_per_ms: Option<u32>,
    pub keep_labels: bool,
    now: Now,
    clients: Vec<Client>,
    heartbeats: bool,
    /// Tenths of a second that were beaten.
    heartbeats_due: u64,
    /// The frame that was decoded last, and what it says: a fan-out sends the same to all.
    decoded: Option<(SealedFrame, DataBatch)>,
    /// Answers to sends, told at the next pass as a driver would.
    answers: VecDeque<(ConnId, SendOutcome)>,
}

impl World {
    /// A world at Unix time 1,000.5 s.
    pub fn new(config: Config) -> Self {
        let now = Now { mono_ns: 77 * SECOND, unix_ns: 1_000 * SECOND + 500 * MS };
        Self {
            shard: Shard::new(config, now),
            actions_per_ms: None,
            keep_labels: true,
            now,
            clients: Vec::new(),
            heartbeats: false,
            heartbeats_due: 0,
            decoded: None,
            answers: VecDeque::new(),
        }
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::new(config)
    }

    pub fn now(&self) -> Now {
        self.now
    }

    pub fn client(&mut self, index: usize) -> &mut Client {
        &mut self.clients[index]
    }

    pub fn connect(&mut self) -> usize {
        self.connect_from("127.0.0.1", false).expect("room for one more")
    }

    /// A connection from `address`, over TLS or not.
    pub fn connect_from(&mut self, address: &str, tls: bool) -> Result<usize, Refused> {
        let peer = SocketAddr::new(address.parse().expect("an address"), 5_000);
        let id = self.shard.accept(peer, tls)?;
        self.clients.push(Client {
            id,
            room: None,
            closed: false,
            released: false,
            labels: Vec::new(),
            ticks: 0,
            latest_ns: 0,
            ack: Ack::default(),
            awaiting: false,
            announced: Vec::new(),
            next: None,
            batches: Vec::new(),
            seen: Vec::new(),
            decoder: Decoder::new(),
        });
        Ok(self.clients.len() - 1)
    }

    /// A client that sends AUTH and SUBSCRIBE in one go.
    pub fn subscribed(&mut self, mode: Mode, resume_after: Option<u64>) -> usize {
        let client = self.connect();
        let mut bytes =
            frame::seal(&Auth { username: "ada".into(), password: "s3cret".into(), client: None });
        bytes.extend(frame::seal(&Subscribe { mode: mode.into(), resume_after }));
        self.send(client, &bytes);
        client
    }

    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        self.shard.received(self.clients[client].id, bytes);
        self.act();
    }

    pub fn send_auth(&mut self, client: usize) {
        self.send_auth_as(client, "ada", "s3cret");
    }

    pub fn send_auth_as(&mut self, client: usize, username: &str, password: &str) {
        self.send(
            client,
            &frame::seal(&Auth { username: username.into(), password: password.into(), client: None }),
        );
    }

    pub fn send_heartbeat(&mut self, client: usize) {
        self.send(client, &frame::heartbeat());
    }

    pub fn send_subscribe(&mut self, client: usize, mode: Mode, resume_after: Option<u64>) {
        self.send(client, &frame::seal(&Subscribe { mode: mode.into(), resume_after }));
    }

    pub fn hang_up(&mut self, client: usize) {
        self.shard.peer_closed(self.clients[client].id);
        self.act();
    }

    /// Has all clients send HEARTBEAT by themselves, spread over ten seconds.
    pub fn heartbeats(&mut self, on: bool) {
        self.heartbeats = on;
        self.heartbeats_due = self.now.mono_ns / (100 * MS);
    }

    /// The client reads `bytes` more.
    pub fn widen(&mut self, client: usize, bytes: u64) {
        let client = &mut self.clients[client];
        client.room = client.room.map(|room| room + bytes);
        if std::mem::take(&mut client.awaiting) {
            self.shard.writable(client.id);
        }
        self.act();
    }

    /// Sets the wall clock.
    /// Sets the wall clock, and begins a pass, as the driver does before it receives anything.
    pub fn set_clock(&mut self, unix_ns: u64) {
        self.now.unix_ns = unix_ns;
        self.shard.advance(self.now);
    }

    /// Time passes without the shard.
    pub fn stall(&mut self, for_ns: u64) {
        self.now.mono_ns += for_ns;
        self.now.unix_ns += for_ns;
    }

    pub fn run_until_closed(&mut self, client: usize) {
        for _ in 0..100_000 {
            if self.clients[client].closed {
                return;
            }
            self.run(MS);
        }
        panic!("still open");
    }

    /// Does what the shard asks for after something that the test told it.
    pub fn settle(&mut self) {
        self.act();
    }

    /// Lets `for_ns` pass, as a driver would see it.
    pub fn run(&mut self, for_ns: u64) {
        let end = self.now.mono_ns + for_ns;
        loop {
            self.pass();
            if self.now.mono_ns >= end {
                return;
            }
            let busy = self.shard.has_actions() || !self.answers.is_empty();
            let wake = match self.shard.poll_timeout() {
                _ if busy => self.now.mono_ns + MS,
                Some(at) => at.clamp(self.now.mono_ns + 1, self.now.mono_ns + LONGEST_SLEEP),
                None => self.now.mono_ns + LONGEST_SLEEP,
            };
            self.stall(wake.min(end) - self.now.mono_ns);
        }
    }

    /// Reasons for which connections ended.
    pub fn reasons(&mut self) -> Vec<CloseReason> {
        std::iter::from_fn(|| self.shard.poll_report()).map(|report| report.reason).collect()
    }

    fn pass(&mut self) {
        if self.heartbeats {
            self.heartbeat();
        }
        self.shard.handle_timeout(self.now);
        self.act();
    }

    /// Each tenth of a second, a hundredth of the clients sends a HEARTBEAT.
    fn heartbeat(&mut self) {
        let heartbeat = frame::heartbeat();
        while self.heartbeats_due * 100 * MS <= self.now.mono_ns {
            for index in ((self.heartbeats_due % 100) as usize..self.clients.len()).step_by(100) {
                self.shard.received(self.clients[index].id, &heartbeat);
            }
            self.heartbeats_due += 1;
        }
    }

    fn act(&mut self) {
        let mut left = self.actions_per_ms;
        loop {
            while let Some((conn, outcome)) = self.answers.pop_front() {
                self.shard.sent(conn, outcome);
            }
            if left == Some(0) {
                return;
            }
            left = left.map(|left| left - 1);
            let Some(action) = self.shard.poll_action() else {
                return;
            };
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send { conn, frame, offset } => {
                let outcome = self.deliver(conn, &frame, offset);
                self.answers.push_back((conn, outcome));
            }
            Action::AwaitWritable { conn } => self.by_id(conn).awaiting = true,
            Action::Shutdown { conn } => {
                let client = self.by_id(conn);
                client.seen.push(Seen::Fin);
                client.closed = true;
            }
            Action::Close { conn, abort } => {
                let client = self.by_id(conn);
                if abort {
                    client.seen.push(Seen::Reset);
                }
                (client.closed, client.released) = (true, true);
            }
        }
    }

    fn by_id(&mut self, conn: ConnId) -> &mut Client {
        // Slots are handed out in order here, so that this is found at once unless a slot was used again.
        let guess = conn.slot.index();
        if self.clients.get(guess).is_some_and(|client| client.id == conn) {
            return &mut self.clients[guess];
        }
        self.clients.iter_mut().find(|client| client.id == conn).expect("an id that was handed out")
    }

    /// Acts as a socket: takes as much as fits.
    fn deliver(&mut self, conn: ConnId, sealed: &SealedFrame, offset: u32) -> SendOutcome {
        let bytes = &sealed.as_bytes()[offset as usize..];
        let client = self.by_id(conn);
        assert!(!client.closed, "a send after FIN");
        let taken = client.room.map_or(bytes.len(), |room| bytes.len().min(room as usize));
        client.room = client.room.map(|room| room - taken as u64);
        if taken == 0 {
            return SendOutcome::WouldBlock;
        }
        if taken == sealed.as_bytes().len() && sealed.as_bytes()[3] == FrameType::DataBatch as u8 {
            self.take_batch(conn, sealed);
        } else {
            self.take_bytes(conn, &bytes[..taken]);
        }
        SendOutcome::Sent(taken as u32)
    }

    /// A whole batch: decoded once for all who get it.
    fn take_batch(&mut self, conn: ConnId, sealed: &SealedFrame) {
        let known = self
            .decoded
            .as_ref()
            .is_some_and(|(known, _)| known.as_bytes().as_ptr() == sealed.as_bytes().as_ptr());
        if !known {
            let payload = &sealed.as_bytes()[frame::HEADER_LEN..sealed.as_bytes().len() - frame::TRAILER_LEN];
            self.decoded = Some((sealed.clone(), DataBatch::decode(payload).unwrap()));
        }
        let (key, batch) = self.decoded.take().unwrap();
        self.see_batch(conn, &batch);
        self.decoded = Some((key, batch));
    }

    fn see_batch(&mut self, conn: ConnId, batch: &DataBatch) {
        let (now, keep) = (self.now, self.keep_labels);
        let client = self.by_id(conn);
        let (first, end) = (batch.first_sequence, batch.first_sequence + batch.ticks.len() as u64);
        assert!(client.next.is_none_or(|next| next <= first), "{first} after {:?}", client.next);
        client.next = Some(end);
        client.ticks += end - first;
        let due = batch.ticks.last().expect("a batch has ticks").epoch_ms * MS;
        client.latest_ns = client.latest_ns.max(now.unix_ns.saturating_sub(due));
        if keep {
            client.seen.push(Seen::Batch { first, end });
            client.batches.push((first, end));
            client.labels.extend((first..end).zip(batch.ticks.iter().map(|tick| tick.epoch_ms)));
        }
    }

    fn take_bytes(&mut self, conn: ConnId, mut bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.by_id(conn).decoder);
        while let Some(frame) = decoder.next(&mut bytes, u32::MAX).expect("a frame of ours") {
            self.see(conn, frame.kind, frame.payload);
        }
        self.by_id(conn).decoder = decoder;
    }

    fn see(&mut self, conn: ConnId, kind: u8, payload: &[u8]) {
        let seen = match FrameType::from_byte(kind).expect("a type of ours") {
            FrameType::Heartbeat => Seen::Heartbeat,
            FrameType::Error => Seen::Error(ErrorMsg::decode(payload).unwrap().code),
            FrameType::GoAway => {
                Seen::GoAway { retry_after_ms: GoAway::decode(payload).unwrap().retry_after_ms }
            }
            FrameType::DataBatch => return self.see_batch(conn, &DataBatch::decode(payload).unwrap()),
            FrameType::Ack => {
                let ack = Ack::decode(payload).unwrap();
                self.by_id(conn).ack = ack;
                if ack.acked_type() == MsgType::Auth {
                    Seen::AckAuth
                } else {
                    let client = self.by_id(conn);
                    client.announced.push(ack.next_sequence);
                    client.next = None;
                    Seen::AckSubscribe { next: ack.next_sequence }
                }
            }
            FrameType::PublishAck => Seen::PublishAck(PublishAck::decode(payload).unwrap()),
            FrameType::Auth | FrameType::Subscribe | FrameType::Publish => panic!("the client's to send"),
        };
        if self.keep_labels || !matches!(seen, Seen::Heartbeat) {
            self.by_id(conn).seen.push(seen);
        }
    }
}
