//! The query of `/connections`.

use tickstream_engine::{Mode, Standing};
use tickstream_service::admin::{Call, Refusal};
use tickstream_service::pattern::Pattern;

use crate::shard::{Filter, Page, Place, Sort, SortKey};

/// Connections of a page, unless it says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Connections of a page at most.
const LIMIT_MAX: usize = 1_000;
/// Depth of pages by offset. A cursor has no such bound.
const OFFSET_MAX: usize = 10_000;
/// The keys that choose connections.
const FILTERS: &str = "shard, peer, user, client, subject, mode, state, lag_ms, search";

/// The connections that `/connections` is asked for.
#[derive(Clone, Debug)]
pub struct List {
    /// Of this shard alone.
    pub shard: Option<usize>,
    /// Of these alone, so many, in this order, behind this place.
    pub page: Page,
    /// The first, counted from the begin of the page.
    pub offset: usize,
}

impl List {
    /// Reads the query of a call.
    ///
    /// # Errors
    /// A refusal that names the key.
    pub fn parse(call: &Call, shards: usize) -> Result<Self, Refusal> {
        let page =
            Page { most: LIMIT_DEFAULT, filter: Filter::default(), sort: Sort::default(), after: None };
        let mut list = Self { shard: None, page, offset: 0 };
        let mut descending = None;
        for (key, value) in call.pairs() {
            let bad = |accepted: &str| bad(key, &value, accepted);
            match key {
                "offset" => list.offset = number(key, &value, OFFSET_MAX as u64)? as usize,
                "limit" => list.page.most = number(key, &value, LIMIT_MAX as u64)? as usize,
                "after" => {
                    let place = Place::parse(&value);
                    list.page.after = Some(place.ok_or_else(|| bad("the cursor \"next\" of a page"))?);
                }
                "sort" => {
                    let known = SortKey::ALL.into_iter().find(|(name, _)| *name == value);
                    let names = SortKey::ALL.map(|(name, _)| name).join(", ");
                    let (_, sort) = known.ok_or_else(|| bad(&format!("one of {names}")))?;
                    list.page.sort.key = sort;
                }
                "order" => match value.as_str() {
                    "asc" => descending = Some(false),
                    "desc" => descending = Some(true),
                    _ => return Err(bad("asc or desc")),
                },
                _ if list.filter(key, &value, shards)? => {}
                _ => {
                    let known = format!("offset, limit, after, sort, order, {FILTERS}");
                    return Err(Refusal::bad_request(format!("{key:?} isn't one of {known}")));
                }
            }
        }
        let sort = &mut list.page.sort;
        sort.descending = descending.unwrap_or(sort.key.is_largest_first());
        Ok(list)
    }

    /// Reads the query of a call that closes connections: it names which.
    ///
    /// # Errors
    /// A refusal that names the key, or says that none is there.
    pub fn parse_filter(call: &Call, shards: usize) -> Result<(Option<usize>, Filter), Refusal> {
        let call_for_none = Call { captures: vec![], query: String::new() };
        let mut list = Self::parse(&call_for_none, shards)?;
        for (key, value) in call.pairs() {
            if !list.filter(key, &value, shards)? {
                return Err(Refusal::bad_request(format!("{key:?} isn't one of {FILTERS}")));
            }
        }
        let filter = list.page.filter;
        if filter.is_empty() {
            return Err(Refusal::bad_request(format!(
                "this closes no connections unless a query says which: {FILTERS}; POST /drain closes all"
            )));
        }
        Ok((list.shard, filter))
    }

