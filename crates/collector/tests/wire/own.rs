//! The collector's own API.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tickstream_collector::keys::Keys;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    clients::{event, exchange, parsed, post, request},
    server::{Answer, Fixture, KEYS, config},
};

#[tokio::test]
async fn success_is_the_servers_word() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let body = format!("[{},{{\"nonsense\":1}},{}]", event("a"), event("b"));
    let answer = post(fixture.http, "/v1/events?key=secret-key", body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!((&json["accepted"], &json["duplicates"]), (&json!(2), &json!(0)));
    assert_eq!(
        (&json["rejected"][0]["index"], &json["rejected"][0]["code"]),
        (&json!(1), &json!("MALFORMED"))
    );
    let again = post(fixture.http, "/v1/events?key=secret-key", body.as_bytes()).await.json();
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(2)), "by the body");
    let events = fixture.server.events();
    let sender = events[0].sender.as_ref().unwrap();
    assert_eq!(
        (&sender.key_id[..], &sender.source[..], &sender.client_address[..]),
        ("backend", "events", "127.0.0.1")
    );
    assert_eq!(events.iter().map(|event| &event.event_name[..]).collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn compressed_bodies_keys_and_origins_are_checked() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(event("zipped").as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let send = async |more: &str, body: &[u8]| {
        request(fixture.http, &format!("POST /v1/events HTTP/1.1\r\n{more}"), body).await
    };
    let plain = event("plain");
    let check = async |headers: &str, body: &[u8], status: u16| {
        let answer = send(headers, body).await;
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        answer
    };
    check("content-encoding: gzip\r\nx-api-key: secret-key", &gzip, 200).await;
    check("content-encoding: gzip\r\nx-api-key: secret-key", plain.as_bytes(), 400).await;
    check("content-encoding: br\r\nx-api-key: secret-key", &gzip, 415).await;
    check("x-api-key: wrong-key", plain.as_bytes(), 401).await;
    // Without a key, nothing of a body is waited for.
    let unread = b"POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n[";
    assert_eq!(parsed(&exchange(fixture.http, unread).await).status, 401);
    check("x-api-key: wrong-key\r\nauthorization: Bearer secret-key", plain.as_bytes(), 401).await;
    check("authorization: Bearer secret-key", plain.as_bytes(), 200).await;
    let page = check("x-api-key: public-key\r\norigin: https://shop.example", plain.as_bytes(), 200).await;
    assert_eq!(page.header("access-control-allow-origin"), Some("https://shop.example"));
    check("x-api-key: public-key\r\norigin: https://evil.example", plain.as_bytes(), 403).await;
    let log = r#"{"platform":"web","event_type":"log","event_name":"l","log":{"service":"s","level":"info","message":"m"}}"#;
    let answer = check("x-api-key: public-key", log.as_bytes(), 200).await;
    assert_eq!(answer.json()["rejected"][0]["code"], json!("KIND_NOT_ALLOWED"));
    let preflight = request(
        fixture.http,
        "OPTIONS /v1/events?key=public-key HTTP/1.1\r\norigin: https://shop.example",
        b"",
    )
    .await;
    assert_eq!((preflight.status, preflight.header("access-control-max-age")), (204, Some("86400")));
    // navigator.sendBeacon of JSON isn't sent without.
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(request(fixture.http, "GET /nowhere HTTP/1.1", b"").await.status, 404);
}

#[tokio::test]
async fn statuses_have_the_headers_that_belong_to_them() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let get = request(fixture.http, "GET /v1/events HTTP/1.1", b"").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    let delete = request(fixture.http, "DELETE /_bulk HTTP/1.1", b"").await;
    assert_eq!((delete.status, delete.header("allow")), (405, Some("POST, PUT")));
    let unknown = post(fixture.http, "/v1/events", b"[]").await;
    assert!(unknown.status == 401 && unknown.header("www-authenticate").is_some(), "{unknown:?}");
    let described = request(fixture.http, "GET /openapi.json HTTP/1.1", b"").await;
    assert_eq!((described.status, &described.json()["openapi"]), (200, &json!("3.1.0")), "without a key");
    let asked = "OPTIONS /v1/events HTTP/1.1\r\norigin: https://a.example\r\naccess-control-request-headers: x-own, content-type";
    let preflight = request(fixture.http, asked, b"").await;
    assert_eq!(preflight.header("access-control-allow-headers"), Some("x-own, content-type"));
}

/// posthog-js captures no click before it was told that it may.
#[tokio::test]
async fn pages_of_posthog_learn_what_is_on() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let origin = "origin: https://shop.example";
    let config =
        request(fixture.http, &format!("GET /array/public-key/config HTTP/1.1\r\n{origin}"), b"").await;
    let flags =
        request(fixture.http, &format!("POST /flags/?v=2 HTTP/1.1\r\n{origin}"), b"{\"token\":\"x\"}").await;
    let decide =
        request(fixture.http, &format!("POST /decide/?v=3 HTTP/1.1\r\n{origin}"), b"data=e30%3D").await;
    for answer in [config, flags, decide] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://shop.example"));
        let settings = answer.json();
        assert_eq!(
            (&settings["autocapture_opt_out"], &settings["sessionRecording"]),
            (&json!(false), &json!(false))
        );
        assert_eq!((&settings["featureFlags"], &settings["hasFeatureFlags"]), (&json!({}), &json!(false)));
    }
    assert_eq!(request(fixture.http, "GET /array/public-key/config.js HTTP/1.1", b"").await.status, 404);
}

