//! The table of defects in tests/README.md names tests that there are.

use std::path::Path;

#[test]
fn every_test_of_the_table_of_defects_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let readme = read("tests/README.md");
    let (_, table) = readme.split_once("| nr | defect | tests |").expect("the table");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).skip(1).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row.split('|').nth(1).expect("a number").trim()).collect();
    assert_eq!(numbers, (1..=18).map(|number| number.to_string()).collect::<Vec<_>>());
    for row in rows {
        let tests = row.split('|').nth(3).expect("the tests");
        let mut file = (String::new(), String::new());
        let mut found = 0;
        for word in tests.split('`').skip(1).step_by(2) {
            if word.contains('/') {
                file = (word.to_owned(), read(word));
                continue;
            }
            let is_there =
                ["fn ", "def ", "class "].iter().any(|kind| file.1.contains(&format!("{kind}{word}(")));
            assert!(is_there, "{} has no test {word}", file.0);
            found += 1;
        }
        assert!(found > 0, "no test in {row}");
    }
}