    /// Reads a condition. False if the key is of none.
    fn filter(&mut self, key: &str, value: &str, shards: usize) -> Result<bool, Refusal> {
        let bad = |accepted: &str| bad(key, value, accepted);
        let pattern = || Some(Pattern(value.to_owned()));
        let filter = &mut self.page.filter;
        match key {
            "shard" => self.shard = Some(number(key, value, shards as u64 - 1)? as usize),
            "peer" => {
                let network = value.parse();
                let accepted = "an IP address, or a network such as 10.0.0.0/8";
                filter.peer = Some(network.map_err(|_| bad(accepted))?);
            }
            "user" => filter.user = pattern(),
            "client" => filter.client = pattern(),
            "subject" => filter.subject = pattern(),
            "mode" => {
                let mode = Mode::from_str_name(&value.to_ascii_uppercase());
                filter.mode = Some(mode.ok_or_else(|| bad("SECOND or MINUTE"))?);
            }
            "state" => {
                let standing = Standing::ALL.into_iter().find(|standing| standing.as_str() == value);
                let names = Standing::ALL.map(Standing::as_str).join(", ");
                filter.standing = Some(standing.ok_or_else(|| bad(&format!("one of {names}")))?);
            }
            "lag_ms" => filter.lag_ms = Some(number(key, value, u64::MAX)?),
            "search" => filter.search = Some(value.to_lowercase()).filter(|text| !text.is_empty()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn bad(key: &str, value: &str, accepted: &str) -> Refusal {
    Refusal::bad_request(format!("{key}={value:?} isn't {accepted}"))
}

fn number(key: &str, value: &str, max: u64) -> Result<u64, Refusal> {
    let number = value.parse().ok().filter(|&number| number <= max);
    number.ok_or_else(|| bad(key, value, &format!("a number up to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(query: &str) -> Call {
        Call { captures: vec![], query: query.to_owned() }
    }

    fn check_list(query: &str, expected: Result<(usize, usize, Option<usize>, Filter), &str>) {
        match (List::parse(&call(query), 4), expected) {
            (Ok(list), Ok(expected)) => {
                let List { shard, page, offset } = list;
                assert_eq!((offset, page.most, shard, page.filter), expected, "{query}");
            }
            (Err(error), Err(part)) => assert!(error.text().contains(part), "{}", error.text()),
            (found, expected) => panic!("{query}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn lists_are_asked_for_by_query() {
        let filter = Filter::default;
        check_list("", Ok((0, 100, None, filter())));
        check_list("offset=10000&limit=1000&shard=3", Ok((10_000, 1_000, Some(3), filter())));
        let peer = || Filter { peer: Some("::1".parse().unwrap()), ..filter() };
        check_list("peer=::1", Ok((0, 100, None, peer())));
        check_list("peer=%3A%3a1", Ok((0, 100, None, peer())));
        let network = Filter { peer: Some("10.0.0.0/8".parse().unwrap()), ..filter() };
        check_list("peer=10.0.0.0%2F8", Ok((0, 100, None, network)));
        let rest = Filter { mode: Some(Mode::Minute), standing: Some(Standing::Closing), ..filter() };
        check_list("mode=minute&state=closing&", Ok((0, 100, None, rest)));
        let pattern = |text: &str| Some(Pattern(text.to_owned()));
        let names = Filter { user: pattern("a d*"), client: pattern("x"), lag_ms: Some(500), ..filter() };
        check_list("user=a%20d*&client=x&lag_ms=500", Ok((0, 100, None, names)));
        check_list("search=Ada", Ok((0, 100, None, Filter { search: Some("ada".to_owned()), ..filter() })));
        check_list("limit=1001", Err("limit=\"1001\" isn't a number up to 1000"));
        check_list("offset=10001", Err("up to 10000"));
        check_list("shard=4", Err("shard=\"4\" isn't a number up to 3"));
        check_list("offset=-1", Err("offset=\"-1\""));
        check_list("peer=example.org", Err("isn't an IP address"));
        check_list("peer=10.0.0.1%2F8", Err("isn't an IP address, or a network"));
        check_list("state=odd", Err("unauthenticated, authenticated, closing"));
        check_list("sort=size", Err("isn't one of lag, age, sent, received, events, id, peer, user"));
        check_list("order=up", Err("isn't asc or desc"));
        check_list("after=x", Err("isn't the cursor"));
        check_list("colour=red", Err("\"colour\" isn't one of offset"));
        check_list("peer=%zz%", Err("peer=\"%zz%\""));
    }

    #[test]
    fn orders_begin_where_people_look_first() {
        let check = |query: &str, key, descending| {
            let list = List::parse(&call(query), 1).unwrap();
            assert_eq!(list.page.sort, Sort { key, descending }, "{query}");
        };
        check("", SortKey::Lag, true);
        check("sort=user", SortKey::User, false);
        check("sort=sent", SortKey::Sent, true);
        check("order=asc&sort=sent", SortKey::Sent, false);
    }

    #[test]
    fn closing_needs_a_condition() {
        let check = |query: &str, expected: Result<Option<usize>, &str>| match (
            List::parse_filter(&call(query), 4),
            expected,
        ) {
            (Ok((shard, _)), Ok(expected)) => assert_eq!(shard, expected, "{query}"),
            (Err(error), Err(part)) => assert!(error.text().contains(part), "{}", error.text()),
            (found, expected) => panic!("{query}: {found:?} instead of {expected:?}"),
        };
        check("user=ada", Ok(None));
        check("user=ada&shard=1", Ok(Some(1)));
        check("", Err("unless a query says which"));
        check("shard=1", Err("unless a query says which"));
        check("search=", Err("unless a query says which"));
        check("limit=1&user=ada", Err("\"limit\" isn't one of shard"));
        check("user=ada&typo=1", Err("\"typo\""));
    }
}
