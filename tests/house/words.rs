//! Plain words (CONTRIBUTING.md, style): how docstrings open, and names that the field has a better one for.

use crate::languages::{self, Language};
use crate::rust::{Token, tokens};

/// No docstring opens with one of these: it opens with a noun phrase, or a verb in the third person.
const OPENINGS: &[&str] =
    &["How", "It", "Nobody", "That", "What", "Where", "Whether", "Which", "Who", "Whom", "Whose"];

/// Words of names, and what the field says instead (docs/glossary.md).
const REPLACED: &[(&str, &str)] = &[
    ("company", "linger"),
    ("crowd", "clients"),
    ("desk", "inspector"),
    ("doom", "abort"),
    ("doomed", "aborted"),
    ("doubtful", "unsynced duplicate"),
    ("harvest", "collector"),
    ("judge", "handle, validate"),
    ("judged", "handled"),
    ("judgement", "validation"),
    ("keeper", "maintenance"),
    ("lived", "active time"),
    ("neighbour", "bystander"),
    ("obey", "apply"),
    ("owe", "enqueue"),
    ("owed", "pending reply"),
    ("pulse", "liveness"),
    ("speaks", "accepts frames"),
    ("tally", "counts"),
    ("told", "reported, injected"),
    ("unfit", "preflight error"),
    ("unproven", "pre-auth"),
    ("wave", "fan-out"),
];

/// Names of more words are sentences: those of tests.
const NAME_WORDS_MAX: usize = 4;

/// Lines of docstrings with a wrong opening, from 1.
pub fn wrong_openings(source: &str) -> Vec<(usize, &str)> {
    let mut before = None;
    let mut wrong = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let line = line.trim_start();
        let doc = ["///", "//!"].into_iter().find(|sign| line.starts_with(sign));
        if let Some(sign) = doc
            && doc != before
        {
            let text = line[sign.len()..].trim_start();
            if is_wrong_opening(text) {
                wrong.push((number + 1, text));
            }
        }
        before = doc;
    }
    wrong
}

/// The same in other languages than Rust.
pub fn wrong_openings_in(source: &str, language: Language) -> Vec<(usize, &str)> {
    languages::docs(source, language).into_iter().filter(|(_, text)| is_wrong_opening(text)).collect()
}

fn is_wrong_opening(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).next().is_some_and(|word| OPENINGS.contains(&word))
}

/// Names with a word that is replaced: each with its line, from 1, and the field's word.
pub fn replaced_names(source: &str) -> Vec<(usize, String, &'static str)> {
    let names = tokens(source).into_iter().filter_map(|(token, line)| match token {
        Token::Name(name) => Some((line + 1, name)),
        _ => None,
    });
    replaced(names)
}

/// The same in other languages than Rust.
pub fn replaced_names_in(source: &str, language: Language) -> Vec<(usize, String, &'static str)> {
    replaced(languages::names(source, language).into_iter())
}

fn replaced(names: impl Iterator<Item = (usize, String)>) -> Vec<(usize, String, &'static str)> {
    let replaced = names.filter_map(|(line, name)| {
        let words = words(&name);
        let by = (words.len() <= NAME_WORDS_MAX)
            .then(|| REPLACED.iter().find(|(word, _)| words.iter().any(|found| found == word)))??;
        Some((line, name, by.1))
    });
    replaced.collect()
}

/// The words of a name, in lower case: `is_told`, `IsTold` and `IS_TOLD` have two.
fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut after_lower = false;
    for part in name.split('_').filter(|part| !part.is_empty()) {
        words.push(String::new());
        for c in part.chars() {
            if after_lower && c.is_uppercase() && words.last().is_some_and(|word| !word.is_empty()) {
                words.push(String::new());
            }
            after_lower = c.is_lowercase();
            words.last_mut().expect("a word").extend(c.to_lowercase());
        }
    }
    words
}

#[test]
fn wrong_openings_are_found() {
    let source =
        "//! What a file is.\n\n/// Counts.\n/// It goes on.\nstruct A;\n    /// Whether so.\n    b: bool,\n";
    assert_eq!(wrong_openings(source), [(1, "What a file is."), (6, "Whether so.")]);
}

#[test]
fn replaced_names_are_found_in_any_case() {
    let source = "fn f(is_told: u8, b: TallyOf) { OWED; owes; a_sentence_that_is_told_at_length(\"crowd\") }";
    let found: Vec<_> = replaced_names(source).into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(found, ["is_told", "TallyOf", "OWED"]);
}
