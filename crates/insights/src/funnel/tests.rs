//! Worked examples; the rules of other products are those of their documentation, in cases of our own.

use super::*;

/// Events from "time:letters": a to d are steps 0 to 3, x is exclusion 0, z is another event.
fn events(text: &str) -> Vec<Event> {
    let event = |word: &str| {
        let (time, letters) = word.split_once(':').expect("time:letters");
        let mut event = Event { time: time.parse().expect("a time"), ..Event::default() };
        for letter in letters.bytes() {
            match letter {
                b'x' => event.exclusions |= 1,
                b'z' => {}
                _ => event.steps |= 1 << (letter - b'a'),
            }
        }
        event
    };
    text.split_whitespace().map(event).collect()
}

fn funnel(steps: usize, window: i64) -> Funnel {
    Funnel::new(steps, window).expect("a funnel")
}

#[track_caller]
fn check(funnel: &Funnel, text: &str, times: &[i64]) {
    assert_eq!(funnel.convert(&events(text)).times, times, "{text}");
}

#[track_caller]
fn check_strict(text: &str, strict: Strict, expected: usize) {
    assert_eq!(window_funnel(&events(text), 3, 10, strict), expected, "{text}");
}

#[test]
fn clickhouse_s_default_rules() {
    let abc = funnel(3, 10);
    check(&abc, "1:a 2:b 3:c", &[1, 2, 3]);
    check(&abc, "1:b 2:a 3:c", &[2]);
    check(&abc, "0:a 5:b 10:c", &[0, 5, 10]);
    check(&abc, "0:a 5:b 11:c", &[0, 5]);
    check(&abc, "0:a 1:z 2:b 3:z 4:c", &[0, 2, 4]);
    // A later first step begins again.
    check(&abc, "0:a 11:a 12:b 13:c", &[11, 12, 13]);
    // At the same instant, steps count in the funnel's order; one event may do two.
    check(&abc, "5:c 5:b 5:a", &[5, 5, 5]);
    check(&abc, "5:ab 6:c", &[5, 5, 6]);
    check(&abc, "", &[]);
}

#[test]
fn clickhouse_s_strict_modes() {
    let default = Strict::default();
    let order = Strict { order: true, ..default };
    let deduplication = Strict { deduplication: true, ..default };
    let increase = Strict { increase: true, ..default };
    check_strict("1:a 2:b 3:z 4:c", default, 3);
    check_strict("1:a 2:b 3:z 4:c", order, 2);
    check_strict("1:a 2:c 3:b", order, 1);
    check_strict("1:a 2:b 3:b 4:c", default, 3);
    check_strict("1:a 2:b 3:b 4:c", deduplication, 2);
    check_strict("1:a 1:b 2:c", default, 3);
    check_strict("1:a 1:b 2:c", increase, 1);
}

#[test]
fn strict_ties_use_the_earlier_first_step() {
    let abc = funnel(3, 10).rules(Ties::Strict, WindowFrom::Latest, Order::Ordered).expect("rules");
    check(&abc, "1:a 1:b 2:c", &[1]);
    check(&abc, "1:a 2:a 2:b 3:c", &[1, 2, 3]);
    assert_eq!(
        window_funnel(&events("1:a 2:a 2:b 3:c"), 3, 10, Strict { increase: true, ..Strict::default() }),
        1
    );
}

/// Mixpanel: the window begins with the user's first time of the first step.
#[test]
fn mixpanel_s_window_begins_with_the_first_step() {
    let first = funnel(2, 10).rules(Ties::ByStep, WindowFrom::First, Order::Ordered).expect("rules");
    check(&first, "0:a 20:a 25:b", &[0]);
    check(&funnel(2, 10), "0:a 20:a 25:b", &[20, 25]);
}

/// Amplitude: "any order" counts steps done in the window whichever comes first.
#[test]
fn amplitude_s_any_order() {
    let any = funnel(3, 10).rules(Ties::ByStep, WindowFrom::Latest, Order::Unordered).expect("rules");
    check(&any, "1:c 2:a 3:b", &[1, 2, 3]);
    check(&any, "1:c 12:a 13:b", &[12, 13]);
    check(&any, "1:c 1:z", &[1]);
}

