//! Sources that the collector goes to, and an agent's disk queue.

use std::{fs, io::Write, time::Duration};

use tickstream_client::events::{Body, Event};
use tickstream_collector::source_config::SourceConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

use crate::{
    clients::{event, post},
    server::{Answer, Fixture, config},
};

fn message(event: &Event) -> &str {
    match &event.body {
        Some(Body::Log(log)) => &log.message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn fault_72_lines_of_a_file_are_stored_once_over_rotation_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let sources = format!("[[source.file]]\npaths = [\"{}\"]", path.display());
    let start = || {
        let mut config = config(None);
        config.sources = SourceConfig::parse(&sources).unwrap();
        config.state_dir = Some(dir.path().join("state"));
        config
    };
    let append = |text: &str| {
        let file = fs::File::options().create(true).append(true).open(&path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    append("one\ntwo\nthr");
    let fixture = Fixture::with(start()).await;
    fixture.server.wait_for(2).await;
    append("ee\n");
    fixture.server.wait_for(3).await;
    // A line that can't be stored at present waits.
    fixture.server.answer(Answer::Reject("STORAGE_FULL", true));
    append("four\n");
    sleep(Duration::from_millis(500)).await;
    fixture.server.answer(Answer::Store);
    let stored = fixture.server.wait_for(4).await;
    assert_eq!(stored.iter().map(message).collect::<Vec<_>>(), ["one", "two", "three", "four"]);
    fixture.collector.drain(Duration::from_secs(5)).await;
    append("five\n");
    fs::rename(&path, dir.path().join("rotated")).unwrap();
    append("six\n");
    let fixture = Fixture::with(start()).await;
    let mut stored: Vec<_> =
        fixture.server.wait_for(2).await.iter().map(|event| message(event).to_owned()).collect();
    stored.sort();
    assert_eq!(stored, ["five", "six"]);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(fixture.server.events().len(), 2, "what was stored isn't sent again");
}

#[tokio::test]
async fn fault_72_a_symlink_that_is_switched_leads_to_each_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("1.txt"), "one\n").unwrap();
    fs::write(path("2.txt"), "two\n").unwrap();
    std::os::unix::fs::symlink(path("1.txt"), path("current.log")).unwrap();
    let mut config = config(None);
    let sources = format!("[[source.file]]\npaths = [\"{}\"]", path("*.log").display());
    config.sources = SourceConfig::parse(&sources).unwrap();
    config.state_dir = Some(path("state"));
    let fixture = Fixture::with(config).await;
    fixture.server.wait_for(1).await;
    std::os::unix::fs::symlink(path("2.txt"), path("new")).unwrap();
    fs::rename(path("new"), path("current.log")).unwrap();
    let stored = fixture.server.wait_for(2).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(stored.iter().map(message).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(fixture.server.events().len(), 2);
}

#[tokio::test]
async fn fault_73_half_a_record_at_the_end_waits_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let start = || {
        let mut config = config(None);
        let sources = format!(
            "[[source.file]]\npaths = [\"{}\"]\nmultiline_start = '^\\S'\nmultiline_timeout = \"30s\"",
            path.display()
        );
        config.sources = SourceConfig::parse(&sources).unwrap();
        config.state_dir = Some(dir.path().join("state"));
        config
    };
    let append = |text: &str| {
        let file = fs::File::options().create(true).append(true).open(&path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    append("first\n  at a\nsecond\n  at b\n");
    let fixture = Fixture::with(start()).await;
    fixture.server.wait_for(1).await;
    fixture.collector.drain(Duration::from_secs(5)).await;
    assert_eq!(fixture.server.events().len(), 1, "the second may go on");
    append("  at c\nthird\n");
    let fixture = Fixture::with(start()).await;
    let stored = fixture.server.wait_for(1).await;
    assert_eq!(message(&stored[0]), "second\n  at b\n  at c");
}

#[tokio::test]
async fn an_exporter_is_scraped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            _ = stream.read(&mut request).await;
            let body = "# TYPE hits_total counter\nhits_total{code=\"200\"} 7\n";
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            _ = stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).await;
        }
    });
    let mut config = config(None);
    let sources = format!(
        "[[source.scrape]]\njob_name = \"j\"\nscrape_interval = \"200ms\"\n[[source.scrape.static_configs]]\ntargets = [\"{target}\"]"
    );
    config.sources = SourceConfig::parse(&sources).unwrap();
    let fixture = Fixture::with(config).await;
    let events = fixture.server.wait_for(6).await;
    let series = events.iter().find_map(|event| match &event.body {
        Some(Body::MetricSeries(series)) if series.name == "hits_total" => Some(series),
        _ => None,
    });
    let series = series.expect("the exporter's series is stored");
    assert_eq!((series.points[0].value, series.is_monotonic, &series.service[..]), (Some(7.0), true, "j"));
    assert_eq!(
        (&series.labels["code"][..], &series.labels["instance"][..]),
        ("200", &target.to_string()[..])
    );
    assert!(events.iter().any(|event| event.event_name == "up"));
}

#[tokio::test]
async fn fault_63_an_agent_keeps_events_while_the_servers_are_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(None);
    config.spool = Some((dir.path().to_owned(), 1 << 20));
    let fixture = Fixture::with(config).await;
    fixture.server.set_down(true);
    for index in 0..20 {
        let answer = post(fixture.http, "/v1/events", event(&format!("e{index:02}")).as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(fixture.server.events().is_empty());
    fixture.server.set_down(false);
    let mut names: Vec<_> =
        fixture.server.wait_for(20).await.into_iter().map(|event| event.event_name).collect();
    names.sort();
    assert_eq!(names, (0..20).map(|index| format!("e{index:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn fault_63_a_disk_queue_that_is_full_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(None);
    config.spool = Some((dir.path().to_owned(), 2000));
    let fixture = Fixture::with(config).await;
    fixture.server.set_down(true);
    let mut statuses = Vec::new();
    for index in 0..40 {
        let answer = post(fixture.http, "/v1/events", event(&format!("e{index}")).as_bytes()).await;
        assert!(answer.status == 200 || answer.header("retry-after").is_some(), "{answer:?}");
        statuses.push(answer.status);
    }
    let stored = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.contains(&503) && stored > 0, "{statuses:?}");
    fixture.server.set_down(false);
    assert_eq!(fixture.server.wait_for(stored).await.len(), stored);
}
