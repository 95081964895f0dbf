//! A store that dies at a chosen operation: before it, or after it was done and before it is answered.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tickstream_warehouse_core::store::durable::DurableFileSystem;

/// Kills at an operation that changes something.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<DurableFileSystem>,
    /// Changing operations that are left; below 0 the store is dead.
    left: Arc<AtomicI64>,
    /// Whether the fatal operation is done.
    is_done: bool,
}

impl Faulty {
    pub fn new(operations: i64, is_done: bool) -> Self {
        Self {
            inner: Arc::new(DurableFileSystem::new()),
            left: Arc::new(AtomicI64::new(operations)),
            is_done,
        }
    }

    /// Whether the fatal operation was reached.
    pub fn has_died(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn dead(&self) -> Error {
        Error::Generic { store: "Faulty", source: "the process was killed".into() }
    }

    fn check(&self) -> Result<()> {
        if self.has_died() { Err(self.dead()) } else { Ok(()) }
    }

    /// Counts a changing operation: whether it is to be done, and whether its answer comes.
    fn change(&self) -> (bool, bool) {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => (true, true),
            0 => (self.is_done, false),
            _ => (false, false),
        }
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
            Ok(()) => self.inner.list(prefix),
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
