//! One request to an exporter or a list of targets: bounded in time and bytes, never redirected, and never to an address
//! that only the collector should reach.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Incoming,
    client::conn::http1,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, USER_AGENT,
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::address::may_connect;
use crate::http::{DecodeError, Encoding, decode};

/// A request.
#[derive(Clone, Debug)]
pub struct Fetch<'a> {
    /// The address.
    pub url: &'a str,
    /// True if it stands in the configuration itself.
    pub is_static: bool,
    /// Formats that are wanted.
    pub accept: &'static str,
    /// A token for `Authorization: Bearer`.
    pub token: Option<&'a str>,
    /// Time for all of it.
    pub timeout: Duration,
    /// Most bytes of an answer, packed and unpacked.
    pub bytes_max: usize,
    /// TLS of https.
    pub tls: Option<&'a Arc<ClientConfig>>,
}

/// An answer with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Of the body.
    pub content_type: String,
    /// Unpacked.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address can't be read.
    #[error("{0} is no address of http or https")]
    Url(String),
    /// The name has no address.
    #[error("the name can't be resolved")]
    Resolve(#[source] io::Error),
    /// The name has addresses, of which none may be connected to.
    #[error(
        "{0} is an address that targets may not have; a loopback address may stand in static_configs alone"
    )]
    Forbidden(IpAddr),
    /// No connection could be made.
    #[error("can't connect")]
    Connect(#[source] io::Error),
    /// https without TLS, or a certificate that can't be trusted.
    #[error("no TLS with it")]
    Tls(#[source] io::Error),
    /// The answer isn't HTTP, or ended early.
    #[error("no answer in HTTP")]
    Http(#[from] hyper::Error),
    /// Another status than 200.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// The target redirects to another address.
    #[error("it redirects to {0}, which isn't followed")]
    Redirect(String),
    /// The answer is too large.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// Its encoding is unknown, or broken.
    #[error("the answer can't be unpacked: {0}")]
    Encoding(String),
    /// The target took too long.
    #[error("the answer didn't come within {0:?}")]
    Slow(Duration),
}

impl Fetch<'_> {
    /// Sends it, and reads the answer.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn send(&self) -> Result<Fetched, FetchError> {
        time::timeout(self.timeout, self.exchange()).await.unwrap_or(Err(FetchError::Slow(self.timeout)))
    }

    async fn exchange(&self) -> Result<Fetched, FetchError> {
        let bad_url = || FetchError::Url(self.url.to_owned());
        let uri: Uri = self.url.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().ok_or_else(bad_url)?.clone();
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad_url()),
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let stream = self.connect(&host, port).await?;
        if !is_https {
            return self.ask(stream, &uri, authority.as_str()).await;
        }
        let tls = self.tls.ok_or_else(|| FetchError::Tls(io::Error::other("it isn't set up")))?;
        let name = ServerName::try_from(host).map_err(|error| FetchError::Tls(io::Error::other(error)))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(FetchError::Tls)?;
        self.ask(stream, &uri, authority.as_str()).await
    }

    /// Connects to the first address that may be, and listens. The name is resolved once: what was checked is used.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
        let addresses: Vec<SocketAddr> =
            lookup_host((host, port)).await.map_err(FetchError::Resolve)?.collect();
        let mut problem = None;
        for address in addresses {
            if !may_connect(address.ip(), self.is_static) {
                problem = problem.or(Some(FetchError::Forbidden(address.ip())));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => problem = Some(FetchError::Connect(error)),
            }
        }
        Err(problem.unwrap_or_else(|| FetchError::Resolve(io::Error::other("it has no address"))))
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        uri: &Uri,
        authority: &str,
    ) -> Result<Fetched, FetchError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(HOST, authority)
            .header(ACCEPT, self.accept)
            .header(ACCEPT_ENCODING, "gzip, zstd")
            .header(USER_AGENT, concat!("tickstream/", env!("CARGO_PKG_VERSION")))
            .header("x-prometheus-scrape-timeout-seconds", self.timeout.as_secs_f64().to_string());
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|_| FetchError::Url(self.url.to_owned()))?;
        let fetched = match sender.send_request(request).await {
            Ok(response) => self.read(response).await,
            Err(error) => Err(error.into()),
        };
        connection.abort();
        fetched
    }

    async fn read(&self, response: hyper::Response<Incoming>) -> Result<Fetched, FetchError> {
        let text = |name| {
            let value = response.headers().get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (content_type, encoding, location) = (text(CONTENT_TYPE), text(CONTENT_ENCODING), text(LOCATION));
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect(location)),
            status => return Err(FetchError::Status(status)),
        }
        let mut packed = Vec::new();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if packed.len() + data.len() > self.bytes_max {
                return Err(FetchError::TooLarge(self.bytes_max));
            }
            packed.extend_from_slice(&data);
        }
        let encoding = Encoding::from_header(&encoding).ok_or(FetchError::Encoding(encoding))?;
        let body = decode(encoding, &packed, self.bytes_max).map_err(|error| match error {
            DecodeError::TooLarge(bytes_max) => FetchError::TooLarge(bytes_max),
            DecodeError::Broken(problem) => FetchError::Encoding(problem),
        })?;
        Ok(Fetched { content_type, body: body.into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// The outcome of a request to somebody who answers with these bytes, and then says nothing.
    async fn fetch(answer: &'static [u8], is_static: bool) -> Result<Fetched, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics?a=b", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let len = stream.read(&mut request).await.unwrap();
            assert!(request[..len].starts_with(b"GET /metrics?a=b HTTP/1.1\r\n"));
            stream.write_all(answer).await.unwrap();
            std::future::pending::<()>().await;
        });
        let timeout = Duration::from_millis(500);
        let fetch = Fetch {
            url: &url,
            is_static,
            accept: "*/*",
            token: Some("t"),
            timeout,
            bytes_max: 1000,
            tls: None,
        };
        fetch.send().await
    }

    #[tokio::test]
    async fn fault_71_a_target_is_bounded_and_not_followed() {
        let fetched =
            fetch(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nup 1", true)
                .await;
        assert_eq!(fetched.unwrap().body, b"up 1");
        let redirect =
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n";
        let redirected = fetch(redirect, true).await.unwrap_err();
        assert!(matches!(&redirected, FetchError::Redirect(to) if to.contains("169.254")), "{redirected}");
        let large =
            fetch(b"HTTP/1.1 200 OK\r\ncontent-length: 500000000\r\n\r\nxxxx", true).await.unwrap_err();
        assert!(matches!(large, FetchError::TooLarge(1000) | FetchError::Slow(_)), "{large}");
        assert!(matches!(fetch(b"", true).await, Err(FetchError::Slow(_))));
        assert!(matches!(
            fetch(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", true).await,
            Err(FetchError::Status(_))
        ));
        assert!(matches!(fetch(b"nonsense\r\n\r\n", true).await, Err(FetchError::Http(_))));
        assert!(matches!(fetch(b"", false).await, Err(FetchError::Forbidden(_))), "loopback, discovered");
    }
}
