//! Answers of items, kept for the pages: who asks gets the newest one at once, and slow ones are computed in the background.
//!
//! An answer is of one version of the tables and one time, which the page names; it is exactly what the item's SQL says then. One
//! that is computed quickly is computed for each visit. A slow one is kept until it is due, and longer while the tables stay the
//! same. Answers that nobody has asked for yet are kept ready, too; while new events come, all of them together are computed in a
//! tenth of the time.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tickstream_warehouse_core::query::{Engine, Role};
use tokio::sync::watch;

use crate::ask::{Answer, AskError, Asker, Unusual};
use crate::filters::{Filters, NAMES, Parameters};
use crate::teams::{Item, TEAMS, Team};

/// Answers that take less are computed for each visit.
const QUICK: Duration = Duration::from_millis(100);
/// Time between two computations of an answer, as a multiple of what one takes.
const PAUSE: u32 = 20;
/// Pause after an answer that nobody waits for, as a multiple of what it took, while new events come.
const REST: u32 = 9;
/// Age beyond which nobody gets an answer, though the tables are the same: its period ends in the past.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// Time that a visitor waits for an answer: the page says then that it is being computed.
const PATIENCE: Duration = Duration::from_millis(200);
/// Answers that are kept; the oldest go.
const KEPT_MAX: usize = 500;
/// Time between two looks at the answers of all items.
const ROUND: Duration = Duration::from_secs(10);

/// Item, filters and rights that an answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    team: &'static str,
    item: &'static str,
    /// Period and filters, as an address has them, in one order.
    filters: String,
    sees_personal: bool,
}

/// An answer with its time and version.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The answer.
    pub answer: Arc<Answer>,
    /// Unusual hours of the item's line.
    pub unusual: Arc<Vec<Unusual>>,
    /// Period and filters that it is for.
    pub filters: Filters,
    /// Version of the tables.
    pub version: u64,
    /// Time that it took.
    pub took: Duration,
    /// Time at which it was computed.
    pub at: Instant,
}

impl Kept {
    fn is_due(&self) -> bool {
        self.at.elapsed() >= self.took * PAUSE
    }
}

/// Answers by question, and what is being computed.
#[derive(Debug)]
pub struct Answers {
    engine: Arc<Engine>,
    kept: Mutex<HashMap<Question, Kept>>,
    computing: Mutex<HashMap<Question, Computation>>,
    quick: Duration,
    patience: Duration,
}

/// An answer that is being computed, or the reason that there is none, which waits for a visitor.
type Computation = Shared<BoxFuture<'static, Result<Kept, Arc<AskError>>>>;

