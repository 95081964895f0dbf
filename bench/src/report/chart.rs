//! Small plots: lines and bars on a linear or logarithmic axis. Their shapes are inline SVG, which is stretched to the width
//! of the page; their labels are HTML, which can be read on a phone, too. Colours come from the page.

use std::fmt::Write;

/// Both sides of a plot, in its own units. The page stretches it; text is beside it, and keeps its size.
const SIDE: f64 = 1_000.0;
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
        if points().next().is_none() {
            return String::new();
        }
        let (min, max) = bounds(points().map(|point| point.0));
        let max = (max + self.bars.unwrap_or(0.0)).max(min + 1e-9);
        let plot = Plot { min, max, axis: Axis::new(self.scale, points().map(|point| point.1)) };

        let rounded = || round_steps(min, max).into_iter().map(|at| (at, number(at))).collect();
        let labels: Vec<_> = if self.x_labels.is_empty() { rounded() } else { self.x_labels.clone() };
        let labels: Vec<_> = labels.into_iter().filter(|(at, _)| (min..=max).contains(at)).collect();
        let (mut svg, mut text) = plot.axes(&labels);
        for (number, line) in self.lines.iter().enumerate() {
            match self.bars {
                Some(width) if number == 0 => svg += &plot.bars(line, width),
                _ => svg += &plot.line(line, number),
            }
        }
        let _ = write!(text, r#"<span class="name">{}</span>"#, self.x);
        format!(
            r#"<figure><figcaption><b>{0}</b> <span>{1}</span> {2}</figcaption><div class="plot"><svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" aria-label="{0}">{svg}</svg>{text}</div></figure>"#,
            self.title,
            self.y,
            self.legend()
        )
    }

    fn legend(&self) -> String {
        let mut legend = String::new();
        for (number, line) in self.lines.iter().enumerate().filter(|_| self.lines.len() > 1) {
            let _ = write!(legend, r#"<span class="key"><i class="s{number}"></i>{}</span>"#, line.name);
        }
        legend
    }
}

/// Places of values in a plot.
struct Plot {
    min: f64,
    max: f64,
    axis: Axis,
}

impl Plot {
    fn across(&self, x: f64) -> f64 {
        (x - self.min) / (self.max - self.min) * SIDE
    }

    fn down(&self, y: f64) -> f64 {
        (1.0 - self.axis.place(y)) * SIDE
    }

    /// Lines of the grid as SVG, and the labels beside it as HTML. Of labels below, every second is for wide screens
    /// alone.
    fn axes(&self, below: &[(f64, String)]) -> (String, String) {
        let (mut svg, mut text) = (String::new(), String::new());
        for (at, label) in self.axis.labels() {
            let y = self.down(at);
            let _ = write!(svg, r#"<line class="grid" x1="0" x2="{SIDE}" y1="{y:.1}" y2="{y:.1}"/>"#);
            let _ = write!(text, r#"<span class="y" style="top:{:.2}%">{label}</span>"#, y / SIDE * 100.0);
        }
        for (number, (at, label)) in below.iter().enumerate() {
            let x = self.across(*at);
            let _ = write!(
                svg,
                r#"<line class="tick" x1="{x:.1}" x2="{x:.1}" y1="{SIDE}" y2="{}"/>"#,
                SIDE + 16.0
            );
            let class = if number % 2 == 0 { "x" } else { "x wide" };
            let _ =
                write!(text, r#"<span class="{class}" style="left:{:.2}%">{label}</span>"#, x / SIDE * 100.0);
        }
        (svg, text)
    }

    fn bars(&self, line: &Line, width: f64) -> String {
        let mut svg = String::new();
        for &(x, y) in &line.points {
            let (left, right, top) = (self.across(x), self.across(x + width), self.down(y));
            let _ = write!(
                svg,
                r#"<rect class="s0" x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"><title>{}: {}</title></rect>"#,
                (right - left) * 0.9,
                SIDE - top,
                number(x),
                number(y),
            );
        }
        svg
    }

    fn line(&self, line: &Line, number: usize) -> String {
        let place = |&(x, y): &(f64, f64)| format!("{:.1},{:.1}", self.across(x), self.down(y));
        let path: Vec<_> = thinned(&line.points).iter().map(place).collect();
        format!(r#"<polyline class="s{number}" points="{}"/>"#, path.join(" "))
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
