//! The smallest program with settings, a log, signals, sd_notify and an admin endpoint.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tickstream_service::admin::{AdminToken, Endpoint, Program, Router, StatusCode, text};
use tickstream_service::metrics::{Process, ProcessMetrics, Registry, Text};
use tickstream_service::settings::{Flags, Source, Table, effective, kind};
use tickstream_service::signals::{Signal, Signals};
use tickstream_service::standard::Standard;
use tickstream_service::{logs, notify::Notify, settings};

settings! {
    /// Settings of this program.
    pub struct Settings, handles in setting;
    section "Greeting" {
        /// Greetings that are kept.
        greetings_max: u32 = kind::integer(1, 1_000, "").default("64");
    }
}

static TABLE: Table =
    Table { command: "greet", groups: &[Settings::SECTIONS, Standard::SECTIONS], former_variables: &[] };

struct Greeter {
    config: String,
    token: Option<AdminToken>,
    registry: Registry,
    process: ProcessMetrics,
}

impl Program for Greeter {
    fn config(&self) -> String {
        self.config.clone()
    }

    fn token(&self) -> Option<AdminToken> {
        self.token.clone()
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn metrics(&self) -> String {
        let mut more = Text::default();
        self.process.set(&Process::read(), &mut more);
        self.registry.render(more)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Flags come from clap: settings::flags::args(&TABLE) and settings::flags::given(&matches, &TABLE).
    let env = |name: &str| std::env::var_os(name);
    let values = Source::new(&TABLE, Flags::new(), None).read(&env)?;
    let (settings, standard) = (Settings::read(&values)?, Standard::read(&values)?);
    let log = logs::init(&standard.log_level, standard.log_format)?;
    let signals = Signals::take()?;

    let registry = Registry::default();
    let greeter = Arc::new(Greeter {
        config: effective(&values),
        token: standard.admin_token(&values)?,
        process: ProcessMetrics::new(
            &registry,
            env!("CARGO_PKG_VERSION"),
            SystemTime::now(),
            Some(log.losses()),
        ),
        registry,
    });
    let router = Router::new("greet's admin endpoint", greeter).get(
        "/greet/{name}",
        "a greeting",
        |_, call| async move { Ok(text(StatusCode::OK, format!("Hello, {}!\n", call.captures.concat()))) },
    );
    let endpoint = Endpoint::bind(&standard.admin, false)?;
    let _admin =
        endpoint.map(|endpoint| endpoint.serve(router, || {}, std::future::pending())).transpose()?;

    let (end, ended) = std::sync::mpsc::channel();
    signals.forward(move |signal| {
        if signal == Signal::End {
            let _ = end.send(());
        }
    })?;
    let notify = Notify::from_environment();
    notify.ready(&format!("at most {} greetings", settings.greetings_max));
    ended.recv()?;
    notify.stopping(Duration::from_secs(1));
    Ok(())
}
