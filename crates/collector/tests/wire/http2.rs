//! HTTP/2 from those who misuse it, frame by frame.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    clients::{event, post},
    server::Fixture,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method: POST`, `:scheme: http`, `:path: /`, `:authority: h`.
const FIELDS: &[u8] = b"\x83\x86\x84\x41\x01h";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends pieces until the collector has closed; the number of pieces that it took.
async fn flood(address: SocketAddr, piece: impl Fn(u32) -> Vec<u8>) -> u32 {
    const PIECES_MAX: u32 = 200_000;
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let closed = tokio::spawn(async move { _ = read.read_to_end(&mut Vec::new()).await });
    write.write_all(PREFACE).await.unwrap();
    let mut sent = 0;
    while sent < PIECES_MAX && write.write_all(&piece(sent)).await.is_ok() {
        sent += 1;
    }
    timeout(Duration::from_secs(10), closed).await.expect("it is closed").unwrap();
    sent
}

async fn is_unharmed(fixture: &Fixture) {
    let began = Instant::now();
    assert_eq!(post(fixture.http, "/v1/events", event("other").as_bytes()).await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn fault_67_streams_that_are_reset_at_once_end_the_connection() {
    let fixture = Fixture::start(None).await;
    let request_and_reset = |index: u32| {
        let stream = 2 * index + 1;
        let headers = frame(HEADERS, END_HEADERS, stream, FIELDS);
        [headers, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let sent = flood(fixture.otlp_grpc, request_and_reset).await;
    assert!(sent < 100_000, "{sent} requests");
    is_unharmed(&fixture).await;
}

#[tokio::test]
async fn fault_67_headers_without_an_end_end_the_connection() {
    let fixture = Fixture::start(None).await;
    let go_on = |index: u32| match index {
        0 => frame(HEADERS, END_STREAM, 1, FIELDS),
        // A field that isn't in any table: x: then 1,000 times y.
        _ => frame(CONTINUATION, 0, 1, &[b"\0\x01x\x7f\xe9\x06".as_slice(), &[b'y'; 1000]].concat()),
    };
    let sent = flood(fixture.otlp_grpc, go_on).await;
    assert!(sent < 10_000, "{sent} frames");
    assert!(fixture.collector.intake().budget.used() == 0);
    is_unharmed(&fixture).await;
}
