//! `tickstream-rustls-handshakes`: what TLS 1.3 handshakes cost rustls alone, both ends in one thread and in memory,
//! no socket between them. Only the server's half is timed, by the thread's CPU clock: the reference for what a
//! server makes of a core.

#![forbid(unsafe_code)]

use std::{num::NonZeroU32, path::PathBuf, sync::Arc};

use anyhow::{Context, ensure};
use clap::Parser;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SideData,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tickstream_uring::system::{run_on, thread_cpu_ns};

const SERVER: &str = "ticks.example";

/// Times the server's half of TLS 1.3 handshakes in memory: ECDSA with P-256, X25519, ring.
#[derive(Clone, Debug, Parser)]
#[command(name = "tickstream-rustls-handshakes", version)]
struct Options {
    /// Handshakes of each kind in a round
    #[arg(long, default_value = "2000", value_name = "N")]
    handshakes: NonZeroU32,
    /// Rounds, in which the kinds take turns; the fastest of each is told beside the median
    #[arg(long, default_value = "5", value_name = "N")]
    rounds: NonZeroU32,
    /// CPU to stay on
    #[arg(long)]
    cpu: Option<usize>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One kind of handshake: a server and a client that agree in this way.
struct Pair {
    name: &'static str,
    expected: HandshakeKind,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// CPU time, ns, that a handshake took.
#[derive(Clone, Copy, Default)]
struct Spent {
    server: u64,
    client: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(cpu) = options.cpu {
        run_on(&[cpu]).with_context(|| format!("--cpu {cpu}"))?;
    }
    let pairs = pairs()?;
    let mut rounds: Vec<Vec<Spent>> = vec![Vec::new(); pairs.len()];
    for _ in 0..options.rounds.get() {
        for (pair, rounds) in pairs.iter().zip(&mut rounds) {
            rounds.push(round(pair, options.handshakes.get())?);
        }
    }
    println!(
        "{:<28}{:>14}{:>14}{:>18}{:>14}",
        "", "server, µs", "best round", "a second and core", "client, µs"
    );
    let mut json = serde_json::Map::new();
    for (pair, rounds) in pairs.iter().zip(&mut rounds) {
        rounds.sort_by_key(|round| round.server);
        let (best, median) = (rounds[0], rounds[rounds.len() / 2]);
        let us = |ns: u64| ns as f64 / 1e3 / f64::from(options.handshakes.get());
        let (server, fastest, client) = (us(median.server), us(best.server), us(median.client));
        println!("{:<28}{server:>14.1}{fastest:>14.1}{:>18.0}{client:>14.1}", pair.name, 1e6 / server);
        let sum = serde_json::json!({
            "server_us": server, "server_us_best": fastest, "client_us": client, "per_second": 1e6 / server,
        });
        json.insert(pair.name.to_owned(), sum);
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&json)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn round(pair: &Pair, handshakes: u32) -> anyhow::Result<Spent> {
    // Not timed: it brings the ticket that the first resumption needs, and the caches.
    handshake(pair)?;
    let mut sum = Spent::default();
    for _ in 0..handshakes {
        let (kind, spent) = handshake(pair)?;
        ensure!(kind == pair.expected, "{}: a handshake was {kind:?}", pair.name);
        sum.server += spent.server;
        sum.client += spent.client;
    }
    Ok(sum)
}

fn handshake(pair: &Pair) -> anyhow::Result<(HandshakeKind, Spent)> {
    let mut spent = Spent::default();
    let name = ServerName::try_from(SERVER)?;
    let mut client = timed(&mut spent.client, || ClientConnection::new(pair.client.clone(), name))?;
    let mut server = timed(&mut spent.server, || ServerConnection::new(pair.server.clone()))?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    // Until the tickets have arrived, too.
    while client.wants_write() || server.wants_write() {
        timed(&mut spent.client, || client.write_tls(&mut to_server))?;
        timed(&mut spent.server, || {
            take(&mut server, &mut to_server)?;
            server.write_tls(&mut to_client).map_err(anyhow::Error::from)
        })?;
        timed(&mut spent.client, || take(&mut client, &mut to_client))?;
    }
    ensure!(!client.is_handshaking() && !server.is_handshaking(), "{}: no handshake", pair.name);
    Ok((server.handshake_kind().context("a handshake has a kind")?, spent))
}

/// Takes all that came.
fn take<S: SideData>(connection: &mut ConnectionCommon<S>, incoming: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut bytes = &incoming[..];
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes)?;
        connection.process_new_packets()?;
    }
    incoming.clear();
    Ok(())
}

fn timed<T>(ns: &mut u64, what: impl FnOnce() -> T) -> T {
    let before = thread_cpu_ns();
    let result = what();
    *ns += thread_cpu_ns() - before;
    result
}

fn pairs() -> anyhow::Result<Vec<Pair>> {
    let authority = Authority::new()?;
    let pair = |name, expected, mutual: bool, tickets: usize, resumes: bool| {
        anyhow::Ok(Pair {
            name,
            expected,
            server: authority.server(mutual, tickets)?,
            client: authority.client(mutual, resumes)?,
        })
    };
    Ok(vec![
        pair("full, no ticket", HandshakeKind::Full, false, 0, false)?,
        pair("full, one ticket", HandshakeKind::Full, false, 1, false)?,
        pair("resumed, one ticket", HandshakeKind::Resumed, false, 1, true)?,
        pair("mutual, no ticket", HandshakeKind::Full, true, 0, false)?,
    ])
}

/// Signs the certificates of both sides.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, "handshakes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// A certificate for `name` and its key, P-256.
    fn issue(&self, name: &str) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![certificate.der().clone()], key.into()))
    }

    fn roots(&self) -> anyhow::Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(Arc::new(roots))
    }

    fn server(&self, mutual: bool, tickets: usize) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
        let builder = if mutual {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider);
            builder.with_client_cert_verifier(verifier.build()?)
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = self.issue(SERVER)?;
        let mut config = builder.with_single_cert(chain, key)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = tickets;
        if tickets > 0 {
            config.ticketer = ring::Ticketer::new()?;
        }
        Ok(Arc::new(config))
    }

    fn client(&self, mutual: bool, resumes: bool) -> anyhow::Result<Arc<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots()?);
        let mut config = if mutual {
            let (chain, key) = self.issue("client.example")?;
            builder.with_client_auth_cert(chain, key)?
        } else {
            builder.with_no_client_auth()
        };
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config))
    }
}
