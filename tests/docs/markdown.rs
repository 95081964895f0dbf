//! Blocks of commands in Markdown, and the comments before them that say how they are run.
//!
//! A block is indented by four spaces after a blank line, or fenced as `sh`. What is no command is fenced as what it is: `json`,
//! `text`. Comments that aren't shown, right before the block, a line each:
//!
//! - `<!-- not run: REASON -->`
//! - `<!-- run after: COMMAND -->`: what the reader has done before, perhaps in another terminal.
//! - `<!-- run after: docs/PAGE.md#SECTION -->`: the same, the commands of a section.
//! - `<!-- run: exits with 1 -->`, `<!-- run: exits with 0 or 1 -->`, `<!-- run: exits with 1, says "TEXT" -->`

/// Commands that stand together.
#[derive(Debug, Default)]
pub struct Block {
    /// Line of the page that it begins at.
    pub line: usize,
    /// Heading that it is under, as a link names it.
    pub section: String,
    pub commands: String,
    pub how: How,
}

/// Options of a block, from the comments before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct How {
    pub not_run: Option<String>,
    pub after: Vec<String>,
    /// Exit codes that are right; none: 0.
    pub exits_with: Vec<i32>,
    pub says: Option<String>,
}

/// All blocks of commands of a page; an error names the line.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let (mut section, mut how, mut is_after_blank) = (String::new(), How::default(), true);
    let mut lines = page.lines().enumerate().map(|(index, line)| (index + 1, line)).peekable();
    while let Some((number, line)) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let body: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            match kind {
                "sh" => {
                    let (section, how) = (section.clone(), std::mem::take(&mut how));
                    found.push(Block { line: number, section, commands: body.join("\n"), how });
                }
                "" => return Err(format!("line {number}: write of what kind the block is: ```sh, ```text")),
                _ => how.is_unused().map_err(|error| format!("line {number}: {error}"))?,
            }
        } else if let Some(first) = line.strip_prefix("    ").filter(|_| is_after_blank) {
            let mut body = vec![first];
            while let Some((_, line)) =
                lines.next_if(|(_, line)| line.starts_with("    ") || line.trim().is_empty())
            {
                body.push(line.get(4..).unwrap_or(""));
            }
            let commands = body.join("\n").trim_end().to_owned();
            found.push(Block {
                line: number,
                section: section.clone(),
                commands,
                how: std::mem::take(&mut how),
            });
            is_after_blank = true;
            continue;
        } else if let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            how.read(comment).map_err(|error| format!("line {number}: {error}"))?;
        } else if !line.is_empty() {
            how.is_unused().map_err(|error| format!("line {number}: {error}"))?;
            if line.starts_with('#') {
                section = anchor(line);
            }
        }
        is_after_blank = line.is_empty();
    }
    how.is_unused().map_err(|error| format!("at the end: {error}"))?;
    Ok(found)
}

impl How {
    /// Takes in a comment; others than those above are left alone.
    fn read(&mut self, comment: &str) -> Result<(), String> {
        if let Some(reason) = comment.strip_prefix("not run: ") {
            self.not_run = Some(reason.to_owned());
        } else if let Some(command) = comment.strip_prefix("run after: ") {
            self.after.push(command.to_owned());
        } else if let Some(expected) = comment.strip_prefix("run: exits with ") {
            let (codes, text) = match expected.split_once(", says ") {
                Some((codes, text)) => (codes, Some(text)),
                None => (expected, None),
            };
            self.exits_with = codes
                .split(" or ")
                .map(|code| code.parse().map_err(|_| format!("{code:?} is no exit code")))
                .collect::<Result<_, _>>()?;
            self.says = text.map(|text| text.trim_matches('"').to_owned());
        } else if comment.starts_with("run") || comment.starts_with("not run") {
            return Err(format!("{comment:?} says nothing that tests/docs/markdown.rs knows"));
        }
        Ok(())
    }

    /// An error if a comment stands before something that is no block of commands.
    fn is_unused(&self) -> Result<(), String> {
        if *self == Self::default() {
            Ok(())
        } else {
            Err("the comment before this is for a block of commands".into())
        }
    }
}

/// The name of a heading in links: lower case, hyphens for spaces, without punctuation.
pub fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter_map(|c| {
            if c == ' ' { Some('-') } else { Some(c).filter(|c| c.is_alphanumeric() || "-_".contains(*c)) }
        })
        .collect()
}

/// Code within lines that begins with a word, such as `tickstream`: (line, code).
pub fn inline<'a>(page: &'a str, word: &str) -> Vec<(usize, &'a str)> {
    let is_text = |line: &&(usize, &str)| !line.1.starts_with("    ");
    let lines: Vec<_> = page.lines().enumerate().map(|(index, line)| (index + 1, line)).collect();
    let spans = lines
        .iter()
        .filter(is_text)
        .flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(|code| (*number, code)));
    spans.filter(|(_, code)| code.split(' ').next() == Some(word)).collect()
}

#[test]
fn blocks_are_found_with_what_stands_before_them() {
    let page = "# A b\n\n<!-- run after: x -->\n<!-- run: exits with 0 or 1, says \"no\" -->\n\n    one\n\n    two \\\n        three\n\ntext\n    not a block\n\n```json\n{}\n```\n\n## C, d!\n\n<!-- not run: no -->\n```sh\nfour\n```\n";
    let found = blocks(page).unwrap();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!((found[0].line, found[0].section.as_str()), (6, "a-b"));
    assert_eq!(found[0].commands, "one\n\ntwo \\\n    three");
    let expected =
        How { after: vec!["x".into()], exits_with: vec![0, 1], says: Some("no".into()), not_run: None };
    assert_eq!(found[0].how, expected);
    assert_eq!((found[1].commands.as_str(), found[1].section.as_str()), ("four", "c-d"));
    assert_eq!(found[1].how.not_run.as_deref(), Some("no"));
}

#[test]
fn what_would_be_passed_over_is_an_error() {
    for page in [
        "```\nx\n```\n",
        "<!-- run: quickly -->\n\n    x\n",
        "<!-- not run: no -->\ntext\n",
        "<!-- run: exits with no -->\n",
    ] {
        assert!(blocks(page).is_err(), "{page:?}");
    }
}
