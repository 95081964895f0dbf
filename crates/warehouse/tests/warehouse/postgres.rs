//! The PostgreSQL wire: passwords, parameters, roles, refusals, cancellation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tickstream_schema::events::LogLevel;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits};
use tickstream_warehouse_core::serve::{Access, Users, postgres};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls};

use crate::common::{World, attacks, click, log};

struct Server {
    address: SocketAddr,
    _stop: watch::Sender<bool>,
    _world: World,
}

async fn server(has_users: bool) -> Server {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append((0..100).map(|index| click(&format!("user-{}", index % 5), "scroll")).collect());
    writer.append(vec![log("shop", LogLevel::Error, "someone@example.com came")]);
    world.load().await;
    let access = if has_users {
        let at = |name: &str| world.directory.path().join(name);
        std::fs::write(at("clear"), "one").unwrap();
        std::fs::write(at("masked"), "two").unwrap();
        let users = "[[user]]\nname = \"clear\"\npassword_file = \"clear\"\nsees_personal = true\n\
                     [[user]]\nname = \"masked\"\npassword_file = \"masked\"\n";
        std::fs::write(at("users.toml"), users).unwrap();
        Access::Users(Users::read(&at("users.toml")).unwrap())
    } else {
        Access::Local
    };
    let ids = Ids::Files(world.tables.state().to_owned());
    let limits = Limits::new(world.tables.state());
    let engine =
        Engine::open(&world.tables, vec![world.journals()], ids, Geo::default(), limits).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(postgres::serve(listener, Arc::new(engine), access, None, stopped));
    Server { address, _stop: stop, _world: world }
}

impl Server {
    async fn connect(&self, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.address.port()).user(user).password(password).dbname("tickstream");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_with_parameters_and_gets_types() {
    let server = server(false).await;
    let client = server.connect("anyone", "").await.unwrap();
    let row = client
        .query_one(
            "SELECT count(*) FROM events WHERE event_type = $1 AND timestamp_ns > $2",
            &[&"log", &0_i64],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    let rows = client
        .query("SELECT event_name, shard, value, timestamp_ns FROM events WHERE event_type = 'log'", &[])
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, &str>(0), "log");
    assert_eq!((rows[0].get::<_, i32>(1), rows[0].get::<_, Option<f64>>(2)), (0, None));
    // The same statement again, with what has come since then.
    let statement = client.prepare("SELECT count(*) FROM events").await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.query_one(&statement, &[]).await.unwrap().get::<_, i64>(0), 101);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_passwords_open_and_roles_hold() {
    let server = server(true).await;
    for (user, password) in [("clear", "two"), ("nobody", "one"), ("clear", ""), ("masked", "one")] {
        assert!(server.connect(user, password).await.is_err(), "{user} {password}");
    }
    let clear = server.connect("clear", "one").await.unwrap();
    let masked = server.connect("masked", "two").await.unwrap();
    const SQL: &str = "SELECT count(raw_data), count(DISTINCT user_id) FROM events";
    let counts = |row: tokio_postgres::Row| (row.get::<_, i64>(0), row.get::<_, i64>(1));
    assert_eq!(counts(clear.query_one(SQL, &[]).await.unwrap()), (101, 5));
    assert_eq!(counts(masked.query_one(SQL, &[]).await.unwrap()), (0, 5));
    let row = masked.query_one("SELECT session_user", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "masked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_or_reads_files_is_refused_and_the_connection_goes_on() {
    let server = server(false).await;
    let client = server.connect("anyone", "").await.unwrap();
    let unfolding = attacks::unfolding();
    for sql in attacks::REFUSED.into_iter().chain(unfolding.iter().map(String::as_str)) {
        for is_simple in [true, false] {
            let refused = if is_simple {
                client.simple_query(sql).await.map(drop)
            } else {
                client.query(sql, &[]).await.map(drop)
            };
            let error = refused.expect_err(sql);
            assert!(error.as_db_error().is_some(), "{sql}: {error}");
        }
        assert_eq!(client.query_one("SELECT 1::bigint", &[]).await.unwrap().get::<_, i64>(0), 1, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_cancelled_and_its_place_is_free_again() {
    let server = server(false).await;
    let client = server.connect("anyone", "").await.unwrap();
    let token = client.cancel_token();
    let cancel = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        token.cancel_query(NoTls).await
    });
    let began = Instant::now();
    let sql = "SELECT count(*) FROM generate_series(1, 300000) a JOIN generate_series(1, 300000) b ON a.value < b.value";
    let error = client.simple_query(sql).await.unwrap_err();
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::QUERY_CANCELED), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    cancel.await.unwrap().unwrap();
    assert_eq!(client.query_one("SELECT 1::bigint", &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_ends_its_connection_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server(false).await;
    let client = server.connect("anyone", "").await.unwrap();
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&(1_u32 << 30).to_be_bytes()).await.unwrap();
    socket.write_all(&[0; 64]).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(client.query_one("SELECT 1::bigint", &[]).await.unwrap().get::<_, i64>(0), 1);
}
