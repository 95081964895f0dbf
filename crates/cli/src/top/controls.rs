//! Keys, and what they choose: the view, its order, its place. No I/O.

use tickstream_server::shard::SortKey;

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Tab.
    Tab,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// Escape.
    Escape,
}

/// Keys in bytes of a terminal; those that mean nothing are passed over. Sequences are xterm's.
pub fn keys(mut bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Key); 10] = [
        (b"\x1b[A", Key::Up),
        (b"\x1bOA", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOB", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
        (b"\x1b[H", Key::Home),
        (b"\x1bOH", Key::Home),
        (b"\x1b[1~", Key::Home),
        (b"\t", Key::Tab),
    ];
    let mut keys = Vec::new();
    while let Some(&first) = bytes.first() {
        if let Some((sequence, key)) = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence)) {
            keys.push(*key);
            bytes = &bytes[sequence.len()..];
        } else if first == 0x1b && bytes.len() > 1 {
            // Another sequence: its end is its first letter or tilde.
            let end = bytes.iter().skip(2).position(|byte| byte.is_ascii_alphabetic() || *byte == b'~');
            bytes = &bytes[end.map_or(bytes.len(), |end| end + 3)..];
        } else {
            keys.push(if first == 0x1b { Key::Escape } else { Key::Char(first.into()) });
            bytes = &bytes[1..];
        }
    }
    keys
}

/// Views of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// A bit of everything.
    #[default]
    Overview,
    /// Every shard.
    Shards,
    /// Connections.
    Connections,
}

/// A property that shards are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShardSort {
    /// The number.
    #[default]
    Number,
    /// Connections.
    Connections,
    /// Lagging connections.
    Lagging,
    /// Ticks a second.
    Ticks,
    /// CPU time.
    Busy,
}

impl ShardSort {
    const ALL: [Self; 5] = [Self::Number, Self::Connections, Self::Lagging, Self::Ticks, Self::Busy];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Connections => "connections",
            Self::Lagging => "lagging",
            Self::Ticks => "ticks",
            Self::Busy => "busy",
        }
    }
}

/// The choices of whoever looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// The view.
    pub view: View,
    /// The keys are shown instead.
    pub has_help: bool,
    /// Order of the shards.
    pub shards: ShardSort,
    /// Order of the connections: its place in [`SortKey::ALL`].
    connections: usize,
    /// The other way round.
    pub is_reversed: bool,
    /// Rows that are scrolled away.
    pub scroll: usize,
}

impl Controls {
    /// Name of the connections' order.
    pub fn connections(&self) -> &'static str {
        SortKey::ALL[self.connections].0
    }

    /// Query of the list of connections: `limit` of them, in the chosen order.
    pub fn query(&self, limit: usize) -> String {
        let (name, key) = match self.view {
            View::Connections => SortKey::ALL[self.connections],
            View::Overview | View::Shards => SortKey::ALL[0],
        };
        let is_turned = self.is_reversed && self.view == View::Connections;
        let order = if key.is_largest_first() == is_turned { "asc" } else { "desc" };
        format!("/connections?limit={limit}&sort={name}&order={order}")
    }

    /// Acts on a key; `rows` are those of a page.
    pub fn press(&mut self, key: Key, rows: usize) {
        let page = rows.max(2) - 1;
        match key {
            Key::Char('?' | 'h') => self.has_help = !self.has_help,
            _ if self.has_help => self.has_help = false,
            Key::Char('1' | 'o') => self.look_at(View::Overview),
            Key::Char('2' | 'd') => self.look_at(View::Shards),
            Key::Char('3' | 'c') => self.look_at(View::Connections),
            Key::Tab => self.look_at(match self.view {
                View::Overview => View::Shards,
                View::Shards => View::Connections,
                View::Connections => View::Overview,
            }),
            Key::Char('s' | '>') => self.sort_by(1),
            Key::Char('S' | '<') => self.sort_by(-1),
            Key::Char('r') => (self.is_reversed, self.scroll) = (!self.is_reversed, 0),
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll += 1,
            Key::PageUp => self.scroll = self.scroll.saturating_sub(page),
            Key::PageDown | Key::Char(' ') => self.scroll += page,
            Key::Home | Key::Char('g') => self.scroll = 0,
            Key::Char(_) | Key::Escape => {}
        }
    }

    /// Doesn't scroll beyond the last of `rows`, of which `shown` fit.
    pub fn bound_scroll(&mut self, rows: usize, shown: usize) {
        self.scroll = self.scroll.min(rows.saturating_sub(shown));
    }

    fn look_at(&mut self, view: View) {
        (self.view, self.scroll, self.is_reversed) = (view, 0, false);
    }

    fn sort_by(&mut self, step: isize) {
        let turned = |at: usize, length: usize| (at as isize + step).rem_euclid(length as isize) as usize;
        match self.view {
            View::Overview => {}
            View::Shards => {
                let at = ShardSort::ALL.iter().position(|sort| *sort == self.shards).unwrap_or(0);
                self.shards = ShardSort::ALL[turned(at, ShardSort::ALL.len())];
            }
            View::Connections => self.connections = turned(self.connections, SortKey::ALL.len()),
        }
        self.scroll = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_keys_and_unknown_ones_are_none() {
        assert_eq!(
            keys(b"a\x1b[A\x1b[6~\tq"),
            [Key::Char('a'), Key::Up, Key::PageDown, Key::Tab, Key::Char('q')]
        );
        assert_eq!(keys(b"\x1b[200~x"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1b"), [Key::Escape]);
        assert_eq!(keys(b""), []);
    }

    fn pressed(text: &str) -> Controls {
        let mut controls = Controls::default();
        keys(text.as_bytes()).into_iter().for_each(|key| controls.press(key, 10));
        controls
    }

    #[test]
    fn views_orders_and_places_are_chosen() {
        assert_eq!(pressed("\t").view, View::Shards);
        assert_eq!(pressed("\t\t\t").view, View::Overview);
        assert_eq!(pressed("2ss").shards, ShardSort::Lagging);
        assert_eq!(pressed("2S").shards, ShardSort::Busy);
        assert_eq!(pressed("3s").connections(), "age");
        assert_eq!(pressed("3S").connections(), "user");
        assert_eq!(pressed("ss").connections(), "lag", "the overview has the slowest");
        assert_eq!(pressed("3jj \x1b[A").scroll, 10);
        assert_eq!(pressed("3jjs").scroll, 0, "another order begins at the top");
        let mut far = pressed("3      ");
        far.bound_scroll(30, 20);
        assert_eq!(far.scroll, 10);
        far.bound_scroll(5, 20);
        assert_eq!(far.scroll, 0);
    }

    #[test]
    fn help_is_shown_until_the_next_key() {
        assert!(pressed("?").has_help);
        let after = pressed("?3");
        assert_eq!((after.has_help, after.view), (false, View::Overview));
    }

    #[test]
    fn the_server_orders_connections() {
        assert_eq!(pressed("").query(30), "/connections?limit=30&sort=lag&order=desc");
        assert_eq!(pressed("3sr").query(200), "/connections?limit=200&sort=age&order=asc");
        assert_eq!(pressed("3S").query(200), "/connections?limit=200&sort=user&order=asc");
        assert_eq!(pressed("3Sr").query(200), "/connections?limit=200&sort=user&order=desc");
    }
}
