//! The table of settings as clap's arguments, and what was given of them.

use super::{AnySetting, Section, Table, values::Flags};
use clap::{Arg, ArgMatches, builder::OsStringValueParser, parser::ValueSource};
use std::ffi::{OsStr, OsString};

/// A flag for each setting, under its section's heading.
pub fn args(table: &Table) -> impl Iterator<Item = Arg> + use<> {
    table.sections().flat_map(|section| section.settings.iter().map(|setting| arg(section, *setting)))
}

/// The flags that were given. Variables are left out, though clap knows them for its help: they are looked up
/// where they can be told from flags, and replaced in tests.
pub fn given(matches: &ArgMatches, table: &Table) -> Flags {
    let keys = table.settings().map(|setting| setting.about().key);
    keys.filter_map(|key| Some((key, given_text(matches, key)?))).collect()
}

/// The text of one argument, if it was given as a flag; several values have commas between them. Its parser must be
/// [`OsStringValueParser`].
pub fn given_text(matches: &ArgMatches, id: &str) -> Option<OsString> {
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return None;
    }
    let values: Vec<_> = matches.get_many::<OsString>(id)?.map(OsString::as_os_str).collect();
    Some(values.join(OsStr::new(",")))
}

fn arg(section: &Section, setting: &dyn AnySetting) -> Arg {
    let about = setting.about();
    let help = format!("{} Accepts {}. [default: {}]", about.help, setting.accepts(), about.default_text());
    Arg::new(about.key)
        .long(about.flag())
        .env(about.variable())
        .hide_env_values(about.secret)
        .value_name(about.value_name)
        // Any text: the settings' own parsers read it, as they do from every other source.
        .value_parser(OsStringValueParser::new())
        .help_heading(section.title)
        .help(help)
}
