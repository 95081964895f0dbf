//! The loop that drives rustls (faults 27, 28, 29): any bytes instead of a ClientHello, or behind a real handshake.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tickstream_server::tls::TlsSession;

use crate::memory::allocated;

/// Bytes of a record or handshake in pieces that the server keeps.
const KEPT_MAX: usize = 18 * 1_024;
/// Memory that rustls takes for one session and the records of an input, bytes.
const ALLOCATED_MAX: usize = 4 << 20;

struct Peers {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

thread_local! {
    static PEERS: Peers = peers();
}

fn peers() -> Peers {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let cert: CertificateDer<'static> = cert.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).expect("a root");
    let versions = &[&rustls::version::TLS13];
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("a key");
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Peers { server: Arc::new(server), client: Arc::new(client) }
}

/// The first byte says whether a handshake comes first and how the rest is cut.
///
/// # Panics
/// If the session does, goes on after an error, or allocates without bound.
pub fn tls(input: &[u8]) {
    let Some((&how, stream)) = input.split_first() else { return };
    PEERS.with(|peers| {
        let ((), bytes) = allocated(|| drive(peers, how, stream));
        assert!(bytes <= ALLOCATED_MAX + 64 * stream.len(), "{bytes} bytes allocated for {}", stream.len());
    });
}

fn drive(peers: &Peers, how: u8, stream: &[u8]) {
    let mut session = TlsSession::new(Arc::clone(&peers.server)).expect("a session");
    let (mut outgoing, mut plain) = (Vec::new(), Vec::new());
    let length = usize::from(how >> 3) * 8 + 1;
    if how & 1 == 1 {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&peers.client), name).expect("a client");
        shake_hands(&mut session, &mut client);
        if how & 2 == 2 {
            // What the client says is protected; otherwise the bytes stand in the place of its records.
            std::io::Write::write_all(&mut client.writer(), stream).expect("room");
            let mut records = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut records).expect("a vector");
            }
            for piece in records.chunks_mut(length) {
                session.receive(piece, KEPT_MAX, &mut outgoing, &mut plain).expect("records of a client");
            }
            assert_eq!(plain, stream, "what was protected");
            session.seal(stream, &mut outgoing).expect("an answer");
            return session.close_notify(&mut outgoing).expect("close_notify");
        }
    }
    for piece in stream.chunks(length) {
        if session.receive(&mut piece.to_vec(), KEPT_MAX, &mut outgoing, &mut plain).is_err() {
            break;
        }
        assert!(outgoing.len() <= 16 * 1_024, "{} bytes in answer to {}", outgoing.len(), stream.len());
    }
}

fn shake_hands(session: &mut TlsSession, client: &mut ClientConnection) {
    let mut plain = Vec::new();
    for _ in 0..8 {
        let mut records = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut records).expect("a vector");
        }
        let mut outgoing = Vec::new();
        session.receive(&mut records, KEPT_MAX, &mut outgoing, &mut plain).expect("a handshake");
        let mut answer = &outgoing[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("a slice");
            client.process_new_packets().expect("a handshake");
        }
        if !client.is_handshaking() && !client.wants_write() {
            return;
        }
    }
    panic!("the handshake has no end");
}
