//! The help of the binary: its examples, and the names of commands and flags.

use std::process::Command;

use crate::markdown::How;
use crate::script::Script;

/// A server for those examples that want one: plain and TLS, with events and a page.
const SERVER: &str = "tickstream serve --listen 0.0.0.0:7400 --listen-tls 0.0.0.0:7443 --tls-cert server.pem \
    --tls-key server.key --tls-client-ca ca.pem --tls-client-auth optional --journal /var/lib/tickstream/events \
    --admin 127.0.0.1:9090,10.0.0.7:9090,unix:/run/tickstream/admin.sock --admin-token-file token";

/// Files that examples name.
const FILES: &str = "cp /etc/tickstream/token token
my-agent > events.jsonl
cp /etc/tickstream/tickstream.toml tickstream.toml
printf '[key.web]\nsecret = \"wk_5c1f9a00\"\n' > keys.toml
printf 'to = \"a.example:7400\"\nhttp = \"127.0.0.1:8080\"\n' > collect.toml";

/// All commands with their help.
pub struct Commands(Vec<(Vec<String>, String)>);

impl Commands {
    /// Asks the binary.
    pub fn of_the_binary() -> Self {
        let mut found = Self(Vec::new());
        found.add(Vec::new());
        found
    }

    fn add(&mut self, path: Vec<String>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
        // As on a narrow terminal: what is broken there can't be pasted.
        let output = command.args(&path).arg("--help").env("COLUMNS", "80").output().unwrap();
        assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
        let help = String::from_utf8(output.stdout).unwrap();
        let below: Vec<_> = part(&help, "Commands:")
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split(' ').next())
            .filter(|name| !["help", ""].contains(name))
            .map(|name| path.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>())
            .collect();
        self.0.push((path, help));
        below.into_iter().for_each(|path| self.add(path));
    }

    /// Checks that the commands and flags of a command line exist.
    pub fn check(&self, line: &str) -> Result<(), String> {
        let words: Vec<_> = line.split(' ').skip(1).map(str::to_owned).collect();
        let is_of = |path: &Vec<String>| words.starts_with(path);
        let (path, help) = self
            .0
            .iter()
            .filter(|(path, _)| is_of(path))
            .max_by_key(|(path, _)| path.len())
            .expect("the root");
        let mut rest = words[path.len()..].iter().take_while(|word| !["|", ">"].contains(&word.as_str()));
        if path.is_empty() && rest.clone().next().is_some_and(|word| !word.starts_with('-')) {
            return Err("there is no such command".into());
        }
        let has = |flag: &str| help.split([' ', ',', '\n', '=', '[']).any(|word| word == flag);
        match rest.find(|word| word.starts_with('-') && !has(word.split(['=', '`']).next().unwrap_or(""))) {
            Some(flag) => Err(format!("there is no {flag}")),
            None => Ok(()),
        }
    }
}

/// Exit codes of a command's examples, if others than 0 are right here, too.
fn exits_with(path: &[String]) -> Vec<i32> {
    match path.first().map(String::as_str) {
        // The machine isn't fit for so much; no connection has that number.
        Some("doctor" | "connection") => vec![0, 1],
        // Over TCP it takes the token.
        Some("kick") => vec![0, 1, 3],
        _ => Vec::new(),
    }
}

/// Lines below a heading of the help, up to the next.
fn part<'a>(help: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let after = help.lines().skip_while(move |line| *line != heading).skip(1);
    after.take_while(|line| line.is_empty() || line.starts_with(' '))
}

/// All examples, those of each command beside a fresh server. `authority`: commands that make certificates.
pub fn script(authority: &str) -> Script {
    let mut script = Script::new();
    let names =
        authority.replace("DNS:stream.example", "DNS:stream.example,DNS:a.example").replace("ada", "alice");
    script.add(
        "before the examples",
        &format!("export STREAM_USER=alice STREAM_PASS=secret\n{names}\n{FILES}"),
    );
    for (path, help) in Commands::of_the_binary().0 {
        let examples: Vec<_> = part(&help, "Examples:").map(|line| line.get(2..).unwrap_or("")).collect();
        let name = format!("tickstream {} --help", path.join(" "));
        assert!(!examples.is_empty(), "{name} has no examples");
        script.add(&format!("before {name}"), &format!("{SERVER}\nmy-agent | tickstream publish"));
        let exits_with = exits_with(&path);
        let how = How { exits_with, ..How::default() };
        for command in examples.join("\n").replace("\\\n", "").lines().filter(|command| !command.is_empty()) {
            // A password is in a variable or in a file, not in both.
            let has_file = command.to_lowercase().replace('_', "-").contains("pass-file");
            let command =
                if has_file { format!("(unset STREAM_PASS; {command})") } else { command.to_owned() };
            script.add_block(&name, &command, &how);
        }
    }
    script
}
