//! A store with faults: it dies at a chosen operation, fails now and then, is full, or lists what was there before.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tickstream_warehouse_core::store::durable::DurableFileSystem;
use tokio::sync::watch;

/// Faults that the store shows to its caller.
#[derive(Debug)]
enum Fault {
    /// Dies at an operation that changes something: before it, or after it was done and before it is answered.
    Death { left: AtomicI64, is_done: bool },
    /// Each `every`th operation fails: by turns before it is done and after.
    Now { count: AtomicI64, every: i64 },
    /// No room for anything new, while it is set.
    Full(AtomicBool),
    /// Listings lack what was written within this time.
    Stale(Duration),
    /// Writing waits while it is set.
    Held(watch::Sender<bool>),
}

/// Local files with a fault.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<DurableFileSystem>,
    fault: Arc<Fault>,
}

impl Faulty {
    /// Dies at the changing operation after this number of them.
    pub fn new(operations: i64, is_done: bool) -> Self {
        Self::with(Fault::Death { left: AtomicI64::new(operations), is_done })
    }

    /// Fails each `every`th operation, reading ones too.
    pub fn failing_each(every: i64) -> Self {
        Self::with(Fault::Now { count: AtomicI64::new(0), every })
    }

    /// Has room until [`Faulty::fill`].
    pub fn bounded() -> Self {
        Self::with(Fault::Full(AtomicBool::new(false)))
    }

    /// Lists what was there this long ago.
    pub fn stale(by: Duration) -> Self {
        Self::with(Fault::Stale(by))
    }

    /// Writes at once until [`Faulty::hold`].
    pub fn held() -> Self {
        Self::with(Fault::Held(watch::Sender::new(false)))
    }

    fn with(fault: Fault) -> Self {
        Self { inner: Arc::new(DurableFileSystem::new()), fault: Arc::new(fault) }
    }

    /// Takes or gives the room of a bounded one.
    pub fn fill(&self, is_full: bool) {
        let Fault::Full(full) = &*self.fault else { panic!("it isn't bounded") };
        full.store(is_full, Ordering::SeqCst);
    }

    /// Has writing wait, or go on.
    pub fn hold(&self, is_held: bool) {
        let Fault::Held(held) = &*self.fault else { panic!("it can't be held") };
        held.send_replace(is_held);
    }

    async fn released(&self) {
        if let Fault::Held(held) = &*self.fault {
            let mut held = held.subscribe();
            held.wait_for(|is_held| !is_held).await.expect("the sender is in this store");
        }
    }

    /// True if the fatal operation was reached.
    pub fn has_died(&self) -> bool {
        matches!(&*self.fault, Fault::Death { left, .. } if left.load(Ordering::SeqCst) < 0)
    }

    fn dead(&self) -> Error {
        let source = match &*self.fault {
            Fault::Full(_) => std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
            _ => "503 Slow Down".into(),
        };
        Error::Generic { store: "Faulty", source }
    }

    /// Fails a reading operation.
    fn check(&self) -> Result<()> {
        let is_failing = match &*self.fault {
            Fault::Death { .. } => self.has_died(),
            Fault::Now { count, every } => (count.fetch_add(1, Ordering::SeqCst) + 1) % every == 0,
            Fault::Full(_) | Fault::Stale(_) | Fault::Held(_) => false,
        };
        if is_failing { Err(self.dead()) } else { Ok(()) }
    }

    /// Counts a changing operation: whether it is to be done, and whether its answer comes.
    fn change(&self) -> (bool, bool) {
        match &*self.fault {
            Fault::Death { left, is_done } => match left.fetch_sub(1, Ordering::SeqCst) {
                left if left > 0 => (true, true),
                0 => (*is_done, false),
                _ => (false, false),
            },
            Fault::Now { count, every } => match count.fetch_add(1, Ordering::SeqCst) + 1 {
                number if number % every != 0 => (true, true),
                number => (number / every % 2 == 0, false),
            },
            Fault::Full(is_full) => {
                let has_room = !is_full.load(Ordering::SeqCst);
                (has_room, has_room)
            }
            Fault::Stale(_) | Fault::Held(_) => (true, true),
        }
    }

    fn seen(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let Fault::Stale(by) = *self.fault else { return listed };
        let until = chrono::Utc::now() - by;
        listed
            .filter(move |file| {
                std::future::ready(file.as_ref().is_ok_and(|file| file.last_modified < until))
            })
            .boxed()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.released().await;
        let (is_done, is_answered) = self.change();
        let result =
            if is_done { self.inner.put_opts(location, payload, options).await } else { Err(self.dead()) };
        if is_answered { result } else { Err(self.dead()) }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.change() {
            (true, true) => self.inner.put_multipart_opts(location, options).await,
            _ => Err(self.dead()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.check()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let (is_done, is_answered) = this.change();
                    if is_done {
                        let one = stream::iter([Ok(location.clone())]).boxed();
                        let _ = this.inner.delete_stream(one).next().await;
                    }
                    if is_answered { Ok(location) } else { Err(this.dead()) }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check() {
            Ok(()) => self.seen(self.inner.list(prefix)),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check() {
            Ok(()) => self.seen(self.inner.list_with_offset(prefix, offset)),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.change() {
            (true, true) => self.inner.copy_opts(from, to, options).await,
            _ => Err(self.dead()),
        }
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        match self.change() {
            (true, true) => self.inner.rename_opts(from, to, options).await,
            _ => Err(self.dead()),
        }
    }
}
