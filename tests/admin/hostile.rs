//! Requests that are wrong, too large, too slow or too many.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tickstream_wire::messages::Mode;

use crate::support::{Answer, Client, PATIENCE, Server, TOKEN};

/// Connections that a listener takes at a time.
const CONNECTIONS_MAX: usize = 64;

fn raw(server: &Server, request: &[u8]) -> Answer {
    let mut stream = server.connect_admin();
    // It may close before it has read everything.
    let _ = stream.write_all(request);
    Answer::read(&mut stream)
}

#[test]
fn what_is_not_there_is_named() {
    let server = Server::start(&[]);
    let check = |method: &str, path: &str, status: u16, part: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        let answer = raw(&server, request.as_bytes());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.body.contains(part) || answer.head.contains(part), "{method} {path}: {answer:?}");
    };
    check("GET", "/", 200, "<!doctype html>");
    check("GET", "/help", 200, "POST /drain");
    check("POST", "/", 405, "allow: GET");
    check("GET", "/nothing", 404, "there is nothing at /nothing");
    check("GET", "/metrics/", 404, "/metrics/");
    check("GET", "//metrics", 404, "");
    check("POST", "/connections/0-1", 405, "allow: GET");
    check("GET", "/drain", 405, "allow: POST");
    check("GET", "/connections/0-1/close", 405, "allow: POST");
    check("POST", "/metrics", 405, "allow: GET");
    check("DELETE", "/connections", 405, "allow: GET");
    check("GET", "/connections?limit=x", 400, "limit=\"x\"");
    check("GET", "/connections?offset=99999999", 400, "up to 10000");
    check("GET", "/connections?shard=1", 400, "up to 0");
    check("HEAD", "/metrics", 200, "content-length");
    assert_eq!(server.get("/readyz").status, 200, "nothing of that drained it");
}

#[test]
fn requests_that_are_none_or_too_large_are_refused() {
    let server = Server::start(&[]);
    assert_eq!(raw(&server, b"nonsense\r\n\r\n").status, 400);
    assert_eq!(raw(&server, b"TS\x01\x01\0\0\0\0\0\0\0\0\r\n\r\n").status, 400);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    assert!(matches!(raw(&server, long.as_bytes()).status, 414 | 431));
    let headers: String = (0..1_000).map(|number| format!("x-{number}: y\r\n")).collect();
    let many = format!("GET /metrics HTTP/1.1\r\n{headers}\r\n");
    assert_eq!(raw(&server, many.as_bytes()).status, 431);
    let body = format!(
        "POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{}",
        "x".repeat(100_000)
    );
    assert_eq!(raw(&server, body.as_bytes()).status, 403);
    assert_eq!(raw(&server, b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 403);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn connections_beyond_the_limit_are_told_to_come_back() {
    let server = Server::start(&[]);
    let mut held: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| server.connect_admin()).collect();
    for stream in &mut held {
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    }
    let refused = Answer::read(&mut server.connect_admin());
    assert_eq!((refused.status, refused.body.as_str()), (503, "too many connections\n"));
    // Other listeners have limits of their own.
    let mut unix = UnixStream::connect(&server.socket).unwrap();
    unix.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut unix).status, 200);
    // Who is slow is cut off.
    let begin = Instant::now();
    let mut rest = Vec::new();
    let _ = held[0].read_to_end(&mut rest);
    let waited = begin.elapsed();
    assert!((Duration::from_secs(8)..Duration::from_secs(13)).contains(&waited), "{waited:?}");
    drop(held);
    let begin = Instant::now();
    while server.get("/healthz").status != 200 {
        assert!(begin.elapsed() < PATIENCE, "those who have gone still have their places");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_storm_of_scrapes_does_not_reach_the_shards() {
    let server = Server::start(&["--ticks-per-second", "100"]);
    let mut client = Client::subscribed(&server, Mode::Second, None);
    client.read_ticks(1);
    let (before, begin) = (server.snapshot(), Instant::now());
    let over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let patient = (0..8).map(|_| {
            scope.spawn(|| {
                let mut answered = 0;
                while !over.load(Ordering::Relaxed) {
                    answered += u64::from(server.get("/metrics").status == 200);
                }
                answered
            })
        });
        let patient: Vec<_> = patient.collect();
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = server
                        .connect_admin()
                        .write_all(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n");
                }
            });
        }
        client.read_ticks(200);
        over.store(true, Ordering::Relaxed);
        patient.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
    });
    let tenths = begin.elapsed().as_millis() as u64 / 100;
    let after = server.snapshot();
    let asked = after.process.collections - before.process.collections;
    assert!(asked <= tenths + 3, "asked {asked} times in {tenths} tenths of a second");
    assert!(answered > 4 * asked, "{answered} answers of {asked} collections");
    assert_eq!(after.shards[0].streams["SECOND"].ticks_skipped, 0);
}
