//! Funnels, retention and sequences over the events of one user, with the meaning that ClickHouse gives them.

/// Most steps of a funnel, conditions of a retention or events of a pattern.
pub const CONDITIONS_MAX: usize = 32;

/// Time of an event, in the unit of the window, and the step that it takes, from 1; 0: none of the steps.
pub type Step = (u64, u8);

/// Restrictions of a funnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// `strict_deduplication`: a step that comes again before the next one ends the chain.
    pub strict_deduplication: bool,
    /// `strict_order`: an event of another step in between ends the chain.
    pub strict_order: bool,
    /// `strict_increase`: each step must be later than the one before.
    pub strict_increase: bool,
}

/// Most steps of a funnel that were taken in order within `window` of the first: ClickHouse's `windowFunnel`.
///
/// `taken` must be sorted: by time, and at the same time by step. An event that takes several steps comes once for each.
/// Events that take none matter only to [`Modes::strict_order`]. A later first step starts again.
pub fn window_funnel(taken: &[Step], steps: usize, window: u64, modes: Modes) -> usize {
    let steps = steps.min(CONDITIONS_MAX);
    let mut chains: [Option<Chain>; CONDITIONS_MAX] = [None; CONDITIONS_MAX];
    let reached = |chains: &[Option<Chain>]| chains.iter().take_while(|chain| chain.is_some()).count();
    for &(time, step) in taken {
        let step = match usize::from(step) {
            0 if modes.strict_order && chains[0].is_some() => break,
            0 => continue,
            1 => {
                chains[0] = Some(Chain { start: time, last: time });
                continue;
            }
            step if step > steps => continue,
            step => step - 1,
        };
        if modes.strict_deduplication && chains[step].is_some() {
            break;
        }
        let Some(before) = chains[step - 1] else {
            if modes.strict_order && chains[0].is_some() {
                break;
            }
            continue;
        };
        let is_in_time = time <= before.start.saturating_add(window);
        let is_later = !modes.strict_increase || time > before.last;
        if is_in_time && is_later {
            chains[step] = Some(Chain { start: before.start, last: time });
            if step + 1 == steps {
                return steps;
            }
        }
    }
    reached(&chains[..steps])
}

#[derive(Clone, Copy)]
struct Chain {
    start: u64,
    last: u64,
}

/// Conditions that hold together with the first: ClickHouse's `retention`. `seen` are all conditions that any event of
/// the user met.
pub fn retention(seen: u32, conditions: usize) -> Vec<u8> {
    let first = seen & 1;
    (0..conditions).map(|condition| (first & seen >> condition & 1) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &[(u64, &[u8])], steps: usize, window: u64, modes: Modes, expected: usize) {
        let mut taken = Vec::new();
        for &(time, of_event) in list {
            taken.extend(of_event.iter().map(|step| (time, *step)));
            if of_event.is_empty() {
                taken.push((time, 0));
            }
        }
        taken.sort_unstable();
        assert_eq!(
            window_funnel(&taken, steps, window, modes),
            expected,
            "{list:?}, {steps}, {window}, {modes:?}"
        );
    }

    const PLAIN: Modes = Modes { strict_deduplication: false, strict_order: false, strict_increase: false };

    #[test]
    fn steps_count_in_order_and_within_the_window() {
        check(&[(1, &[1]), (2, &[2]), (3, &[3])], 3, 10, PLAIN, 3);
        check(&[(1, &[1]), (2, &[3]), (3, &[2])], 3, 10, PLAIN, 2);
        check(&[(1, &[2]), (2, &[3])], 3, 10, PLAIN, 0);
        // The bound is inclusive.
        check(&[(0, &[1]), (10, &[2])], 2, 10, PLAIN, 2);
        check(&[(0, &[1]), (11, &[2])], 2, 10, PLAIN, 1);
        check(&[], 2, 10, PLAIN, 0);
    }

    #[test]
    fn a_later_first_step_starts_again() {
        check(&[(0, &[1]), (8, &[1]), (15, &[2])], 2, 10, PLAIN, 2);
        // The second step keeps the start of its own first step.
        check(&[(0, &[1]), (1, &[2]), (5, &[1]), (12, &[3])], 3, 10, PLAIN, 2);
    }

    #[test]
    fn at_the_same_time_the_order_is_that_of_the_steps() {
        check(&[(5, &[2]), (5, &[1])], 2, 10, PLAIN, 2);
        check(&[(5, &[1, 2, 3])], 3, 10, PLAIN, 3);
        let increase = Modes { strict_increase: true, ..PLAIN };
        check(&[(5, &[1]), (5, &[2]), (6, &[2])], 2, 10, increase, 2);
        check(&[(5, &[1]), (5, &[2])], 2, 10, increase, 1);
    }

    #[test]
    fn strict_modes_end_the_chain() {
        let order = Modes { strict_order: true, ..PLAIN };
        // The manual's example: A, B, D, C with the chain A, B, C ends at 2.
        check(&[(1, &[1]), (2, &[2]), (3, &[]), (4, &[3])], 3, 10, order, 2);
        check(&[(1, &[1]), (2, &[2]), (3, &[]), (4, &[3])], 3, 10, PLAIN, 3);
        let once = Modes { strict_deduplication: true, ..PLAIN };
        // The manual's example: A, B, C, B, D with the chain A, B, C, D ends at the repeated B.
        check(&[(1, &[1]), (2, &[2]), (3, &[3]), (4, &[2]), (5, &[4])], 4, 10, once, 3);
        // What was reached counts, whichever step came last: ClickHouse 26.
        check(&[(0, &[1]), (3, &[2]), (5, &[1]), (8, &[2])], 3, 5, once, 2);
    }

    #[test]
    fn retention_needs_the_first_condition() {
        assert_eq!(retention(0b101, 3), [1, 0, 1]);
        assert_eq!(retention(0b110, 3), [0, 0, 0]);
    }
}
