//! Filter of connections that operators ask for.

use tickstream_engine::{Connection, Identified, Mode, Network, Standing};
use tickstream_service::pattern::Pattern;

/// A filter of connections. Each condition that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// With this number on its shard.
    pub number: Option<u64>,
    /// From this network, any port.
    pub peer: Option<Network>,
    /// Of users with such a name.
    pub user: Option<Pattern>,
    /// With such a client's library.
    pub client: Option<Pattern>,
    /// With a certificate of such a subject.
    pub subject: Option<Pattern>,
    /// Subscribed to this stream.
    pub mode: Option<Mode>,
    /// As far as this.
    pub standing: Option<Standing>,
    /// Lagging, with an oldest unsent byte of at least this age, milliseconds.
    pub lag_ms: Option<u64>,
    /// With this text, in small letters, in its id, address, user, client or subject.
    pub search: Option<String>,
}

impl Filter {
    /// True without any condition.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn passes(&self, shard: usize, connection: &Connection, identified: Identified<'_>) -> bool {
        let Identified { user, subject, client } = identified;
        let is_like = |pattern: &Option<Pattern>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| pattern.matches(text)))
        };
        self.number.is_none_or(|number| connection.number == number)
            && self.peer.is_none_or(|network| network.contains(connection.peer.ip()))
            && self.mode.is_none_or(|mode| connection.mode == Some(mode))
            && self.standing.is_none_or(|standing| connection.standing == standing)
            && self.lag_ms.is_none_or(|ms| connection.lagging && connection.unsent_ms >= ms)
            && is_like(&self.user, user)
            && is_like(&self.client, client)
            && is_like(&self.subject, subject)
            && self.search.as_ref().is_none_or(|text| {
                let has = |other: &str| other.to_lowercase().contains(text);
                [user, subject, client].into_iter().flatten().any(has)
                    || has(&connection.peer.to_string())
                    || has(&format!("{shard}-{}", connection.number))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickstream_engine::{ConnId, Slot};

    fn connection() -> Connection {
        Connection {
            id: ConnId { slot: Slot(0), generation: 0 },
            number: 7,
            peer: "10.1.2.3:5000".parse().unwrap(),
            standing: Standing::Authenticated,
            mode: Some(Mode::Second),
            open_ms: 0,
            lagging: true,
            unsent_ms: 500,
            ticks_behind: 0,
            bytes_sent: 0,
            bytes_received: 0,
            events_accepted: 0,
        }
    }

    fn check(filter: &Filter, expected: bool) {
        let identified =
            Identified { user: Some("Ada"), subject: Some("CN=probe-7"), client: Some("rust/1") };
        assert_eq!(filter.passes(3, &connection(), identified), expected, "{filter:?}");
        if filter.user.is_some() || filter.client.is_some() || filter.subject.is_some() {
            assert!(!filter.passes(3, &connection(), Identified::default()), "{filter:?}");
        }
    }

    #[test]
    fn each_condition_must_hold() {
        let none = Filter::default;
        let pattern = |text: &str| Some(Pattern(text.to_owned()));
        let network = |text: &str| Some(text.parse().unwrap());
        check(&none(), true);
        assert!(none().is_empty());
        for (filter, expected) in [
            (Filter { number: Some(7), ..none() }, true),
            (Filter { number: Some(8), ..none() }, false),
            (Filter { peer: network("10.0.0.0/8"), ..none() }, true),
            (Filter { peer: network("10.1.2.3"), ..none() }, true),
            (Filter { peer: network("10.2.0.0/16"), ..none() }, false),
            (Filter { user: pattern("Ada"), ..none() }, true),
            (Filter { user: pattern("A*"), ..none() }, true),
            (Filter { user: pattern("ada"), ..none() }, false),
            (Filter { client: pattern("rust/*"), ..none() }, true),
            (Filter { subject: pattern("CN=probe-*"), ..none() }, true),
            (Filter { mode: Some(Mode::Minute), ..none() }, false),
            (Filter { standing: Some(Standing::Closing), ..none() }, false),
            (Filter { lag_ms: Some(500), ..none() }, true),
            (Filter { lag_ms: Some(501), ..none() }, false),
            (Filter { user: pattern("Ada"), lag_ms: Some(501), ..none() }, false),
        ] {
            check(&filter, expected);
        }
        for (text, expected) in
            [("ada", true), ("10.1.2", true), ("3-7", true), ("probe", true), ("rust", true), ("eve", false)]
        {
            check(&Filter { search: Some(text.to_owned()), ..none() }, expected);
        }
    }
}
