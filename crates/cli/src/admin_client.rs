//! Requests to an admin endpoint, over TCP or a unix socket.
//!
//! By hand: HTTP/1.0 with a connection for each request is a line to send, and an answer that ends where the stream does.
//! hyper's client would bring a runtime into a command that asks once a second, and still want bounds on time and length.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use tickstream_service::admin::AdminAddress;

use crate::exit;

/// Longest time of an answer to a question.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer. A snapshot of 256 shards has a quarter of a megabyte.
const BYTES_MAX: usize = 16 << 20;
/// Characters of a refusal that are told.
const REFUSAL_CHARS: usize = 300;

/// Reasons for which there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// No server listens, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Not HTTP.
    #[error("the answer isn't HTTP; is this the address of the admin endpoint?")]
    NoHttp,
    /// Too much of it.
    #[error("the answer is longer than {} MiB", BYTES_MAX >> 20)]
    TooLong,
    /// Another status than success.
    #[error("it answers with status {status}: {text}")]
    Refused {
        /// The status.
        status: u16,
        /// Its first line.
        text: String,
    },
    /// An answer of something else, or of another version.
    #[error("the answer isn't what this version of tickstream reads ({0})")]
    Json(#[from] serde_json::Error),
}

impl AdminClientError {
    /// A sentence that says what to do, where something helps.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Some(
                    "no server answers there: name its admin endpoint with --admin (the setting admin of `tickstream serve`)",
                ),
                io::ErrorKind::PermissionDenied => {
                    Some("the socket is the server's user's: run this as that user, or as root")
                }
                _ => None,
            },
            Self::NoHttp => {
                Some("--admin names the address of the setting admin, not the one that clients connect to")
            }
            Self::Refused { status: 403, .. } => Some(
                "give the token with --admin-token-file, or name the endpoint's unix socket with --admin",
            ),
            Self::Refused { status: 404, text } if text.contains("/help") => Some(
                "the server may be of an older version: compare `tickstream status` with `tickstream --version`",
            ),
            Self::Refused { status: 503, .. } | Self::Timeout(_) => Some("try again in a moment"),
            _ => None,
        }
    }

    /// The exit code of a command that fails by it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status: 403, .. } => exit::REFUSED,
            Self::Refused { status: 400, .. } => exit::USAGE,
            Self::Refused { status: 503, .. } => exit::TRY_LATER,
            _ => exit::FAILURE,
        }
    }
}

/// A server's admin endpoint. `Debug` doesn't show the token, which is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminClient {
    /// Its address.
    pub address: AdminAddress,
    /// The token of admin_token_file, which changes need on TCP.
    pub token: Option<String>,
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AdminClient").field(&self.address).finish()
    }
}

impl AdminClient {
    /// The JSON at `path`.
    ///
    /// # Errors
    /// See [`AdminClientError`].
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminClientError> {
        Ok(serde_json::from_slice(&self.get(path, PATIENCE)?)?)
    }

    /// The bytes at `path`.
    ///
    /// # Errors
    /// See [`AdminClientError`].
    pub fn get(&self, path: &str, patience: Duration) -> Result<Vec<u8>, AdminClientError> {
        self.ask("GET", path, patience)
    }

    /// Has something done that `path` names, and answers what the server says of it.
    ///
    /// # Errors
    /// See [`AdminClientError`].
    pub fn post(&self, path: &str, patience: Duration) -> Result<String, AdminClientError> {
        Ok(String::from_utf8_lossy(&self.ask("POST", path, patience)?).into_owned())
    }

    fn ask(&self, method: &str, path: &str, patience: Duration) -> Result<Vec<u8>, AdminClientError> {
        let host = match &self.address {
            AdminAddress::Tcp(address) => address.to_string(),
            AdminAddress::Unix(_) => "localhost".to_owned(),
        };
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n");
        if let Some(token) = &self.token {
            write!(request, "Authorization: Bearer {token}\r\n").expect("writing to a String can't fail");
        }
        request += "\r\n";
        let until = Instant::now() + patience;
        let answer = match &self.address {
            AdminAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream, &request, |stream| stream.set_read_timeout(Some(left(until)?)))
            }
            AdminAddress::Unix(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream, &request, |stream| stream.set_read_timeout(Some(left(until)?)))
            }
        };
        parse(&answer.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AdminClientError::Timeout(patience),
            _ => AdminClientError::Io(error),
        })?)
    }
}

