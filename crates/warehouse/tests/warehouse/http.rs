//! `POST /v1/query`: users, formats, refusals, and answers that fail on the way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits};
use tickstream_warehouse_core::serve::{Access, Users, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::common::{World, attacks, click};

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    _world: World,
}

async fn server(change: impl FnOnce(&mut Limits)) -> Server {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append((0..100).map(|_| click("ada", "scroll")).collect());
    world.load().await;
    let at = |name: &str| world.directory.path().join(name);
    std::fs::write(at("clear"), "one").unwrap();
    std::fs::write(at("masked"), "two").unwrap();
    let users = "[[user]]\nname = \"clear\"\npassword_file = \"clear\"\nsees_personal = true\n\
                 [[user]]\nname = \"masked\"\npassword_file = \"masked\"\n";
    std::fs::write(at("users.toml"), users).unwrap();
    let users = Users::read(&at("users.toml")).unwrap();
    let mut limits = Limits::new(world.tables.state());
    change(&mut limits);
    let ids = Ids::Files(world.tables.state().to_owned());
    let engine =
        Engine::open(&world.tables, vec![world.journals()], ids, Geo::default(), limits).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(http::serve(listener, Arc::new(engine), Access::Users(users), None, stopped));
    Server { address, stop, task, _world: world }
}

impl Server {
    /// Status line, headers and body of an answer, as they come.
    async fn ask(&self, login: &str, headers: &str, sql: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let authorization = format!("Basic {}", STANDARD.encode(login));
        let request = format!(
            "POST /v1/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n{headers}\
             Content-Length: {}\r\n\r\n{sql}",
            sql.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await;
        read.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_the_form_that_is_asked_for() {
    let server = server(|_| {}).await;
    let json = server.ask("clear:one", "", "SELECT count(*) AS n FROM events").await;
    assert!(json.starts_with("HTTP/1.1 200 OK\r\n") && json.contains("{\"n\":100}"), "{json}");
    assert!(json.contains("tickstream-as-of: version="), "{json}");
    let csv = server.ask("clear:one", "Accept: text/csv\r\n", "SELECT count(*) AS n FROM events").await;
    assert!(csv.contains("text/csv") && csv.contains("n\n") && csv.contains("100\n"), "{csv}");
    let parquet = server.ask("clear:one", "Accept: application/vnd.apache.parquet\r\n", "SELECT 1").await;
    assert!(parquet.contains("PAR1"), "{parquet}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_user_an_attack_and_a_masked_column_get_nothing() {
    let server = server(|_| {}).await;
    for login in ["clear:two", "nobody:one", "clear:", "clear"] {
        let answer = server.ask(login, "", "SELECT 1").await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("www-authenticate"), "{answer}");
    }
    let answer = server.ask("clear:one", "", "DROP TABLE events").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("read-only"), "{answer}");
    let unfolding = attacks::unfolding();
    for sql in attacks::REFUSED.into_iter().chain(unfolding.iter().map(String::as_str)) {
        let answer = server.ask("clear:one", "", sql).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{sql:.300}: {answer:.300}");
    }
    let answer = server.ask("masked:two", "", "SELECT count(raw_data) AS n FROM events").await;
    assert!(answer.contains("{\"n\":0}"), "{answer}");
    let answer = server.ask("clear:one", "Accept: image/png\r\n", "SELECT 1").await;
    assert!(answer.starts_with("HTTP/1.1 406 "), "{answer}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fails_on_the_way_has_no_end() {
    let server = server(|limits| limits.rows = 50_000).await;
    let answer = server.ask("clear:one", "", "SELECT value FROM generate_series(1, 10000000)").await;
    // The last chunk of a whole answer has no bytes.
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.ends_with("0\r\n\r\n"), "{}", answer.len());
    server.end().await;
}
