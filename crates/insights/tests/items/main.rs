//! The planted month: each of the 35 items shows what was planted, exactly where it is a count. Derived tables equal a rebuild.

mod attacks;
mod business;
mod clients;
mod definitions;
mod derived;
mod faults;
mod machines;
mod pages;
mod rules;
mod selections;
mod world;

/// Fails unless a figure is within `tolerance` of what was planted.
#[track_caller]
fn near(found: f64, planted: f64, tolerance: f64) {
    assert!((found - planted).abs() <= tolerance, "{found}, but {planted} was planted");
}
