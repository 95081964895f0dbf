//! Small plots as inline SVG: lines and bars on a linear or logarithmic axis. Colours come from the page.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 36.0;
/// Points of a line; more can't be seen.
const POINTS_MAX: usize = 720;
/// Steps that an axis is divided into, about.
const STEPS: f64 = 5.0;

/// Scale of the vertical axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// In whole decades.
    Log,
}

/// One line.
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// A plot.
pub struct Chart {
    pub title: &'static str,
    /// Names of the axes, with units.
    pub x: &'static str,
    pub y: &'static str,
    pub scale: Scale,
    pub lines: Vec<Line>,
    /// Draws the first line as bars of this width instead.
    pub bars: Option<f64>,
    /// Labels of the horizontal axis; empty: at round numbers.
    pub x_labels: Vec<(f64, String)>,
}

impl Chart {
    /// A figure with title, legend and plot; empty without points.
    pub fn render(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (x_min, x_max) = bounds(points().map(|point| point.0));
        if points().next().is_none() {
            return String::new();
        }
        let x_max = (x_max + self.bars.unwrap_or(0.0)).max(x_min + 1e-9);
        let axis = Axis::new(self.scale, points().map(|point| point.1));
        let across = |x: f64| LEFT + (x - x_min) / (x_max - x_min) * (WIDTH - LEFT - RIGHT);
        let up = |y: f64| HEIGHT - BOTTOM - axis.place(y) * (HEIGHT - TOP - BOTTOM);

        let mut svg = String::new();
        for (at, label) in axis.labels() {
            let y = up(at);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/>"#,
                WIDTH - RIGHT
            );
            let _ = write!(
                svg,
                r#"<text x="{}" y="{:.1}" text-anchor="end">{label}</text>"#,
                LEFT - 6.0,
                y + 4.0
            );
        }
        let rounded = || round_steps(x_min, x_max).into_iter().map(|at| (at, number(at))).collect();
        let labels: Vec<_> = if self.x_labels.is_empty() { rounded() } else { self.x_labels.clone() };
        for (at, label) in labels.iter().filter(|(at, _)| (x_min..=x_max).contains(at)) {
            let (x, y) = (across(*at), HEIGHT - BOTTOM);
            let _ = write!(svg, r#"<line class="tick" x1="{x:.1}" x2="{x:.1}" y1="{y}" y2="{}"/>"#, y + 4.0);
            let _ = write!(svg, r#"<text x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"#, y + 16.0);
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let _ =
            write!(svg, r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, HEIGHT - 4.0, self.x);

        for (number, line) in self.lines.iter().enumerate() {
            if let (Some(width), 0) = (self.bars, number) {
                let base = HEIGHT - BOTTOM;
                for &(x, y) in &line.points {
                    let (left, right, top) = (across(x), across(x + width), up(y));
                    let _ = write!(
                        svg,
                        r#"<rect class="s0" x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"><title>{}: {}</title></rect>"#,
                        (right - left - 0.5).max(0.5),
                        base - top,
                        self::number(x),
                        self::number(y),
                    );
                }
                continue;
            }
            let place = |&(x, y): &(f64, f64)| format!("{:.1},{:.1}", across(x), up(y));
            let path: Vec<_> = thinned(&line.points).iter().map(place).collect();
            let _ = write!(svg, r#"<polyline class="s{number}" points="{}"/>"#, path.join(" "));
        }
        let mut legend = String::new();
        if self.lines.len() > 1 {
            for (number, line) in self.lines.iter().enumerate() {
                let _ = write!(legend, r#"<span class="key"><i class="s{number}"></i>{}</span>"#, line.name);
            }
        }
        format!(
            r#"<figure><figcaption><b>{}</b> <span>{}</span> {legend}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">{svg}</svg></figure>"#,
            self.title, self.y, self.title
        )
    }
}

/// The vertical axis.
struct Axis {
    scale: Scale,
    min: f64,
    max: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        match scale {
            Scale::Linear => {
                let (_, max) = bounds(values);
                let step = round_step(max.max(1e-9));
                Self { scale, min: 0.0, max: (max / step).ceil().max(1.0) * step }
            }
            Scale::Log => {
                let (min, max) = bounds(values.filter(|&value| value > 0.0));
                let min = 10_f64.powf(min.max(1e-9).log10().floor());
                let max = 10_f64.powf(max.max(1e-9).log10().ceil());
                Self { scale, min, max: max.max(min * 10.0) }
            }
        }
    }

    /// 0 at the bottom, 1 at the top.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => value / self.max,
            Scale::Log => (value.max(self.min) / self.min).log10() / (self.max / self.min).log10(),
        };
        place.clamp(0.0, 1.0)
    }

    fn labels(&self) -> Vec<(f64, String)> {
        let at = match self.scale {
            Scale::Linear => round_steps(self.min, self.max),
            Scale::Log => {
                let decades = (self.max / self.min).log10().round() as i32;
                (0..=decades).map(|decade| self.min * 10_f64.powi(decade)).collect()
            }
        };
        at.into_iter().map(|at| (at, number(at))).collect()
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let (min, max) = values.fold(none, |(min, max), value| (min.min(value), max.max(value)));
    if min > max { (0.0, 1.0) } else { (min, max) }
}

/// 1, 2 or 5 times a power of ten, so that about `STEPS` of it make `range`.
fn round_step(range: f64) -> f64 {
    let rough = range / STEPS;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

fn round_steps(min: f64, max: f64) -> Vec<f64> {
    let step = round_step(max - min);
    let first = (min / step).ceil() as i64;
    let last = (max / step + 1e-6).floor() as i64;
    (first..=last).map(|n| n as f64 * step).collect()
}

/// At most `POINTS_MAX` points; each is the highest of those that it stands for, so that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |chunk: &[(f64, f64)]| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(each).filter_map(highest).collect()
}

/// Short, with k and M.
fn number(value: f64) -> String {
    let (value, unit) = match value.abs() {
        large if large >= 1e6 => (value / 1e6, " M"),
        large if large >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = format!("{value:.3}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_labelled_at_round_numbers() {
        let check = |min, max, expected: &[f64]| assert_eq!(round_steps(min, max), expected);
        check(0.0, 100.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        check(3.0, 11.0, &[4.0, 6.0, 8.0, 10.0]);
        let log = Axis::new(Scale::Log, [0.3, 40.0].into_iter());
        assert_eq!((log.min, log.max), (0.1, 100.0));
        assert_eq!(log.labels().len(), 4);
        assert_eq!(["0.001", "12 k", "2.5 M", "9999"], [0.001, 12e3, 2.5e6, 9999.0].map(number)[..]);
    }

    #[test]
    fn peaks_survive_thinning() {
        let mut points: Vec<_> = (0..100_000).map(|n| (f64::from(n), 1.0)).collect();
        points[54_321].1 = 9.0;
        let thinned = thinned(&points);
        assert!(thinned.len() <= POINTS_MAX && thinned.iter().any(|point| point.1 == 9.0));
    }

    #[test]
    fn nothing_gives_no_figure_and_one_point_no_division_by_zero() {
        let chart = |points| Chart {
            title: "t",
            x: "x",
            y: "y",
            scale: Scale::Linear,
            lines: vec![Line { name: "n", points }],
            bars: None,
            x_labels: Vec::new(),
        };
        assert_eq!(chart(vec![]).render(), "");
        let one = chart(vec![(5.0, 0.0)]).render();
        assert!(one.contains("<polyline") && !one.contains("NaN") && !one.contains("inf"));
    }
}
