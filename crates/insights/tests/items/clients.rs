//! Items of Marketing, Product and Video.

use std::collections::{BTreeMap, BTreeSet};

use tickstream_insights::table::Value;
use tickstream_warehouse_core::sample::planted::{media, people};

use crate::near;
use crate::world::{NOW, WORLD, rows};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

#[test]
fn channels() {
    let found = rows("marketing/channels", "");
    for (channel, [persons, converted]) in &WORLD.facts.channels {
        assert_eq!(found.number(channel, "persons"), *persons as f64, "{channel}: {found:#?}");
        assert_eq!(found.number(channel, "converted"), *converted as f64, "{channel}: {found:#?}");
    }
    assert_eq!(found.sum("persons"), WORLD.facts.visits.len() as f64);
    // The question of a newcomer: the channel that converts best.
    let best = found.0.rows.iter().max_by(|a, b| a[4].number().partial_cmp(&b[4].number()).unwrap()).unwrap();
    assert_eq!(best[0].text(), "Email");
}

#[test]
fn campaigns() {
    let found = rows("marketing/campaigns", "");
    for (campaign, [sessions, converted, revenue]) in &WORLD.facts.campaigns {
        assert_eq!(found.number(campaign, "sessions"), *sessions as f64);
        assert_eq!(found.number(campaign, "converted"), *converted as f64);
        assert_eq!(found.number(campaign, "revenue"), *revenue as f64);
    }
    let [_, converted, revenue] = WORLD.facts.campaigns["autumn_sale"];
    let spent = 28.0 * 30.0;
    assert_eq!(found.number("autumn_sale", "cost"), spent);
    near(found.number("autumn_sale", "cost per converted person"), spent / converted as f64, 1e-9);
    near(found.number("autumn_sale", "revenue per cost"), revenue as f64 / spent, 1e-9);
    assert_eq!(*found.cell("digest", "cost"), Value::Null);
}

#[test]
fn funnel() {
    let found = rows("marketing/funnel", "");
    let [viewed, carted, paid] = WORLD.facts.funnel;
    let persons: Vec<_> = found.0.column("persons").filter_map(Value::number).collect();
    assert_eq!(persons, [viewed as f64, carted as f64, paid as f64]);
    assert_eq!(found.number("2. added_to_cart", "median time, s"), 120.0);
    assert_eq!(found.number("3. purchased", "median time, s"), 180.0);
}

#[test]
fn attribution() {
    let found = rows("marketing/attribution", "");
    let paid = WORLD.facts.funnel[2] + people::PAID.iter().sum::<u64>();
    for model in ["first", "last", "linear", "position", "decay", "Markov", "Shapley"] {
        near(found.sum(model), paid as f64, 1e-6);
    }
    let [_, by_search] = WORLD.facts.channels["Organic Search"];
    let [_, by_mail] = WORLD.facts.channels["Email"];
    let both = people::RETURNERS as f64;
    assert_eq!(found.number("Organic Search", "first"), by_search as f64);
    assert_eq!(found.number("Organic Search", "last"), by_search as f64 - both);
    assert_eq!(found.number("Email", "last"), by_mail as f64 + both);
    assert_eq!(found.number("Email", "linear"), by_mail as f64 + both / 2.0);
    assert_eq!(found.number("Email", "Shapley"), by_mail as f64 + both / 2.0);
}

/// Sessions of the planted visits: each is one but for those of the returners, who come again a day later.
#[test]
fn engagement() {
    let found = rows("marketing/engagement", "");
    let watched = media::VIEWS * media::VIEW_DAYS;
    let visits = WORLD.facts.funnel[0] + people::RETURNERS;
    let subscribed = people::PAID.iter().sum::<u64>();
    assert_eq!(found.sum("sessions"), (watched + visits + subscribed) as f64);
    let failed = (0..watched).filter(|number| media::fails(*number)).count() as u64;
    let interactions =
        watched * 4 + failed + visits + WORLD.facts.funnel[1] + WORLD.facts.funnel[2] + subscribed;
    assert_eq!(found.sum("interactions"), interactions as f64);
}

#[test]
fn features() {
    let found = rows("product/features", "");
    let [viewed, carted, _] = WORLD.facts.funnel;
    assert_eq!(found.number("product_viewed", "persons"), viewed as f64);
    assert_eq!(found.number("added_to_cart", "persons"), carted as f64);
    assert_eq!(found.number("product_viewed", "uses"), (viewed + people::RETURNERS) as f64);
    let share = 100.0 * viewed as f64 / WORLD.facts.visits.len() as f64;
    near(found.number("product_viewed", "of active persons, %"), share, 0.01);
}

#[test]
fn flows() {
    let found = rows("product/flows", "days=30");
    let [viewed, carted, paid] = WORLD.facts.funnel;
    let all = "product_viewed → added_to_cart → purchased → (end)";
    assert_eq!(found.number(all, "sessions"), paid as f64);
    assert_eq!(found.number("product_viewed → added_to_cart → (end)", "sessions"), (carted - paid) as f64);
    let alone = viewed + people::RETURNERS - carted;
    assert_eq!(found.number("product_viewed → (end)", "sessions"), alone as f64);
}

