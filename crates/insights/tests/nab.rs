//! The streaming detector on the Numenta Anomaly Benchmark, by its standard profile: published rules of Lavin and Ahmad,
//! 2015. The data isn't part of this repository: `TICKSTREAM_NAB` names its folder (with `data/` and `labels/`). A small
//! series of our own is always tested.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use serde_json::Value;
use tickstream_insights::anomaly::streaming::Detector;

/// Weight of a false alarm; a hit and a miss weigh 1.
const FALSE_ALARM: f64 = 0.11;
const SCORE_MIN: f64 = 50.0;

#[derive(Debug)]
struct Series {
    times: Vec<String>,
    values: Vec<f64>,
    /// First and last place of each labelled window.
    windows: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct Outcome {
    score: f64,
    hits: usize,
    false_alarms: usize,
}

impl Series {
    fn read(text: &str, windows: &[(String, String)]) -> Self {
        let rows = text.lines().skip(1).filter_map(|line| line.split_once(','));
        let (times, values): (Vec<_>, Vec<_>) = rows
            .map(|(time, value)| (time.to_owned(), value.trim().parse::<f64>().expect("a number")))
            .unzip();
        let place = |(begin, end): &(String, String)| {
            let (begin, end) = (&begin[..19], &end[..19]);
            let first = times.partition_point(|time: &String| time.as_str() < begin);
            (first, times.partition_point(|time| time.as_str() <= end) - 1)
        };
        let windows = windows.iter().map(place).collect();
        Self { times, values, windows }
    }

    /// NAB's probationary period: the first 15 % of at most 5,000 points.
    fn probation(&self) -> usize {
        self.values.len().min(5_000) * 15 / 100
    }

    /// From the most frequent distance of two points, in minutes.
    fn points_a_day(&self) -> usize {
        let minutes = |time: &String| -> i64 {
            let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().expect("a number");
            number(8..10) * 1_440 + number(11..13) * 60 + number(14..16)
        };
        let mut steps: Vec<_> =
            self.times.windows(2).map(|pair| minutes(&pair[1]) - minutes(&pair[0])).collect();
        steps.sort_unstable();
        let step = steps[steps.len() / 2].max(1);
        usize::try_from(1_440 / step).expect("a small number")
    }

    fn alarms(&self) -> Vec<usize> {
        let mut detector = Detector::new(self.probation() as u64, self.points_a_day());
        let alarm = |(place, value): (usize, &f64)| detector.push(*value).map(|_| place);
        self.values.iter().enumerate().filter_map(alarm).collect()
    }

    fn weeks(&self) -> f64 {
        self.values.len() as f64 / self.points_a_day() as f64 / 7.0
    }

    fn outcome(&self, alarms: &[usize]) -> Outcome {
        let mut found = Outcome::default();
        let mut is_hit = vec![false; self.windows.len()];
        for alarm in alarms.iter().filter(|alarm| **alarm >= self.probation()) {
            let inside = self.windows.iter().position(|(begin, end)| (begin..=end).contains(&alarm));
            match inside {
                Some(window) if is_hit[window] => {}
                Some(window) => {
                    is_hit[window] = true;
                    let (begin, end) = self.windows[window];
                    let position = -((end - alarm + 1) as f64) / (end - begin + 1) as f64;
                    found.score += sigmoid(position) / sigmoid(-1.0);
                    found.hits += 1;
                }
                None => {
                    found.score += FALSE_ALARM * self.after_window(*alarm);
                    found.false_alarms += 1;
                }
            }
        }
        found.score -= (self.windows.len() - found.hits) as f64;
        found
    }

    /// Shortly after a window, a false alarm weighs less.
    fn after_window(&self, alarm: usize) -> f64 {
        let before = self.windows.iter().rfind(|(_, end)| *end < alarm);
        before.map_or(-1.0, |(begin, end)| sigmoid((alarm - end) as f64 / (end - begin) as f64))
    }
}

/// NAB's scaled sigmoid of the place relative to a window: -1 is its begin, 0 its end.
fn sigmoid(place: f64) -> f64 {
    if place > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).exp()) - 1.0 }
}

/// 100: each window hit at its begin, no false alarm. 0: no alarm at all.
fn normalised(score: f64, windows: usize) -> f64 {
    100.0 * (score + windows as f64) / (2.0 * windows as f64)
}

#[test]
fn the_score_follows_the_published_rules() {
    let times = (0..1_000).map(|n| format!("2026-01-{:02} {:02}:00:00", n / 24 + 1, n % 24)).collect();
    let series = Series { times, values: vec![0.0; 1_000], windows: vec![(500, 599)] };
    let score = |alarms: &[usize]| series.outcome(alarms).score;
    let near =
        |found: f64, expected: f64| assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
    near(score(&[]), -1.0);
    near(score(&[500]), 1.0);
    near(score(&[500, 550]), 1.0);
    near(score(&[550]), 0.8598);
    near(score(&[100, 500]), 1.0);
    near(score(&[300, 500]), 0.89);
    near(score(&[500, 999]), 0.89);
    near(score(&[500, 609]), 0.9728);
    near(normalised(1.0, 1), 100.0);
    near(normalised(-1.0, 1), 0.0);
}

#[test]
fn the_own_series_has_its_anomaly_found() {
    let windows = [("2026-03-09 00:00:00".to_owned(), "2026-03-09 23:30:00".to_owned())];
    let series = Series::read(include_str!("data/daily.csv"), &windows);
    let found = series.outcome(&series.alarms());
    // Three days are little to learn from.
    assert!(found.hits == 1 && found.false_alarms <= 1, "{found:?}, alarms at {:?}", series.alarms());
}

#[test]
fn the_benchmark_s_score_is_above_the_bar() {
    let Some(folder) = std::env::var_os("TICKSTREAM_NAB") else {
        println!("not tested: TICKSTREAM_NAB, the folder of the benchmark's data, isn't set");
        return;
    };
    let folder = Path::new(&folder);
    let labels = fs::read_to_string(folder.join("labels/combined_windows.json")).expect("labels");
    let labels: Value = serde_json::from_str(&labels).expect("JSON");
    let (mut score, mut windows, mut calm_alarms, mut calm_weeks) = (0.0, 0, 0, 0.0);
    for (name, labelled) in labels.as_object().expect("series by name") {
        let text = |value: &Value| value.as_str().expect("a time").to_owned();
        let labelled: Vec<_> =
            labelled.as_array().expect("windows").iter().map(|w| (text(&w[0]), text(&w[1]))).collect();
        let series = fs::read_to_string(folder.join("data").join(name)).expect("a series");
        let series = Series::read(&series, &labelled);
        let found = series.outcome(&series.alarms());
        println!("{name}: {found:?}, windows {}", labelled.len());
        score += found.score;
        windows += labelled.len();
        if labelled.is_empty() {
            calm_alarms += found.false_alarms;
            calm_weeks += series.weeks();
        }
    }
    let score = normalised(score, windows);
    println!(
        "score {score:.1}; series without anomalies: {calm_alarms} false alarms in {calm_weeks:.1} weeks"
    );
    assert!(score > SCORE_MIN, "{score:.1}");
}
