//! Driver and transport under completions, in any order in which the kernel may send them.
//!
//! The kernel is simulated (`tickstream_uring::simulated`); engine, TLS and sockets are real. Each test ends with a count of
//! the buffers.

mod accepting;
mod closing;
mod receiving;
mod sending;
mod tls;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tickstream_engine::{CloseReason, ConnId, Counters, Slot, Standing};
use tickstream_wire::messages::Auth;
use tickstream_wire::{Decoder, FrameType, frame};

use super::*;
use crate::config::Config;
use crate::engine_config::engine_config;
use crate::tls::material;
use crate::versioned::Versioned;

/// Listeners, by their numbers.
const PLAIN: usize = 0;
const TLS: usize = 1;

/// Connections that the shard takes.
const CONNECTIONS: u32 = 4;

struct Bench {
    driver: Driver,
    listeners: [TcpListener; 2],
    certificate: CertificateDer<'static>,
    /// The other ends.
    clients: BTreeMap<ConnId, TcpStream>,
    /// Bytes that clients got.
    got: BTreeMap<ConnId, Vec<u8>>,
}

/// State of the connection, as a client's socket shows it.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Open,
    Fin,
    Reset,
}

impl Bench {
    fn new() -> Self {
        Self::with(&[])
    }

    /// A shard with a plain port and one for TLS, with these settings.
    fn with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        let file = |name: &str, pem: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).expect("a file");
            path.into_os_string().into_string().expect("UTF-8")
        };
        let (certificate, key) = (file("cert.pem", cert.pem()), file("key.pem", signing_key.serialize_pem()));
        let always = [
            ("stream_user", "ada"),
            ("stream_pass", "s3cret"),
            ("listen", "127.0.0.1:0"),
            ("listen_tls", "127.0.0.1:0"),
            ("tls_cert", &certificate),
            ("tls_key", &key),
            ("shards", "1"),
        ];
        let values = always.iter().chain(settings).map(|(name, value)| (*name, *value));
        let config = Config::from_values(values).expect("settings");
        let tls = config.tls.as_ref().expect("TLS");
        let acceptor = Acceptor::load(tls, material::ticketer().expect("randomness")).expect("an acceptor");
        let connections = NonZeroU32::new(CONNECTIONS).expect("more than 0");
        let engine = engine_config(&config, connections).expect("settings");
        let listeners = [PLAIN, TLS].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let copies = listeners.iter().map(|listener| listener.try_clone().expect("a copy").into());
        let ring = SocketRing::simulated(copies).expect("io_uring");
        let spec = Spec {
            shard: 0,
            cpu: 0,
            listeners: vec![(0, false), (0, true)],
            all_listeners: Vec::new(),
            certificates: Some(Arc::new(Versioned::new(acceptor))),
            config: Arc::new(config),
            settings: Arc::new(Versioned::new(engine)),
            control: Arc::new(Control::new(1)),
            tracer: None,
        };
        let driver = Driver::new(spec, ring).expect("a driver");
        let certificate = CertificateDer::from_pem_slice(cert.pem().as_bytes()).expect("PEM");
        let mut this =
            Self { driver, listeners, certificate, clients: BTreeMap::new(), got: BTreeMap::new() };
        this.pass();
        this
    }

    fn ring(&mut self) -> &mut SocketRing {
        &mut self.driver.ring
    }

    fn counters(&self) -> Counters {
        self.driver.shard.counters()
    }

    /// Counters, but for ticks, which come with time.
    fn quiet(&self) -> Counters {
        Counters { streams: Default::default(), ..self.counters() }
    }

    /// The loop, until it would sleep.
    fn pass(&mut self) {
        for _ in 0..100 {
            self.driver.pass().expect("a pass");
            if !self.driver.shard.has_actions() && !self.driver.transport.has_work() {
                return;
            }
        }
        panic!("it never sleeps");
    }

    /// Both ends of a new connection; the server's has been accepted by nobody.
    fn sockets(&self, listener: usize) -> (TcpStream, OwnedFd) {
        let address = self.listeners[listener].local_addr().expect("an address");
        let client = TcpStream::connect(address).expect("a connection");
        client.set_nonblocking(true).expect("a socket");
        (client, self.listeners[listener].accept().expect("a connection").0.into())
    }

    /// A new connection.
    fn connect(&mut self, listener: usize) -> ConnId {
        let (client, fd) = self.sockets(listener);
        self.ring().inject_accepted(listener, fd, true);
        self.pass();
        let conn = self.newest();
        assert!(self.clients.insert(conn, client).is_none(), "its name is new");
        conn
    }

    /// A new connection on the plain port, authenticated.
    fn member(&mut self) -> ConnId {
        let conn = self.connect(PLAIN);
        self.ring().inject_received(socket_id(conn), &auth(), true);
        self.pass();
        self.answer_all(conn);
        assert_eq!(self.frames(conn), [FrameType::Ack]);
        conn
    }

    fn newest(&self) -> ConnId {
        let shard = &self.driver.shard;
        let connections = (0..shard.slots_end().0).filter_map(|slot| shard.connection(Slot(slot)));
        connections.max_by_key(|connection| connection.number).expect("a connection").id
    }

    /// Answers a SEND by a number of bytes or a negative errno, without a pass.
    fn answer(&mut self, conn: ConnId, result: i32) {
        let bytes = self.ring().inject_sent(socket_id(conn), result);
        self.got.entry(conn).or_default().extend(bytes);
    }

    /// Takes all that is sent to a connection.
    fn answer_all(&mut self, conn: ConnId) {
        while let Some(bytes) = self.ring().kernel().sending(socket_id(conn)).map(<[u8]>::len) {
            self.answer(conn, bytes as i32);
            self.pass();
        }
    }

    fn is_sending(&mut self, conn: ConnId) -> bool {
        self.ring().kernel().sending(socket_id(conn)).is_some()
    }

    /// The frames that a plain connection has got since this was asked last.
    fn frames(&mut self, conn: ConnId) -> Vec<FrameType> {
        frames(&std::mem::take(self.got.entry(conn).or_default()))
    }

    /// Progress of a connection; `None` once it is gone.
    fn standing(&self, conn: ConnId) -> Option<Standing> {
        let connection = self.driver.shard.connection(conn.slot)?;
        (connection.id == conn).then_some(connection.standing)
    }

    /// Checks that it is gone, its descriptor is closed, and it is the only one so far that has ended for this reason.
    fn check_gone(&mut self, conn: ConnId, reason: CloseReason) {
        assert_eq!(self.standing(conn), None, "it is still there");
        assert!(!self.ring().kernel().is_open(socket_id(conn)), "its descriptor is open");
        assert_eq!(self.counters().closed(reason), 1, "{:?}", self.counters().closed);
    }

    /// State that the client reads; there must be no bytes, since those go nowhere here.
    fn end(&mut self, conn: ConnId) -> End {
        let read = self.clients.get_mut(&conn).expect("a client").read(&mut [0]);
        match read.map_err(|error| error.kind()) {
            Ok(0) => End::Fin,
            Err(ErrorKind::WouldBlock) => End::Open,
            Err(ErrorKind::ConnectionReset) => End::Reset,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.pass();
            self.ring().check_end();
        }
    }
}

fn auth() -> Vec<u8> {
    frame::seal(&Auth { username: "ada".into(), password: "s3cret".into(), client: None })
}

fn wrong_auth() -> Vec<u8> {
    frame::seal(&Auth { username: "ada".into(), password: "guess".into(), client: None })
}

/// The frames in bytes that end with one.
fn frames(bytes: &[u8]) -> Vec<FrameType> {
    let (mut decoder, mut rest, mut frames) = (Decoder::new(), bytes, Vec::new());
    while let Some(frame) = decoder.next(&mut rest, 65_536).expect("valid frames") {
        frames.push(FrameType::from_byte(frame.kind).expect("a known type"));
    }
    assert_eq!(decoder.buffered(), 0, "the last frame is whole");
    frames
}
