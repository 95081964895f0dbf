//! Links of the pages: each leads to a file that is there and, with a `#`, to a heading of it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::markdown::anchor;

/// Links within the repository that lead nowhere, with their lines, from 1. `path` is that of the page, below `root`.
pub fn broken(root: &Path, path: &str, text: &str) -> Vec<String> {
    let folder = root.join(path).parent().expect("a folder").to_owned();
    let is_broken = |link: &&(usize, &str)| {
        let (file, place) = link.1.split_once('#').unwrap_or((link.1, ""));
        let target = folder.join(file);
        let page = match file {
            "" => text.to_owned(),
            page if page.ends_with(".md") => std::fs::read_to_string(&target).unwrap_or_default(),
            _ => return !target.exists(),
        };
        !target.exists() || (!place.is_empty() && !anchors(&page).contains(place))
    };
    let all = links(text);
    all.iter().filter(is_broken).map(|(line, link)| format!("{path}:{line}: {link}")).collect()
}

/// Targets of links and images, but those of other hosts, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in lines(text) {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        let sources =
            line.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(link, _)| link);
        found.extend(targets.chain(sources).filter(|link| !link.contains("://")).map(|link| (number, link)));
    }
    found
}

/// Lines of text: no code.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    let all = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    all.filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    })
}

/// Names of a page's headings, as links have them.
fn anchors(page: &str) -> BTreeSet<String> {
    lines(page).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| anchor(line)).collect()
}

#[test]
fn links_that_lead_nowhere_are_found() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("b.md"), "# A `b` of C_D!\n\n```sh\n# no heading\n```\n").unwrap();
    let text = "# Here\n[a](b.md) [b](b.md#a-b-of-c_d) [c](#here) [d](https://x.example/y)\n\
                ![e](no.png) [f](b.md#no-heading) [g](#there)\n```\n[h](no.md)\n```\n<img src=\"no.svg\">\n";
    let found = broken(root.path(), "a.md", text);
    assert_eq!(found, ["a.md:3: no.png", "a.md:3: b.md#no-heading", "a.md:3: #there", "a.md:7: no.svg"]);
}