/// The advice on an error, as a line of its own.
pub fn advice(error: &AdminClientError) -> String {
    error.advice().map(|advice| format!("\n{advice}")).unwrap_or_default()
}

/// A path with a query of these keys and values.
pub fn with_query<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = path.to_owned();
    for (at, (key, value)) in pairs.into_iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        text += key;
        text.push('=');
        for byte in value.bytes() {
            // RFC 3986, section 2.3: those that stand for themselves.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                write!(text, "%{byte:02X}").expect("writing to a String can't fail");
            }
        }
    }
    text
}

/// Sends the request, and reads until the end; `before_read` says how long the next read may take.
fn exchange<S: Read + Write>(
    mut stream: S,
    request: &str,
    before_read: impl Fn(&S) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1 << 14]);
    while answer.len() <= BYTES_MAX {
        before_read(&stream)?;
        match stream.read(&mut buffer)? {
            0 => break,
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(answer)
}

/// The time until then; an error if it is over, since no time at all would mean for ever.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The body of an answer with a status of success.
fn parse(answer: &[u8]) -> Result<Vec<u8>, AdminClientError> {
    if answer.len() > BYTES_MAX {
        return Err(AdminClientError::TooLong);
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(AdminClientError::NoHttp)?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    match status.ok_or(AdminClientError::NoHttp)? {
        200 | 202 => Ok(body.to_vec()),
        status => {
            let text = String::from_utf8_lossy(body);
            let line = text.lines().next().unwrap_or_default();
            Err(AdminClientError::Refused { status, text: line.chars().take(REFUSAL_CHARS).collect() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn client(address: AdminAddress) -> AdminClient {
        AdminClient { address, token: None }
    }

    /// Answer of a server that says this and hangs up.
    fn check(answer: &'static [u8], expected: Result<&[u64], &str>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = AdminAddress::Tcp(listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /x HTTP/1.0\r\nHost: 127.0.0.1:"));
            stream.write_all(answer).unwrap();
        });
        match (client(address).json::<Vec<u64>>("/x"), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
        server.join().unwrap();
    }

    #[test]
    fn answers_are_read_to_their_end() {
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n[1, 2]", Ok(&[1, 2]));
        check(b"HTTP/1.0 200 OK\r\n\r\n[]", Ok(&[]));
        check(b"HTTP/1.0 202 Accepted\r\n\r\n[3]", Ok(&[3]));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        check(
            b"HTTP/1.1 503 Service Unavailable\r\n\r\ntoo many connections\n",
            Err("status 503: too many connections"),
        );
        check(b"HTTP/1.1 200 OK\r\n\r\n{}", Err("isn't what this version of tickstream reads"));
        check(b"HTTP/1.1 200 OK\r\n\r\n[1", Err("isn't what this version"));
        check(b"SSH-2.0-OpenSSH_9.2\r\n", Err("isn't HTTP"));
        check(b"HTTP/1.1 OK\r\n\r\n", Err("isn't HTTP"));
        check(b"", Err("isn't HTTP"));
    }

    #[test]
    fn nobody_at_a_unix_socket_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let nobody = client(AdminAddress::Unix(directory.path().join("none.sock")));
        let error = nobody.json::<Vec<u64>>("/").unwrap_err();
        assert!(
            matches!(&error, AdminClientError::Io(error) if error.kind() == io::ErrorKind::NotFound),
            "{error}"
        );
        assert!(error.advice().unwrap().contains("--admin"));
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(with_query("/a", []), "/a");
        let pairs = [("user", "a b*&=é"), ("peer", "::1/128")];
        assert_eq!(with_query("/a", pairs), "/a?user=a%20b%2A%26%3D%C3%A9&peer=%3A%3A1%2F128");
    }
}
