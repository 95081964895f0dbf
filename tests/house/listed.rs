//! Exceptions, each with its reason.

/// Modules that import each other: the root file of their crate, and their names.
pub const CIRCLES: &[(&str, &str)] = &[
    (
        "crates/client/src/lib.rs client config driver link publish session",
        "to be cut with the client's split",
    ),
    ("crates/client/src/lib.rs error tls", "the crate's error holds that of TLS, which tells of the crate's"),
    (
        "crates/engine/src/lib.rs action auth batch config ingest schedule",
        "configuration, and the modules that it configures, name each other's types",
    ),
    ("crates/engine/src/lib.rs ingest::config ingest::plan", "privacy rules are checked by planning them"),
    (
        "crates/journal/src/lib.rs flush segment",
        "a segment's last bytes are read as groups, which segments hold",
    ),
    (
        "crates/server/src/lib.rs admin keeper otlp reload serve shard steering",
        "the runtime, before it is cut",
    ),
    ("crates/server/src/lib.rs cli::args cli::publish", "one command line in two files"),
    (
        "crates/server/src/lib.rs config::admin config::credentials config::error config::file config::kind \
         config::parse config::settings config::values",
        "the table of settings names its parsers, which name its settings in errors",
    ),
    (
        "crates/server/src/lib.rs events::feed events::filter",
        "a filter looks at batches of the feed that applies it",
    ),
    ("crates/wire/src/lib.rs frame messages", "a frame seals messages, which name their type of frame"),
    ("tests/sim/src/lib.rs client model scenario", "a scenario draws clients, which use its credentials"),
    ("tests/sim/src/lib.rs model::conn model::input model::publishing", "one model in several files"),
];

/// Files of more than 500 lines.
pub const FILES: &[(&str, &str)] = &[
    ("crates/client/src/publish/pipeline/tests.rs", "tests of one state machine, with their world"),
    ("crates/client/tests/session/publish.rs", "scripted conversations, one after the other"),
    ("crates/engine/src/ingest/tests.rs", "one test for each rule"),
    ("crates/engine/src/shard/tests.rs", "one test for each rule"),
    ("crates/engine/src/streams.rs", "a third of it is tests"),
    ("crates/server/src/admin/families.rs", "a table of metrics"),
    ("crates/server/src/admin/report.rs", "a list of plain structures for JSON"),
    ("crates/server/src/config/convert.rs", "half of it is tests"),
    ("crates/server/src/config/settings.rs", "a table of settings"),
    ("crates/server/src/doctor/tests.rs", "one test for each check"),
    ("crates/server/src/serve.rs", "a third of it is tests"),
    ("crates/server/src/shard/transport.rs", "one state machine"),
    ("crates/server/src/top/screen.rs", "a third of it is tests"),
    ("tests/sim/src/model/mod.rs", "one model of the protocol"),
    ("tests/sim/src/world.rs", "one world"),
];

/// Functions of more than 70 lines: their file and name.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("bench/src/modes/publish/outcome.rs new", "one structure with a line for each of its fields"),
    ("bench/src/summary/mod.rs new", "one structure with a line for each of its fields"),
    ("crates/engine/src/ingest/tests.rs each_kind_s_rules_hold", "a table"),
    ("crates/engine/src/ingest/tests/samples.rs bodies", "a table"),
    ("crates/server/src/cli/publish.rs command", "a list of options with their help"),
    ("crates/server/src/top/screen.rs figures", "a list of figures"),
    ("tests/fuzz/src/session.rs session", "one loop over the input's commands"),
    ("tests/golden.rs check_valid", "one match over all types of frames"),
    ("tests/sim/src/client.rs turn", "one match over all kinds of clients"),
    ("tests/sim/src/scenario.rs of", "one structure with a line for each of its fields"),
];
