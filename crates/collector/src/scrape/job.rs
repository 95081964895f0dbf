//! The targets of a job: discovered, scraped in their turn, stored.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_rustls::rustls::ClientConfig;

use super::{
    config::{Discovery, Job, StaticConfig},
    fetch::Fetch,
    scraper::{Point, Scrape, Scraper},
    targets::{Target, targets},
};
use crate::{
    clock::now_ns,
    delivery::Delivery,
    drain,
    intake::{Intake, SharedIntake},
    keys::Key,
    patterns::matching,
    tls::{self, TlsError},
    writer::{Ids, Origin},
};

/// Name of the source, and of the key under which its events are stored.
pub const NAME: &str = "scrape";
const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.6,*/*;q=0.1";
/// Most points of a request to the servers.
const POINTS_MAX: usize = 10_000;
/// Memory of a sample, beside its share of the answer, bytes: labels, and the event.
const SAMPLE_FACTOR: usize = 8;
/// Most bytes of a list of targets.
const LIST_BYTES_MAX: usize = 4 << 20;
/// Most targets of a job.
const TARGETS_MAX: usize = 10_000;
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// Jobs that run.
#[derive(Debug)]
pub struct Scraping {
    drain: watch::Sender<bool>,
    jobs: Vec<JoinHandle<()>>,
}

/// One job with what its tasks need.
#[derive(Clone)]
struct Worker {
    job: Arc<Job>,
    intake: SharedIntake,
    key: Arc<Key>,
    tls: Option<Arc<ClientConfig>>,
    drain: watch::Receiver<bool>,
}

impl Scraping {
    /// Starts the jobs.
    ///
    /// # Errors
    /// If the authorities of https can't be used.
    pub fn start(jobs: Vec<Job>, intake: &SharedIntake) -> Result<Self, TlsError> {
        let (drain, drained) = watch::channel(false);
        let key = Arc::new(Key::unrestricted(NAME));
        let worker = |job: Job| {
            Ok(Worker {
                tls: Some(tls::client(job.ca_file.as_deref())?),
                job: Arc::new(job),
                intake: intake.clone(),
                key: key.clone(),
                drain: drained.clone(),
            })
        };
        let workers = jobs.into_iter().map(worker).collect::<Result<Vec<_>, TlsError>>()?;
        Ok(Self { drain, jobs: workers.into_iter().map(|worker| tokio::spawn(worker.run())).collect() })
    }

    /// Scrapes no more; what was scraped is stored, for `patience` at the most.
    pub async fn drain(self, patience: Duration) {
        self.drain.send_replace(true);
        let all = async {
            for job in self.jobs {
                // A panic of the task has been told by the runtime.
                _ = job.await;
            }
        };
        _ = time::timeout(patience, all).await;
    }
}

/// A target that is scraped; dropped, its series end.
struct Running {
    _is_wanted: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Worker {
    async fn run(mut self) {
        let mut found: Vec<Vec<Target>> = vec![Vec::new(); self.job.discoveries.len()];
        let mut due = vec![Some(Instant::now()); found.len()];
        let mut running = BTreeMap::new();
        loop {
            for (at, (discovery, every)) in self.job.discoveries.iter().enumerate() {
                if due[at].is_none_or(|due| due > Instant::now()) {
                    continue;
                }
                match self.list(discovery).await {
                    Ok(targets) => found[at] = targets,
                    // Those that are known stay: a list that can't be had says nothing.
                    Err(problem) => tracing::warn!(job = self.job.name, problem, "no list of targets"),
                }
                due[at] = Instant::now().checked_add(*every);
            }
            self.adjust(&mut running, found.iter().flatten());
            let next = due.iter().flatten().min().copied();
            let wait = async {
                match next {
                    Some(next) => time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = drain::begins(&mut self.drain) => break,
            }
        }
        for (_, Running { task, .. }) in running {
            _ = task.await;
        }
    }

    /// Begins to scrape new targets, and ends with those that are gone.
    fn adjust<'a>(&self, running: &mut BTreeMap<Target, Running>, wanted: impl Iterator<Item = &'a Target>) {
        let wanted: Vec<&Target> = wanted.take(TARGETS_MAX).collect();
        running.retain(|target, _| wanted.contains(&target));
        for target in wanted {
            if !running.contains_key(target) {
                let (is_wanted, wanted) = watch::channel(());
                let task = tokio::spawn(self.clone().scrape(target.clone(), wanted));
                running.insert(target.clone(), Running { _is_wanted: is_wanted, task });
            }
        }
    }

    async fn list(&self, discovery: &Discovery) -> Result<Vec<Target>, String> {
        let (lists, is_static) = match discovery {
            Discovery::Static(lists) => (lists.clone(), true),
            Discovery::Files(patterns) => (read_lists(patterns)?, false),
            Discovery::Http(url) => (self.fetch_list(url).await?, false),
        };
        let (targets, problems) = targets(&self.job, &lists, is_static);
        for problem in problems.iter().take(10) {
            tracing::warn!(job = self.job.name, problem, "no target");
        }
        Ok(targets)
    }

    async fn fetch_list(&self, url: &str) -> Result<Vec<StaticConfig>, String> {
        let fetch = Fetch {
            url,
            is_static: true,
            accept: "application/json",
            token: None,
            timeout: LIST_TIMEOUT,
            bytes_max: LIST_BYTES_MAX,
            tls: self.tls.as_ref(),
        };
        let fetched = fetch.send().await.map_err(|error| tickstream_client::with_causes(&error))?;
        serde_json::from_slice(&fetched.body).map_err(|error| error.to_string())
    }

    /// Scrapes a target until nobody wants it any more.
    async fn scrape(mut self, target: Target, mut wanted: watch::Receiver<()>) {
        let mut scraper = Scraper::default();
        let first = Instant::now() + offset(&target.url, self.job.interval);
        let mut ticks = time::interval_at(first, self.job.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // An error: the handle is gone.
                _ = wanted.changed() => {
                    let points = scraper.end(&target, now_ms());
                    self.store(&points, Instant::now() + self.job.interval).await;
                    return;
                }
                () = drain::begins(&mut self.drain) => return,
            }
            self.scrape_once(&target, &mut scraper).await;
        }
    }

    async fn scrape_once(&self, target: &Target, scraper: &mut Scraper) {
        let (at_ms, started) = (now_ms(), Instant::now());
        let token = self.job.token_file.as_deref().map(std::fs::read_to_string);
        let answer = match &token {
            Some(Err(error)) => Err(format!("bearer_token_file can't be read: {error}")),
            token => {
                let token = token.as_ref().and_then(|token| token.as_ref().ok()).map(|token| token.trim());
                let fetch = Fetch {
                    url: &target.url,
                    is_static: target.is_static,
                    accept: ACCEPT,
                    token,
                    timeout: self.job.timeout,
                    bytes_max: self.job.body_bytes_max,
                    tls: self.tls.as_ref(),
                };
                fetch.send().await.map_err(|error| tickstream_client::with_causes(&error))
            }
        };
        let mut reservation = self.intake.budget.reservation();
        let answer = answer.and_then(|fetched| {
            let has_room = reservation.grow(fetched.body.len().saturating_mul(SAMPLE_FACTOR));
            if has_room { Ok(fetched) } else { Err("the collector is full".to_owned()) }
        });
        let answer = answer.as_ref().map(|fetched| (&fetched.content_type[..], &fetched.body[..]));
        let scrape = Scrape { at_ms, took: started.elapsed(), answer: answer.map_err(Clone::clone) };
        let (points, problem) = scraper.take(&self.job, target, scrape);
        if let Some(problem) = problem {
            self.intake.metrics.refused(NAME, "scrape_failed");
            tracing::warn!(job = self.job.name, target = target.url, problem, "a scrape failed");
        }
        self.store(&points, started + self.job.interval).await;
    }

    /// Stores points, unless that takes until the next scrape.
    async fn store(&self, points: &[Point], until: Instant) {
        for chunk in points.chunks(POINTS_MAX) {
            let origin = Origin {
                key: self.key.clone(),
                source: NAME,
                address: None,
                user_agent: String::new(),
                headers: Vec::new(),
                receive_time: now_ns(),
                send_time: 0,
            };
            let mut writer = self.intake.writer(&origin, Ids::New, chunk.len() as u32);
            chunk.iter().for_each(|point| point.write(&mut writer));
            let request = writer.finish().unwrap_or_default();
            let intake: &Intake = &self.intake;
            let delivery = Delivery { intake, origin: &origin, until: Some(until), drain: None };
            if delivery.deliver(&request).await.is_err() {
                self.intake.metrics.drop_events(request.events() as u64);
            }
        }
    }
}

fn read_lists(patterns: &[String]) -> Result<Vec<StaticConfig>, String> {
    let mut lists = Vec::new();
    for path in patterns.iter().flat_map(|pattern| matching(pattern)) {
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
        let of_file: Vec<StaticConfig> =
            serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
        lists.extend(of_file);
    }
    Ok(lists)
}

fn now_ms() -> i64 {
    (now_ns() / 1_000_000) as i64
}

/// The time within an interval at which a target has its turn: always the same, and another one for each.
fn offset(url: &str, interval: Duration) -> Duration {
    let hash = url.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    interval.mul_f64((hash >> 40) as f64 / (1_u64 << 24) as f64)
}