/// Amplitude: holding a step constant needs a repetition; a step can ask for several events.
#[test]
fn a_step_that_must_come_several_times() {
    let twice = funnel(2, 10).times(0, 2).expect("times");
    check(&twice, "1:a 2:b", &[]);
    check(&twice, "1:a 2:a 3:b", &[1, 3]);
    check(&twice, "1:a 1:a 1:b", &[1, 1]);
    let last = funnel(2, 10).times(1, 3).expect("times");
    check(&last, "1:a 2:b 3:b 4:b", &[1, 4]);
    check(&last, "1:a 2:b 3:b 12:b", &[1]);
}

/// PostHog: who does an excluded event between two steps doesn't convert by that attempt.
#[test]
fn posthog_s_exclusions() {
    let clean = funnel(3, 100).exclusions(&[Exclusion { after: 0, before: 1 }]).expect("exclusions");
    let found = clean.convert(&events("1:a 2:x 3:b 4:c"));
    assert_eq!((found.times, found.is_excluded), (vec![1], true));
    // Before the first step, and after the second, it doesn't matter.
    check(&clean, "0:x 1:a 2:b 3:x 4:c", &[1, 2, 4]);
    // Another attempt may succeed.
    let found = clean.convert(&events("1:a 2:x 3:a 4:b 5:c"));
    assert_eq!((found.level(), found.is_excluded), (3, false));
    let long = funnel(3, 100).exclusions(&[Exclusion { after: 0, before: 2 }]).expect("exclusions");
    check(&long, "1:a 2:b 3:x 4:c", &[1, 2]);
}

#[test]
fn senders_with_coarse_clocks_convert() {
    let either =
        funnel(3, 10).rules(Ties::EitherWithin(1), WindowFrom::Latest, Order::Ordered).expect("rules");
    check(&either, "5:b 6:a 7:c", &[6, 5, 7]);
    check(&either, "4:b 6:a 7:c", &[6]);
    // One event serves one step.
    check(&either, "5:ab 6:c", &[5]);
    let clean = either.exclusions(&[Exclusion { after: 0, before: 2 }]).expect("exclusions");
    assert!(clean.convert(&events("1:a 2:b 3:x 5:c")).is_excluded);
}

#[test]
fn unions_are_bits_of_several_conditions() {
    // "a or z" as the first step: its condition sets the same bit for both events.
    check(&funnel(2, 10), "1:a 2:b", &[1, 2]);
    let union =
        [Event { time: 1, steps: 0b01, exclusions: 0 }, Event { time: 2, steps: 0b10, exclusions: 0 }];
    assert_eq!(funnel(2, 10).convert(&union).level(), 2);
}

#[test]
fn reports_count_by_value() {
    let abc = funnel(3, 10);
    let mut report = Report::default();
    report.add("web", &abc.convert(&events("0:a 4:b 5:c")));
    report.add("web", &abc.convert(&events("0:a 2:b")));
    report.add("web", &abc.convert(&events("0:a")));
    report.add("ios", &abc.convert(&events("0:b")));
    let found: Vec<_> = report.by_value().collect();
    let (ios, web) = (found[0].1, found[1].1);
    assert_eq!((0..4).map(|step| web.reached(step)).collect::<Vec<_>>(), [3, 2, 1, 0]);
    assert_eq!(
        (web.share(2), web.median_time(1), web.median_time(2)),
        (Some(1.0 / 3.0), Some(3.0), Some(1.0))
    );
    assert_eq!((ios.share(1), web.excluded()), (None, 0));
}

#[test]
fn impossible_rules_are_refused() {
    assert_eq!(Funnel::new(0, 1).err(), Some(FunnelError::Steps(0)));
    assert_eq!(Funnel::new(33, 1).err(), Some(FunnelError::Steps(33)));
    assert_eq!(Funnel::new(2, -1).err(), Some(FunnelError::Window));
    assert_eq!(funnel(2, 1).times(0, 0).err(), Some(FunnelError::Times(0)));
    let backwards = [Exclusion { after: 1, before: 1 }];
    assert_eq!(funnel(2, 1).exclusions(&backwards).err(), Some(FunnelError::Exclusion(0)));
    let rules = funnel(2, 1).rules(Ties::Strict, WindowFrom::Latest, Order::Unordered);
    assert_eq!(rules.err(), Some(FunnelError::Unordered));
}
