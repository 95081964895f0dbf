//! Persons from ids: an anonymous id belongs to the first user that it was linked to, an alias renames a user. Two known
//! users are never merged. The result depends on the links alone, not on the order in which they arrived.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// One identify or alias event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Of the event; earlier links win.
    pub time: i64,
    /// The anonymous id, or the user's id before.
    pub from: String,
    /// The user.
    pub to: String,
    /// `from` was a user's id: an alias.
    pub is_alias: bool,
}

/// The person behind each id.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// The user that an anonymous id belongs to, or a user's newer id.
    linked: HashMap<String, String, RandomState>,
    refused: Vec<Link>,
}

impl Identities {
    /// Identities from all links, in any order.
    pub fn new(mut links: Vec<Link>) -> Self {
        links.sort_unstable();
        links.dedup();
        let mut identities = Self::default();
        // Ids that name users, by identify or as the new name of one.
        let mut users = HashSet::<String, RandomState>::default();
        for link in links {
            let would_merge = users.contains(&link.from) && (!link.is_alias || users.contains(&link.to));
            users.insert(link.to.clone());
            if link.is_alias {
                users.insert(link.from.clone());
            }
            let owner = identities.person(&link.from);
            let target = identities.person(&link.to);
            if owner == target {
                continue;
            }
            if would_merge || owner != link.from || target == link.from {
                identities.refused.push(link);
            } else {
                identities.linked.insert(link.from, link.to);
            }
        }
        identities
    }

    /// The person's id: the newest name of the user, or the id itself where it is linked to nobody.
    pub fn person<'a>(&'a self, id: &'a str) -> &'a str {
        let mut person = id;
        // Links lead to ids without one, or further; they have no circle.
        while let Some(next) = self.linked.get(person) {
            person = next;
        }
        person
    }

    /// Each id that belongs to another, with the person.
    pub fn linked(&self) -> impl Iterator<Item = (&str, &str)> {
        self.linked.keys().map(|id| (id.as_str(), self.person(id)))
    }

    /// Links that would have merged two known users, or moved an id to another user.
    pub fn refused(&self) -> &[Link] {
        &self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Links from "from>to" (identify) and "from=to" (alias), one each second.
    fn identities(text: &str, is_reversed: bool) -> Identities {
        let link = |(time, word): (usize, &str)| {
            let is_alias = word.contains('=');
            let (from, to) = word.split_once(['>', '=']).expect("a link");
            Link { time: time as i64, from: from.to_owned(), to: to.to_owned(), is_alias }
        };
        let mut links: Vec<_> = text.split_whitespace().enumerate().map(link).collect();
        if is_reversed {
            links.reverse();
        }
        Identities::new(links)
    }

    #[track_caller]
    fn check(text: &str, persons: &[(&str, &str)], refused: usize) {
        for is_reversed in [false, true] {
            let found = identities(text, is_reversed);
            for (id, person) in persons {
                assert_eq!(found.person(id), *person, "{id} of {text}");
            }
            assert_eq!(found.refused().len(), refused, "{text}");
        }
    }

    #[test]
    fn devices_belong_to_their_user() {
        check(
            "phone>anna tv>anna",
            &[("phone", "anna"), ("tv", "anna"), ("anna", "anna"), ("web", "web")],
            0,
        );
    }

    #[test]
    fn a_shared_device_stays_with_its_first_user() {
        check("tv>anna tv>bert tv>anna", &[("tv", "anna"), ("bert", "bert")], 1);
    }

    #[test]
    fn an_alias_renames_and_keeps_devices() {
        check("phone>anna anna=anna2 tv>anna2", &[("phone", "anna2"), ("anna", "anna2"), ("tv", "anna2")], 0);
        check("phone>anna anna=a2 a2=a3", &[("phone", "a3")], 0);
    }

    #[test]
    fn known_users_are_never_merged() {
        check("phone>anna tv>bert anna=bert", &[("phone", "anna"), ("tv", "bert")], 1);
        check("tv>anna tv>bert anna=bert", &[("tv", "anna"), ("bert", "bert")], 2);
        check("phone>anna tv>bert anna>bert", &[("phone", "anna"), ("tv", "bert")], 1);
    }

    #[test]
    fn circles_are_refused() {
        check("a=b b=a", &[("a", "b"), ("b", "b")], 0);
        check("a=b b=c c=a", &[("a", "c"), ("b", "c")], 0);
        check("a>a", &[("a", "a")], 0);
    }
}
