//! `run`: loader, maintenance, mirror and the SQL wires in one process, until SIGTERM.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use tickstream_insights::answers::Answers;
use tickstream_insights::pages::Site;
use tickstream_service::admin::{Endpoint, Router};
use tickstream_service::logs::LogGuard;
use tickstream_service::notify::Notify;
use tickstream_service::settings::{Source, Values, effective};
use tickstream_service::signals::{Signal, Signals};
use tickstream_service::standard::Standard;
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::loader::shared::Shared;
use tickstream_warehouse_core::loader::{LoadError, Loader, Options};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits};
use tickstream_warehouse_core::serve::{Access, Pages, Users, http, postgres, tls};
use tickstream_warehouse_core::store::{LoaderLock, Tables};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::background::Background;
use crate::maintain;
use crate::settings::{self, Settings};
use crate::status::Status;

/// Longest time that ends of queries and a last commit take, for the service manager.
const DRAIN: Duration = Duration::from_secs(60);

/// Settings of `run`, from flags, environment and file.
///
/// # Errors
/// If a value can't be used.
pub fn values(matches: &ArgMatches, file: Option<PathBuf>) -> Result<Values> {
    let env = |name: &str| std::env::var_os(name);
    Ok(Source::new(&settings::TABLE, settings::given(matches), file).read(&env)?)
}

