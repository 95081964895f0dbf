//! A local object store whose writes survive a power cut.
//!
//! `object_store`'s own doesn't sync: after a power cut, a commit could name files that are empty, while the journal's
//! segment is gone. Here a file is synced before it gets its name, and its directory after.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use deltalake::logstore::object_store::local::LocalFileSystem;
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result, UploadPart,
};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::files;

const STORE: &str = "DurableFileSystem";

/// Local files, the root of whose paths is `/`.
#[derive(Debug, Clone)]
pub struct DurableFileSystem {
    inner: Arc<LocalFileSystem>,
}

impl DurableFileSystem {
    /// The file system of this host.
    pub fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()) }
    }

    fn path(&self, location: &Path) -> Result<PathBuf> {
        self.inner.path_to_filesystem(location)
    }
}

impl Default for DurableFileSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_new = match options.mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "conditional update".into(),
                    implementer: STORE.into(),
                });
            }
        };
        let path = self.path(location)?;
        blocking(location, move || put(&path, &payload, is_new)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if let Some(parent) = self.path(location)?.parent().map(FilePath::to_owned) {
            blocking(location, move || files::create_directories(&parent)).await?;
        }
        let upload = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(DurableUpload { upload, path: self.path(location)?, location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        self.inner
            .delete_stream(locations)
            .then(move |deleted| {
                let this = this.clone();
                async move {
                    let location = deleted?;
                    let path = this.path(&location)?;
                    // Erased data must stay erased after a power cut.
                    blocking(&location, move || files::sync_parent(&path)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (source, target) = (self.path(from)?, self.path(to)?);
        let is_new = options.mode == CopyMode::Create;
        blocking(to, move || {
            let bytes = fs::read(&source)?;
            put(&target, &PutPayload::from(bytes), is_new)
        })
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (source, target) = (self.path(from)?, self.path(to)?);
        let is_new = options.target_mode == RenameTargetMode::Create;
        blocking(to, move || {
            fs::File::open(&source)?.sync_all()?;
            if let Some(parent) = target.parent() {
                files::create_directories(parent)?;
            }
            if is_new {
                fs::hard_link(&source, &target)?;
                fs::remove_file(&source)?;
            } else {
                fs::rename(&source, &target)?;
            }
            files::sync_parent(&target)?;
            files::sync_parent(&source)
        })
        .await
    }
}

/// Writes a file under another name, syncs it, gives it its name, and syncs the directory.
fn put(path: &FilePath, payload: &PutPayload, is_new: bool) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Some(parent) = path.parent() {
        files::create_directories(parent)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // `#` and digits at the end of a name mark an unfinished file for `object_store`: no listing shows it.
    name.push(format!("#{}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        if is_new { fs::hard_link(&temporary, path) } else { fs::rename(&temporary, path) }
    };
    let written = write();
    if is_new || written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    files::sync_parent(path)
}

async fn blocking<T: Send + 'static>(
    location: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await?;
    done.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::AlreadyExists { path: location.to_string(), source: source.into() }
        }
        io::ErrorKind::NotFound => Error::NotFound { path: location.to_string(), source: source.into() },
        _ => Error::Generic { store: STORE, source: source.into() },
    })
}

/// An upload in parts that is synced when it is complete. Before that no commit names it.
#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    path: PathBuf,
    location: Path,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        let path = self.path.clone();
        blocking(&self.location, move || {
            fs::File::open(&path)?.sync_all()?;
            files::sync_parent(&path)
        })
        .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deltalake::logstore::object_store::ObjectStoreExt;

    fn store() -> (tempfile::TempDir, DurableFileSystem, Path) {
        let directory = tempfile::tempdir().unwrap();
        let root = Path::from_absolute_path(directory.path()).unwrap();
        (directory, DurableFileSystem::new(), root)
    }

    #[tokio::test]
    async fn what_is_put_is_there_and_create_never_overwrites() {
        let (_directory, store, root) = store();
        let path = root.clone().join("a").join("b.json");
        let create = || PutOptions { mode: PutMode::Create, ..Default::default() };
        store.put_opts(&path, "one".into(), create()).await.unwrap();
        let refused = store.put_opts(&path, "two".into(), create()).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        let listed: Vec<_> = store.list(Some(&root)).collect().await;
        assert_eq!(listed.len(), 1);
    }

    #[tokio::test]
    async fn renames_copies_parts_and_deletions_work() {
        let (directory, store, root) = store();
        let at = |name: &str| root.clone().join(name);
        let mut upload = store.put_multipart(&at("one")).await.unwrap();
        upload.put_part("first ".into()).await.unwrap();
        upload.put_part("second".into()).await.unwrap();
        upload.complete().await.unwrap();
        store.copy(&at("one"), &at("two")).await.unwrap();
        assert!(matches!(
            store.copy_if_not_exists(&at("one"), &at("two")).await,
            Err(Error::AlreadyExists { .. })
        ));
        store.rename(&at("one"), &at("three")).await.unwrap();
        let refused = store.rename_if_not_exists(&at("three"), &at("two")).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
        assert_eq!(store.get(&at("three")).await.unwrap().bytes().await.unwrap(), "first second");
        store.delete(&at("three")).await.unwrap();
        store.delete(&at("two")).await.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