#[test]
fn experiments() {
    let found = rows("product/experiments", "");
    let [control, green] = people::PAID.map(|paid| paid as f64 / people::EXPOSED as f64 * 100.0);
    assert_eq!(found.number("control", "conversion, %"), control);
    near(found.number("green", "difference, points"), green - control, 1e-9);
    let (from, to) = (found.number("green", "from, points"), found.number("green", "to, points"));
    assert!(from > 0.0 && from < 5.0 && to > 5.0, "{from} to {to}");
    assert_eq!(found.cell("green", "verdict").text(), "better");
    assert_eq!(found.cell("broken_split", "verdict").text(), "sample ratio mismatch: void");
}

/// Cohorts by a count of their own over the planted visits.
#[test]
fn retention() {
    let found = rows("product/retention", "");
    let week_of = |time: u64| (time / DAY + 3) / 7;
    let mut cohorts = BTreeMap::<u64, (u64, BTreeMap<u64, u64>)>::new();
    for times in WORLD.facts.visits.values() {
        let weeks: BTreeSet<_> = times.iter().map(|time| week_of(*time)).collect();
        let first = *weeks.first().unwrap();
        let cohort = cohorts.entry(first).or_default();
        cohort.0 += 1;
        weeks.iter().skip(1).for_each(|week| *cohort.1.entry(week - first).or_default() += 1);
    }
    let now = week_of(NOW as u64);
    assert_eq!(found.0.rows.len(), cohorts.len());
    for (row, (first, (size, returned))) in found.0.rows.iter().zip(&cohorts) {
        assert_eq!(row[1], Value::Integer(*size as i64), "{found:#?}");
        for week in 1..=8 {
            let expected = (first + week < now)
                .then(|| *returned.get(&week).unwrap_or(&0) as f64 / *size as f64 * 100.0);
            assert_eq!(row[week as usize + 1].number(), expected, "week {week} of {row:?}");
        }
    }
}

#[test]
fn feedback() {
    let found = rows("product/feedback", "");
    assert_eq!(found.number("nps", "NPS, points"), people::NPS);
    assert_eq!(found.number("nps", "answers"), 100.0);
    assert_eq!(found.number("csat", "CSAT, %"), 80.0);
}

fn views() -> f64 {
    (media::VIEWS * media::VIEW_DAYS) as f64
}

fn score(startup_ms: u64) -> f64 {
    8.0 / (8.0 + startup_ms as f64 / 1_000.0) * 100.0
}

#[test]
fn playback() {
    let found = rows("video/playback", "days=30");
    assert_eq!(found.sum("views"), views());
    // Even numbers are on the web, and by the fast CDN.
    near(found.number("web", "startup score"), score(media::CDNS[0].1), 1e-6);
    near(found.number("android", "startup score"), score(media::CDNS[1].1), 1e-6);
    near(found.number("android", "rebuffering, %"), 5.0, 1e-9);
    near(found.number("android", "stalls / hour"), 3.0 / (570.0 / 3_600.0), 1e-6);
}

#[test]
fn streaming() {
    let found = rows("video/streaming", "days=30");
    assert_eq!(found.sum("views"), views());
    // Sketches have a relative error of 1 %.
    near(found.number("Film 1", "startup p95, ms"), 1_000.0, 10.0);
    near(found.number("Film 2", "startup p95, ms"), 3_000.0, 30.0);
    near(found.number("Film 1", "bitrate, kbit/s"), 4_000.0, 1e-6);
}

#[test]
fn cdns() {
    let found = rows("video/cdns", "days=30");
    for (cdn, startup, _) in media::CDNS {
        near(found.number(cdn, "startup, ms"), startup as f64, 1e-6);
        assert_eq!(found.number(cdn, "views"), views() / 2.0);
    }
    assert_eq!(found.0.rows[0][0].text(), "south", "the slow one comes first");
}

#[test]
fn players() {
    let found = rows("video/players", "days=30");
    let of_new = (media::VIEWS * media::VIEW_DAYS / 4) as f64;
    let failed = (0..media::VIEWS * media::VIEW_DAYS).filter(|number| media::fails(*number)).count() as f64;
    near(found.number("exoplayer 2.20", "failed, %"), failed / of_new * 100.0, 1e-9);
    assert_eq!(found.number("hls.js 1.5", "failed, %"), 0.0);
}

#[test]
fn drm() {
    let found = rows("video/drm", "days=30");
    let refused =
        (0..media::VIEWS * media::VIEW_DAYS).filter(|number| media::is_refused(*number)).count() as f64;
    assert_eq!(found.number("widevine", "failed"), refused);
    assert_eq!(found.number("widevine", "licences"), views() - refused);
    near(found.number("widevine", "p95, ms"), media::LICENCE as f64, 3.0);
}
