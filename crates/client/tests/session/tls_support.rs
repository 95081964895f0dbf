//! An authority that issues what a test needs, and servers that show it.

use std::{io, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tickstream_client::{Builder, Subscription, TlsConfig};
use tickstream_wire::messages::Subscribe;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        HandshakeKind, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
    server::TlsStream,
};

use crate::support::{Peer, Server, soon};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    /// Certificate of the authority itself, which no server should show.
    pub itself: Identity,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Validity {
    Now,
    Past,
    Future,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("tickstream's tests")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let itself = Identity { certificate: pem.clone(), key: key.serialize_pem() };
        Self { issuer: Issuer::new(params, key), pem, itself }
    }

    /// A server's certificate for `names`.
    pub fn server(&self, names: &[&str], validity: Validity) -> Identity {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, validity)
    }

    pub fn client(&self, validity: Validity) -> Identity {
        self.issue(&["alice"], ExtendedKeyUsagePurpose::ClientAuth, validity)
    }

    /// A client that trusts this authority.
    pub fn trust(&self) -> TlsConfig {
        TlsConfig::with_ca_pem(self.pem.as_bytes()).unwrap()
    }

    fn issue(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose, validity: Validity) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![purpose];
        match validity {
            Validity::Now => {}
            Validity::Past => params.not_after = date_time_ymd(2000, 1, 1),
            Validity::Future => params.not_before = date_time_ymd(2999, 1, 1),
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

impl Identity {
    /// Makes `tls` a client with this certificate.
    pub fn shown_by(&self, tls: TlsConfig) -> TlsConfig {
        tls.client_certificate_pem(self.certificate.as_bytes(), self.key.as_bytes()).unwrap()
    }
}

/// A server that speaks TLS 1.3.
pub struct TlsServer {
    plain: Server,
    acceptor: TlsAcceptor,
}

impl TlsServer {
    /// A server that shows `identity` and asks for no certificate.
    pub async fn start(identity: &Identity) -> Self {
        Self::with_clients_of(identity, None).await
    }

    /// A server that lets in clients with a certificate of `authority` alone.
    pub async fn mutual(identity: &Identity, authority: &Authority) -> Self {
        Self::with_clients_of(identity, Some(authority)).await
    }

    async fn with_clients_of(identity: &Identity, authority: Option<&Authority>) -> Self {
        let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
        let chain: Vec<_> = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = builder.with_single_cert(chain, key).unwrap();
        Self { plain: Server::start().await, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub fn address(&self) -> String {
        self.plain.address()
    }

    /// A client of this server that doesn't wait long.
    pub fn client(&self, tls: &TlsConfig) -> Builder {
        self.plain.client().tls(tls.clone())
    }

    pub async fn accept(&self) -> Peer<TlsStream<TcpStream>> {
        self.handshake().await.unwrap()
    }

    /// Accepts a client that fails, and says how.
    pub async fn refuse(&self) -> io::Error {
        self.handshake().await.map(drop).expect_err("the handshake should have failed")
    }

    pub async fn accept_subscriber(&self, next_sequence: u64) -> (Peer<TlsStream<TcpStream>>, Subscribe) {
        let mut peer = self.accept().await;
        peer.login().await;
        let request = peer.subscription(next_sequence).await;
        (peer, request)
    }

    async fn handshake(&self) -> io::Result<Peer<TlsStream<TcpStream>>> {
        let Peer { stream, limits } = self.plain.accept().await;
        let stream = soon(self.acceptor.accept(stream)).await?;
        Ok(Peer { stream, limits })
    }
}

/// A client and its peer, subscribed to seconds that start at 10.
pub async fn subscribed(server: &TlsServer, tls: &TlsConfig) -> (Subscription, Peer<TlsStream<TcpStream>>) {
    let client = async {
        let client = server.client(tls).connect().await.unwrap();
        client.subscribe(tickstream_client::Mode::Second).await.unwrap()
    };
    let (ticks, (peer, _)) = tokio::join!(client, server.accept_subscriber(10));
    (ticks, peer)
}

/// Outcome of the handshake.
pub fn kind(peer: &Peer<TlsStream<TcpStream>>) -> Option<HandshakeKind> {
    peer.stream.get_ref().1.handshake_kind()
}
