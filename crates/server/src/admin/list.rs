//! The query of `/connections`.

use tickstream_engine::{Mode, Standing};
use tickstream_service::admin::{Call, Refusal};

use crate::shard::Filter;

/// Connections of a page, unless it says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Connections of a page at most.
const LIMIT_MAX: usize = 1_000;
/// Depth of pages. To find one connection, filter.
const OFFSET_MAX: usize = 10_000;

/// The connections that `/connections` is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct List {
    /// Of this shard alone.
    pub shard: Option<usize>,
    /// Of these alone.
    pub filter: Filter,
    /// The first, counted from the slowest.
    pub offset: usize,
    /// At most so many.
    pub limit: usize,
}

impl List {
    /// Reads the query of a call.
    ///
    /// # Errors
    /// A refusal that names the key.
    pub fn parse(call: &Call, shards: usize) -> Result<Self, Refusal> {
        let mut list = Self { shard: None, filter: Filter::default(), offset: 0, limit: LIMIT_DEFAULT };
        for (key, value) in call.pairs() {
            let bad = |accepted: String| Refusal::bad_request(format!("{key}={value:?} isn't {accepted}"));
            let number = |max: usize| {
                value
                    .parse()
                    .ok()
                    .filter(|&number| number <= max)
                    .ok_or_else(|| bad(format!("a number up to {max}")))
            };
            match key {
                "offset" => list.offset = number(OFFSET_MAX)?,
                "limit" => list.limit = number(LIMIT_MAX)?,
                "shard" => list.shard = Some(number(shards - 1)?),
                "peer" => {
                    let peer = value.parse().map_err(|_| bad("an IP address".to_owned()))?;
                    list.filter.peer = Some(peer);
                }
                "mode" => {
                    let mode = Mode::from_str_name(&value.to_ascii_uppercase());
                    list.filter.mode = Some(mode.ok_or_else(|| bad("SECOND or MINUTE".to_owned()))?);
                }
                "state" => {
                    let standing = Standing::ALL.into_iter().find(|standing| standing.as_str() == value);
                    let names = Standing::ALL.map(Standing::as_str).join(", ");
                    list.filter.standing = Some(standing.ok_or_else(|| bad(format!("one of {names}")))?);
                }
                _ => {
                    let known = "offset, limit, shard, peer, mode, state";
                    return Err(Refusal::bad_request(format!("{key:?} isn't one of {known}")));
                }
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_list(query: &str, expected: Result<(usize, usize, Option<usize>, Filter), &str>) {
        let call = Call { captures: vec![], query: query.to_owned() };
        match (List::parse(&call, 4), expected) {
            (Ok(list), Ok(expected)) => {
                assert_eq!((list.offset, list.limit, list.shard, list.filter), expected, "{query}");
            }
            (Err(error), Err(part)) => assert!(error.text().contains(part), "{}", error.text()),
            (found, expected) => panic!("{query}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn lists_are_asked_for_by_query() {
        let filter = Filter::default();
        check_list("", Ok((0, 100, None, filter)));
        check_list("offset=10000&limit=1000&shard=3", Ok((10_000, 1_000, Some(3), filter)));
        let peer = Filter { peer: Some("::1".parse().unwrap()), ..filter };
        check_list("peer=::1", Ok((0, 100, None, peer)));
        check_list("peer=%3A%3a1", Ok((0, 100, None, peer)));
        let rest = Filter { mode: Some(Mode::Minute), standing: Some(Standing::Closing), ..filter };
        check_list("mode=minute&state=closing&", Ok((0, 100, None, rest)));
        check_list("limit=1001", Err("limit=\"1001\" isn't a number up to 1000"));
        check_list("offset=10001", Err("up to 10000"));
        check_list("shard=4", Err("shard=\"4\" isn't a number up to 3"));
        check_list("offset=-1", Err("offset=\"-1\""));
        check_list("peer=example.org", Err("isn't an IP address"));
        check_list("state=odd", Err("unauthenticated, authenticated, closing"));
        check_list("sort=age", Err("\"sort\" isn't one of offset"));
        check_list("peer=%zz%", Err("peer=\"%zz%\""));
    }
}
