//! The load generator under TLS, against a server that speaks just enough of it.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Output,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use tickstream_wire::{
    Decoder, FrameType,
    frame::{heartbeat, seal},
    messages::{Ack, DataBatch, MsgType, Tick},
};

use crate::json;

const TICK_MS: u64 = 100;

/// A CA, a server's and a client's certificate, in files.
struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "tickstream-load's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (name, subject) in [("server", "127.0.0.1"), ("client", "load")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([subject.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(directory.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(directory.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn server(&self, asks_for_certificates: bool) -> Arc<ServerConfig> {
        let der = |name| CertificateDer::from_pem_file(Path::new(&self.path(name))).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
        let builder = if asks_for_certificates {
            let mut roots = RootCertStore::empty();
            roots.add(der("ca.pem")).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(Path::new(&self.path("server.key"))).unwrap();
        Arc::new(builder.with_single_cert(vec![der("server.pem")], key).unwrap())
    }
}

fn serve(config: Arc<ServerConfig>) -> u16 {
    // Its end, an error, is what the client makes it.
    crate::serve(move |stream| _ = session(stream, config.clone()))
}

fn session(socket: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(tls, socket);
    let (mut decoder, mut buffer) = (Decoder::new(), [0; 1024]);
    let mut next = None;
    loop {
        let len = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error),
        };
        let mut input = &buffer[..len];
        while let Some(frame) = decoder.next(&mut input, 4096).map_err(std::io::Error::other)? {
            match FrameType::from_byte(frame.kind) {
                Some(FrameType::Auth) => stream.write_all(&seal(&ack(MsgType::Auth, 0)))?,
                Some(FrameType::Subscribe) => {
                    let first = now_ms() / TICK_MS + 1;
                    stream.write_all(&seal(&ack(MsgType::Subscribe, first)))?;
                    stream.sock.set_read_timeout(Some(Duration::from_millis(5)))?;
                    next = Some(first);
                }
                _ => stream.write_all(&heartbeat())?,
            }
        }
        while let Some(sequence) = next.filter(|next| next * TICK_MS <= now_ms()) {
            let ticks = vec![Tick { mode: 0, epoch_ms: sequence * TICK_MS }];
            stream.write_all(&seal(&DataBatch { schema_version: 1, ticks, first_sequence: sequence }))?;
            next = Some(sequence + 1);
        }
    }
}

fn ack(acked: MsgType, next_sequence: u64) -> Ack {
    Ack { acked_type: acked as i32, next_sequence, server_time_ms: now_ms(), ..Ack::default() }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn load(port: u16, arguments: &[&str]) -> (Output, serde_json::Value) {
    let common = ["--warmup", "0s", "--grace", "500ms", "--ticks-per-second", "10", "--attempts", "1"];
    let output = crate::load(port, &[&common, arguments].concat());
    let json = json(&output);
    (output, json)
}

#[test]
fn every_tick_is_verified_under_tls_and_who_comes_back_resumes() {
    let certificates = Certificates::new();
    let port = serve(certificates.server(false));
    let options = ["-n", "20", "--threads", "2", "--duration", "2s", "--heartbeat-interval", "300ms"];
    let tls = ["--storm", "--tls-ca", &certificates.path("ca.pem")];
    let (output, summary) = load(port, &[&options[..], &tls].concat());
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert_eq!(summary["latency"]["count"], 20 * 10 * 2);
    assert_eq!(summary["tls"]["full"]["count"], 20, "{summary:#}");
    assert_eq!(summary["tls"]["resumed"]["count"], 20, "{summary:#}");
    assert!(summary["heartbeats_answered"].as_u64() > Some(20), "{summary:#}");

    let (output, summary) = load(port, &[&options[..], &tls, &["--tls-resume", "off"]].concat());
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert_eq!(summary["tls"]["full"]["count"], 40, "{summary:#}");
}

#[test]
fn handshakes_are_full_or_resumed_as_is_wanted() {
    let certificates = Certificates::new();
    let port = serve(certificates.server(false));
    let ca = certificates.path("ca.pem");
    let check = |resume: &str, full: u64| {
        let options = ["--handshakes", "20", "--in-flight", "2", "--tls-ca", &ca, "--tls-resume", resume];
        let (output, summary) = load(port, &options);
        assert_eq!(output.status.code(), Some(0), "{summary:#}");
        assert_eq!(summary["tls_full"]["count"], full, "{summary:#}");
        assert_eq!(summary["tls_resumed"]["count"].as_u64().unwrap_or(0), 20 - full, "{summary:#}");
    };
    check("off", 20);
    // Each of the two on their way at a time has its own ticket.
    check("on", 2);
}

#[test]
fn a_certificate_is_shown_where_one_is_wanted() {
    let certificates = Certificates::new();
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| certificates.path(name));
    let port = serve(certificates.server(true));
    let shown = [
        "-n",
        "3",
        "--duration",
        "1s",
        "--tls-ca",
        &ca,
        "--tls-client-cert",
        &cert,
        "--tls-client-key",
        &key,
    ];
    let (output, summary) = load(port, &shown);
    assert_eq!(output.status.code(), Some(0), "{summary:#}");

    let (output, summary) = load(port, &shown[..6]);
    assert_eq!(output.status.code(), Some(1));
    let alert = "TLS: received fatal alert: CertificateRequired";
    assert_eq!(summary["connect_errors"][alert], 3, "{summary:#}");
}

#[test]
fn a_server_that_is_somebody_else_is_not_measured() {
    let certificates = Certificates::new();
    let port = serve(certificates.server(false));
    let ca = certificates.path("ca.pem");
    let check = |options: &[&str], expected: &str| {
        let (output, summary) = load(port, &[&["-n", "2", "--duration", "1s", "--tls-ca"], options].concat());
        assert_eq!(output.status.code(), Some(1));
        let errors = summary["connect_errors"].to_string();
        assert!(errors.contains(expected), "{errors}");
    };
    let foreign = Certificates::new();
    check(&[&foreign.path("ca.pem")], "invalid peer certificate");
    check(&[&ca, "--tls-server-name", "ticks.example"], "not valid for name");
}

#[test]
fn a_server_without_tls_is_no_reason_to_panic() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let certificates = Certificates::new();
    let ca = certificates.path("ca.pem");
    let (output, summary) = load(port, &["-n", "2", "--duration", "1s", "--tls-ca", &ca]);
    assert_eq!(output.status.code(), Some(1));
    let errors = summary["connect_errors"].to_string();
    assert!(errors.contains("TLS: received corrupt message"), "{errors}");
}
