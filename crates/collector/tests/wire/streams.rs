//! Syslog, RELP, Fluent, StatsD over sockets.

use std::time::Duration;

use tickstream_client::events::{Body, Event};
use tickstream_collector::{CollectorConfig, keys::Keys};
use tickstream_service::metrics::Text;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::server::{Answer, Fixture, KEYS, config};

fn messages(events: &[Event]) -> Vec<String> {
    let message = |event: &Event| match &event.body {
        Some(Body::Log(log)) => log.message.clone(),
        other => panic!("{other:?}"),
    };
    events.iter().map(message).collect()
}

#[tokio::test]
async fn syslog_over_tcp_waits_while_the_server_cannot_store() {
    let fixture = Fixture::start(None).await;
    fixture.server.answer(Answer::Reject("STORAGE_FULL", true));
    let mut stream = TcpStream::connect(fixture.syslog_tcp).await.unwrap();
    let lines: String = (0..1000).map(|i| format!("<13>h a: {i}\n")).collect();
    stream.write_all(lines.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.server.answer(Answer::Store);
    let expected: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let mut stored = messages(&fixture.server.wait_for(1000).await);
    stored.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn relp_answers_when_it_is_stored() {
    let fixture = Fixture::start(None).await;
    fixture.server.answer(Answer::Silence);
    let mut stream = TcpStream::connect(fixture.relp).await.unwrap();
    stream.write_all(b"1 open 14 relp_version=0\n2 syslog 9 <13>h a:x\n").await.unwrap();
    let mut buffer = [0; 1000];
    let quiet = timeout(Duration::from_millis(200), stream.read(&mut buffer)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    fixture.server.answer(Answer::Store);
    let len = timeout(Duration::from_secs(20), stream.read(&mut buffer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
    assert!(answer.ends_with("\n2 rsp 6 200 OK\n"), "{answer}");
    assert_eq!(fixture.server.events().len(), 1);
    // The same in a new session: the answer was lost.
    let mut again = TcpStream::connect(fixture.relp).await.unwrap();
    again.write_all(b"1 open 14 relp_version=0\n2 syslog 9 <13>h a:x\n").await.unwrap();
    timeout(Duration::from_secs(20), again.read(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(fixture.server.events().len(), 1);
}

#[tokio::test]
async fn fault_69_a_message_that_is_too_old_is_stored_at_its_receipt() {
    let fixture = Fixture::start(None).await;
    fixture.server.answer(Answer::RejectOnce("TOO_OLD"));
    let mut stream = TcpStream::connect(fixture.relp).await.unwrap();
    stream
        .write_all(b"1 open 14 relp_version=0\n2 syslog 41 <13>1 2003-10-11T22:14:15Z h su - - - old\n")
        .await
        .unwrap();
    let events = fixture.server.wait_for(1).await;
    let sender = events[0].sender.as_ref().unwrap();
    assert_eq!(sender.original_timestamp, Some(1_065_910_455_000_000_000));
    assert_eq!(events[0].timestamp, sender.receive_time);
}

#[tokio::test]
async fn a_message_that_cannot_be_stored_is_told() {
    let fixture = Fixture::start(None).await;
    fixture.server.answer(Answer::Reject("FIELD_TOO_LONG", false));
    let mut stream = TcpStream::connect(fixture.relp).await.unwrap();
    stream.write_all(b"1 open 14 relp_version=0\n2 syslog 9 <13>h a:x\n").await.unwrap();
    let mut answer = String::new();
    while !answer.contains("2 rsp ") {
        let mut buffer = [0; 1000];
        let len = timeout(Duration::from_secs(20), stream.read(&mut buffer)).await.unwrap().unwrap();
        answer += &String::from_utf8_lossy(&buffer[..len]);
    }
    assert!(answer.contains("500 FIELD_TOO_LONG"), "{answer}");
}

#[tokio::test]
async fn datagrams_are_stored() {
    let fixture = Fixture::start(None).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for i in 0..100 {
        socket.send_to(format!("<13>h a: {i}").as_bytes(), fixture.syslog_udp).await.unwrap();
        socket.send_to(format!("hits:{i}|c").as_bytes(), fixture.statsd).await.unwrap();
    }
    let events = fixture.server.wait_for(200).await;
    assert_eq!(events.iter().filter(|event| event.platform == "statsd").count(), 100);
}

#[tokio::test]
async fn datagrams_that_had_come_are_stored_when_the_collector_ends() {
    let fixture = Fixture::start(None).await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // Without a pause in which the collector could read them.
    for i in 0..20 {
        socket.send_to(format!("<13>h a: {i}").as_bytes(), fixture.syslog_udp).unwrap();
    }
    fixture.collector.drain(Duration::from_secs(20)).await;
    let stored = messages(&fixture.server.events());
    assert_eq!(stored, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
}

/// Senders without acknowledgements see that the other side has ended; their records on the way are read.
#[tokio::test]
async fn what_crosses_the_end_of_the_collector_is_stored_where_nothing_is_acknowledged() {
    for (name, first, second) in [
        ("syslog", &b"<13>h a: first\n"[..], &b"<13>h a: second\n"[..]),
        ("fluent", b"\x93\xA1t\x05\x81\xA7message\xA5first", b"\x93\xA1t\x05\x81\xA7message\xA6second"),
    ] {
        let fixture = Fixture::start(None).await;
        let address = if name == "syslog" { fixture.syslog_tcp } else { fixture.fluent };
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        fixture.server.wait_for(1).await;
        let draining = tokio::spawn(fixture.collector.drain(Duration::from_secs(20)));
        let end = timeout(Duration::from_secs(20), stream.read(&mut [0; 10])).await;
        assert!(matches!(end, Ok(Ok(0))), "{name}: {end:?}");
        stream.write_all(second).await.unwrap();
        drop(stream);
        draining.await.unwrap();
        assert_eq!(messages(&fixture.server.events()), ["first", "second"], "{name}");
    }
}

#[tokio::test]
async fn fluent_chunks_are_acknowledged() {
    let fixture = Fixture::start(None).await;
    let mut stream = TcpStream::connect(fixture.fluent).await.unwrap();
    // ["t", 5, {"message": "m"}, {"chunk": "c"}]
    let message = b"\x94\xA1t\x05\x81\xA7message\xA1m\x81\xA5chunk\xA1c";
    stream.write_all(message).await.unwrap();
    let mut ack = [0; 7];
    timeout(Duration::from_secs(20), stream.read_exact(&mut ack)).await.unwrap().unwrap();
    assert_eq!(&ack, b"\x81\xA3ack\xA1c");
    assert_eq!(messages(&fixture.server.events()), ["m"]);
}

#[tokio::test]
async fn a_sender_of_fluent_that_proves_nothing_is_closed_and_counted() {
    let config = CollectorConfig { fluent_auth: true, ..config(Some(KEYS)) };
    let fixture = Fixture::with(config).await;
    let mut stream = TcpStream::connect(fixture.fluent).await.unwrap();
    let mut helo = [0; 48];
    timeout(Duration::from_secs(20), stream.read_exact(&mut helo)).await.unwrap().unwrap();
    assert!(helo.starts_with(b"\x92\xA4HELO"));
    stream.write_all(b"\x94\xA1t\x05\x81\xA7message\xA1m\x81\xA5chunk\xA1c").await.unwrap();
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0, "it is closed");
    // One that says nothing has the time of a message.
    let mut silent = TcpStream::connect(fixture.fluent).await.unwrap();
    let mut greeting = Vec::new();
    let closed = timeout(Duration::from_secs(20), silent.read_to_end(&mut greeting));
    assert_eq!(closed.await.unwrap().unwrap(), helo.len());
    let mut text = Text::default();
    fixture.collector.intake().metrics.write(&mut text);
    let metrics = text.merged_with("");
    assert!(metrics.contains("refusals_total{source=\"fluent\",reason=\"unauthorized\"} 1"), "{metrics}");
    assert_eq!(fixture.server.events(), []);
}

#[tokio::test]
async fn streams_come_under_the_key_that_the_file_has_at_present() {
    let fixture = Fixture::start(Some(KEYS)).await;
    let mut stream = TcpStream::connect(fixture.syslog_tcp).await.unwrap();
    stream.write_all(b"<13>1 - h a - - - one\n").await.unwrap();
    assert_eq!(fixture.server.wait_for(1).await[0].sender.as_ref().unwrap().key_id, "backend");
    let kinds = "[key.backend]\nsecret = \"another-one\"\nkinds = [\"custom\"]";
    fixture.collector.set_keys(Some(Keys::parse(kinds, "keys.toml").unwrap()));
    stream.write_all(b"<13>1 - h a - - - two\n").await.unwrap();
    let rejected = || {
        let mut text = Text::default();
        fixture.collector.intake().metrics.write(&mut text);
        text.merged_with("").contains("events_rejected_total{source=\"syslog\"} 1")
    };
    let waits = async {
        while !rejected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), waits).await.unwrap();
    assert_eq!(messages(&fixture.server.events()), ["one"]);
}

/// Fluentd sends its chunk again until it is answered: one that can't be taken is sent for ever.
#[tokio::test]
async fn the_largest_chunk_of_fluentd_is_stored_and_answered() {
    let mut config = config(None);
    // It goes again as a whole if a part of it has no answer in time.
    config.upstream.answer_timeout = Duration::from_secs(50);
    config.stream.message_timeout = Duration::from_secs(50);
    let fixture = Fixture::with(config).await;
    // {"m": "…"} at second 5: 42 bytes, so that there are far more records than in a usual message.
    let entry = [b"\x92\x05\x81\xA1m\xD9\x22".as_slice(), &[b'x'; 34]].concat();
    let count = (8 << 20) / entry.len();
    let entries = entry.repeat(count);
    let message = [
        b"\x93\xA3app\xC6".as_slice(),
        &(entries.len() as u32).to_be_bytes(),
        &entries,
        b"\x82\xA4size\xCE",
        &(count as u32).to_be_bytes(),
        b"\xA5chunk\xA2c1",
    ]
    .concat();
    let mut stream = TcpStream::connect(fixture.fluent).await.unwrap();
    stream.write_all(&message).await.unwrap();
    let mut answer = [0; 8];
    timeout(Duration::from_secs(60), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"\x81\xA3ack\xA2c1");
    assert_eq!(fixture.server.events().len(), count);
}

#[tokio::test]
async fn a_stream_that_cannot_be_followed_is_counted() {
    let fixture = Fixture::start(None).await;
    let mut stream = TcpStream::connect(fixture.relp).await.unwrap();
    stream.write_all(b"this is no RELP frame\n").await.unwrap();
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0, "it is closed");
    let mut text = Text::default();
    fixture.collector.intake().metrics.write(&mut text);
    let metrics = text.merged_with("");
    assert!(metrics.contains("refusals_total{source=\"relp\",reason=\"malformed\"} 1"), "{metrics}");
}
