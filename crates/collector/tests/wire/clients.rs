//! Senders, as plain as can be.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer of HTTP/1.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends bytes, and gives all that comes until the collector closes.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The collector may have answered and closed before all is sent.
    _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub async fn request(address: SocketAddr, head: &str, body: &[u8]) -> Response {
    let head = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    parsed(&exchange(address, &[head.as_bytes(), body].concat()).await)
}

pub fn parsed(answer: &str) -> Response {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, headers: head.replace("\r\n", "\n"), body: body.to_owned() }
}

pub async fn post(address: SocketAddr, path: &str, body: &[u8]) -> Response {
    request(address, &format!("POST {path} HTTP/1.1"), body).await
}

/// An event in JSON.
pub fn event(name: &str) -> String {
    format!(r#"{{"platform":"web","event_type":"custom","event_name":"{name}","custom":{{"schema":"s"}}}}"#)
}
