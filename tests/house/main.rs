//! The rules of the house (docs/architecture.md): which crate may use which, `unsafe` in one crate, no import circles,
//! files and functions that one can take in at a glance, and plain words. A list of exceptions that is no longer true
//! fails, too.

mod defects;
mod imports;
mod languages;
mod listed;
mod rust;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use languages::Language;

/// Crates of `crates/`, and those of them that each may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("schema", &[]),
    ("journal", &[]),
    ("engine", &["wire", "schema"]),
    ("client", &["wire", "schema", "journal"]),
    ("service", &[]),
    ("uring", &["journal"]),
    ("server", &["wire", "schema", "engine", "journal", "uring", "service"]),
    ("collector", &["client", "schema", "service"]),
    ("warehouse", &["schema", "journal", "service"]),
    ("insights", &["warehouse", "schema", "service"]),
    ("cli", &["server", "collector", "client", "journal", "wire", "schema", "service"]),
    ("warehouse-cli", &["insights", "warehouse", "service", "server", "collector", "client"]),
];

/// Dependencies that only these crates may name.
const CONFINED: &[(&[&str], &[&str])] = &[
    (&["datafusion"], &["warehouse", "insights"]),
    (&["axum", "hyper", "hyper-util", "tonic"], &["collector", "service", "warehouse", "insights"]),
];

/// Crates that have no tokio among all their dependencies.
const WITHOUT_TOKIO: &[&str] = &["wire", "schema", "journal", "engine", "uring"];

