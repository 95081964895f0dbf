//! Values of a JSON text by path, without reading what isn't on the way.
//!
//! A path is keys and indexes: `video.measurements.fps`, `custom.measurements[0].value`. A key with a dot or bracket in
//! it stands in quotes: `context."a.b"`. Text that is no JSON has no values.

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Member of an object.
    Key(String),
    /// Element of an array, from 0.
    Index(usize),
}

/// Way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Step>);

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no JSON path; a path looks like a.b[0].\"c.d\"")]
pub struct PathError {
    path: String,
}

impl Path {
    /// Reads a path. A leading `$.` is allowed.
    ///
    /// # Errors
    /// [`PathError`] if it isn't one.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let bad = || PathError { path: path.to_owned() };
        let mut rest = path.strip_prefix('$').map_or(path, |rest| rest.strip_prefix('.').unwrap_or(rest));
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (index, after) = inside.split_once(']').ok_or_else(bad)?;
                steps.push(Step::Index(index.parse().map_err(|_| bad())?));
                rest = after;
            } else if let Some(inside) = rest.strip_prefix('"') {
                let (key, after) = inside.split_once('"').ok_or_else(bad)?;
                steps.push(Step::Key(key.to_owned()));
                rest = after;
            } else {
                let end = rest.find(['.', '[', '"']).unwrap_or(rest.len());
                if end == 0 {
                    return Err(bad());
                }
                steps.push(Step::Key(rest[..end].to_owned()));
                rest = &rest[end..];
            }
            match rest.strip_prefix('.') {
                Some("") => return Err(bad()),
                Some(after) => rest = after,
                None if rest.is_empty() || rest.starts_with('[') => {}
                None => return Err(bad()),
            }
        }
        Ok(Self(steps))
    }

    /// The value's own text in `json`: with quotes if it is a string. `None` if there is no such value.
    pub fn find<'a>(&self, json: &'a str) -> Option<&'a str> {
        let bytes = json.as_bytes();
        let mut at = skip_space(bytes, 0);
        for step in &self.0 {
            at = match step {
                Step::Key(key) => member(json, at, key)?,
                Step::Index(index) => element(bytes, at, *index)?,
            };
        }
        let end = skip_value(bytes, at)?;
        json.get(at..end)
    }
}

/// Text of a value: strings without quotes and escapes, null as nothing, all else as it stands.
pub fn text(value: &str) -> Option<std::borrow::Cow<'_, str>> {
    use std::borrow::Cow;
    match value.strip_prefix('"') {
        None if value == "null" => None,
        None => Some(Cow::Borrowed(value)),
        Some(inside) if !value.contains('\\') => inside.strip_suffix('"').map(Cow::Borrowed),
        Some(_) => serde_json::from_str(value).ok().map(Cow::Owned),
    }
}

/// A value as a number; also a string that holds one, as those that JSON has no number for.
pub fn number(value: &str) -> Option<f64> {
    value.trim_matches('"').parse().ok()
}

/// Elements of an array, each with its own text.
pub fn elements(array: &str) -> impl Iterator<Item = &str> {
    let bytes = array.as_bytes();
    let mut at = first_inside(bytes, 0, b'[', b']');
    std::iter::from_fn(move || {
        let start = at?;
        let end = skip_value(bytes, start)?;
        at = next_item(bytes, end);
        array.get(start..end)
    })
}

fn member(json: &str, at: usize, key: &str) -> Option<usize> {
    let bytes = json.as_bytes();
    let mut at = first_inside(bytes, at, b'{', b'}')?;
    loop {
        let end = skip_string(bytes, at)?;
        let found = json.get(at..end)?;
        let colon = skip_space(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value = skip_space(bytes, colon + 1);
        if is_key(found, key) {
            return Some(value);
        }
        at = next_item(bytes, skip_value(bytes, value)?)?;
    }
}

fn is_key(quoted: &str, key: &str) -> bool {
    match text(quoted) {
        Some(found) => found == key,
        None => false,
    }
}

fn element(bytes: &[u8], at: usize, index: usize) -> Option<usize> {
    let mut at = first_inside(bytes, at, b'[', b']')?;
    for _ in 0..index {
        at = next_item(bytes, skip_value(bytes, at)?)?;
    }
    Some(at)
}

fn first_inside(bytes: &[u8], at: usize, open: u8, close: u8) -> Option<usize> {
    if bytes.get(at) != Some(&open) {
        return None;
    }
    let at = skip_space(bytes, at + 1);
    (bytes.get(at) != Some(&close)).then_some(at)
}

fn next_item(bytes: &[u8], end: usize) -> Option<usize> {
    let at = skip_space(bytes, end);
    (bytes.get(at) == Some(&b',')).then(|| skip_space(bytes, at + 1))
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Behind the value that begins at `at`. Nesting needs no stack: only brackets outside strings are counted.
fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => skip_string(bytes, at),
        b'{' | b'[' => {
            let (mut at, mut depth) = (at, 0_usize);
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = skip_string(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let scalar = |byte: &u8| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let length = bytes[at..].iter().take_while(|byte| scalar(byte)).count();
            (length > 0).then_some(at + length)
        }
    }
}

fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{ "a": {"b": [10, {"c": "x\"y"}, null]}, "d.e": true, "s": "plain", "n": -1.5e3, "ü": "ö", "": 7 }"#;

    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(Path::parse(path).unwrap().find(JSON), expected, "{path}");
    }

    #[test]
    fn values_are_found_by_path() {
        check("a.b[0]", Some("10"));
        check("$.a.b[1].c", Some(r#""x\"y""#));
        check("a.b[2]", Some("null"));
        check("a.b[3]", None);
        check("a.b", Some(r#"[10, {"c": "x\"y"}, null]"#));
        check("\"d.e\"", Some("true"));
        check("n", Some("-1.5e3"));
        check("ü", Some("\"ö\""));
        check("\"\"", Some("7"));
        check("missing", None);
        check("s.t", None);
        check("", Some(JSON));
    }

    #[test]
    fn texts_and_numbers_are_plain() {
        assert_eq!(text(r#""x\"y""#).as_deref(), Some("x\"y"));
        assert_eq!(text("null"), None);
        assert_eq!(text("true").as_deref(), Some("true"));
        assert_eq!(number("-1.5e3"), Some(-1500.0));
        assert_eq!(number("\"NaN\"").map(f64::is_nan), Some(true));
        assert_eq!(number("\"x\""), None);
        assert_eq!(elements("[1, [2,3], {\"a\":4}]").collect::<Vec<_>>(), ["1", "[2,3]", "{\"a\":4}"]);
        assert_eq!(elements("[]").count(), 0);
        assert_eq!(elements("{}").count(), 0);
    }

    #[test]
    fn wrong_paths_are_named_and_cut_json_has_no_values() {
        for path in ["a..b", ".a", "a.", "a[", "a[x]", "a[-1]", "\"a", "[0]x"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
        let path = Path::parse("a.b[1].c").unwrap();
        for end in (0..JSON.len()).filter(|end| JSON.is_char_boundary(*end)) {
            let found = path.find(&JSON[..end]);
            assert!(found.is_none() || found == Some(r#""x\"y""#), "{end}: {found:?}");
        }
    }

    #[test]
    fn ten_thousand_nested_arrays_need_no_stack() {
        let deep = format!("{{\"a\":{}{},\"b\":1}}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(Path::parse("b").unwrap().find(&deep), Some("1"));
    }
}
