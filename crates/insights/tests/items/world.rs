//! One warehouse with the planted events, for all tests.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tempfile::TempDir;
use tickstream_insights::alerts::{Firing, Rules};
use tickstream_insights::answers::Answers;
use tickstream_insights::ask::{Answer, Asker, Unusual};
use tickstream_insights::filters::{Filters, Parameters};
use tickstream_insights::pages::Site;
use tickstream_insights::plan::{Check, Plan};
use tickstream_insights::table::{Table, Value};
use tickstream_insights::teams;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::import::import_events_with;
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits, Role};
use tickstream_warehouse_core::sample::planted::{Facts, addresses, planted};
use tickstream_warehouse_core::serve::{Access, Page, Pages, http};
use tickstream_warehouse_core::store::Tables;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Saturday, 2026-11-28, 09:13:54 UTC.
pub const NOW: i64 = 1_795_857_234_000_000_000;

/// Tables, and what answers over them.
pub struct World {
    pub facts: Facts,
    runtime: Runtime,
    engine: Arc<Engine>,
    _directory: TempDir,
}

/// Number of events that a page of those behind a point names.
#[track_caller]
pub fn count_of(html: &str) -> u64 {
    let figure = html.split("<strong>").nth(1).and_then(|rest| rest.split('<').next());
    figure.unwrap_or_else(|| panic!("{html}")).replace(',', "").parse().unwrap()
}

pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (events, facts) = planted(NOW as u64);
    World::new(events, facts)
});

impl World {
    /// A warehouse with these events.
    pub fn new(events: Vec<tickstream_schema::events::Event>, facts: Facts) -> Self {
        Self::within(events, facts, |_| {})
    }

