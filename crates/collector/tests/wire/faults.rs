//! Faults, each by its number in the list of faults.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    clients::{event, exchange, parsed, post},
    server::{Answer, Fixture, KEYS, config},
};

#[tokio::test]
async fn fault_60_and_61_a_repeated_body_is_stored_once() {
    let fixture = Fixture::start(None).await;
    fixture.server.answer(Answer::StoreAndHangUp);
    let body = event("once");
    let refused = post(fixture.http, "/v1/events", body.as_bytes()).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    fixture.server.answer(Answer::Store);
    let answer = post(fixture.http, "/v1/events", body.as_bytes()).await;
    assert_eq!((answer.status, answer.json()["duplicates"].clone()), (200, json!(1)));
    assert_eq!(fixture.server.events().len(), 1);
}

#[tokio::test]
async fn fault_62_a_full_disk_is_told_with_a_time() {
    let fixture = Fixture::start(None).await;
    fixture.server.answer(Answer::Reject("STORAGE_FULL", true));
    let answer = post(fixture.http, "/v1/events", event("e").as_bytes()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{answer:?}");
    assert_eq!(answer.json()["rejected"][0]["retryable"], json!(true));
    fixture.server.answer(Answer::Reject("RATE_LIMITED", true));
    assert_eq!(post(fixture.http, "/v1/events", event("f").as_bytes()).await.status, 429);
    fixture.server.answer(Answer::Store);
    assert_eq!(post(fixture.http, "/v1/events", event("e").as_bytes()).await.status, 200);
}

#[tokio::test]
async fn fault_62_a_server_that_is_gone_is_told_and_comes_back_by_itself() {
    let fixture = Fixture::start(None).await;
    fixture.server.set_down(true);
    let answer = post(fixture.http, "/v1/events", event("e").as_bytes()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    fixture.server.set_down(false);
    let answer = post(fixture.http, "/v1/events", event("e").as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn fault_64_a_slow_server_bounds_what_is_held() {
    let mut config = config(None);
    config.upstream.queue_bytes = 64 * 1024;
    let fixture = Fixture::with(config).await;
    fixture.server.answer(Answer::Silence);
    let body = format!(
        r#"{{"platform":"web","event_type":"custom","event_name":"e","custom":{{"schema":"{}"}}}}"#,
        "x".repeat(200)
    );
    let body = vec![body; 100].join("\n");
    let posts: Vec<_> = (0..20)
        .map(|_| {
            let (address, body) = (fixture.http, body.clone());
            tokio::spawn(async move { post(address, "/v1/events", body.as_bytes()).await.status })
        })
        .collect();
    for post in posts {
        assert_eq!(post.await.unwrap(), 503);
    }
    assert_eq!(fixture.collector.intake().budget.used(), 0);
}

#[tokio::test]
async fn fault_65_senders_of_a_byte_a_second_are_closed_and_others_unharmed() {
    let fixture = Fixture::start(None).await;
    let slow = |first: &'static [u8], address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let started = Instant::now();
        let (mut read, mut write) = stream.into_split();
        let dribble = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(300)).await;
            }
        });
        let mut answer = Vec::new();
        _ = timeout(Duration::from_secs(15), read.read_to_end(&mut answer)).await.expect("it is closed");
        dribble.abort();
        (started.elapsed(), String::from_utf8_lossy(&answer).into_owned())
    };
    let head = slow(b"POST /v1/events HTTP/1.1\r\nx: ", fixture.http);
    let body = slow(b"POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\n[", fixture.http);
    let syslog = slow(b"<13>", fixture.syslog_tcp);
    let relp = slow(b"1 syslog 500 ", fixture.relp);
    let http2 = slow(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\0", fixture.otlp_grpc);
    let ours = async {
        let answer = post(fixture.http, "/v1/events", event("quick").as_bytes()).await;
        assert_eq!(answer.status, 200);
    };
    let (head, body, _syslog, _relp, _http2, ()) = tokio::join!(head, body, syslog, relp, http2, ours);
    assert!(head.0 < Duration::from_secs(10), "{head:?}");
    assert_eq!(parsed(&body.1).status, 408, "{body:?}");
}

#[tokio::test]
async fn fault_66_bodies_beyond_the_bounds_are_refused() {
    let fixture = Fixture::start(None).await;
    let too_long =
        exchange(fixture.http, b"POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000000\r\n\r\n[")
            .await;
    assert_eq!(parsed(&too_long).status, 413);
    let chunk = [b"100000\r\n".as_slice(), &[b' '; 0x10_0000], b"\r\n"].concat();
    let head = b"POST /v1/events HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = exchange(fixture.http, &[&head[..], &chunk, &chunk].concat()).await;
    assert_eq!(parsed(&chunked).status, 413);
    let big_head = [b"POST /v1/events HTTP/1.1\r\nx: ".as_slice(), &[b'x'; 100_000]].concat();
    let answer = parsed(&exchange(fixture.http, &big_head).await);
    assert!(answer.status == 431 && answer.body.contains("headers"), "{answer:?}");
    let many = vec![event("e"); 5001].join("\n");
    assert_eq!(post(fixture.http, "/v1/events", many.as_bytes()).await.status, 413);
    assert_eq!(fixture.server.events().len(), 0);
}

