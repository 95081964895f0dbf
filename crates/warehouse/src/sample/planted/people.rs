//! Visitors: channels, campaigns, a funnel, an experiment, cohorts, feedback, consent.

use serde_json::{Value, json};

use super::plant::{DAYS, Plant};
use crate::sample::common::{DAY, SECOND, merge};

/// Persons of the experiment `checkout_button` by variant.
pub const EXPOSED: u64 = 1_000;
/// Persons who paid, of the control and of the variant `green`.
pub const PAID: [u64; 2] = [100, 150];
/// Persons of the experiment `broken_split`, whose shares should be equal.
pub const BROKEN: [u64; 2] = [300, 200];
/// Persons who came first by search, and paid after a newsletter a day later.
pub const RETURNERS: u64 = 40;
/// Answers of the survey by score, and its NPS.
pub const NPS_ANSWERS: [(u64, u64); 3] = [(10, 60), (8, 20), (3, 20)];
/// 60 % promoters, 20 % detractors.
pub const NPS: f64 = 40.0;
/// Answers to "how satisfied were you" by score of 5.
pub const CSAT_ANSWERS: [(u64, u64); 2] = [(5, 40), (2, 10)];
/// Persons who decided, and those who allowed analytics and marketing.
pub const CONSENTS: [u64; 3] = [100, 70, 40];

/// A channel: name, visitors, one buyer in so many, page and campaign.
type Channel = (&'static str, u64, u64, fn() -> Value);

const CHANNELS: [Channel; 4] = [
    (
        "Organic Search",
        240,
        10,
        || json!({"page": {"url": "https://shop.example.org/", "referrer": "https://www.google.com/"}}),
    ),
    ("Paid Search", 180, 5, || {
        json!({"page": {"url": "https://shop.example.org/", "referrer": "https://www.google.com/"},
        "campaign": {"source": "google", "medium": "cpc", "name": "autumn_sale"}})
    }),
    ("Email", 120, 3, newsletter),
    ("Direct", 60, 10, direct),
];

fn newsletter() -> Value {
    json!({"page": {"url": "https://shop.example.org/"}, "campaign": {"source": "newsletter", "medium": "email", "name": "digest"}})
}

fn direct() -> Value {
    json!({"page": {"url": "https://shop.example.org/"}})
}

/// One visit of a person.
struct Visit<'a> {
    person: &'a str,
    anonymous: &'a str,
    session: String,
    at: u64,
    origin: Value,
}

/// Adds them.
pub fn plant(plant: &mut Plant) {
    let mut number = 0;
    for (channel, visitors, one_in, origin) in CHANNELS {
        for visitor in 0..visitors {
            number += 1;
            let buys = visitor % one_in == 0;
            visitor_of(plant, number, channel, buys, buys || visitor % 2 == 0, origin());
        }
    }
    for _ in 0..RETURNERS {
        number += 1;
        returner(plant, number, CHANNELS[0].3());
    }
    experiment(plant);
    answers(plant);
}

fn visitor_of(plant: &mut Plant, number: u64, channel: &'static str, buys: bool, carts: bool, origin: Value) {
    let (person, anonymous) = (format!("buyer-{number}"), format!("anonymous-{number}"));
    let at = plant.days_ago(1 + number % (DAYS - 1), 60 * (number % 600));
    let campaign = match channel {
        "Paid Search" => Some("autumn_sale"),
        "Email" => Some("digest"),
        _ => None,
    };
    let visit =
        Visit { person: &person, anonymous: &anonymous, session: format!("visit-{number}"), at, origin };
    let amount = if buys { 20 + number % 5 * 10 } else { 0 };
    // Without a cart the person stays anonymous.
    let name = if carts { &person } else { &anonymous };
    plant.visited(name, at);
    visit.events(plant, number, carts, amount);
    let found = plant.facts.channels.entry(channel).or_default();
    (found[0], found[1]) = (found[0] + 1, found[1] + u64::from(buys));
    if let Some(campaign) = campaign {
        count(plant, campaign, u64::from(buys), amount);
    }
    if number <= BROKEN[0] + BROKEN[1] {
        let variant = if number <= BROKEN[0] { "a" } else { "b" };
        exposure(
            plant,
            at + SECOND,
            &visit.session,
            json!({"anonymous_id": anonymous}),
            "broken_split",
            variant,
        );
    }
}

fn count(plant: &mut Plant, campaign: &'static str, converted: u64, revenue: u64) {
    let found = plant.facts.campaigns.entry(campaign).or_default();
    *found = [found[0] + 1, found[1] + converted, found[2] + revenue];
}

/// A person who looks by search, and pays a day later by the newsletter.
fn returner(plant: &mut Plant, number: u64, search: Value) {
    let (person, anonymous) = (format!("buyer-{number}"), format!("anonymous-{number}"));
    let at = plant.days_ago(5 + number % 20, 60 * (number % 600));
    let first = Visit {
        person: &person,
        anonymous: &anonymous,
        session: format!("visit-{number}"),
        at,
        origin: search,
    };
    first.events(plant, number, false, 0);
    let again =
        Visit { session: format!("visit-{number}-again"), at: at + DAY, origin: newsletter(), ..first };
    again.events(plant, number, true, 30);
    plant.visited(&person, at);
    plant.visited(&person, at + DAY);
    // The funnel has the person once.
    plant.facts.funnel[0] -= 1;
    let found = plant.facts.channels.entry("Organic Search").or_default();
    (found[0], found[1]) = (found[0] + 1, found[1] + 1);
    count(plant, "digest", 1, 30);
}

