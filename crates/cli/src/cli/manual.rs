//! The manual pages.

use std::fs;
use std::io;
use std::path::Path;

use super::command;

/// Writes the manual pages into a directory, which is made: `tickstream.1`, `tickstream-serve.1`, and so on.
///
/// # Errors
/// If the directory can't be made, or a file not be written.
pub fn manual(directory: &Path) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(named)?;
    clap_mangen::generate_to(command(), directory).map_err(named)?;
    for entry in fs::read_dir(directory).map_err(named)? {
        let entry = entry.map_err(named)?;
        if !entry.file_name().to_string_lossy().starts_with("tickstream") {
            continue;
        }
        let path = entry.path();
        fs::write(&path, with_sections(&fs::read_to_string(&path).map_err(named)?)).map_err(named)?;
    }
    Ok(())
}

/// A page whose examples and exit codes are sections of their own, with the lines that they have: a formatter would join and
/// break them anywhere.
fn with_sections(page: &str) -> String {
    let Some((before, extra)) = page.split_once(".SH EXTRA\n") else { return page.to_owned() };
    let (extra, after) = match extra.find("\n.SH ") {
        Some(end) => extra.split_at(end + 1),
        None => (extra, ""),
    };
    let extra = extra
        .replace("Examples:\n", ".SH EXAMPLES\n.nf\n")
        .replace("\nExit codes:\n", ".fi\n.SH EXIT CODES\n.nf\n");
    format!("{before}{}\n.fi\n{after}", extra.trim_end())
}
