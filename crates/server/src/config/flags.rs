//! The table of settings as clap's arguments, and what was given of them.

use super::{
    settings::{CLIENT_TLS, SECTIONS, Section, Setting},
    values::Flags,
};
use clap::{Arg, ArgMatches, builder::OsStringValueParser, parser::ValueSource};
use std::ffi::OsString;

/// A flag for each setting, under its section's heading.
pub fn args() -> impl Iterator<Item = Arg> {
    SECTIONS.iter().flat_map(|section| section.settings.iter().map(|setting| arg(section, setting)))
}

/// Flags of a client: credentials and TLS.
pub fn client_args() -> impl Iterator<Item = Arg> {
    let args = |section: &'static Section| section.settings.iter().map(move |setting| arg(section, setting));
    args(&SECTIONS[0]).chain(args(&CLIENT_TLS))
}

/// What was given as flags. Variables are left out, though clap knows them for its help: they are looked up
/// where they can be told from flags, and replaced in tests.
pub fn given(matches: &ArgMatches, settings: impl Iterator<Item = &'static Setting>) -> Flags {
    settings.filter_map(|setting| Some((setting.key, given_text(matches, setting.key)?))).collect()
}

/// The text of one argument, if it was given as a flag. Its parser must be [`OsStringValueParser`].
pub fn given_text(matches: &ArgMatches, id: &str) -> Option<OsString> {
    let is_flag = matches.value_source(id) == Some(ValueSource::CommandLine);
    matches.get_one::<OsString>(id).filter(|_| is_flag).cloned()
}

fn arg(section: &Section, setting: &Setting) -> Arg {
    let help = format!("{} Accepts {}. [default: {}]", setting.help, setting.kind, setting.default_text());
    Arg::new(setting.key)
        .long(setting.flag())
        .env(setting.env)
        .hide_env_values(setting.secret)
        .value_name(setting.value_name)
        // Any text: the settings' own parsers read it, as they do from every other source.
        .value_parser(OsStringValueParser::new())
        .help_heading(section.title)
        .help(help)
}
