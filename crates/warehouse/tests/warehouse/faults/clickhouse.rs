//! A ClickHouse that is down, fails, loses answers and refuses: the mirror resumes, each row once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tickstream_schema::events::LogLevel;
use tickstream_warehouse_core::mirror::{ClickHouse, Mirror};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{World, chain, click, log, replay_chunk};

/// Rows of tables as a ClickHouse has them: an insert whose token it remembers is dropped.
#[derive(Default)]
struct Rows {
    tokens: HashMap<String, usize>,
    tables: BTreeMap<String, usize>,
    /// Inserts that came, by table.
    inserts: BTreeMap<String, usize>,
    /// Columns of each table.
    columns: BTreeMap<String, BTreeSet<String>>,
}

/// Behaviour of a ClickHouse at the next requests.
const WORKS: u64 = 0;
const IS_DOWN: u64 = 1;
const LOSES_ANSWERS: u64 = 2;
const REFUSES: u64 = 3;
const REFUSES_LOGS: u64 = 4;

struct Front {
    address: SocketAddr,
    rows: Arc<Mutex<Rows>>,
    mode: Arc<AtomicU64>,
}

impl Front {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let front = Self { address, rows: Arc::default(), mode: Arc::default() };
        let (rows, mode) = (front.rows.clone(), front.mode.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, rows.clone(), mode.clone()));
            }
        });
        front
    }

    fn becomes(&self, mode: u64) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    fn count(&self, table: &str) -> usize {
        self.rows.lock().unwrap().tables.get(table).copied().unwrap_or_default()
    }

    /// A table with these columns alone, as an earlier version made it.
    fn has_table(&self, table: &str, columns: &[&str]) {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        self.rows.lock().unwrap().columns.insert(table.to_owned(), columns);
    }

    fn client(&self) -> ClickHouse {
        ClickHouse::at(&format!("http://{}/events", self.address)).unwrap()
    }
}

async fn serve(mut socket: TcpStream, rows: Arc<Mutex<Rows>>, mode: Arc<AtomicU64>) {
    while let Some((target, body)) = request(&mut socket).await {
        let mode = mode.load(Ordering::SeqCst);
        if mode == IS_DOWN {
            return;
        }
        let is_refused = mode == REFUSES || (mode == REFUSES_LOGS && target.contains("INTO+logs+"));
        let done = if is_refused { Err("video_id".to_owned()) } else { run(&target, body, &rows) };
        if let Err(column) = done {
            let reason = format!("Code: 16. DB::Exception: No such column {column}");
            let answer =
                format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{reason}", reason.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
            continue;
        }
        if mode == LOSES_ANSWERS {
            return;
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    }
}

/// Target and body of a request.
async fn request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let length: usize = length.unwrap_or_default();
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let target = String::from_utf8_lossy(&bytes[..end]).split(' ').nth(1)?.to_owned();
    Some((target, bytes.split_off(end)))
}

/// Runs a statement.
///
/// # Errors
/// The column that the table lacks.
fn run(target: &str, body: Vec<u8>, rows: &Mutex<Rows>) -> Result<(), String> {
    let url = url::Url::parse(&format!("http://front{target}")).unwrap();
    let parameter =
        |name: &str| url.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value.into_owned());
    let (Some(token), Some(query)) = (parameter("insert_deduplication_token"), parameter("query")) else {
        define(&String::from_utf8(body).unwrap(), &mut rows.lock().unwrap());
        return Ok(());
    };
    let table = query.split(' ').nth(2).unwrap().to_owned();
    let (_, named) = query.split_once('(').unwrap();
    let (named, _) = named.split_once(')').unwrap();
    let is_missing = |name: &&str| !rows.lock().unwrap().columns[&table].contains(*name);
    if let Some(missing) = named.split(", ").find(is_missing) {
        return Err(missing.to_owned());
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(body)).unwrap().build().unwrap();
    let count: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    let mut rows = rows.lock().unwrap();
    *rows.inserts.entry(table.clone()).or_default() += 1;
    match rows.tokens.insert(token, count) {
        // A token names exactly its rows.
        Some(before) => assert_eq!(before, count),
        None => *rows.tables.entry(table).or_default() += count,
    }
    Ok(())
}

