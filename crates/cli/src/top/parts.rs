//! Bars, lines and the heat map, of block characters.

/// In eighths of a character's height. Not the full one: lines below each other stay apart.
const HEIGHTS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
/// In eighths of its width.
const WIDTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
/// From few to many.
const SHADES: [char; 4] = ['░', '▒', '▓', '█'];
/// Rows of the heat map to a decade.
const ROWS_PER_DECADE: f64 = 2.0;

/// A bar of so many characters, filled from 0 to 1. What isn't 0 is seen.
pub fn bar(part: f64, width: usize) -> String {
    let eighths = (part.clamp(0.0, 1.0) * 8.0 * width as f64).round() as usize;
    let eighths = if part > 0.0 { eighths.max(1) } else { 0 };
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(WIDTHS[eighths % 8]);
    }
    bar
}

/// A line from 0 to its highest value or to `least`, whatever is more; a character for each value.
pub fn line(values: &[Option<f64>], least: f64) -> String {
    let highest = values.iter().flatten().fold(least, |highest, value| highest.max(*value));
    let height = |value: f64| HEIGHTS[((value / highest * 7.0).ceil() as usize).clamp(1, 7) - 1];
    values.iter().map(|value| value.map_or(' ', height)).collect()
}

/// Frames by latency, a column for each moment and two rows for each decade of latency. The highest comes first; each
/// has its lower bound in milliseconds where a decade begins.
pub fn heat(moments: &[Vec<u64>], bounds_ms: &[f64]) -> Vec<(Option<f64>, String)> {
    let Some((lowest, highest)) = bounds_ms.first().zip(bounds_ms.last()) else { return Vec::new() };
    // Rounded up: a bound belongs to the row below it. What is above the highest has a row of its own.
    let row = |bound: f64| {
        ((ROWS_PER_DECADE * (bound / lowest).log10()).round_to_thousandths().ceil() as usize)
            .saturating_sub(1)
    };
    let rows = row(*highest) + 2;
    let folded: Vec<Vec<u64>> = moments
        .iter()
        .map(|frames| {
            let mut folded = vec![0; rows];
            for (at, frames) in frames.iter().enumerate() {
                folded[bounds_ms.get(at).map_or(rows - 1, |bound| row(*bound))] += frames;
            }
            folded
        })
        .collect();
    let most = folded.iter().flatten().copied().max().unwrap_or(0) as f64;
    let shade = |frames: u64| match frames {
        0 => ' ',
        frames => SHADES[((frames as f64 / most).powf(0.4) * 4.0).ceil() as usize - 1],
    };
    let lower = |row: usize| {
        let decades = row as f64 / ROWS_PER_DECADE;
        (decades.fract() == 0.0).then(|| lowest * 10_f64.powf(decades))
    };
    (0..rows)
        .rev()
        .map(|row| (lower(row), folded.iter().map(|moment| shade(moment[row])).collect()))
        .collect()
}

trait Round {
    /// So that a bound that is a power of ten but for the last bit doesn't end up a row too high.
    fn round_to_thousandths(self) -> Self;
}

impl Round for f64 {
    fn round_to_thousandths(self) -> Self {
        (self * 1e3).round() / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_filled_by_eighths() {
        for (part, expected) in
            [(0.0, ""), (0.001, "▏"), (0.5, "██"), (0.53, "██▏"), (1.0, "████"), (7.0, "████")]
        {
            assert_eq!(bar(part, 4), expected, "{part}");
        }
    }

    #[test]
    fn lines_reach_from_nothing_to_the_highest() {
        assert_eq!(line(&[None, Some(0.0), Some(4.0), Some(8.0)], 1.0), " ▁▄▇");
        assert_eq!(line(&[Some(0.0), Some(0.25)], 1.0), "▁▂");
        assert_eq!(line(&[], 1.0), "");
    }

    #[test]
    fn the_heat_map_has_two_rows_a_decade_and_one_above() {
        // Up to 10 µs, 20 µs, 40 µs, 100 µs, and above.
        let bounds = [0.01, 0.02, 0.04, 0.1];
        let found =
            heat(&[vec![1, 0, 0, 0, 0], vec![0, 100, 100, 0, 0], vec![], vec![0, 0, 0, 0, 1]], &bounds);
        let rows: Vec<_> = found.iter().map(|(lower, row)| (*lower, row.as_str())).collect();
        assert_eq!(rows, [(Some(0.1), "   ░"), (None, " █  "), (Some(0.01), "░█  ")]);
        assert_eq!(heat(&[], &[]), []);
    }
}
