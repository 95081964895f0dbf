//! Patterns with asterisks and question marks, for paths and for texts.

use std::path::{Path, PathBuf};

/// The files that a pattern names, sorted: asterisks and question marks may stand in any part of the path. One without
/// them names itself, if it is there.
pub(crate) fn matching(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = found.iter().flat_map(|dir| step(dir, part)).collect();
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

fn step(dir: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?']) {
        return vec![dir.join(part)];
    }
    let shown = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = std::fs::read_dir(shown).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // As in a shell, an asterisk doesn't begin with a dot.
    names
        .filter(|name| {
            (part.starts_with('.') || !name.starts_with('.')) && fits(part.as_bytes(), name.as_bytes())
        })
        .map(|name| dir.join(name))
        .collect()
}

/// True if a name is one of a pattern's. It goes back to the last asterisk alone, so its time is bounded.
pub(crate) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((star_p, star_n)) => {
                    (p, n) = (star_p + 1, star_n + 1);
                    star = Some((star_p, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_in_any_part() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/x.log", "a/y.txt", "b/x.log", "b/.hidden.log", "b/z.log/inner"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let all = matching(&format!("{}/{pattern}", dir.path().display()));
            all.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(found("*/*.log"), ["a/x.log", "b/x.log"]);
        assert_eq!(found("a/?.txt"), ["a/y.txt"]);
        assert_eq!(found("b/.*"), ["b/.hidden.log"]);
        assert_eq!(found("a/x.log"), ["a/x.log"]);
        assert_eq!(found("absent"), [""; 0]);
        assert!(fits(b"*a*b*c", b"xaybzbc") && !fits(b"*a*b*c", b"xaybzb"));
    }
}
