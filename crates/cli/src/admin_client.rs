//! One request to an admin endpoint, over TCP or a unix socket.
//!
//! By hand: HTTP/1.0 with a connection for each request is a line to send, and an answer that ends where the stream does.
//! hyper's client would bring a runtime into a command that asks once a second, and still want bounds on time and length.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use tickstream_service::admin::AdminAddress;

/// How long an answer to a question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer. A snapshot of 256 shards has a quarter of a megabyte.
const BYTES_MAX: usize = 16 << 20;
/// Characters of a refusal that are told.
const REFUSAL_CHARS: usize = 200;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// Nobody listens, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("it takes longer than {} s", .0.as_secs())]
    Timeout(Duration),
    /// Not HTTP.
    #[error("what answers there doesn't speak HTTP")]
    NoHttp,
    /// Too much of it.
    #[error("the answer is longer than {} MiB", BYTES_MAX >> 20)]
    TooLong,
    /// Another status than 200.
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

/// What is at `path`.
///
/// # Errors
/// See [`AdminClientError`].
pub fn json<T: DeserializeOwned>(address: &AdminAddress, path: &str) -> Result<T, AdminClientError> {
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\r\n", host(address));
    Ok(serde_json::from_slice(&ask(address, &request, PATIENCE)?)?)
}

/// Has something done that `path` names, and answers what the server says of it. On TCP that takes the `token` of
/// admin_token_file.
///
/// # Errors
/// See [`AdminClientError`].
pub fn post(
    address: &AdminAddress,
    path: &str,
    token: Option<&str>,
    patience: Duration,
) -> Result<String, AdminClientError> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let host = host(address);
    let request = format!("POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n{authorization}\r\n");
    Ok(String::from_utf8_lossy(&ask(address, &request, patience)?).into_owned())
}

fn host(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(_) => "localhost".to_owned(),
    }
}

fn ask(address: &AdminAddress, request: &str, patience: Duration) -> Result<Vec<u8>, AdminClientError> {
    let until = Instant::now() + patience;
    let answer = match address {
        AdminAddress::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            exchange(stream, request, |stream| stream.set_read_timeout(Some(left(until)?)))
        }
        AdminAddress::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            exchange(stream, request, |stream| stream.set_read_timeout(Some(left(until)?)))
        }
    };
    parse(&answer.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AdminClientError::Timeout(patience),
        _ => AdminClientError::Io(error),
    })?)
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

/// The body of an answer with status 200.
fn parse(answer: &[u8]) -> Result<Vec<u8>, AdminClientError> {
    if answer.len() > BYTES_MAX {
        return Err(AdminClientError::TooLong);
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(AdminClientError::NoHttp)?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    match status.ok_or(AdminClientError::NoHttp)? {
        200 => Ok(body.to_vec()),
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

    /// What comes of a server that says this and hangs up.
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
        match (json::<Vec<u64>>(&address, "/x"), expected) {
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
    }

    #[test]
    fn what_is_no_answer_is_told() {
        check(
            b"HTTP/1.1 503 Service Unavailable\r\n\r\ntoo many connections\n",
            Err("status 503: too many connections"),
        );
        check(b"HTTP/1.1 200 OK\r\n\r\n{}", Err("isn't what this version of tickstream reads"));
        check(b"HTTP/1.1 200 OK\r\n\r\n[1", Err("isn't what this version"));
        check(b"SSH-2.0-OpenSSH_9.2\r\n", Err("doesn't speak HTTP"));
        check(b"HTTP/1.1 OK\r\n\r\n", Err("doesn't speak HTTP"));
        check(b"", Err("doesn't speak HTTP"));
    }

    #[test]
    fn nobody_at_a_unix_socket_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            json::<Vec<u64>>(&AdminAddress::Unix(directory.path().join("none.sock")), "/").unwrap_err();
        assert!(
            matches!(&error, AdminClientError::Io(error) if error.kind() == io::ErrorKind::NotFound),
            "{error}"
        );
    }
}
