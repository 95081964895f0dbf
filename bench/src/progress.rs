//! One line that follows the run on a terminal; a line per stage elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how a run goes, on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    stage: &'static str,
}

impl Progress {
    /// Shows nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {prefix:<10} {wide_msg}");
            bar.set_style(style.expect("the template is valid"));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self { bar, quiet, stage: "" }
    }

    /// Another stage begins.
    pub fn stage(&mut self, stage: &'static str, what: &str) {
        self.stage = stage;
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(stage);
                bar.set_message(what.to_owned());
            }
            None if self.quiet => {}
            None => eprintln!("{stage}: {what}"),
        }
    }

    /// Shows the present state.
    pub fn now(&self, how: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(how());
        }
    }

    /// Makes way for the summary.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
