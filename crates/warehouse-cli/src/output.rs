//! Standard output, whose reader may go before the end: `query … | head`.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

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