/// Runs until SIGTERM or SIGINT; then what is there is loaded, answers that were begun are finished, and the process ends.
///
/// # Errors
/// If it can't start, or the loader can't go on.
pub async fn run(values: &Values, log: &LogGuard) -> Result<ExitCode> {
    let (settings, standard) = (Settings::read(values)?, Standard::read(values)?);
    let (stop, stopped) = watch::channel(false);
    let mut ends = signals(stop.clone())?;
    let status = Arc::new(Status::new(effective(values), standard.admin_token(values)?, log.losses()));
    let endpoint = Endpoint::bind(&standard.admin, false)?;
    let router = Router::new("admin endpoint of tickstream-warehouse", status.clone());
    let _admin =
        endpoint.map(|endpoint| endpoint.serve(router, || {}, std::future::pending())).transpose()?;

    let tables = Tables::at(&settings.tables, settings.state.clone())?;
    let geo = settings.geoip.as_deref().map(Geo::read).transpose()?.unwrap_or_default();
    let wires = Wires::listen(&settings).await?;
    let mut tasks = JoinSet::new();
    let loading = match settings.journal.as_slice() {
        [] => None,
        _ => {
            Some(Loading::start(&tables, &settings, geo.clone(), &status, stopped.clone(), &mut tasks).await?)
        }
    };
    let ids = match &loading {
        Some(loading) => Ids::Shared(loading.ids.clone()),
        None => Ids::Files(tables.state().to_owned()),
    };
    let engine =
        Engine::open(&tables, settings.journal.clone(), ids, geo, limits(&tables, &settings)).await?;
    let engine = Arc::new(engine);
    status.serves(engine.clone());
    let background = Background::start()?;
    let addresses = wires.serve(&engine, &background, &stopped, &mut tasks)?;
    maintain::start(&tables, &settings, &engine, &status, &background, &stopped, &mut tasks)?;

    let notify = Notify::from_environment();
    notify.ready(&format!("serving {addresses}"));
    tracing::info!(tables = %tables.root(), %addresses, "the warehouse is ready");
    let mut failed = None;
    loop {
        tokio::select! {
            _ = ends.changed() => break,
            () = tokio::time::sleep(Duration::from_secs(1)) => notify.alive(),
            ended = tasks.join_next(), if !tasks.is_empty() => {
                if let Some(Err(error)) = ended.map(|ended| ended.context("a task of the warehouse ended").flatten()) {
                    failed = Some(error);
                    break;
                }
            }
        }
    }
    notify.stopping(DRAIN);
    let _ = stop.send(true);
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.context("a task of the warehouse ended").flatten();
        failed = failed.or(ended.err());
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Sets `stop` with the first signal to end.
fn signals(stop: watch::Sender<bool>) -> Result<watch::Receiver<bool>> {
    let ends = stop.subscribe();
    Signals::take()?.forward(move |signal| match signal {
        Signal::End if *stop.borrow() => std::process::exit(130),
        Signal::End => {
            let _ = stop.send(true);
        }
        Signal::Reload | Signal::Upgrade => {
            tracing::warn!("settings take effect with the next start; end the warehouse and start it again");
        }
    })?;
    Ok(ends)
}

fn limits(tables: &Tables, settings: &Settings) -> Limits {
    let mut limits = Limits::new(tables.state());
    limits.time = settings.query_time;
    limits.memory_bytes = settings.query_memory_mib as usize * (1 << 20);
    limits.rows = u64::from(settings.query_rows);
    limits.concurrent = settings.queries_max as usize;
    limits
}

/// The loader's task, and what others need of it.
struct Loading {
    ids: Shared,
}

impl Loading {
    async fn start(
        tables: &Tables,
        settings: &Settings,
        geo: Geo,
        status: &Arc<Status>,
        stopped: watch::Receiver<bool>,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Result<Self> {
        let lock = LoaderLock::take(tables)?;
        let options = Options { accepted: settings.accept.clone(), geo, ..Options::default() };
        let mut loader = Loader::open(tables, &settings.journal, options).await?;
        let (ids, interval, status) = (loader.shared(), settings.interval, status.clone());
        tasks.spawn(async move {
            let _lock = lock;
            let done = |loader: &Loader, result: Result<(), &LoadError>| status.loaded(loader, result);
            Ok(loader.follow(interval, stopped, done).await?)
        });
        Ok(Self { ids })
    }
}

/// Listeners of the SQL wires.
struct Wires {
    access: Access,
    tls: Option<tokio_rustls::TlsAcceptor>,
    http: Option<TcpListener>,
    postgres: Option<TcpListener>,
}

impl Wires {
    async fn listen(settings: &Settings) -> Result<Self> {
        let access = match &settings.users {
            Some(path) => Access::Users(Users::read(path)?),
            None => Access::Local,
        };
        let tls = match (&settings.tls_certificate, &settings.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::acceptor(certificate, key)?),
            (None, None) => None,
            _ => bail!("TLS needs both tls_certificate and tls_key"),
        };
        let listen = async |address: Option<SocketAddr>| -> Result<Option<TcpListener>> {
            let Some(address) = address else { return Ok(None) };
            if !access.allows(address) {
                bail!(
                    "{address} can be reached by other hosts: name users with --users, or listen on 127.0.0.1"
                );
            }
            if matches!(access, Access::Users(_)) && tls.is_none() && !address.ip().is_loopback() {
                tracing::warn!(%address, "answers go unencrypted; set tls_certificate and tls_key");
            }
            let listener = TcpListener::bind(address).await;
            Ok(Some(listener.with_context(|| format!("listening on {address}"))?))
        };
        let (http, postgres) = (listen(settings.http).await?, listen(settings.postgres).await?);
        Ok(Self { access, tls, http, postgres })
    }

    /// Serves; the addresses as text.
    fn serve(
        self,
        engine: &Arc<Engine>,
        background: &Background,
        stopped: &watch::Receiver<bool>,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Result<String> {
        let mut addresses = Vec::new();
        if let Some(listener) = self.http {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            addresses.push(format!("{scheme}://{}/", listener.local_addr()?));
            let answers = Arc::new(Answers::new(engine.clone()));
            let pages: Arc<dyn Pages> = Arc::new(Site::new(engine.clone(), answers.clone()));
            let kept = answers.keep(self.access.sees_personal(), stopped.clone());
            tasks.spawn(background.run(async {
                kept.await;
                Ok(())
            }));
            let site = http::Site { engine: engine.clone(), access: self.access.clone(), pages: Some(pages) };
            let served = http::serve_site(listener, site, self.tls.clone(), stopped.clone());
            tasks.spawn(async {
                served.await;
                Ok(())
            });
        }
        if let Some(listener) = self.postgres {
            addresses.push(format!("postgresql://{}/tickstream", listener.local_addr()?));
            let served = postgres::serve(listener, engine.clone(), self.access, self.tls, stopped.clone());
            tasks.spawn(async {
                served.await;
                Ok(())
            });
        }
        let addresses = addresses.join(", ");
        if !addresses.is_empty() {
            eprintln!("serving {addresses}");
        }
        Ok(addresses)
    }
}