/// Runs CREATE TABLE IF NOT EXISTS, or ALTER TABLE that adds columns; each column is a line of its own.
fn define(sql: &str, rows: &mut Rows) {
    let columns = sql
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(|line| line.strip_prefix("ADD COLUMN IF NOT EXISTS ").unwrap_or(line))
        .filter_map(|line| line.split(' ').next().map(str::to_owned));
    let first = sql.lines().next().unwrap_or_default();
    if let Some(table) = first.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
        let table = table.trim_end_matches(" (").to_owned();
        rows.columns.entry(table).or_insert_with(|| columns.collect());
    } else if let Some(table) = first.strip_prefix("ALTER TABLE ") {
        rows.columns.get_mut(table).expect("the table is there").extend(columns);
    } else {
        panic!("the mirror doesn't send this: {sql}");
    }
}

async fn step_until_complete(mirror: &mut Mirror) {
    for _ in 0..100 {
        if mirror.step().await.unwrap_or_else(|error| panic!("{}", chain(&error))).is_complete {
            return;
        }
    }
    panic!("the mirror isn't complete after 100 steps");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_85_a_clickhouse_that_is_down_or_loses_answers_gets_each_row_once() {
    let world = World::new();
    let (mut one, mut other) = (world.writer(0), world.writer(1));
    let front = Front::start().await;
    one.append(vec![click("ada", "scroll"), log("shop", LogLevel::Info, "hello")]);
    other.append(vec![click("bob", "scroll")]);
    world.load().await;
    let mut mirror = Mirror::open(&world.tables, front.client()).await.unwrap();
    step_until_complete(&mut mirror).await;
    assert_eq!((front.count("events"), front.count("events_by_user"), front.count("logs")), (3, 3, 1));

    // Down, while events go on; each step says so, and nothing is lost.
    front.becomes(IS_DOWN);
    for _ in 0..5 {
        one.append((0..10).map(|_| click("ada", "scroll")).collect());
        world.load().await;
        let error = mirror.step().await.unwrap_err();
        assert!(error.to_string().contains("ClickHouse"), "{error}");
    }
    // It has each insert, and no answer comes; then the warehouse is killed, too.
    front.becomes(LOSES_ANSWERS);
    for _ in 0..4 {
        assert!(mirror.step().await.is_err());
        mirror = Mirror::open(&world.tables, front.client()).await.unwrap();
    }
    front.becomes(REFUSES);
    let error = mirror.step().await.unwrap_err();
    assert!(error.to_string().contains("No such column"), "{error}");
    front.becomes(WORKS);
    step_until_complete(&mut mirror).await;
    assert_eq!((front.count("events"), front.count("events_by_user"), front.count("logs")), (53, 53, 1));
    assert_eq!(mirror.step().await.unwrap().lag_records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_85_a_table_that_is_refused_is_tried_again_and_those_before_it_are_not() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![click("ada", "scroll"), log("shop", LogLevel::Info, "hello")]);
    world.load().await;
    let front = Front::start().await;
    front.becomes(REFUSES_LOGS);
    let mut mirror = Mirror::open(&world.tables, front.client()).await.unwrap();
    for _ in 0..3 {
        let error = mirror.step().await.unwrap_err();
        assert!(error.to_string().contains("No such column"), "{error}");
    }
    let inserts = |table: &str| front.rows.lock().unwrap().inserts.get(table).copied();
    assert_eq!((inserts("events"), inserts("logs")), (Some(1), None));
    front.becomes(WORKS);
    step_until_complete(&mut mirror).await;
    assert_eq!((inserts("events"), inserts("logs")), (Some(1), Some(1)));
    // The next range begins with the first table.
    writer.append(vec![click("bob", "scroll")]);
    world.load().await;
    step_until_complete(&mut mirror).await;
    assert_eq!((front.count("events"), front.count("logs")), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_of_a_replay_is_found_by_its_record_and_not_by_its_own_number() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![replay_chunk(77)]);
    world.load().await;
    let front = Front::start().await;
    let mut mirror = Mirror::open(&world.tables, front.client()).await.unwrap();
    step_until_complete(&mut mirror).await;
    assert_eq!((front.count("events"), front.count("replays")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_earlier_version_gets_the_columns_that_it_lacks() {
    let world = World::new();
    let mut writer = world.writer(0);
    writer.append(vec![log("shop", LogLevel::Info, "hello")]);
    world.load().await;
    let front = Front::start().await;
    front.has_table("logs", &["event_id", "timestamp"]);
    // Whether it starts for the first time or again.
    for rows in 1..=2 {
        let mut mirror = Mirror::open(&world.tables, front.client()).await.unwrap();
        step_until_complete(&mut mirror).await;
        assert_eq!((front.count("events"), front.count("logs")), (rows, rows));
        writer.append(vec![log("shop", LogLevel::Info, "hello")]);
        world.load().await;
    }
    assert!(front.rows.lock().unwrap().columns["logs"].contains("message"));
}
