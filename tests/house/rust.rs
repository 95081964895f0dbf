//! As much of Rust's syntax as the checks need: tokens with their lines, paths, functions, modules.

/// A token that a check looks at; comments, literals and lifetimes are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Name(String),
    /// `::`
    Path,
    Sign(char),
}

impl Token {
    pub fn is(&self, sign: char) -> bool {
        *self == Token::Sign(sign)
    }

    pub fn is_name(&self, name: &str) -> bool {
        self.name() == Some(name)
    }

    pub fn name(&self) -> Option<&str> {
        if let Token::Name(name) = self { Some(name) } else { None }
    }
}

/// A function, and the lines from its `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub lines: usize,
}

/// The tokens of a source file, each with its line, from 0.
pub fn tokens(source: &str) -> Vec<(Token, usize)> {
    let text: Vec<char> = source.chars().collect();
    let (mut at, mut line, mut tokens) = (0, 0, Vec::new());
    while at < text.len() {
        let rest = &text[at..];
        let end = at + skipped(rest).unwrap_or(0);
        if end > at {
            line += text[at..end].iter().filter(|c| **c == '\n').count();
            at = end;
            continue;
        }
        let name: String = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
        let (token, length) = if !name.is_empty() {
            let length = name.chars().count();
            (Token::Name(name), length)
        } else if rest.starts_with(&[':', ':']) {
            (Token::Path, 2)
        } else {
            (Token::Sign(rest[0]), 1)
        };
        tokens.push((token, line));
        at += length;
    }
    tokens
}

/// The length of the space, comment, literal or lifetime that `text` begins with.
fn skipped(text: &[char]) -> Option<usize> {
    let raw = |prefix: usize| {
        let hashes = text[prefix..].iter().take_while(|c| **c == '#').count();
        (text.get(prefix + hashes) == Some(&'"')).then(|| {
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let from = prefix + hashes + 1;
            let length = text[from..].windows(close.len()).position(|window| window == close);
            length.map_or(text.len(), |length| from + length + close.len())
        })
    };
    match text {
        [c, ..] if c.is_whitespace() => Some(1),
        ['/', '/', ..] => Some(text.iter().position(|c| *c == '\n').unwrap_or(text.len())),
        ['/', '*', ..] => {
            Some(text.windows(2).position(|two| two == ['*', '/']).map_or(text.len(), |at| at + 2))
        }
        ['b' | 'c', 'r', '"' | '#', ..] => raw(2),
        ['r', '"' | '#', ..] => raw(1),
        ['b' | 'c', '"', ..] => Some(1 + quoted(&text[1..], '"')),
        ['"', ..] => Some(quoted(text, '"')),
        ['b', '\'', ..] => Some(1 + quoted(&text[1..], '\'')),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => Some(quoted(text, '\'')),
        ['\'', ..] => Some(1 + text[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()),
        _ => None,
    }
}

fn quoted(text: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// The index behind the closing partner of the bracket at `open`.
pub fn behind_block(tokens: &[(Token, usize)], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, (token, _)) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// All functions with a body.
pub fn functions(tokens: &[(Token, usize)]) -> Vec<Function> {
    let starts = (0..tokens.len().saturating_sub(1)).filter(|at| tokens[*at].0.is_name("fn"));
    let function = |at: usize| {
        let name = tokens[at + 1].0.name()?.to_owned();
        let mut open = at + 2;
        while !tokens.get(open)?.0.is('{') {
            match tokens[open].0 {
                Token::Sign(';') => return None,
                Token::Sign('(' | '[') => open = behind_block(tokens, open),
                _ => open += 1,
            }
        }
        let end = behind_block(tokens, open) - 1;
        Some(Function { name, lines: tokens[end].1 - tokens[at].1 + 1 })
    };
    starts.filter_map(function).collect()
}

/// The tokens without items that only tests compile.
pub fn without_tests(tokens: &[(Token, usize)]) -> Vec<(Token, usize)> {
    let (mut at, mut kept) = (0, Vec::new());
    while at < tokens.len() {
        if tokens[at].0.is('#') && tokens.get(at + 1).is_some_and(|next| next.0.is('[')) {
            let end = behind_block(tokens, at + 1);
            let attribute = &tokens[at + 2..end - 1];
            let names: Vec<_> = attribute.iter().filter_map(|(token, _)| token.name()).collect();
            if names.first() == Some(&"cfg") && names.contains(&"test") && !names.contains(&"not") {
                at = behind_item(tokens, end);
                continue;
            }
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// The index behind the item or field that begins at `start`, attributes first.
fn behind_item(tokens: &[(Token, usize)], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].0 {
            Token::Sign(';' | ',') => return at + 1,
            Token::Sign('{') => return behind_block(tokens, at),
            Token::Sign('(' | '[') => at = behind_block(tokens, at),
            Token::Sign('}') => return at,
            _ => at += 1,
        }
    }
    at
}

#[test]
fn literals_and_comments_are_no_tokens_and_tests_are_left_out() {
    let source = r##"
        // unsafe
        fn one<'a>(c: &'a str) -> char { let _ = (r#"}" {"#, "\"}", 'x', '\'', b"{"); '{' }
        /* { */ #[cfg(test)] mod tests { fn two() {} }
        fn three() {
        }
    "##;
    let found = functions(&without_tests(&tokens(source)));
    let function = |name: &str, lines| Function { name: name.to_owned(), lines };
    assert_eq!(found, [function("one", 1), function("three", 2)]);
}
