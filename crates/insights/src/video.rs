//! Quality of video views.

use crate::statistics::mean;

/// One view, summed up. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct View {
    /// From the request to the first picture; none: it never came.
    pub startup: Option<f64>,
    /// In which pictures moved.
    pub watched: f64,
    /// Standing still to fill the buffer, after the start.
    pub stalled: f64,
    /// Number of standstills.
    pub stalls: u64,
    /// A fatal error ended it.
    pub has_failed: bool,
}

/// Figures of many views; each is none where nothing was there to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Number of views.
    pub views: u64,
    /// Mean startup score, 0 to 100.
    pub startup_score: Option<f64>,
    /// Time stalled by time stalled or watched.
    pub rebuffering: Option<f64>,
    /// Standstills an hour watched.
    pub stalls_an_hour: Option<f64>,
    /// Views that failed before their start, by all.
    pub startup_failures: Option<f64>,
    /// Views left before their start without an error, by all.
    pub exits_before_start: Option<f64>,
}

/// Mux's startup score of a startup time: 100 at once, 50 after 8 seconds.
pub fn startup_score(startup_ms: f64) -> f64 {
    8.0 / (8.0 + startup_ms.max(0.0) / 1_000.0) * 100.0
}

/// Figures of these views.
pub fn quality(views: &[View]) -> Quality {
    let scores: Vec<_> = views.iter().filter_map(|view| view.startup).map(startup_score).collect();
    let (watched, stalled): (f64, f64) =
        (views.iter().map(|view| view.watched).sum(), views.iter().map(|view| view.stalled).sum());
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let count = |is_one: fn(&&View) -> bool| views.iter().filter(is_one).count() as f64;
    let stalls: u64 = views.iter().map(|view| view.stalls).sum();
    Quality {
        views: views.len() as u64,
        startup_score: mean(&scores),
        rebuffering: share(stalled, watched + stalled),
        stalls_an_hour: share(stalls as f64, watched / 3_600_000.0),
        startup_failures: share(count(|view| view.startup.is_none() && view.has_failed), views.len() as f64),
        exits_before_start: share(
            count(|view| view.startup.is_none() && !view.has_failed),
            views.len() as f64,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn startup_scores() {
        assert_eq!([0.0, 2_000.0, 8_000.0, 72_000.0].map(startup_score), [100.0, 80.0, 50.0, 10.0]);
    }

    #[test]
    fn figures_of_three_views() {
        let good =
            View { startup: Some(2_000.0), watched: 3_000_000.0, stalled: 0.0, stalls: 0, has_failed: false };
        let slow = View { startup: Some(8_000.0), watched: 600_000.0, stalled: 400_000.0, stalls: 3, ..good };
        let failed = View { has_failed: true, ..View::default() };
        let left = View::default();
        let found = quality(&[good, slow, failed, left]);
        assert_eq!((found.startup_score, found.rebuffering), (Some(65.0), Some(0.1)));
        assert_eq!((found.stalls_an_hour, found.startup_failures), (Some(3.0), Some(0.25)));
        assert_eq!(found.exits_before_start, Some(0.25));
        assert_eq!(quality(&[]), Quality::default());
    }
}