/// Folders whose files the guides name.
const FOLDERS: &[&str] = &["crates", "tests", "bench", "proto", "scripts", "deploy", "docs", "config"];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn crates_use_each_other_only_as_shown() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for (name, package) in &workspace.crates {
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) else {
            wrong.push(format!("{name} isn't in the table"));
            continue;
        };
        // Tests may look wherever they like.
        let used_by_code = |dependency: &&Value| dependency["kind"] != "dev";
        for dependency in
            package["dependencies"].as_array().expect("dependencies").iter().filter(used_by_code)
        {
            let used = dependency["name"].as_str().expect("a name");
            if let Some(used) =
                dependency["path"].as_str().and_then(|path| workspace.name_of(Path::new(path)))
                && !allowed.contains(&used.as_str())
            {
                wrong.push(format!("{name} uses {used}"));
            }
            for (confined, only) in CONFINED {
                if confined.contains(&used) && !only.contains(&name.as_str()) {
                    wrong.push(format!("{name} uses {used}, which is for {only:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn crates_below_the_server_have_no_tokio() {
    let workspace = Workspace::read();
    let with: Vec<_> = WITHOUT_TOKIO.iter().filter(|name| workspace.reaches(name, "tokio")).collect();
    assert!(with.is_empty(), "tokio is among the dependencies of {with:?}");
    assert!(workspace.reaches("client", "tokio"), "this test would find it");
}

#[test]
fn unsafe_code_is_in_the_ring_alone() {
    let workspace = Workspace::read();
    let is_unsafe = |file: &&PathBuf| {
        rust::tokens(&fs::read_to_string(file).expect("a file"))
            .iter()
            .any(|(token, _)| token.is_name("unsafe"))
    };
    let files = workspace.files();
    let (ring, others): (Vec<_>, Vec<_>) = files
        .iter()
        .filter(is_unsafe)
        .partition(|file| file.starts_with(workspace.root.join("crates/uring")));
    assert!(others.is_empty(), "unsafe code outside crates/uring: {others:#?}");
    assert!(!ring.is_empty(), "this test would find it");
    for (name, package) in workspace.crates.iter().filter(|(name, _)| *name != "uring") {
        for root in roots(package) {
            let source = fs::read_to_string(&root).expect("a root");
            assert!(
                source.contains("#![forbid(unsafe_code)]"),
                "{name}: {} doesn't forbid it",
                root.display()
            );
        }
    }
}

#[test]
fn modules_import_each_other_in_one_direction() {
    let workspace = Workspace::read();
    let mut found = BTreeSet::new();
    for package in &workspace.packages {
        for root in roots(package) {
            for circle in imports::Target::read(&root).circles() {
                let names: Vec<_> = circle.into_iter().map(|name| name.join("::")).collect();
                found.insert(format!("{} {}", workspace.relative(&root), names.join(" ")));
            }
        }
    }
    compare(&found, listed::CIRCLES, "import each other");
}

#[test]
fn files_and_functions_are_short_or_listed() {
    let workspace = Workspace::read();
    let (mut files, mut functions) = (BTreeSet::new(), BTreeSet::new());
    for file in workspace.files() {
        let source = fs::read_to_string(&file).expect("a file");
        let name = workspace.relative(&file);
        let long =
            rust::functions(&rust::tokens(&source)).into_iter().filter(|f| f.lines > FUNCTION_LINES_MAX);
        functions.extend(long.map(|function| format!("{name} {}", function.name)));
        if source.lines().count() > FILE_LINES_MAX {
            files.insert(name);
        }
    }
    compare(&files, listed::FILES, &format!("have more than {FILE_LINES_MAX} lines"));
    compare(&functions, listed::FUNCTIONS, &format!("have more than {FUNCTION_LINES_MAX} lines"));
}

/// Scripts share modules over a link to tests/support, which a copy of the tree can lose.
#[test]
fn scripts_in_python_find_their_modules() {
    let scripts = Workspace::read().root.join("scripts");
    let mut tried = 0;
    for entry in fs::read_dir(&scripts).expect("the scripts") {
        let path = entry.expect("an entry").path();
        let is_python = fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"#!/usr/bin/env python3"));
        if !is_python {
            continue;
        }
        let output = Command::new(&path).arg("--help").output().expect("python3");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", path.display());
        tried += 1;
    }
    assert!(tried > 20, "{tried} scripts");
}

/// scripts/planted-bugs replaces text of the code: each text has to be there, once.
#[test]
fn planted_bugs_fit_the_code() {
    let root = Workspace::read().root;
    let list = fs::read_to_string(root.join("tests/sim/planted/bugs.txt")).expect("the list");
    let bugs: Vec<_> = list.split("## ").skip(1).collect();
    let mut wrong = Vec::new();
    for bug in &bugs {
        let mut lines = bug.lines();
        let [Some(name), Some(_what), Some(file)] = [lines.next(), lines.next(), lines.next()] else {
            panic!("an entry has a name, a sentence and a file: {bug}");
        };
        let old: Vec<_> =
            lines.filter(|line| line.starts_with('-')).map(|line| line.get(2..).unwrap_or("")).collect();
        let source = fs::read_to_string(root.join(file)).unwrap_or_default();
        let times = source.matches(&old.join("\n")).count();
        if times != 1 {
            wrong.push(format!("{name}: {times} times in {file}"));
        }
    }
    assert!(wrong.is_empty(), "the text that a planted bug replaces must be there once: {wrong:#?}");
    assert!(bugs.len() > 60, "this test would find them");
}

#[test]
fn docstrings_open_with_a_noun_or_a_verb() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for file in workspace.files() {
        let source = fs::read_to_string(&file).expect("a file");
        let name = workspace.relative(&file);
        wrong.extend(
            words::wrong_openings(&source).iter().map(|(line, text)| format!("{name}:{line}: {text}")),
        );
    }
    for (name, language, source) in workspace.other_files() {
        let found = words::wrong_openings_in(&source, language).into_iter();
        wrong.extend(found.map(|(line, text)| format!("{name}:{line}: {text}")));
    }
    assert!(wrong.is_empty(), "open these with a noun phrase, or a verb in the third person: {wrong:#?}");
}

#[test]
fn names_are_the_words_of_the_field() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for file in workspace.files() {
        let source = fs::read_to_string(&file).expect("a file");
        let name = workspace.relative(&file);
        let found = words::replaced_names(&source).into_iter();
        wrong.extend(found.map(|(line, word, by)| format!("{name}:{line}: {word} (the field says {by})")));
    }
    let others = workspace.other_files();
    for language in [Language::Python, Language::Shell, Language::Slashes] {
        let files = others.iter().filter(|(_, other, _)| *other == language).count();
        assert!(files >= 8, "{files} files of {language:?}: this test would find them");
    }
    for (name, language, source) in others {
        let found = words::replaced_names_in(&source, language).into_iter();
        wrong.extend(found.map(|(line, word, by)| format!("{name}:{line}: {word} (the field says {by})")));
    }
    assert!(wrong.is_empty(), "rename these: {wrong:#?}");
}

#[test]
fn pages_name_files_that_exist() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for page in ["CONTRIBUTING.md", "docs/architecture.md"] {
        let text = fs::read_to_string(workspace.root.join(page)).expect("a page");
        let codes = text.split('`').skip(1).step_by(2).filter(|code| !code.contains(['*', ' ']));
        let is_path = |code: &&str| code.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder));
        let paths: Vec<_> = codes.filter(is_path).collect();
        assert!(paths.len() > 20, "{page} names {} files", paths.len());
        // The tree may lack a crate of the table above.
        let is_here = |path: &&&str| {
            let name = path.strip_prefix("crates/").and_then(|path| path.split('/').next());
            name.is_none_or(|name| workspace.crates.contains_key(name))
        };
        let missing = paths.iter().filter(is_here).filter(|path| !workspace.root.join(path).exists());
        wrong.extend(missing.map(|path| format!("{page}: {path}")));
    }
    assert!(wrong.is_empty(), "these don't exist: {wrong:#?}");
}

