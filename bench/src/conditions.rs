//! Conditions of a run that its figures are worth nothing without: command and machine.

use std::env;
use std::fs;

use serde::Serialize;

use crate::figures::cpus;

/// Command and machine of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// As a shell takes it. Passwords are never arguments.
    pub command: String,
    pub host: String,
    pub kernel: String,
    /// Model of the CPUs.
    pub cpu: Option<String>,
    pub cpus: usize,
}

impl Conditions {
    /// Those of this process.
    pub fn here() -> Self {
        let line = |path| {
            fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        Self {
            command: env::args().map(|word| quoted(&word)).collect::<Vec<_>>().join(" "),
            host: line("/proc/sys/kernel/hostname"),
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model(&text)),
            cpus: cpus(),
        }
    }
}

/// The model of the first CPU; some architectures name none.
fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(": ").map(|(_, model)| model.trim().to_owned())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        let words = ["tickstream-load", "--addr=[::1]:7400", "a b", "", "it's"].map(quoted);
        assert_eq!(words, ["tickstream-load", "'--addr=[::1]:7400'", "'a b'", "''", r"'it'\''s'"]);
    }

    #[test]
    fn a_cpu_has_a_model_or_none() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: X\nmodel name\t: A 7 CPU @ 2 GHz\nprocessor\t: 1\n";
        assert_eq!(model(cpuinfo).as_deref(), Some("A 7 CPU @ 2 GHz"));
        assert_eq!(model("processor\t: 0\nCPU part\t: 0xd0c\n"), None);
    }
}
