//! Exceptions, each with its reason.

/// Modules that import each other: the root file of their crate, and their names.
pub const CIRCLES: &[(&str, &str)] = &[];

/// Files of more than 500 lines.
pub const FILES: &[(&str, &str)] = &[
    ("crates/cli/src/doctor/tests.rs", "one test for each check"),
    ("crates/cli/src/top/screen.rs", "a quarter of it is tests"),
    ("crates/client/src/publish/pipeline/tests.rs", "tests of one state machine, with their world"),
    ("crates/client/tests/session/publish.rs", "scripted conversations, one after the other"),
    ("crates/engine/src/shard/tests.rs", "one test for each rule"),
    ("crates/engine/src/streams.rs", "one structure with its transitions"),
    ("crates/schema/src/tests.rs", "one test for each rule"),
    ("crates/schema/src/validate.rs", "one pass over an event's bytes"),
    ("crates/server/src/admin/families.rs", "a table of metrics"),
    ("crates/server/src/admin/report.rs", "a list of plain structures for JSON"),
    ("crates/server/src/serve.rs", "the life of the process, from the first shard to the last"),
    ("tests/commands/events.rs", "one test for each command"),
    ("tests/commands/publish.rs", "one test for each option"),
    ("tests/sim/src/model/mod.rs", "one model of the protocol"),
    ("tests/sim/src/world.rs", "one world"),
];

/// Functions of more than 70 lines: their file and name.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("bench/src/modes/publish/outcome.rs new", "one structure with a line for each of its fields"),
    ("bench/src/summary/mod.rs new", "one structure with a line for each of its fields"),
    ("crates/cli/src/cli/publish.rs command", "a list of options with their help"),
    ("crates/cli/src/top/screen.rs figures", "a list of figures"),
    ("crates/schema/src/rejection.rs message", "a sentence for each rejection"),
    ("crates/schema/src/tests.rs each_kind_s_rules_hold", "a table"),
    ("crates/schema/src/validate.rs bytes_field", "one match over all kinds of fields"),
    ("tests/admin/metrics.rs what_happens_is_counted", "a table"),
    ("tests/events/samples.rs bodies", "a table"),
    ("tests/fuzz/src/session.rs session", "one loop over the input's commands"),
    ("tests/golden.rs check_valid", "one match over all types of frames"),
    ("tests/sim/src/client.rs turn", "one match over all kinds of clients"),
    ("tests/sim/src/scenario.rs of", "one structure with a line for each of its fields"),
];
