//! A real Prometheus scrapes a real server.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tickstream_wire::messages::Mode;

use crate::support::{Answer, Client, Server, has_tool};

struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(server: &Server) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: tickstream, static_configs: [{{targets: ['{}']}}]}}]\n",
            server.admin
        );
        std::fs::write(&config, text).expect("a file");
        // Free a moment ago; Prometheus can't tell which port it took if it is asked for any.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        Self { child, address, _directory: directory }
    }

    /// The values of an instant query; none if there is no answer yet.
    fn query(&self, query: &str) -> Vec<(serde_json::Value, f64)> {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return Vec::new() };
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        write!(stream, "GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n").expect("it reads");
        let answer: serde_json::Value =
            serde_json::from_str(&Answer::read(&mut stream).body).unwrap_or_default();
        let results = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |result: &serde_json::Value| result["value"][1].as_str()?.parse().ok();
        results.iter().filter_map(|result| Some((result["metric"].clone(), value(result)?))).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_answers_a_query_for_each_required_metric() {
    if !has_tool("prometheus") {
        return;
    }
    let server = Server::start(&["--ticks-per-second", "50", "--shards", "2"]);
    let prometheus = Prometheus::scraping(&server);
    let mut client = Client::subscribed(&server, Mode::Second, None);
    let queries = [
        ("sum(active_connections)", 1.0..2.0),
        ("sum(rate(messages_sent_total[10s]))", 10.0..100.0),
        ("sum(rate(bytes_sent_total[10s]))", 300.0..3_000.0),
        ("sum(heartbeat_timeouts_total)", 0.0..1.0),
        // A quantile of what took a few milliseconds at most, were it not for other tests on the same cores.
        ("histogram_quantile(0.5, sum by (le) (rate(publish_latency_ms_bucket[10s])))", 0.0..1_000.0),
        ("count(tickstream_shard_up == 1)", 2.0..3.0),
        ("sum(rate(tickstream_loop_busy_seconds_total[10s]))", 0.0..2.0),
    ];
    for (query, expected) in queries {
        let begin = Instant::now();
        loop {
            client.read_ticks(client.ticks + 10);
            let found = prometheus.query(query);
            if let [(_, value)] = found[..]
                && expected.contains(&value)
            {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{query}: {found:?}");
        }
    }
    let by_shard = prometheus.query("active_connections");
    let mut shards: Vec<_> = by_shard.iter().map(|(labels, _)| labels["shard"].as_str()).collect();
    shards.sort_unstable();
    assert_eq!(shards, [Some("0"), Some("1")]);
}
