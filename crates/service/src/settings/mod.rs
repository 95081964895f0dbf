//! Settings: flags over environment over a TOML file over defaults, from one table.
//!
//! A program lists its settings once, with the macro [`settings!`](crate::settings!): key, type, range, default, help.
//! From that come the flags, the environment variables, the keys of the file, `--help`, `--print-config`, the documented
//! file, and a struct with one typed field for each setting.
//!
//! - [`Setting`], [`Section`], [`Table`]: the table;
//! - [`kind`]: constructors of settings; `accepted`, `range` and `parse`: accepted values, and reading them;
//! - `values`: which of the sources wins; `file`, [`flags`] and `source` are where they come from;
//! - [`kept`]: files that settings name, also those that can be read only once;
//! - `print`: the effective configuration, and the documented defaults, as TOML.

mod accepted;
mod error;
mod file;
pub mod flags;
pub mod kept;
pub mod kind;
mod list;
mod origin;
mod parse;
mod print;
mod range;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod value_error;
mod values;

pub use accepted::Kind;
pub use error::{ConfigError, WrongValue};
pub use file::File;
pub use kept::read_bounded;
pub use origin::Origin;
pub use parse::{address, duration, integer, log_filter, size};
pub use print::{documented_defaults, effective};
pub use range::{DurationRange, IntegerRange, SizeRange, show_duration};
pub use source::Source;
pub use table::{About, AnySetting, Section, Setting, Table, VARIABLE_PREFIX};
pub use value::Value;
pub use value_error::{AddressError, ValueError};
pub use values::{Environment, Flags, Values};
