//! Runs the commands of the documentation and of the help as they stand, on a machine of their own made of namespaces
//! (world.sh). A block of commands that can't be run says why not (markdown.rs).

mod help;
mod links;
mod markdown;
mod script;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use markdown::{Block, blocks};
use script::Script;

/// Time for all commands of a page, seconds.
const PAGE_SECONDS: &str = "400";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn blocks_of(page: &str) -> Vec<Block> {
    blocks(&read(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// Every page that is kept in the repository, but for generated ones and records of decisions.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_left_out =
                name.starts_with('.') || ["target", "decisions", "node_modules"].contains(&name.as_str());
            if path.is_dir() && !is_left_out {
                folders.push(path);
            } else if name.ends_with(".md") && name != "CHANGELOG.md" {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The commands of one page, each block after what its reader has done before.
fn script(page: &str) -> Script {
    let mut script = Script::new();
    for block in blocks_of(page).iter().filter(|block| block.how.not_run.is_none()) {
        let name = format!("{page}:{}", block.line);
        for after in &block.how.after {
            let commands = match after.split_once('#') {
                Some((other, section)) if other.ends_with(".md") => commands_of(other, section),
                _ => after.clone(),
            };
            script.add(&format!("{name}, before it"), &commands);
        }
        script.add_block(&name, &block.commands, &block.how);
    }
    script
}

fn commands_of(page: &str, section: &str) -> String {
    let blocks = blocks_of(page);
    let found: Vec<_> =
        blocks.iter().filter(|block| block.section == section).map(|block| block.commands.as_str()).collect();
    assert!(!found.is_empty(), "{page} has no commands under #{section}");
    found.join("\n")
}

/// A command in namespaces of its own: mounts, network, processes, and users unless this is root.
fn isolated() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", PAGE_SECONDS, "unshare"]);
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.env_clear().env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null());
    command
}

/// Reason why no page can be run on this machine.
fn why_not() -> Option<String> {
    let tools = "for tool in ip script curl jq openssl; do command -v $tool > /dev/null || { echo $tool is missing; exit 1; }; done";
    match isolated().args(["bash", "-c", tools]).output() {
        Ok(output) if output.status.success() => None,
        Ok(Output { stdout, stderr, .. }) => {
            Some(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
        }
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Runs a script in a folder of its own.
fn run(name: &str, script: &Script) {
    if let Some(why) = why_not() {
        assert!(std::env::var_os("CI").is_none(), "the commands of {name} can't be run: {why}");
        eprintln!("left out the commands of {name}: {why}");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join(".commands");
    std::fs::write(&path, script.text()).unwrap();
    let mut command = isolated();
    command
        .arg(root().join("tests/docs/world.sh"))
        .arg(scratch.path())
        .arg(&path)
        .env("HOME", scratch.path());
    command.env("TICKSTREAM_BIN", Path::new(env!("CARGO_BIN_EXE_tickstream")).canonicalize().unwrap());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    println!("{stdout}\n{stderr}");
    assert!(status.success(), "{name}: {status}: {}", stdout.lines().last().unwrap_or(""));
}

/// Pages with commands that are run, each by a test.
macro_rules! pages {
    ($($test:ident: $page:literal,)+) => {
        const RUN: &[&str] = &[$($page),+];
        $(
            #[test]
            fn $test() {
                run($page, &script($page));
            }
        )+
    };
}

pages! {
    the_readme: "README.md",
    alerts: "docs/alerts.md",
    collector: "docs/collector.md",
    deployment: "docs/deployment.md",
    metrics: "docs/metrics.md",
    operations: "docs/operations.md",
    publishing: "docs/publishing.md",
    stored_events: "docs/stored-events.md",
    tls: "docs/tls.md",
}

#[test]
fn every_page_with_commands_is_run() {
    let with_commands: Vec<_> = pages()
        .into_iter()
        .filter(|page| blocks_of(page).iter().any(|block| block.how.not_run.is_none()))
        .collect();
    assert_eq!(with_commands, RUN, "pages whose commands are run, and the tests of this file");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let decisions = std::fs::read_dir(root().join("docs/decisions")).unwrap();
    let records = decisions.map(|entry| format!("docs/decisions/{}", entry.unwrap().file_name().display()));
    let all = pages().into_iter().chain(records).chain(["CHANGELOG.md".to_owned()]);
    let wrong: Vec<_> = all.flat_map(|page| links::broken(&root(), &page, &read(&page))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_help() {
    run("the help", &help::script(&commands_of("docs/tls.md", "an-authority-for-tests")));
}

#[test]
fn commands_within_lines_have_the_names_of_the_help() {
    let help = help::Commands::of_the_binary();
    let wrong: Vec<_> = pages()
        .iter()
        .flat_map(|page| {
            let text = read(page);
            let errors = markdown::inline(&text, "tickstream").into_iter().filter_map(|(line, code)| {
                help.check(code).err().map(|error| format!("{page}:{line}: `{code}`: {error}"))
            });
            errors.collect::<Vec<_>>()
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
