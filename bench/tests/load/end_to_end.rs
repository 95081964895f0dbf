//! The real commands against each other, and against a server that does everything wrong.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tickstream_wire::{
    frame::seal,
    messages::{Ack, DataBatch, ErrorMsg, MsgType, Tick},
};

use crate::{json, serve};

struct BareLoop {
    child: Child,
    port: u16,
}

impl BareLoop {
    fn start(arguments: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_tickstream-bare-loop"))
            .args(["--port", &port.to_string()])
            .args(arguments)
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "the bare loop doesn't listen");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn load(port: u16, arguments: &[&str]) -> Output {
    crate::load(port, &[&["--warmup", "0s", "--grace", "500ms"], arguments].concat())
}

#[test]
fn a_good_run_delivers_every_tick_and_leaves_every_file() {
    let server = BareLoop::start(&["--rate", "20", "--ticks-per-frame", "5", "--echo-heartbeats"]);
    let files = ["json", "hlog", "html"]
        .map(|name| std::env::temp_dir().join(format!("tickstream-load-test-{}.{name}", std::process::id())));
    let [_, hdr, report] = files.each_ref().map(|path| path.to_str().unwrap());
    let options = ["-n", "40", "--threads", "2", "--duration", "2s", "--ticks-per-second", "100"];
    let more = ["--heartbeat-interval", "500ms", "--hdr", hdr, "--report", report];
    let output = load(server.port, &[&options[..], &more[..]].concat());
    let summary = json(&output);
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert_eq!(summary["connections_subscribed"], 40);
    // 40 connections × 100 ticks × 2 s were due in the measured time.
    assert_eq!(summary["latency"]["count"], 8_000);
    assert!(summary["heartbeats_answered"].as_u64().unwrap() > 0);
    assert_eq!(summary["server_pid"], server.child.id());
    assert!(std::fs::read_to_string(hdr).unwrap().contains("HISTFAAA"));
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.contains("<svg") && page.contains("every tick was right") && !page.contains("NaN"));
    // Labels keep their size where a plot is stretched.
    assert!(page.contains("<span class=\"y\"") && !page.contains("<text"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let date = summary["started_ms"].as_u64().map(|ms| UNIX_EPOCH + Duration::from_millis(ms)).unwrap();
    let date = humantime::format_rfc3339_seconds(date).to_string();
    for part in
        [&date, host.trim(), summary["version"].as_str().unwrap(), "--duration 2s --ticks-per-second 100"]
    {
        assert!(page.contains(part), "{part} isn't in the report");
    }
    for file in files {
        let _ = std::fs::remove_file(file);
    }
}

#[test]
fn another_rate_than_the_server_s_is_named_and_nothing_else_is_blamed() {
    let server = BareLoop::start(&["--rate", "10"]);
    let output = load(server.port, &["-n", "3", "--duration", "1s", "--ticks-per-second", "4"]);
    let summary = json(&output);
    assert_eq!(output.status.code(), Some(1), "{summary:#}");
    let failures: Vec<_> =
        summary["failures"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let [failure] = failures[..] else { panic!("{failures:#?}") };
    assert!(
        failure.contains("the server has 10") && failure.contains("given --ticks-per-second 4"),
        "{failure}"
    );
    assert_eq!(summary["ticks_per_second_of_server"], 10.0);
}

#[test]
fn a_spread_phase_is_understood() {
    let server = BareLoop::start(&["--phase", "spread", "--rate", "4"]);
    let output = load(server.port, &["-n", "50", "--duration", "2s", "--ticks-per-second", "4"]);
    let summary = json(&output);
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert_eq!(summary["latency"]["count"], 50 * 4 * 2);
}

/// Ten ticks a second, with a fault of each kind on every connection, and an ERROR at the end.
fn faulty_session(mut stream: TcpStream) {
    let mut greeting = [0; 512];
    if stream.read(&mut greeting).unwrap_or(0) == 0 {
        return;
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let first = now_ms / 100 + 1;
    let ack = |acked_type: MsgType| {
        seal(&Ack {
            acked_type: acked_type as i32,
            next_sequence: first,
            server_time_ms: now_ms,
            ..Ack::default()
        })
    };
    let batch = |sequence: u64, epoch_ms: u64| {
        let ticks = vec![Tick { mode: 0, epoch_ms }];
        seal(&DataBatch { schema_version: 1, ticks, first_sequence: sequence })
    };
    let mut frames = vec![[ack(MsgType::Auth), ack(MsgType::Subscribe)].concat()];
    // 1 and 2 are left out, 2 follows 3, 3 comes again, 4 is labelled as 5.
    for (n, label) in [(0, 0), (3, 3), (2, 2), (3, 3), (4, 5)] {
        frames.push(batch(first + n, (first + label) * 100));
    }
    for frame in frames {
        let _ = stream.write_all(&frame);
    }
    thread::sleep(Duration::from_millis(700));
    let error = ErrorMsg { code: "INTERNAL".into(), message: String::new(), retry_after_ms: 0 };
    let _ = stream.write_all(&seal(&error));
}

#[test]
fn every_kind_of_fault_is_found() {
    let port = serve(faulty_session);
    let output = load(port, &["-n", "3", "--duration", "1s", "--ticks-per-second", "10"]);
    let summary = json(&output);
    assert_eq!(output.status.code(), Some(1), "{summary:#}");
    let class = &summary["classes"][0];
    assert_eq!(class["faults"]["gaps"], 3, "{class:#}");
    assert_eq!(class["faults"]["out_of_order"], 3, "{class:#}");
    assert_eq!(class["faults"]["duplicates"], 3, "{class:#}");
    assert_eq!(class["faults"]["wrong_label"], 3, "{class:#}");
    assert!(class["faults"]["missing"].as_u64() > Some(0), "{class:#}");
    assert_eq!(class["closes"]["INTERNAL"], 3, "{class:#}");
}

#[test]
fn nobody_there_and_wrong_usage_have_their_exit_codes() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = load(port, &["-n", "2", "--attempts", "1", "--duration", "1s"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["connect_errors"]["ECONNREFUSED"], 2);

    let output = load(port, &["-n", "1000000", "--threads", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--threads"));
}
