//! As much of the syntax of Python, shell, JavaScript (also in pages) and proto as the checks of words need.

use std::path::Path;

/// A language other than Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    Shell,
    /// JavaScript, TypeScript, pages, styles, proto: comments begin with `//` or `/*`.
    Slashes,
}

impl Language {
    /// By the extension, or by the interpreter that the first line names.
    pub fn of(path: &Path, source: &str) -> Option<Self> {
        let first = source.lines().next().unwrap_or_default();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("py") => Some(Self::Python),
            Some("sh") => Some(Self::Shell),
            Some("js" | "cjs" | "mjs" | "ts" | "tsx" | "html" | "css" | "proto") => Some(Self::Slashes),
            _ if !first.starts_with("#!") => None,
            _ if first.contains("python") => Some(Self::Python),
            _ if first.ends_with("sh") => Some(Self::Shell),
            _ => None,
        }
    }
}

/// First lines of docstrings (Python) and of blocks of comments (others), with their numbers from 1.
pub fn docs(source: &str, language: Language) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    // Behind the `"""` that opens a text, or behind a line of comments.
    let mut is_inside = false;
    for (number, line) in source.lines().enumerate() {
        let text = line.trim_start();
        if language == Language::Python {
            if !is_inside && let Some(text) = text.strip_prefix("\"\"\"") {
                found.push((number + 1, text));
            }
            is_inside ^= line.matches("\"\"\"").count() % 2 == 1;
        } else {
            let signs: &[&str] = if language == Language::Shell { &["#"] } else { &["//", "/*"] };
            let is_comment = signs.iter().any(|sign| text.starts_with(sign)) && !text.starts_with("#!");
            if is_comment && !is_inside {
                found.push((number + 1, text.trim_start_matches(['#', '/', '*']).trim_start()));
            }
            is_inside = is_comment;
        }
    }
    found
}

/// Names, with their lines from 1; those in comments and literals are left out. In shell: variables and functions.
pub fn names(source: &str, language: Language) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for (number, line) in source.lines().enumerate() {
        let parts = line.split("\"\"\"").enumerate();
        let is_text = |at: usize| language == Language::Python && (at % 2 == 1) != is_inside;
        let code: String = parts.filter(|(at, _)| !is_text(*at)).map(|(_, part)| part).collect();
        is_inside ^= language == Language::Python && line.matches("\"\"\"").count() % 2 == 1;
        found.extend(names_of(&code, language).into_iter().map(|name| (number + 1, name)));
    }
    found
}

fn names_of(line: &str, language: Language) -> Vec<String> {
    let text: Vec<char> = line.chars().collect();
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    let (mut at, mut names) = (0, Vec::new());
    while at < text.len() {
        let before = at.checked_sub(1).map(|before| text[before]);
        let is_comment = match language {
            Language::Slashes => text[at..].starts_with(&['/', '/']),
            Language::Python => text[at] == '#',
            Language::Shell => text[at] == '#' && before.is_none_or(char::is_whitespace),
        };
        if is_comment {
            break;
        }
        // A shell's text has variables in it.
        let closing = (language != Language::Shell && matches!(text[at], '"' | '\'' | '`'))
            .then(|| text[at + 1..].iter().position(|c| *c == text[at]))
            .flatten();
        let name: String = text[at..].iter().take_while(|c| is_part(c)).collect();
        let length = name.chars().count();
        if let Some(length) = closing {
            at += length + 2;
            continue;
        }
        let is_variable =
            matches!(before, Some('$' | '{')) || matches!(text.get(at + length), Some('=' | '('));
        if !name.is_empty() && (language != Language::Shell || is_variable) {
            names.push(name);
        }
        at += length.max(1);
    }
    names
}

#[test]
fn docs_and_names_of_python_are_found() {
    let source = "\"\"\"Who.\n\n\"\"\"\n# told\ndef owed(a, b='told'):\n    \"\"\"It is told.\"\"\"\n    return f\"told\" + wave\n";
    assert_eq!(docs(source, Language::Python), [(1, "Who."), (6, "It is told.\"\"\"")]);
    let names: Vec<_> = names(source, Language::Python).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["def", "owed", "a", "b", "return", "f", "wave"]);
}

#[test]
fn docs_and_names_of_shell_are_found() {
    let source =
        "#!/bin/sh\n# What.\n# Told.\ntold=1 # owed\nask() { echo \"it is owed: $tally ${wave}\"; }\n";
    assert_eq!(docs(source, Language::Shell), [(2, "What.")]);
    let names: Vec<_> = names(source, Language::Shell).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["told", "ask", "tally", "wave"]);
}

#[test]
fn docs_and_names_of_proto_and_javascript_are_found() {
    let source = "// Whose.\n// It.\nlet told = 'it\\'s owed'; // wave\n/* How. */\nstring tally = 1;\n";
    assert_eq!(docs(source, Language::Slashes), [(1, "Whose."), (4, "How. */")]);
    let names: Vec<_> = names(source, Language::Slashes).into_iter().map(|(_, name)| name).collect();
    assert!(names.contains(&"told".to_owned()) && names.contains(&"tally".to_owned()), "{names:?}");
    assert!(!names.contains(&"wave".to_owned()), "{names:?}");
}