/// Fails if something was found that isn't listed with a reason, or is listed and wasn't found.
fn compare(found: &BTreeSet<String>, listed: &[(&str, &str)], what: &str) {
    let known: BTreeSet<_> = listed.iter().map(|(name, _)| (*name).to_owned()).collect();
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(found).collect();
    assert!(new.is_empty(), "these {what}; cut them, or list them with a reason: {new:#?}");
    assert!(gone.is_empty(), "these are listed and no longer {what}: {gone:#?}");
    assert!(listed.iter().all(|(_, reason)| !reason.is_empty()), "each needs a reason");
}

/// The workspace, as cargo sees it.
struct Workspace {
    root: PathBuf,
    /// Its members.
    packages: Vec<Value>,
    /// Those in `crates/`, by the name of their folder.
    crates: BTreeMap<String, Value>,
    /// Normal and build dependencies, by package id; and packages' names.
    uses: BTreeMap<String, Vec<String>>,
    names: BTreeMap<String, String>,
}

impl Workspace {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            // Packages of other systems need not be there.
            .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let root = PathBuf::from(text(&metadata["workspace_root"]));
        let all = metadata["packages"].as_array().expect("packages");
        let members = metadata["workspace_members"].as_array().expect("members");
        let packages: Vec<_> =
            all.iter().filter(|package| members.contains(&package["id"])).cloned().collect();
        let folder = |package: &Value| {
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            manifest.parent()?.strip_prefix(root.join("crates")).ok()?.to_str().map(str::to_owned)
        };
        let crates =
            packages.iter().filter_map(|package| Some((folder(package)?, package.clone()))).collect();
        let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
        let uses = nodes.iter().map(|node| (text(&node["id"]), dependencies(node))).collect();
        let names = all.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        Self { root, packages, crates, uses, names }
    }

    /// The crate in this folder, if it is one of ours.
    fn name_of(&self, folder: &Path) -> Option<String> {
        Some(folder.strip_prefix(self.root.join("crates")).ok()?.to_str()?.to_owned())
    }

    /// `dependency` is among the dependencies of a crate, directly or over others.
    fn reaches(&self, name: &str, dependency: &str) -> bool {
        let Some(package) = self.crates.get(name) else { return false };
        let (mut open, mut seen) = (vec![text(&package["id"])], BTreeSet::new());
        while let Some(id) = open.pop() {
            if self.names[&id] == dependency {
                return true;
            }
            open.extend(self.uses[&id].iter().filter(|id| seen.insert((*id).clone())).cloned());
        }
        false
    }

    /// All Rust sources of the members.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.below(&["crates", "bench", "tests"]);
        files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
        files
    }

    /// Sources in other languages: names, languages, contents.
    fn other_files(&self) -> Vec<(String, Language, String)> {
        let files =
            self.below(&["crates", "bench", "tests", "scripts", "proto", "deploy", "sdk", ".ci"]).into_iter();
        // Corpora of fuzzers aren't text.
        let read = files.filter_map(|file| Some((fs::read_to_string(&file).ok()?, file)));
        read.filter_map(|(source, file)| Some((self.relative(&file), Language::of(&file, &source)?, source)))
            .collect()
    }

    /// Files in these folders and below; links aren't followed.
    fn below(&self, folders: &[&str]) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders: Vec<_> =
            folders.iter().map(|name| self.root.join(name)).filter(|path| path.exists()).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path())
            {
                if entry.is_symlink() {
                    continue;
                }
                if !entry.is_dir() {
                    files.push(entry);
                } else if !entry.ends_with("target") && !entry.ends_with("node_modules") {
                    folders.push(entry);
                }
            }
        }
        files
    }

    fn relative(&self, file: &Path) -> String {
        file.strip_prefix(&self.root).expect("a file of the workspace").display().to_string()
    }
}

/// Root files of a package's library and binaries.
fn roots(package: &Value) -> Vec<PathBuf> {
    let targets = package["targets"].as_array().expect("targets").iter();
    let is_code = |target: &&Value| {
        let kinds = target["kind"].as_array().expect("kinds");
        kinds.iter().any(|kind| ["lib", "bin", "rlib", "cdylib"].contains(&kind.as_str().expect("a kind")))
    };
    targets.filter(is_code).map(|target| PathBuf::from(text(&target["src_path"]))).collect()
}

/// Ids of a node's dependencies, without those of its tests.
fn dependencies(node: &Value) -> Vec<String> {
    let all = node["deps"].as_array().expect("deps").iter();
    let is_built = |dependency: &&Value| {
        let kinds = dependency["dep_kinds"].as_array().expect("kinds");
        kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev"))
    };
    all.filter(is_built).map(|dependency| text(&dependency["pkg"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
