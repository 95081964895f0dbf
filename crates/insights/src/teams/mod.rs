//! Questions of seven teams: one table of items, each with its SQL, its definition and its drawing.
//!
//! A new item is a row of a team's table, one more in the length of `Team::items`, and one more in the test below.

mod cost;
mod engineering;
mod item;
mod marketing;
mod operations;
mod product;
mod security;
mod video;

pub use item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend};
pub use marketing::funnel_of;
pub use product::{
    FIRST_EVENTS, FLOWS_SQL, PATHS, RETAINED, RETAINED_BEHIND, SESSIONS_BEHIND, Way, flows, sessions_on,
    weekly,
};

/// All teams, in the order of the menu.
pub static TEAMS: [Team; 7] = [
    marketing::TEAM,
    product::TEAM,
    engineering::TEAM,
    video::TEAM,
    operations::TEAM,
    security::TEAM,
    cost::TEAM,
];

/// A team by its name.
pub fn team(name: &str) -> Option<&'static Team> {
    TEAMS.iter().find(|team| team.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{Filters, Parameters};

    #[test]
    fn names_are_different_and_each_mark_is_known() {
        let filters = Filters::read(&Parameters::default(), 1.0, 1);
        let mut names = std::collections::BTreeSet::new();
        for team in &TEAMS {
            for item in &team.items {
                assert!(names.insert((team.name, item.name)), "{}/{}", team.name, item.name);
                let trend = item.trend.map_or("", |trend| trend.sql);
                let sql = filters.sql(&format!("{} {trend}", item.sql), item.filters);
                assert!(!sql.contains('{'), "{}: {sql}", item.name);
                assert!(!item.kinds.is_empty() && !item.empty.is_empty(), "{}", item.name);
            }
        }
        assert_eq!(names.len(), 35);
    }
}