impl Visit<'_> {
    /// A view of a product; with a cart, sign-in and cart; with an amount, the payment and the requests behind it.
    fn events(&self, plant: &mut Plant, number: u64, carts: bool, amount: u64) {
        let platform = ["web", "ios", "android"][(number % 3) as usize];
        let base = |user: bool| {
            let mut base = self.origin.clone();
            let names = json!({"session_id": self.session, "anonymous_id": self.anonymous,
                "app": {"name": "shop", "version": if number.is_multiple_of(4) { "4.2.0" } else { "4.1.0" }}});
            merge(&mut base, names);
            if user {
                merge(&mut base, json!({"user_id": self.person}));
            }
            base
        };
        let click =
            |screen: &str, action: &str| json!({"properties": {"screen_name": screen, "action": action}});
        plant.push(
            self.at,
            platform,
            "user_interaction",
            "product_viewed",
            click("product", "view"),
            base(false),
        );
        plant.facts.funnel[0] += 1;
        if !carts {
            return;
        }
        plant.push(self.at + 60 * SECOND, platform, "identify", "signed_in", json!({}), base(true));
        plant.push(
            self.at + 120 * SECOND,
            platform,
            "user_interaction",
            "added_to_cart",
            click("cart", "add"),
            base(true),
        );
        plant.facts.funnel[1] += 1;
        if amount == 0 {
            return;
        }
        let paid = self.at + 300 * SECOND;
        let trace = format!("{:032x}", u128::from(number) + (7 << 64));
        let mut payment = base(true);
        merge(
            &mut payment,
            json!({"revenue": {"amount": amount, "currency": "EUR", "order_id": format!("o-{number}")},
            "context": {"trace_id": trace}}),
        );
        plant.push(paid, platform, "user_interaction", "purchased", click("checkout", "pay"), payment);
        plant.facts.funnel[2] += 1;
        super::services::order(plant, paid, &trace, &base(true));
    }
}

fn exposure(plant: &mut Plant, at: u64, session: &str, mut person: Value, experiment: &str, variant: &str) {
    merge(&mut person, json!({"session_id": session}));
    let body = json!({"experiment": experiment, "variant": variant, "reason": "random"});
    plant.push(at, "web", "exposure", "exposed", body, person);
}

fn experiment(plant: &mut Plant) {
    for (variant, paid) in ["control", "green"].into_iter().zip(PAID) {
        for number in 0..EXPOSED {
            let person = format!("tester-{variant}-{number}");
            let session = format!("test-{variant}-{number}");
            let at = plant.days_ago(1 + number % (DAYS - 1), 40_000 + number);
            let mut base = direct();
            merge(&mut base, json!({"user_id": person}));
            exposure(plant, at, &session, base.clone(), "checkout_button", variant);
            plant.visited(&person, at);
            let pays = number < paid;
            if pays {
                merge(
                    &mut base,
                    json!({"session_id": session, "revenue": {"amount": 10, "currency": "EUR"}}),
                );
                let click = json!({"properties": {"screen_name": "checkout", "action": "pay"}});
                plant.push(at + 60 * SECOND, "web", "user_interaction", "subscribed", click, base);
            }
            let found = plant.facts.channels.entry("Direct").or_default();
            (found[0], found[1]) = (found[0] + 1, found[1] + u64::from(pays));
        }
    }
}

fn answers(plant: &mut Plant) {
    let mut number = 0;
    let mut push = |kind: &str, score: u64, score_max: u64| {
        number += 1;
        let at = plant.days_ago(1 + number % 28, 3_600);
        let body = json!({"survey_id": format!("{kind}-autumn"), "type": kind, "score": score, "score_max": score_max,
            "text": if score > 5 { "Fast and clear." } else { "The payment failed twice." }});
        let person =
            json!({"user_id": format!("answering-{number}"), "session_id": format!("answer-{number}")});
        plant.push(at, "web", "feedback", "survey_answered", body, person);
        plant.visited(&format!("answering-{number}"), at);
    };
    for (score, answers) in NPS_ANSWERS {
        (0..answers).for_each(|_| push("nps", score, 10));
    }
    for (score, answers) in CSAT_ANSWERS {
        (0..answers).for_each(|_| push("csat", score, 5));
    }
    for person in 0..CONSENTS[0] {
        let at = plant.days_ago(2 + person % 27, 7_200);
        let purposes = json!([{"name": "analytics", "is_granted": person < CONSENTS[1]}, {"name": "marketing", "is_granted": person < CONSENTS[2]}]);
        let body = json!({"purposes": purposes, "policy_version": "2026-09", "jurisdiction": "GDPR", "method": "banner"});
        plant.push(
            at,
            "web",
            "consent",
            "consent_given",
            body,
            json!({"user_id": format!("deciding-{person}")}),
        );
    }
}
