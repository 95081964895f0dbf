//! Flows between events: bands whose widths are numbers of sessions, as a Sankey diagram has them.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::number::number;
use super::points::Points;
use crate::paths::THEN;
use crate::table::Table;

const COLUMN: f64 = 158.0;
const NODE: f64 = 10.0;
/// Height of the drawing: for each event of the fullest place, within bounds.
const HEIGHT: f64 = 320.0;
const HEIGHT_OF_NODE: f64 = 90.0;
/// Between two events of a place: their names must not overlap, however thin they are.
const GAP: f64 = 13.0;

/// An event at a place of paths.
#[derive(Default)]
struct Node {
    sessions: f64,
    top: f64,
    /// Places at which the next band leaves and arrives.
    out: f64,
    into: f64,
}

type Key<'a> = (usize, &'a str);

/// Bands of a table of paths. Rows without a path, such as the rest, aren't drawn.
pub fn flows(table: &Table, paths: &str, values: &str, points: Option<&Points>) -> Markup {
    let mut nodes = BTreeMap::<Key<'_>, Node>::new();
    let mut bands = BTreeMap::<(Key<'_>, Key<'_>), f64>::new();
    for (path, value) in table.column(paths).zip(table.column(values)) {
        let (events, sessions): (Vec<_>, _) =
            (path.text().split(THEN).collect(), value.number().unwrap_or(0.0));
        if events.len() < 2 {
            continue;
        }
        for (place, event) in events.iter().enumerate() {
            nodes.entry((place, event)).or_default().sessions += sessions;
            if let Some(next) = events.get(place + 1) {
                *bands.entry(((place, event), (place + 1, next))).or_default() += sessions;
            }
        }
    }
    let Some(columns) = nodes.keys().map(|(place, _)| place + 1).max() else { return html! {} };
    let height = height(&nodes, columns);
    let scale = layout(&mut nodes, columns, height);
    let width = columns as f64 * COLUMN;
    let drawn: Vec<_> = bands
        .iter()
        .filter_map(|((from, to), sessions)| {
            let thickness = sessions * scale;
            let start = nodes.get_mut(from).map(|node| step(&mut node.out, thickness))?;
            let end = nodes.get_mut(to).map(|node| step(&mut node.into, thickness))?;
            let (x, far) = (from.0 as f64 * COLUMN + NODE, to.0 as f64 * COLUMN);
            let bend = f64::midpoint(x, far);
            let (start, end) = (start + thickness / 2.0, end + thickness / 2.0);
            let path =
                format!("M{x:.1} {start:.1}C{bend:.1} {start:.1} {bend:.1} {end:.1} {far:.1} {end:.1}");
            let title = format!("{}{THEN}{}: {}", from.1, to.1, number(*sessions));
            Some((path, thickness.max(1.0), title, behind(points, &[*from, *to])))
        })
        .collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Flows" {
            svg.flows width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) aria-hidden="true" {
                @for (path, thickness, title, address) in &drawn {
                    a href=[address.as_ref()] tabindex="-1" {
                        path.band d=(path) stroke-width=(format!("{thickness:.1}")) { title { (title) } }
                    }
                }
                @for ((place, event), node) in &nodes {
                    @let x = *place as f64 * COLUMN;
                    a href=[behind(points, &[(*place, *event)])] tabindex="-1" {
                        rect.node x=(x) y=(format!("{:.1}", node.top)) width=(NODE) height=(format!("{:.1}", (node.sessions * scale).max(1.0))) {
                            title { (event) ": " (number(node.sessions)) }
                        }
                        text x=(x + NODE + 4.0) y=(format!("{:.1}", node.top + (node.sessions * scale / 2.0).max(5.0) + 4.0)) {
                            (shortened(event)) " " (number(node.sessions))
                        }
                    }
                }
            }
        }
    }
}

/// Address of the events behind a band or an event: the table below has the same for the keyboard.
fn behind(points: Option<&Points>, keys: &[Key<'_>]) -> Option<String> {
    let steps: Vec<_> = keys.iter().map(|(place, event)| (format!("step {}", place + 1), *event)).collect();
    let steps: Vec<_> = steps.iter().map(|(step, event)| (step.as_str(), *event)).collect();
    points.map(|points| points.of(&steps))
}

fn height(nodes: &BTreeMap<Key<'_>, Node>, columns: usize) -> f64 {
    let count = |place: usize| nodes.keys().filter(|(at, _)| *at == place).count();
    let most = (0..columns).map(count).max().unwrap_or(1);
    (most as f64 * HEIGHT_OF_NODE).min(HEIGHT.max((most + 2) as f64 * GAP * 1.5))
}

/// Places nodes, the largest at the top; height of one session.
fn layout(nodes: &mut BTreeMap<Key<'_>, Node>, columns: usize, height: f64) -> f64 {
    let scale_of = |place: usize| {
        let column: Vec<_> =
            nodes.iter().filter(|((at, _), _)| *at == place).map(|(_, node)| node.sessions).collect();
        let room = (height - GAP * column.len() as f64 - 14.0).max(20.0);
        room / column.iter().sum::<f64>().max(1.0)
    };
    let scale = (0..columns).map(scale_of).fold(f64::INFINITY, f64::min);
    for place in 0..columns {
        let mut column: Vec<_> =
            nodes.iter_mut().filter(|((at, _), _)| *at == place).map(|(_, node)| node).collect();
        column.sort_by(|a, b| b.sessions.total_cmp(&a.sessions));
        let mut top = 2.0;
        for node in column {
            (node.top, node.out, node.into) = (top, top, top);
            top += (node.sessions * scale).max(1.0) + GAP;
        }
    }
    scale
}

/// The place before a step.
fn step(place: &mut f64, by: f64) -> f64 {
    let before = *place;
    *place += by;
    before
}

fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 20;
    if text.chars().count() <= CHARACTERS {
        return text.to_owned();
    }
    text.chars().take(CHARACTERS - 1).chain(['…']).collect()
}