impl Answers {
    /// No answers yet.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, kept: Mutex::default(), computing: Mutex::default(), quick: QUICK, patience: PATIENCE }
    }

    /// The same, but visitors wait as long as `patience` for an answer.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same, but answers that take longer than `quick` are kept.
    #[must_use]
    pub fn with_quick(self, quick: Duration) -> Self {
        Self { quick, ..self }
    }

    /// The answer of an item for a user, if it is there soon; else it is computed on for the next visit.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_soon(
        self: &Arc<Self>,
        team: &'static Team,
        item: &'static Item,
        parameters: &Parameters,
        role: &Role,
    ) -> Result<Option<Kept>, Arc<AskError>> {
        let asked = tokio::time::timeout(self.patience, self.ask(team, item, parameters, role));
        asked.await.map_or(Ok(None), |answer| answer.map(Some))
    }

    /// The answer of an item for a user, at once if one is kept.
    ///
    /// # Errors
    /// [`AskError`] if there is none and it can't be computed.
    pub async fn ask(
        self: &Arc<Self>,
        team: &'static Team,
        item: &'static Item,
        parameters: &Parameters,
        role: &Role,
    ) -> Result<Kept, Arc<AskError>> {
        let question = Question::new(team, item, parameters, role.sees_personal);
        let known = lock(&self.kept).get(&question).cloned();
        let Some(known) = known.filter(|known| known.at.elapsed() < AGE_MAX && known.took >= self.quick)
        else {
            return self.compute(question, item).await;
        };
        if known.is_due() {
            let answers = self.clone();
            tokio::spawn(async move {
                let version = answers.engine.version().await.ok();
                answers.refresh(question, item, version).await;
            });
        }
        Ok(known)
    }

    /// Computes an answer; one that another visit computes meanwhile is taken. It goes on when the visitor leaves.
    async fn compute(
        self: &Arc<Self>,
        question: Question,
        item: &'static Item,
    ) -> Result<Kept, Arc<AskError>> {
        let computation = self.computation(&question, item);
        let answer = computation.clone().await;
        // One without an answer was taken by this visit: the next computes again.
        let mut computing = lock(&self.computing);
        if computing.get(&question).is_some_and(|other| other.ptr_eq(&computation)) {
            computing.remove(&question);
        }
        answer
    }

    fn computation(self: &Arc<Self>, question: &Question, item: &'static Item) -> Computation {
        let mut computing = lock(&self.computing);
        if let Some(computation) = computing.get(question) {
            return computation.clone();
        }
        if computing.len() >= KEPT_MAX {
            computing.retain(|_, computation| computation.peek().is_none());
        }
        let (answers, of) = (self.clone(), question.clone());
        let task = tokio::spawn(async move {
            let answer = answers.computed(&of, item).await;
            if answer.is_ok() {
                lock(&answers.computing).remove(&of);
            }
            answer
        });
        let computation: Computation =
            async move { task.await.unwrap_or_else(|error| Err(error.into())).map_err(Arc::new) }
                .boxed()
                .shared();
        computing.insert(question.clone(), computation.clone());
        computation
    }

    /// Computes an answer and keeps it.
    async fn computed(&self, question: &Question, item: &'static Item) -> Result<Kept, AskError> {
        let role = if question.sees_personal { Role::local() } else { Role::masked() };
        let filters = Filters::read(&Parameters::parse(&question.filters), item.days, crate::filters::now());
        let begun = Instant::now();
        let version = self.engine.version().await?;
        let asker = Asker::new(&self.engine, &role);
        let answer = Arc::new(asker.item(item, &filters).await?);
        let unusual = Arc::new(asker.unusual(item, &filters).await?);
        let kept = Kept { answer, unusual, filters, version, took: begun.elapsed(), at: Instant::now() };
        let mut all = lock(&self.kept);
        if all.len() >= KEPT_MAX
            && let Some(oldest) =
                all.iter().min_by_key(|(_, kept)| kept.at).map(|(question, _)| question.clone())
        {
            all.remove(&oldest);
        }
        all.insert(question.clone(), kept.clone());
        Ok(kept)
    }

    /// Computes an answer anew that is slow and due, if the tables have changed: they have this version now.
    async fn refresh(self: &Arc<Self>, question: Question, item: &'static Item, version: Option<u64>) {
        let known = lock(&self.kept).get(&question).cloned();
        if let Some(known) = known {
            let is_fresh = known.took < self.quick || !known.is_due();
            let is_same = version == Some(known.version);
            if is_fresh || (is_same && known.at.elapsed() < AGE_MAX / 2) {
                return;
            }
        }
        let name = (question.team, question.item);
        if let Err(error) = self.compute(question, item).await {
            let error = tickstream_warehouse_core::loader::with_sources(&*error);
            tracing::warn!(team = name.0, item = name.1, error, "an item has no answer");
        }
    }

    /// Keeps the answers of all items with their usual period, until `stop` is set.
    pub async fn keep(self: Arc<Self>, sees_personal: BTreeSet<bool>, mut stop: watch::Receiver<bool>) {
        loop {
            // Asked once a round: each time, the log is read.
            let version = self.engine.version().await.ok();
            for team in &TEAMS {
                for item in &team.items {
                    if !self.refresh_for(team, item, &sees_personal, version, &stop).await {
                        return;
                    }
                }
            }
            if tokio::time::timeout(ROUND, stop.changed()).await.is_ok() {
                return;
            }
        }
    }

    /// Refreshes the answer of an item for each right to see personal columns; false once it is to stop.
    async fn refresh_for(
        self: &Arc<Self>,
        team: &'static Team,
        item: &'static Item,
        sees_personal: &BTreeSet<bool>,
        version: Option<u64>,
        stop: &watch::Receiver<bool>,
    ) -> bool {
        for &sees_personal in sees_personal {
            let question = Question::new(team, item, &Parameters::default(), sees_personal);
            let begun = Instant::now();
            self.refresh(question, item, version).await;
            let took = begun.elapsed();
            let is_changing = took >= self.quick && version != self.engine.version().await.ok();
            let rest = if is_changing { took * REST } else { Duration::ZERO };
            let mut stop = stop.clone();
            if *stop.borrow() || tokio::time::timeout(rest, stop.changed()).await.is_ok() {
                return false;
            }
        }
        true
    }
}

impl Question {
    fn new(team: &Team, item: &Item, parameters: &Parameters, sees_personal: bool) -> Self {
        let names = ["days", "from", "to"].into_iter().chain(NAMES);
        let values: Vec<_> = names.map(|name| (name, parameters.get(name).unwrap_or_default())).collect();
        Self { team: team.name, item: item.name, filters: Parameters::default().with(&values), sees_personal }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
