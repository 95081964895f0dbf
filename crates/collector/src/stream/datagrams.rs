//! Datagrams: gathered for a moment, then stored together. What finds no room is dropped and counted.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{self, Instant},
};

use super::DatagramDecoder;
use crate::{
    clock::now_ns,
    delivery::Delivery,
    drain,
    intake::SharedIntake,
    keys::StreamKeys,
    writer::{Ids, Origin, Request, TooManyEvents},
};

/// Time for which datagrams wait for others.
const LINGER: Duration = Duration::from_millis(50);
/// Datagrams that are stored together.
const DATAGRAMS_MAX: usize = 1000;
/// Bytes that are stored together.
const GATHERED_BYTES_MAX: usize = 1 << 20;
/// Groups that wait for their answers; more than these are dropped.
const GROUPS_MAX: usize = 64;
/// Time for which a group waits for servers that can't take it at present.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest datagram, bytes.
const DATAGRAM_BYTES_MAX: usize = 65_536;
const EVENTS_MAX: u32 = 65_536;
/// Most gatherings once the collector ends: more than a socket's buffer holds, so that none of its datagrams are lost, and an
/// end for a sender that has none.
const LAST_GATHERINGS: usize = 64;

/// A socket that is read.
#[derive(Debug)]
pub struct UdpServer {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    reading: JoinHandle<()>,
    groups: Arc<Semaphore>,
}

struct Reader {
    socket: UdpSocket,
    decoder: Box<dyn DatagramDecoder>,
    intake: SharedIntake,
    keys: StreamKeys,
    groups: Arc<Semaphore>,
    drain: watch::Receiver<bool>,
}

impl UdpServer {
    /// Reads a bound socket.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn start(
        socket: UdpSocket,
        decoder: Box<dyn DatagramDecoder>,
        intake: SharedIntake,
        keys: StreamKeys,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let (drain, drained) = watch::channel(false);
        let groups = Arc::new(Semaphore::new(GROUPS_MAX));
        let reader = Reader { socket, decoder, intake, keys, groups: groups.clone(), drain: drained };
        Ok(Self { address, drain, reading: tokio::spawn(reader.run()), groups })
    }

    /// The address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads no more, has stored what was read, for `patience` at the most.
    pub async fn drain(self, patience: Duration) {
        self.drain.send_replace(true);
        let all = async {
            _ = self.reading.await;
            _ = self.groups.acquire_many(GROUPS_MAX as u32).await;
        };
        _ = time::timeout(patience, all).await;
    }
}

impl Reader {
    async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut left = LAST_GATHERINGS;
        while left > 0 {
            let datagrams = self.gather(&mut buffer).await;
            if *self.drain.borrow() {
                left = if datagrams.is_empty() { 0 } else { left - 1 };
            }
            self.store(datagrams);
        }
    }

    /// Waits for a datagram, and takes those that follow within a moment.
    async fn gather(&mut self, buffer: &mut [u8]) -> Vec<(IpAddr, Box<[u8]>)> {
        let mut datagrams = Vec::new();
        let (mut until, mut bytes) = (None, 0);
        while datagrams.len() < DATAGRAMS_MAX && bytes < GATHERED_BYTES_MAX {
            let wait = async {
                match until {
                    Some(until) => time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                received = self.socket.recv_from(buffer) => match received {
                    Ok((len, peer)) => {
                        until.get_or_insert_with(|| Instant::now() + LINGER);
                        bytes += len;
                        datagrams.push((peer.ip(), buffer[..len].into()));
                    }
                    // Such as an ICMP error for an answer that nobody sent.
                    Err(_) => time::sleep(Duration::from_millis(1)).await,
                },
                () = wait => break,
                // What had come before may not have been told yet.
                () = drain::has_begun_for(&mut self.drain, LINGER) => break,
            }
        }
        datagrams
    }

    /// Has the datagrams of each address stored, in the background.
    fn store(&self, mut datagrams: Vec<(IpAddr, Box<[u8]>)>) {
        // Nobody proves anything in a datagram: there is always a key.
        let Some(key) = self.keys.key(None) else { return };
        datagrams.sort_by_key(|(address, _)| *address);
        for group in datagrams.chunk_by(|(a, _), (b, _)| a == b) {
            let origin = Origin {
                key: key.clone(),
                source: self.decoder.name(),
                address: Some(group[0].0),
                user_agent: String::new(),
                headers: Vec::new(),
                receive_time: now_ns(),
                send_time: 0,
            };
            let mut rest = group.iter().peekable();
            while rest.peek().is_some() {
                let mut writer = self.intake.writer(&origin, Ids::New, EVENTS_MAX);
                while let Some((_, datagram)) = rest.next_if(|_| writer.is_roomy()) {
                    self.decoder.decode(datagram, &mut writer);
                }
                match writer.finish() {
                    Ok(request) => self.deliver(origin.clone(), request),
                    Err(TooManyEvents(count)) => self.intake.metrics.drop_events(count.into()),
                }
            }
        }
    }

    /// Has a request stored, in the background, if there is room for it.
    fn deliver(&self, origin: Origin, request: Request) {
        let events = request.events() as u64;
        let mut reservation = self.intake.budget.reservation();
        let permit = self.groups.clone().try_acquire_owned();
        let (Ok(permit), true) = (permit, reservation.grow(request.byte_len())) else {
            return self.intake.metrics.drop_events(events);
        };
        let intake = self.intake.clone();
        tokio::spawn(async move {
            let until = Some(Instant::now() + PATIENCE);
            let delivery = Delivery { intake: &intake, origin: &origin, until, drain: None };
            if delivery.deliver(&request).await.is_err() {
                intake.metrics.drop_events(events);
            }
            drop((permit, reservation));
        });
    }
}