/// posthog-js packs its bodies, and says so nowhere; the secret is inside.
#[tokio::test]
async fn pages_of_posthog_send_packed_bodies() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(
        br#"{"api_key":"public-key","batch":[{"event":"$pageview","properties":{"distinct_id":"a"}}]}"#,
    )
    .unwrap();
    let packed = gzip.finish().unwrap();
    for head in ["POST /e/ HTTP/1.1\r\ncontent-type: text/plain", "POST /e/?compression=gzip-js HTTP/1.1"] {
        let answer = request(fixture.http, head, &packed).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "status": "Ok" })), "{head}");
    }
    assert_eq!(fixture.server.events()[0].event_name, "$pageview");
}

#[tokio::test]
async fn pages_of_segment_send_batches_by_their_short_path() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let body = r#"{"writeKey":"public-key","batch":[{"type":"track","event":"opened","anonymousId":"a","messageId":"m"}]}"#;
    let answer =
        request(fixture.http, "POST /v1/b HTTP/1.1\r\ncontent-type: text/plain", body.as_bytes()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "success": true })));
    assert_eq!(fixture.server.events()[0].event_name, "opened");
}

/// Whoever sends its head before its body would otherwise write into a connection that is closed, and never read the answer.
#[tokio::test]
async fn a_refusal_before_the_body_leaves_the_connection() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let mut stream = TcpStream::connect(fixture.http).await.unwrap();
    for _ in 0..3 {
        let head = b"POST /v1/events HTTP/1.1\r\nhost: h\r\nx-api-key: wrong\r\ncontent-length: 5000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        stream.write_all(&[b' '; 5000]).await.unwrap();
        let mut answer = vec![0; 4096];
        let len = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 401 ") && !answer.contains("connection: close"), "{answer}");
    }
    let large = b"POST /v1/events HTTP/1.1\r\nhost: h\r\nx-api-key: wrong\r\ncontent-length: 500000\r\n\r\n[";
    let answer = parsed(&exchange(fixture.http, large).await);
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")), "{answer:?}");
}

#[tokio::test]
async fn fault_67_a_request_names_its_host_once() {
    let fixture = Fixture::start(None).await;
    let send = async |hosts: &str| {
        let text =
            format!("POST /v1/events HTTP/1.1\r\n{hosts}connection: close\r\ncontent-length: 2\r\n\r\n[]");
        parsed(&exchange(fixture.http, text.as_bytes()).await).status
    };
    assert_eq!(send("host: a\r\n").await, 200);
    assert_eq!(send("").await, 400);
    assert_eq!(send("host: a\r\nhost: b\r\n").await, 400);
}

#[tokio::test]
async fn new_keys_hold_at_once() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let body = event("e");
    assert_eq!(post(fixture.http, "/v1/events?key=brand-new", body.as_bytes()).await.status, 401);
    let keys = Keys::parse("[key.new]\nsecret = \"brand-new\"", "keys.toml").unwrap();
    fixture.collector.set_keys(Some(keys));
    assert_eq!(post(fixture.http, "/v1/events?key=brand-new", body.as_bytes()).await.status, 200);
    assert_eq!(post(fixture.http, "/v1/events?key=secret-key", body.as_bytes()).await.status, 401);
}

#[tokio::test]
async fn without_a_file_of_keys_everyone_may_send() {
    let fixture = Fixture::start(None).await;
    assert_eq!(post(fixture.http, "/v1/events", event("e").as_bytes()).await.status, 200);
}

#[tokio::test]
async fn verdicts_of_the_server_come_with_the_senders_index() {
    let fixture = Fixture::start(None).await;
    fixture.server.answer(Answer::Reject("TOO_OLD", false));
    let body = format!("[5,{},{}]", event("a"), event("b"));
    let answer = post(fixture.http, "/v1/events", body.as_bytes()).await;
    let rejected = &answer.json()["rejected"];
    assert_eq!(
        (answer.status, &rejected[1]["index"], &rejected[1]["code"]),
        (200, &json!(2), &json!("TOO_OLD"))
    );
    assert_eq!(rejected[0]["index"], json!(0));
}

#[tokio::test]
async fn a_connection_goes_on_after_a_rest_wherever_its_next_request_was_cut() {
    let mut config = config(None);
    config.http.connection.idle_timeout = Duration::from_secs(10);
    let fixture = Fixture::with(config).await;
    let mut stream = TcpStream::connect(fixture.http).await.unwrap();
    let body = event("e");
    let request =
        format!("POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let answer = async |stream: &mut TcpStream| {
        let mut buffer = [0; 4096];
        let len = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    // Cut within the method, the head and the body; after each answer there is a rest, and a rest in the middle.
    for cut in [1, 20, request.len() - 5, request.len()] {
        let (first, second) = request.split_at(cut);
        stream.write_all(first.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(1300)).await;
        stream.write_all(second.as_bytes()).await.unwrap();
        let answered = answer(&mut stream).await;
        assert!(answered.starts_with("HTTP/1.1 200"), "cut at {cut}: {answered:?}");
        // The beginning of a next request comes before the buffers go.
        stream.write_all(b"GET /openapi").await.unwrap();
        sleep(Duration::from_millis(1300)).await;
        stream.write_all(b".jsn HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 404"));
    }
}
