//! The same operations by the clock: `cargo bench --package tickstream-load --bench wall`.
//!
//! For orders of magnitude, and for what instructions don't show, such as cache misses. It drifts with the machine
//! and what else runs there; what must not get worse unnoticed is held by `scripts/micro`.

mod cases;

use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

#[divan::bench(args = cases::all())]
fn operations(bencher: Bencher<'_, '_>, case: &cases::Case) {
    let mut operation = (case.prepare)();
    bencher.counter(ItemsCount::new(case.items)).bench_local(&mut operation);
}