#[tokio::test]
async fn fault_67_smuggled_requests_are_refused() {
    let fixture = Fixture::start(None).await;
    let hidden = "POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n[]";
    for (head, status, said) in [
        ("content-length: 5\r\ntransfer-encoding: chunked", 400, "exclude each other"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity", 501, "Transfer-Encoding"),
        ("transfer-encoding: gzip, chunked", 501, "Transfer-Encoding"),
        ("transfer-encoding: xchunked", 501, "Transfer-Encoding"),
        ("content-length: 5\r\ncontent-length: 6", 400, "Content-Length"),
        ("content-length: 5\r\ncontent-length: 5", 400, "Content-Length"),
        ("content-length: 5, 5", 400, "Content-Length"),
        ("content-length: +5", 400, "Content-Length"),
        ("content-length : 5", 400, "colon"),
        ("content-length: 5\n", 400, "LF"),
        ("x: y\ncontent-length: 5", 400, "LF"),
        ("x: y\rcontent-length: 5", 400, "control character"),
        ("x: y\r\n content-length: 5", 400, "second line"),
    ] {
        let attack = format!("POST /v1/events HTTP/1.1\r\nhost: h\r\n{head}\r\n\r\n0\r\n\r\n{hidden}");
        let answer = exchange(fixture.http, attack.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head}: {answer}");
        let answer = parsed(&answer);
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close")),
            "{head}: {answer:?}"
        );
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(said), "{head}: {answer:?}");
    }
    assert_eq!(fixture.server.events().len(), 0);
}

#[tokio::test]
async fn fault_67_what_came_before_a_smuggled_request_has_its_answer() {
    let fixture = Fixture::start(None).await;
    let body = event("before");
    let sound =
        format!("POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let attack = "POST /v1/events HTTP/1.1\nhost: h\n\n";
    let answer = exchange(fixture.http, [&sound, attack, &sound].concat().as_bytes()).await;
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "400"], "{answer}");
    assert_eq!(fixture.server.events().len(), 1);
}

#[tokio::test]
async fn fault_67_chunks_keep_to_the_letter() {
    let fixture = Fixture::start(None).await;
    let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = event("chunked");
    let size = body.len();
    let rest = "\r\n0\r\n\r\n";
    for (chunks, status) in [
        (format!("{size:x};name=\"a value\"\r\n{body}{rest}"), 200),
        (format!("{size:x}\r\n{body}\r\n0\r\nx: y\r\n\r\n"), 200),
        (format!("{size:x}\n{body}{rest}"), 400),
        (format!("{size:x};a\nb\r\n{body}{rest}"), 400),
        (format!("{size:x}\r\n{body}x{rest}"), 400),
        (format!("0x{size:x}\r\n{body}{rest}"), 400),
        (format!("-{size:x}\r\n{body}{rest}"), 400),
        (format!("{size:x}\r\n{body}\r\n0\r\n : folded\r\n\r\n"), 400),
    ] {
        let stored = fixture.server.events().len();
        // The second one is answered only after a first one that is sound.
        let answers = exchange(fixture.http, [head, &chunks, LAST].concat().as_bytes()).await;
        let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        let expected = if status == 200 { vec!["200", "404"] } else { vec!["400"] };
        assert_eq!(statuses, expected, "{chunks:?}: {answers}");
        assert!(
            status == 200 || answers.contains("a chunk of the body") || answers.contains("second line"),
            "{answers}"
        );
        assert!(status == 200 || fixture.server.events().len() == stored, "{chunks:?}");
    }
    assert_eq!(fixture.server.events().len(), 1);
}

/// A request that ends its connection.
const LAST: &str = "GET /nothing HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_sender_that_says_no_more_still_has_its_answer() {
    let fixture = Fixture::start(None).await;
    let body = event("e");
    let request =
        format!("POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut stream = TcpStream::connect(fixture.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(parsed(&answer).status, 200, "{answer}");
}

#[tokio::test]
async fn fault_68_odd_texts_and_numbers_are_stored_or_refused_by_field() {
    let fixture = Fixture::start(None).await;
    let with = |value: &str| {
        format!(
            r#"{{"platform":"web","event_type":"custom","event_name":"e","custom":{{"measurements":[{{"name":"n","value":{value}}}]}}}}"#
        )
    };
    let text = |value: &str| event("e").replace("\"s\"", value);
    let body = [
        with("1e309"),
        with("-0.0"),
        with("18446744073709551615"),
        text(r#""\u0000""#),
        text(r#""\ud800""#),
        text(r#""\ud83d\ude00""#),
        event(""),
    ]
    .join("\n");
    let answer = post(fixture.http, "/v1/events", body.as_bytes()).await.json();
    let indexes: Vec<_> =
        answer["rejected"].as_array().unwrap().iter().map(|r| r["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [0, 4], "{answer}");
    assert!(answer["rejected"][0]["message"].as_str().unwrap().contains("value"), "{answer}");
}

#[tokio::test]
async fn fault_70_a_key_that_floods_is_limited_and_others_are_not() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let body = vec![event("e"); 20].join("\n");
    assert_eq!(post(fixture.http, "/v1/events?key=small-key", body.as_bytes()).await.status, 200);
    for _ in 0..50 {
        let answer = post(fixture.http, "/v1/events?key=small-key", body.as_bytes()).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("11")), "{answer:?}");
    }
    assert_eq!(post(fixture.http, "/v1/events?key=secret-key", body.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn what_was_taken_comes_to_its_answer_before_the_collector_ends() {
    let fixture = Fixture::start(None).await;
    let Fixture { collector, http, server, .. } = fixture;
    let posts: Vec<_> = (0..20)
        .map(|i| {
            tokio::spawn(
                async move { post(http, "/v1/events", event(&format!("e{i}")).as_bytes()).await.status },
            )
        })
        .collect();
    sleep(Duration::from_millis(20)).await;
    collector.drain(Duration::from_secs(10)).await;
    let mut stored = 0;
    for post in posts {
        // A connection that came too late is refused by nobody's word.
        stored += usize::from(post.await.is_ok_and(|status| status == 200));
    }
    assert!(server.events().len() >= stored && stored > 0, "{stored}");
}
