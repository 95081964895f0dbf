//! Configurations as TOML: the effective one with its origins, and the documented defaults.

use super::{
    kind::Kind,
    settings::{SECTIONS, Section, Setting},
    values::{Origin, Value, Values},
};
use std::fmt::Write;

/// The effective configuration: each value, with its origin as a comment. A valid file; secrets are comments, so
/// that it can't be taken for one with the password `***`.
pub fn effective(values: &Values) -> String {
    let mut out = String::from("# The effective configuration. Behind each value: where it comes from.\n");
    for section in SECTIONS {
        heading(&mut out, section);
        for setting in section.settings {
            out += &effective_line(values.get(setting.key));
        }
    }
    out
}

/// The text of `config/tickstream.toml`: every setting with its help and its default.
pub fn documented_defaults() -> String {
    let mut out = String::from(
        "# tickstream's settings with their defaults. Start the server with --config PATH or STREAM_CONFIG=PATH to use\n\
         # a file like this one. Flags take precedence over environment variables, those over the file.\n\
         # Made from the table of settings in crates/server/src/config/settings.rs; a test compares the two.\n",
    );
    for section in SECTIONS {
        heading(&mut out, section);
        for setting in section.settings {
            out += &documented(setting);
        }
    }
    out
}

fn heading(out: &mut String, section: &Section) {
    writeln!(out, "\n# --- {} ---", section.title).expect("writing to a String can't fail");
}

fn effective_line(value: &Value) -> String {
    let Value { setting, text, origin } = value;
    let value_text = toml_value(setting.kind, value.shown());
    match (value.is_set(), setting.secret) {
        (true, true) => format!("# {} = {value_text} # {origin}; masked\n", setting.key),
        (true, false) => format!("{} = {value_text} # {origin}\n", setting.key),
        (false, _) => {
            let comment = if setting.default.is_some() { "" } else { "# " };
            let meaning = setting.empty.unwrap_or("none");
            let origin = if *origin == Origin::Default { "default".to_owned() } else { origin.to_string() };
            format!("{comment}{} = {} # {origin}: {meaning}\n", setting.key, toml_string(text))
        }
    }
}

fn documented(setting: &Setting) -> String {
    let comment = if setting.default.is_some() { "" } else { "# " };
    let default = toml_value(setting.kind, setting.default.unwrap_or_default());
    format!(
        "\n# {}\n# Accepts {}.\n# Flag --{}, environment {}, default: {}.\n{comment}{} = {default}\n",
        setting.help,
        setting.kind,
        setting.flag(),
        setting.env,
        setting.default_text(),
        setting.key,
    )
}

/// A number as a number, if it is one; anything else as a string, also what is wrong for its kind.
fn toml_value(kind: Kind, text: &str) -> String {
    let is_number = text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
    if is_number && matches!(kind, Kind::Integer(_)) { text.to_owned() } else { toml_string(text) }
}

/// A basic string (TOML 1.0, "String"): quotes, backslashes and control characters are escaped.
fn toml_string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                write!(out, "\\u{:04X}", u32::from(c)).expect("writing to a String can't fail");
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, Flags, settings};
    use std::{ffi::OsString, path::Path};

    /// Line of `key` in what is printed for these variables and this file.
    fn check(env: &[(&str, &str)], toml: &str, expected: &str) {
        let env = |name: &str| Some(OsString::from(env.iter().find(|(known, _)| *known == name)?.1));
        let file = File::parse(Path::new("t.toml"), toml).unwrap();
        let printed = effective(&Values::merge(&Flags::new(), &env, Some(&file)).unwrap());
        File::parse(Path::new("printed"), &printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert!(printed.lines().any(|line| line == expected), "no {expected} in\n{printed}");
    }

    #[test]
    fn each_value_has_its_origin() {
        check(&[("STREAM_SHARDS", "3")], "", "shards = 3 # environment STREAM_SHARDS");
        check(&[], "\nlisten = \"[::]:1\"", "listen = \"[::]:1\" # file t.toml, line 2");
        check(&[], "", "heartbeat_interval = \"15s\" # default");
        check(&[], "", "cpus = \"\" # default: all that the process may run on");
        check(
            &[("STREAM_CPUS", "")],
            "cpus = 1",
            "cpus = \"\" # environment STREAM_CPUS: all that the process may run on",
        );
        check(
            &[("STREAM_USER", "a\"\\\n")],
            "",
            "stream_user = \"a\\\"\\\\\\u000A\" # environment STREAM_USER",
        );
        check(&[("STREAM_SHARDS", "007")], "", "shards = \"007\" # environment STREAM_SHARDS");
    }

    #[test]
    fn secrets_are_masked() {
        check(&[("STREAM_PASS", "hunter2")], "", "# stream_pass = \"***\" # environment STREAM_PASS; masked");
        check(&[], "stream_pass = \"hunter2\"", "# stream_pass = \"***\" # file t.toml, line 1; masked");
        check(&[], "", "# stream_pass = \"\" # default: none");
    }

    /// To write the file anew: `TICKSTREAM_BLESS=1 cargo test -p tickstream-server the_documented_file`.
    #[test]
    fn the_documented_file_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/tickstream.toml");
        if std::env::var_os("TICKSTREAM_BLESS").is_some() {
            std::fs::write(path, documented_defaults()).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, documented_defaults(), "see this test's comment");
    }

    #[test]
    fn the_documented_file_equals_the_defaults_and_lists_every_key() {
        let text = documented_defaults();
        let file = File::parse(Path::new("config/tickstream.toml"), &text).unwrap();
        let from_file = Values::merge(&Flags::new(), &|_| None, Some(&file)).unwrap();
        for setting in settings::settings() {
            let value = from_file.get(setting.key);
            assert_eq!(value.text, setting.default.unwrap_or_default(), "{}", setting.key);
            assert_eq!(value.origin != Origin::Default, setting.default.is_some(), "{}", setting.key);
            for part in [format!("{} = ", setting.key), format!("--{},", setting.flag()), setting.env.into()]
            {
                assert!(text.contains(&part), "{part}");
            }
        }
    }
}
