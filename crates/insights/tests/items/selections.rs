//! Events that a scan reads are those that the item's SQL gives, with each filter and in each role.

use tickstream_insights::ask::Asker;
use tickstream_insights::filters::{CLIENT, Filters, Parameters};
use tickstream_insights::journeys::{Named, Selection};
use tickstream_insights::teams::{Compute, TEAMS, weekly};
use tickstream_warehouse_core::query::Role;

use crate::world::{NOW, WORLD};

const QUERIES: [&str; 6] =
    ["", "days=2", "platform=ios", "platform=web&country=DE", "platform=none", "version=2.0.0"];

#[test]
fn a_scan_gives_what_sql_gives() {
    let mut compared = 0;
    let items = TEAMS.iter().flat_map(|team| &team.items);
    for item in items {
        let Compute::Selected(select, compute) = item.compute else { continue };
        for query in QUERIES {
            for role in [Role::local(), Role::masked()] {
                let filters = Filters::read(&Parameters::parse(query), item.days, NOW);
                let (engine, sql) = (WORLD.engine(), filters.sql(item.sql, item.filters));
                let (by_sql, by_scan) = WORLD.block_on(async {
                    let asker = Asker::new(&engine, &role);
                    (
                        asker.journeys(&sql).await.unwrap(),
                        asker.selected(vec![select(&filters)]).await.unwrap(),
                    )
                });
                let (expected, found) = (compute(&by_sql, &filters), compute(&by_scan, &filters));
                assert_eq!(found, expected, "{} {query} {role:?}", item.name);
                let persons = |all: &tickstream_insights::journeys::Journeys| {
                    let mut persons: Vec<_> =
                        all.named_persons().map(|(id, events)| (id.to_owned(), events.len())).collect();
                    persons.sort();
                    persons
                };
                assert_eq!(persons(&by_scan), persons(&by_sql), "{} {query} {role:?}", item.name);
                compared += found.rows.len();
            }
        }
    }
    assert!(compared > 20, "{compared} rows");
}

/// Answers, and lines over time, that are counted of a scan's events.
#[test]
fn what_a_scan_counts_is_what_sql_counts() {
    let mut compared = 0;
    let items = TEAMS.iter().flat_map(|team| &team.items);
    for item in items {
        let Compute::Counted { select, answer, trend } = item.compute else { continue };
        for query in QUERIES {
            for role in [Role::local(), Role::masked()] {
                let filters = Filters::read(&Parameters::parse(query), item.days, NOW);
                let line = item.trend.unwrap().sql;
                let (engine, asker_role) = (WORLD.engine(), &role);
                let (events, expected, expected_line) = WORLD.block_on(async {
                    let asker = Asker::new(&engine, asker_role);
                    (
                        asker.selected(select(&filters)).await.unwrap(),
                        asker.page(&filters.sql(item.sql, item.filters)).await.unwrap(),
                        asker.page(&filters.sql(line, item.filters)).await.unwrap(),
                    )
                });
                let (found, found_line) = (answer(&events, &filters), trend(&events, &filters));
                assert_eq!(found, expected, "{} {query} {role:?}", item.name);
                assert_eq!(found_line, expected_line, "{} {query} {role:?}", item.name);
                compared += found.rows.len() + found_line.rows.len();
            }
        }
    }
    assert!(compared > 100, "{compared} rows");
}

/// Retention of events with names, as Explore asks for it.
#[test]
fn named_days_are_those_of_sql() {
    let names = ["product_viewed", "purchased"];
    let filters = Filters::read(&Parameters::default(), 56.0, NOW);
    let sql = "SELECT user_id, anonymous_id, timestamp_ns / 86400000000000 * 86400000000000 AS day, event_name FROM client_events \
               WHERE {until} AND event_name IN ('product_viewed', 'purchased')";
    let (engine, role) = (WORLD.engine(), Role::local());
    let (by_sql, by_scan) = WORLD.block_on(async {
        let asker = Asker::new(&engine, &role);
        let by_sql = asker.journeys(&filters.sql(sql, CLIENT)).await.unwrap();
        (by_sql, asker.selected(vec![Selection::days(&filters, Named::OneOf(&names))]).await.unwrap())
    });
    let [found, expected] = [by_scan, by_sql].map(|events| weekly(&events, &filters, names.map(Some)));
    assert_eq!(found, expected);
    assert!(!found.rows.is_empty());
}
