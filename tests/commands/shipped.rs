//! Every configuration and unit that is shipped starts a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use tickstream_server::config::TABLE;

use crate::process::{Process, tickstream};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// For configurations that name a file with the password.
fn without_password() -> Command {
    let mut command = tickstream(&[]);
    command.env_remove("STREAM_PASS");
    command
}

/// Starts it, and waits until it serves or collects.
fn check(command: &mut Command) {
    drop(Process::start(command));
}

/// Ports and a size of the test's own.
const OWN: [&str; 4] = ["--listen", "127.0.0.1:0", "--shards", "1"];
/// As [`OWN`], of a collector.
const COLLECTOR_OWN: [&str; 6] =
    ["--http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"];

fn serve(config: &Path) -> Command {
    let mut command = tickstream(&["serve", "--config"]);
    command.arg(config).args(OWN).args(["--admin", "127.0.0.1:0"]);
    command
}

#[test]
fn the_documented_configuration_starts() {
    check(&mut serve(&root().join("config/tickstream.toml")));
}

#[test]
fn a_printed_configuration_starts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("printed.toml");
    for more in
        [&[][..], &["--frames-per-second-max", "7", "--drain-seconds", "1500ms", "--journal-max-days", "7"]]
    {
        let mut print = serve(&root().join("config/tickstream.toml"));
        let printed = print.arg("--print-config").args(more).output().unwrap();
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        std::fs::write(&path, printed.stdout).unwrap();
        check(&mut serve(&path));
    }
}

#[test]
fn the_configurations_of_systemd_and_kubernetes_start() {
    check(&mut serve(&root().join("deploy/systemd/tickstream.toml")));
    let directory = tempfile::tempdir().unwrap();
    let [token, password] = ["token", "password"].map(|name| directory.path().join(name));
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    std::fs::write(&password, "s3cret\n").unwrap();
    let mut command = serve(&root().join("deploy/kubernetes/base/tickstream.toml"));
    command
        .env_remove("STREAM_PASS")
        .arg("--admin-token-file")
        .arg(token)
        .arg("--stream-pass-file")
        .arg(password);
    check(&mut command);
}

#[test]
fn the_collector_s_configuration_of_kubernetes_starts() {
    let directory = tempfile::tempdir().unwrap();
    let [keys, password] = ["keys", "password"].map(|name| directory.path().join(name));
    std::fs::write(&keys, "[key.web]\nsecret = \"0123456789abcdef\"\n").unwrap();
    std::fs::write(&password, "s3cret\n").unwrap();
    let mut command = without_password();
    command.arg("collect").arg("--config").arg(root().join("deploy/kubernetes/collect/collect.toml"));
    command.arg("--keys").arg(keys).arg("--stream-pass-file").arg(password);
    check(command.args(COLLECTOR_OWN).args(["--admin", "127.0.0.1:0"]));
}

/// Runs a unit's command with its environment; only paths, ports and the node are the test's.
fn check_unit(path: &str, ports: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("stream_pass"), "s3cret\n").unwrap();
    let own = directory.path().to_str().unwrap();
    let unit = read(path).replace("%d", own).replace("%i", "0").replace("/etc/tickstream", "deploy/systemd");
    let values = |key: &str| unit.lines().filter_map(move |line| line.strip_prefix(key)).collect::<Vec<_>>();
    let [start] = values("ExecStart=")[..] else { panic!("{path} has one ExecStart=") };
    let mut words = start.split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/tickstream"));
    let mut command = without_password();
    command.current_dir(root());
    for variable in values("Environment=") {
        let (name, value) = variable.split_once('=').expect("a variable and its value");
        command.env(name, value);
    }
    let socket = format!("unix:{own}/admin.sock");
    let mut words: Vec<_> = words.collect();
    match words.iter().position(|word| *word == "--admin") {
        Some(at) => words[at + 1] = &socket,
        None => words.extend(["--admin", &socket]),
    }
    check(command.args(words).args(ports));
}

#[test]
fn the_units_start() {
    check_unit("deploy/systemd/tickstream.service", &OWN);
    check_unit("deploy/systemd/tickstream-collect.service", &COLLECTOR_OWN);
    if Path::new("/sys/devices/system/node/node0").exists() {
        check_unit("deploy/systemd/tickstream@.service", &OWN);
    }
}

/// Variables with the prefix that no setting of the server has.
const OTHERS: [&str; 2] = ["TICKSTREAM_CONFIG", "TICKSTREAM_BIN"];

#[test]
fn variables_in_what_is_shipped_exist() {
    let known: Vec<String> = TABLE.settings().map(|setting| setting.about().variable()).collect();
    let mut found = 0;
    for path in [
        "deploy/container/Dockerfile",
        "deploy/container/compose.yaml",
        "deploy/kubernetes/base/deployment.yaml",
        "deploy/kubernetes/events/statefulset.yaml",
        "deploy/systemd/tickstream.service",
        "deploy/systemd/tickstream@.service",
        "README.md",
        "docs/deployment.md",
    ] {
        let text = read(path);
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        for word in words.filter(|word| word.starts_with("TICKSTREAM_") || word.starts_with("STREAM_")) {
            found += 1;
            let is_known = known.iter().any(|known| known == word) || OTHERS.contains(&word);
            assert!(is_known, "{path}: there is no variable {word}");
        }
    }
    assert!(found > 10, "{found}");
}

/// Blocks of a page that are fenced as TOML, with their lines.
fn toml_blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut is_within = false;
    for (at, line) in page.lines().enumerate() {
        match line {
            "```toml" => {
                is_within = true;
                blocks.push((at + 2, String::new()));
            }
            "```" => is_within = false,
            line if is_within => blocks.last_mut().expect("it has begun").1 += &format!("{line}\n"),
            _ => {}
        }
    }
    blocks
}

#[test]
fn settings_keys_and_users_in_the_documentation_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.toml");
    let mut found = 0;
    for directory in ["docs", "docs/sources"] {
        let pages = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
        for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
            for (line, text) in toml_blocks(&std::fs::read_to_string(&page).unwrap()) {
                // The warehouse's file of alerts, which tests of crates/insights read.
                if text.contains("[[alert]]") {
                    continue;
                }
                found += 1;
                std::fs::write(&path, &text).unwrap();
                let run = |args: &[&str]| {
                    let mut command = without_password();
                    command.env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
                    command.args(args).arg(&path).output().unwrap()
                };
                let ways = [
                    &["check-config", "--config"][..],
                    &["collect", "--print-config", "--config"],
                    &["check-config", "--users-file"],
                ];
                let is_of_keys =
                    tickstream_collector::keys::Keys::read(&path).is_ok_and(|keys| !keys.is_empty());
                let is_taken = is_of_keys || ways.iter().any(|way| run(way).status.success());
                assert!(is_taken, "{}:{line}: nothing takes this:\n{text}", page.display());
            }
        }
    }
    assert!(found > 5, "{found}");
}
