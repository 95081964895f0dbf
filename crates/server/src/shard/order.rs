//! Order in which operators see connections, and places in it, which pages go on from.

use std::cmp::Ordering;
use std::fmt::Write;

use tickstream_engine::{Connection, Identified};

/// Longest cursor, bytes: a text of 255 bytes, shard and number.
const CURSOR_BYTES_MAX: usize = 1 + 2 * 255 + 2 * 21;

/// A property of connections that they are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// Age of the oldest unsent byte, then ticks that are missing.
    Lag,
    /// Time since it was accepted.
    Age,
    /// Bytes sent.
    Sent,
    /// Bytes received.
    Received,
    /// Events accepted.
    Events,
    /// Shard and number.
    Id,
    /// Address.
    Peer,
    /// User.
    User,
}

impl SortKey {
    /// Every one of them, with its name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("lag", Self::Lag),
        ("age", Self::Age),
        ("sent", Self::Sent),
        ("received", Self::Received),
        ("events", Self::Events),
        ("id", Self::Id),
        ("peer", Self::Peer),
        ("user", Self::User),
    ];

    /// True where the largest value comes first, unless the order is given.
    pub const fn is_largest_first(self) -> bool {
        !matches!(self, Self::Id | Self::Peer | Self::User)
    }
}

/// An order of connections. Those that are alike follow one another by shard and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The property.
    pub key: SortKey,
    /// The largest value first.
    pub descending: bool,
}

impl Default for Sort {
    /// The slowest first.
    fn default() -> Self {
        Self { key: SortKey::Lag, descending: true }
    }
}

/// A value that connections are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortValue<'a> {
    /// A number, an address among them.
    Number(u128),
    /// A name.
    Text(&'a str),
}

/// Place of a connection in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    value: Owned,
    shard: usize,
    number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Number(u128),
    Text(Box<str>),
}

impl Sort {
    /// The value that a connection is ordered by.
    pub fn value<'a>(&self, connection: &Connection, identified: Identified<'a>) -> SortValue<'a> {
        SortValue::Number(match self.key {
            SortKey::Lag => u128::from(connection.unsent_ms) << 64 | u128::from(connection.ticks_behind),
            SortKey::Age => connection.open_ms.into(),
            SortKey::Sent => connection.bytes_sent.into(),
            SortKey::Received => connection.bytes_received.into(),
            SortKey::Events => connection.events_accepted.into(),
            // Shard and number decide.
            SortKey::Id => 0,
            SortKey::Peer => match connection.peer.ip().to_canonical() {
                std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
                std::net::IpAddr::V6(ip) => ip.to_bits(),
            },
            SortKey::User => return SortValue::Text(identified.user.unwrap_or_default()),
        })
    }

    /// Compares two places: that of a connection that isn't copied yet, and another.
    pub fn compare(&self, value: SortValue<'_>, (shard, number): (usize, u64), other: &Place) -> Ordering {
        let by_value = value.cmp(&other.value());
        let by_value = if self.descending { by_value.reverse() } else { by_value };
        // The order turns ids around as well, where they are what it is about.
        let by_id = (shard, number).cmp(&(other.shard, other.number));
        let by_id = if self.descending && self.key == SortKey::Id { by_id.reverse() } else { by_id };
        by_value.then(by_id)
    }
}

impl Place {
    /// The place of connection `number` of `shard`.
    pub fn new(value: SortValue<'_>, shard: usize, number: u64) -> Self {
        let value = match value {
            SortValue::Number(number) => Owned::Number(number),
            SortValue::Text(text) => Owned::Text(text.into()),
        };
        Self { value, shard, number }
    }

    /// Its value.
    pub fn value(&self) -> SortValue<'_> {
        match &self.value {
            Owned::Number(number) => SortValue::Number(*number),
            Owned::Text(text) => SortValue::Text(text),
        }
    }

    /// Shard and number.
    pub fn id(&self) -> (usize, u64) {
        (self.shard, self.number)
    }

    /// The place as text that stands in a URL as it is.
    pub fn cursor(&self) -> String {
        let mut text = match &self.value {
            Owned::Number(number) => format!("n{number:x}"),
            Owned::Text(text) => {
                let mut hex = "t".to_owned();
                text.bytes()
                    .for_each(|byte| write!(hex, "{byte:02x}").expect("writing to a String can't fail"));
                hex
            }
        };
        write!(text, ".{}.{}", self.shard, self.number).expect("writing to a String can't fail");
        text
    }

    /// The place that [`Place::cursor`] wrote.
    pub fn parse(cursor: &str) -> Option<Self> {
        if cursor.len() > CURSOR_BYTES_MAX || !cursor.is_ascii() {
            return None;
        }
        let mut parts = cursor.split('.');
        let (value, shard, number) =
            (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let value = match value.split_at_checked(1)? {
            ("n", hex) => Owned::Number(u128::from_str_radix(hex, 16).ok()?),
            ("t", hex) => {
                let pairs = hex.as_bytes().chunks(2);
                let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                let bytes = pairs.map(byte).collect::<Option<Vec<u8>>>()?;
                Owned::Text(String::from_utf8(bytes).ok()?.into())
            }
            _ => return None,
        };
        parts.next().is_none().then_some(Self { value, shard, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_the_place_that_it_was_made_of() {
        for value in [
            SortValue::Number(0),
            SortValue::Number(u128::MAX),
            SortValue::Text(""),
            SortValue::Text("a.b é"),
        ] {
            let place = Place::new(value, 255, u64::MAX);
            assert_eq!(Place::parse(&place.cursor()), Some(place));
        }
        for bad in ["", "n1", "n1.2", "x1.2.3", "n.2.3", "tz.1.2", "tff.1.2", "n1.2.3.4", "n1.-2.3", "é1.2.3"]
        {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
        assert_eq!(Place::parse(&format!("t{}.1.2", "61".repeat(300))), None);
    }

    #[test]
    fn those_that_are_alike_follow_one_another_by_their_ids() {
        let check = |key, descending, value, id, expected| {
            let other = Place::new(SortValue::Number(5), 1, 7);
            let sort = Sort { key, descending };
            assert_eq!(
                sort.compare(SortValue::Number(value), id, &other),
                expected,
                "{sort:?} {value} {id:?}"
            );
        };
        use Ordering::{Equal, Greater, Less};
        check(SortKey::Lag, true, 6, (9, 9), Less);
        check(SortKey::Lag, true, 5, (1, 6), Less);
        check(SortKey::Lag, true, 5, (2, 1), Greater);
        check(SortKey::Lag, false, 6, (1, 6), Greater);
        check(SortKey::Id, false, 5, (1, 8), Greater);
        check(SortKey::Id, true, 5, (1, 8), Less);
        check(SortKey::Id, true, 5, (1, 7), Equal);
    }
}
