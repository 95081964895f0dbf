//! Standard output, whose reader may go before the end: `query … | head`.

use std::io::{self, BufWriter, Stdout, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use futures::StreamExt;
use tickstream_warehouse_core::query::{Engine, Format, Role, Writer};

/// Standard output that remembers whether its reader has gone.
struct Output {
    out: BufWriter<Stdout>,
    is_closed: Arc<AtomicBool>,
}

impl Output {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            self.is_closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

/// Writes by `work`; a reader that has gone has what it wanted.
///
/// # Errors
/// Those of `work`, if the reader is still there.
pub async fn write(work: impl AsyncFnOnce(Box<dyn Write + Send>) -> Result<()>) -> Result<()> {
    let is_closed = Arc::new(AtomicBool::new(false));
    let output = Output { out: BufWriter::new(io::stdout()), is_closed: is_closed.clone() };
    match work(Box::new(output)).await {
        Err(_) if is_closed.load(Ordering::Relaxed) => Ok(()),
        written => written,
    }
}

/// A number with its noun.
pub fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// Writes the answer of a query, and says on standard error which journals it has in part.
///
/// # Errors
/// If the query fails, or its answer can't be written.
pub async fn answer(engine: &Engine, sql: &str, role: &Role, format: Format) -> Result<ExitCode> {
    let mut answer = engine.query(sql, role).await?;
    write(async |out| {
        let mut writer = Writer::new(format, &answer.schema, out)?;
        while let Some(batch) = answer.next().await {
            writer.write(&batch?)?;
        }
        Ok(writer.finish()?)
    })
    .await?;
    for journal in answer.as_of.journals.iter().filter(|journal| journal.is_behind) {
        eprintln!(
            "the answer has journal {} up to record {}; newer ones come when the loader has caught up",
            journal.journal, journal.sequence
        );
    }
    Ok(ExitCode::SUCCESS)
}
