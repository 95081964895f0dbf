//! Exit codes, as `--help` documents them.

/// All went well.
pub const OK: u8 = 0;
/// Something failed while running.
pub const FAILURE: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// The server refused the client, for good.
pub const REFUSED: u8 = 3;
/// The journal of events can't be opened.
pub const JOURNAL: u8 = 4;
/// The server refused the client for the moment.
pub const TRY_LATER: u8 = 5;
