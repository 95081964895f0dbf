//! Lines of styled text, and tables of them.

/// The look of text, where colours are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
    Accent,
}

/// One line. Every character takes one column: see [`printable`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Style, String)>);

/// A column of a table.
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Numbers stand at its right.
    pub is_right: bool,
    /// Its least width, so that it doesn't move with each number.
    pub least: usize,
}

/// A cell of a table.
pub type Cell = (Style, String);

/// Between two columns.
const GAP: usize = 2;

impl Style {
    /// SGR parameters: ECMA-48, section 8.3.117.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Accent => "36",
        }
    }
}

impl Line {
    /// This line and some text behind it.
    #[must_use]
    pub fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// This line and another behind it, which begins at a column.
    #[must_use]
    pub fn then_at(self, column: usize, other: Self) -> Self {
        let missing = column.saturating_sub(self.width());
        let mut line = self.with(Style::Plain, " ".repeat(missing));
        line.0.extend(other.0);
        line
    }

    /// Columns that it takes.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Its text alone.
    pub fn plain(&self) -> String {
        let text: String = self.0.iter().flat_map(|(_, text)| text.chars()).map(shown).collect();
        text.trim_end().to_owned()
    }

    /// As much of it as a terminal of that width takes, with colours or without.
    pub fn painted(&self, width: usize, colour: bool) -> String {
        let mut painted = String::new();
        let mut left = width;
        for (style, text) in &self.0 {
            let shown: String = text.chars().take(left).map(shown).collect();
            left -= shown.chars().count();
            match style.code() {
                code if colour && !code.is_empty() && !shown.is_empty() => {
                    painted += &format!("\x1b[{code}m{shown}\x1b[0m");
                }
                _ => painted += &shown,
            }
        }
        painted
    }
}

/// A character as it is shown: nothing from a server steers the terminal, whichever way it came here.
fn shown(char: char) -> char {
    if tickstream_service::text::steers(char) { '?' } else { char }
}

/// A column of words.
pub const fn words(title: &'static str, least: usize) -> Column {
    Column { title, is_right: false, least }
}

/// A column of numbers.
pub const fn numbers(title: &'static str, least: usize) -> Column {
    Column { title, is_right: true, least }
}

/// A table: its titles, then its rows.
pub fn table(columns: &[Column], rows: &[Vec<Cell>]) -> Vec<Line> {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let widest =
                rows.iter().filter_map(|row| row.get(at)).map(|(_, text)| text.chars().count()).max();
            widest.unwrap_or(0).max(column.least).max(column.title.len())
        })
        .collect();
    let titles = columns.iter().map(|column| (Style::Dim, column.title.to_owned())).collect();
    std::iter::once(&titles).chain(rows).map(|row| line_of(columns, &widths, row)).collect()
}

fn line_of(columns: &[Column], widths: &[usize], row: &[Cell]) -> Line {
    let mut line = Line::default();
    let mut begin = 0;
    for ((column, width), (style, text)) in columns.iter().zip(widths).zip(row) {
        let indent = if column.is_right { width.saturating_sub(text.chars().count()) } else { 0 };
        line = line.then_at(begin + indent, Line::default().with(*style, text.clone()));
        begin += width + GAP;
    }
    line
}

/// Text from elsewhere, as a terminal can take it: without escape sequences, and a column for each character.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_as_wide_as_their_widest_cell() {
        let cell = |text: &str| (Style::Plain, text.to_owned());
        let columns = [words("name", 0), numbers("n", 5), words("rest", 0)];
        let rows = [
            vec![cell("a"), cell("1"), cell("x")],
            vec![cell("longest"), cell("123456"), cell("y")],
            vec![cell("b")],
        ];
        let text: Vec<_> = table(&columns, &rows).iter().map(Line::plain).collect();
        assert_eq!(text, ["name          n  rest", "a             1  x", "longest  123456  y", "b"]);
    }

    #[test]
    fn lines_are_cut_by_columns_not_by_bytes() {
        let line = Line::default().with(Style::Bold, "µµ").with(Style::Plain, "abc").with(Style::Bad, "d");
        assert_eq!(line.width(), 6);
        assert_eq!(line.painted(4, false), "µµab");
        assert_eq!(line.painted(4, true), "\x1b[1mµµ\x1b[0mab");
        assert_eq!(line.painted(80, true), "\x1b[1mµµ\x1b[0mabc\x1b[1;31md\x1b[0m");
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n\u{202e}c\u{9b}d é"), "a?[2Jb??c?d ?");
    }
}
