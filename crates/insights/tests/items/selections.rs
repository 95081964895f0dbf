//! Events that a scan reads are those that the item's SQL gives, with each filter and in each role.

use tickstream_insights::ask::Asker;
use tickstream_insights::filters::{Filters, Parameters};
use tickstream_insights::teams::{Compute, TEAMS};
use tickstream_warehouse_core::query::Role;

use crate::world::{NOW, WORLD};

#[test]
fn a_scan_gives_what_sql_gives() {
    let mut compared = 0;
    let items = TEAMS.iter().flat_map(|team| &team.items);
    for item in items {
        let Compute::Selected(select, compute) = item.compute else { continue };
        for query in
            ["", "days=2", "platform=ios", "platform=web&country=DE", "platform=none", "version=2.0.0"]
        {
            for role in [Role::local(), Role::masked()] {
                let filters = Filters::read(&Parameters::parse(query), item.days, NOW);
                let (engine, sql) = (WORLD.engine(), filters.sql(item.sql, item.filters));
                let (by_sql, by_scan) = WORLD.block_on(async {
                    let asker = Asker::new(&engine, &role);
                    (asker.journeys(&sql).await.unwrap(), asker.selected(select(&filters)).await.unwrap())
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
