//! Answers cases for the oracles of `tests/insights`: a JSON object with its `analysis` on each line of standard input,
//! the answer on each line of standard output.
#![forbid(unsafe_code)]

mod answers;

use std::io::{self, BufRead, Write};

use serde_json::Value;

fn main() -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line?)?;
        writeln!(out, "{}", answers::answer(&case))?;
    }
    out.flush()
}
