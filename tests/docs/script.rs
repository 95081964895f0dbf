//! The script that a page's commands make.

use crate::markdown::How;

/// Beginning of each script: the first command that fails ends it, by name.
const PRELUDE: &str = r#"set -eE -o pipefail
at() { AT=$1; echo "==> $AT"; }
trap 'echo "FAILED: $AT: $BASH_COMMAND"' ERR
# exits_with STATUS ALLOWED OUTPUT TEXT
exits_with() {
    cat "$3"
    [[ " $2 " == *" $1 "* ]] || { echo "it exits with $1, not $2"; return 1; }
    grep -qF -- "$4" "$3" || { echo "it doesn't say $4"; return 1; }
}
"#;

/// A script for bash.
pub struct Script(String);

impl Script {
    pub fn new() -> Self {
        Self(PRELUDE.to_owned())
    }

    /// Adds commands, under a name for errors.
    pub fn add(&mut self, name: &str, commands: &str) {
        self.0 += &format!("at '{name}'\n{commands}\n");
    }

    /// Adds commands that end as a page says.
    pub fn add_block(&mut self, name: &str, commands: &str, how: &How) {
        if how.exits_with.is_empty() {
            return self.add(name, commands);
        }
        let allowed: Vec<_> = how.exits_with.iter().map(ToString::to_string).collect();
        let text = how.says.as_deref().unwrap_or("").replace('\'', r"'\''");
        let checked = format!(
            "status=0\n(\n{commands}\n) > \"$SCRATCH/.said\" 2>&1 || status=$?\n\
             exits_with $status '{}' \"$SCRATCH/.said\" '{text}'",
            allowed.join(" ")
        );
        self.add(name, &checked);
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}