    /// The same with other limits of queries.
    pub fn within(
        events: Vec<tickstream_schema::events::Event>,
        facts: Facts,
        change: impl FnOnce(&mut Limits),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_stack_size(16 << 20)
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("tables/events")).unwrap();
        let tables = Tables::at(directory.path().join("tables").to_str().unwrap(), None).unwrap();
        let engine = runtime.block_on(async {
            let geo = Geo::from_bytes(addresses::database()).unwrap();
            let report = import_events_with(&tables, events.into_iter(), [4; 16], geo).await.unwrap();
            assert_eq!((report.duplicates, report.rejected), (0, 0), "{report:?}");
            let ids = Ids::Files(tables.state().to_owned());
            let mut limits = Limits::new(tables.state());
            change(&mut limits);
            Engine::open(&tables, Vec::new(), ids, Geo::default(), limits).await.unwrap()
        });
        Self { facts, runtime, engine: Arc::new(engine), _directory: directory }
    }

    /// The answer of an item, as an address with this query shows it.
    #[track_caller]
    pub fn answer_of(&self, path: &str, query: &str, role: &Role) -> Answer {
        let (team, item) = path.split_once('/').unwrap();
        let item = teams::team(team).unwrap().item(item).unwrap();
        let filters = Filters::read(&Parameters::parse(query), item.days, NOW);
        let asked = self.runtime.block_on(Asker::new(&self.engine, role).item(item, &filters));
        asked.unwrap_or_else(|error| {
            panic!("{path}: {}", tickstream_warehouse_core::loader::with_sources(&error))
        })
    }

    /// Alerts at a time.
    pub fn firing(&self, rules: &Rules, at: i64) -> Vec<Firing> {
        let role = Role::local();
        self.runtime.block_on(rules.firing(Asker::new(&self.engine, &role), at)).unwrap()
    }

    /// The events of the usual 30 days beside a plan.
    pub fn plan(&self, plan: &Plan) -> Check {
        let filters = Filters::read(&Parameters::default(), 30.0, NOW);
        let role = Role::local();
        self.runtime.block_on(plan.check(Asker::new(&self.engine, &role), &filters)).unwrap()
    }

    /// Hours in which the line of an item was unusual.
    pub fn unusual(&self, path: &str) -> Vec<Unusual> {
        let (team, item) = path.split_once('/').unwrap();
        let item = teams::team(team).unwrap().item(item).unwrap();
        let filters = Filters::read(&Parameters::default(), item.days, NOW);
        let role = Role::local();
        self.runtime.block_on(Asker::new(&self.engine, &role).unusual(item, &filters)).unwrap()
    }

    /// Engine over its tables.
    pub fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// Runs to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Serves the pages to this host, for as long as the world is there; the address.
    pub fn listen(&self) -> SocketAddr {
        let site = http::Site {
            engine: self.engine.clone(),
            access: Access::Local,
            pages: Some(Arc::new(Site::new(self.engine.clone(), self.answers()))),
        };
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        self.runtime.spawn(async move {
            let _stop = stop;
            http::serve_site(listener, site, None, stopped).await;
        });
        address
    }

    /// Answers for pages, whose visitors wait.
    pub fn answers(&self) -> Arc<Answers> {
        Arc::new(Answers::new(self.engine.clone()).with_patience(Duration::MAX))
    }

    /// Rows of SQL.
    pub fn sql(&self, sql: &str) -> Table {
        let role = Role::local();
        self.runtime.block_on(Asker::new(&self.engine, &role).sql(sql)).unwrap()
    }

    /// Lines of a page that is CSV without quotes.
    pub fn csv(&self, path: &str, query: &str) -> Vec<Vec<String>> {
        let page = self.page(path, query, &Role::local());
        let text = String::from_utf8(page.body).unwrap();
        assert_eq!(page.status, 200, "{text}");
        let cells = |line: &str| line.split(',').map(str::to_owned).collect();
        text.lines().map(cells).collect()
    }

    /// A page.
    pub fn page(&self, path: &str, query: &str, role: &Role) -> Page {
        let site = Site::new(self.engine.clone(), self.answers());
        self.runtime.block_on(site.page(path, query, role))
    }

    /// The same with answers that are kept.
    pub fn page_of(&self, answers: &Arc<Answers>, path: &str, query: &str) -> Page {
        let site = Site::new(self.engine.clone(), answers.clone());
        self.runtime.block_on(site.page(path, query, &Role::local()))
    }

    /// Serves the pages to this host until the process is ended.
    pub fn serve(&self, address: &str) {
        println!("serving http://{address}/");
        let site = http::Site {
            engine: self.engine.clone(),
            access: Access::Local,
            pages: Some(Arc::new(Site::new(self.engine.clone(), self.answers()))),
        };
        self.runtime.block_on(async {
            let listener = TcpListener::bind(address).await.unwrap();
            let (_stop, stopped) = watch::channel(false);
            http::serve_site(listener, site, None, stopped).await;
        });
    }

    /// An identifier as the tables have it.
    pub fn identifier(&self, text: &str) -> String {
        self.engine.identifier(text)
    }
}

/// Rows of an item over the planted events, for a user who sees everything.
#[track_caller]
pub fn rows(path: &str, query: &str) -> Rows {
    Rows(WORLD.answer_of(path, query, &Role::local()).table)
}

/// Rows of an answer.
#[derive(Debug)]
pub struct Rows(pub Table);

impl Rows {
    /// The cell of a column in the row whose first cell that is a text has this value.
    #[track_caller]
    pub fn cell(&self, key: &str, column: &str) -> &Value {
        let row = self.0.rows.iter().find(|row| row.iter().any(|cell| cell.text() == key));
        let row = row.unwrap_or_else(|| panic!("no row {key:?} in {:#?}", self.0));
        &row[self.0.place(column).unwrap_or_else(|| panic!("no column {column:?} in {:?}", self.0.columns))]
    }

    /// The number there.
    #[track_caller]
    pub fn number(&self, key: &str, column: &str) -> f64 {
        let cell = self.cell(key, column);
        cell.number().unwrap_or_else(|| panic!("{cell:?} at {key}, {column} is no number: {:#?}", self.0))
    }

    /// Sum of a column.
    pub fn sum(&self, column: &str) -> f64 {
        self.0.column(column).filter_map(Value::number).sum()
    }
}
