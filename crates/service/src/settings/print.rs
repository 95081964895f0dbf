//! Configurations as TOML: the effective one with its origins, and the documented defaults.

use super::{AnySetting, Section, Table, origin::Origin, value::Value, values::Values};
use std::fmt::Write;

/// The effective configuration: each value, with its origin as a comment. A valid file; secrets are comments, so
/// that it can't be taken for one with the password `***`.
pub fn effective(values: &Values) -> String {
    let mut out = String::from("# The effective configuration. Behind each value: where it comes from.\n");
    for section in values.table().sections() {
        heading(&mut out, section);
        for setting in section.settings {
            out += &effective_line(&values.get(*setting));
        }
    }
    out
}

/// The text of a documented file: every setting with its help and its default, behind `introduction`.
pub fn documented_defaults(table: &Table, introduction: &str) -> String {
    let mut out = introduction.to_owned();
    for section in table.sections() {
        heading(&mut out, section);
        for setting in section.settings {
            out += &documented(*setting);
        }
    }
    out
}

fn heading(out: &mut String, section: &Section) {
    writeln!(out, "\n# --- {} ---", section.title).expect("writing to a String can't fail");
}

fn effective_line(value: &Value) -> String {
    let Value { setting, text, origin } = value;
    let (about, value_text) = (setting.about(), toml_value(*setting, value.shown()));
    match (value.is_set(), about.secret) {
        (true, true) => format!("# {} = {value_text} # {origin}; masked\n", about.key),
        (true, false) => format!("{} = {value_text} # {origin}\n", about.key),
        (false, _) => {
            let comment = if about.default.is_some() { "" } else { "# " };
            let meaning = about.empty.unwrap_or("none");
            let origin = if *origin == Origin::Default { "default".to_owned() } else { origin.to_string() };
            format!("{comment}{} = {} # {origin}: {meaning}\n", about.key, toml_string(text))
        }
    }
}

fn documented(setting: &dyn AnySetting) -> String {
    let about = setting.about();
    let comment = if about.default.is_some() { "" } else { "# " };
    let default = toml_value(setting, about.default.unwrap_or_default());
    format!(
        "\n# {}\n# Accepts {}.\n# Flag --{}, environment {}, default: {}.\n{comment}{} = {default}\n",
        about.help,
        setting.accepts(),
        about.flag(),
        about.variable(),
        about.default_text(),
        about.key,
    )
}

/// A number as a number, if it is one; anything else as a string, also what is wrong for its kind.
fn toml_value(setting: &dyn AnySetting, text: &str) -> String {
    let is_number = text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
    if is_number && setting.is_number() { text.to_owned() } else { toml_string(text) }
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
    use crate::settings::tests::{TABLE, setting};
    use crate::settings::{File, Flags};
    use std::{ffi::OsString, path::Path};

    /// Line of `key` in what is printed for these variables and this file.
    fn check(env: &[(&str, &str)], toml: &str, expected: &str) {
        let env = |name: &str| Some(OsString::from(env.iter().find(|(known, _)| *known == name)?.1));
        let file = File::parse(&TABLE, Path::new("t.toml"), toml).unwrap();
        let printed = effective(&Values::merge(&TABLE, &Flags::new(), &env, Some(&file)).unwrap());
        File::parse(&TABLE, Path::new("printed"), &printed)
            .unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert!(printed.lines().any(|line| line == expected), "no {expected} in\n{printed}");
    }

    #[test]
    fn each_value_has_its_origin() {
        check(&[("TICKSTREAM_SHARDS", "3")], "", "shards = 3 # environment TICKSTREAM_SHARDS");
        check(&[], "\nlisten = \"[::]:1\"", "listen = \"[::]:1\" # file t.toml, line 2");
        check(&[], "", "heartbeat_interval = \"15s\" # default");
        check(&[], "", "cpus = \"\" # default: all that the process may run on");
        check(
            &[("TICKSTREAM_CPUS", "")],
            "cpus = 1",
            "cpus = \"\" # environment TICKSTREAM_CPUS: all that the process may run on",
        );
        check(
            &[("STREAM_USER", "a\"\\\n")],
            "",
            "stream_user = \"a\\\"\\\\\\u000A\" # environment STREAM_USER",
        );
        check(&[("TICKSTREAM_SHARDS", "007")], "", "shards = \"007\" # environment TICKSTREAM_SHARDS");
    }

    #[test]
    fn secrets_are_masked() {
        check(&[("STREAM_PASS", "hunter2")], "", "# stream_pass = \"***\" # environment STREAM_PASS; masked");
        check(&[], "stream_pass = \"hunter2\"", "# stream_pass = \"***\" # file t.toml, line 1; masked");
        check(&[], "", "# stream_pass = \"\" # default: none");
    }

    #[test]
    fn the_documented_file_equals_the_defaults_and_lists_every_key() {
        let text = documented_defaults(&TABLE, "# Settings.\n");
        let file = File::parse(&TABLE, Path::new("settings.toml"), &text).unwrap();
        let from_file = Values::merge(&TABLE, &Flags::new(), &|_| None, Some(&file)).unwrap();
        for any in TABLE.settings() {
            let (about, value) = (any.about(), from_file.get(any));
            assert_eq!(value.text, about.default.unwrap_or_default(), "{}", about.key);
            assert_eq!(value.origin != Origin::Default, about.default.is_some(), "{}", about.key);
            for part in [format!("{} = ", about.key), format!("--{},", about.flag()), about.variable()] {
                assert!(text.contains(&part), "{part}");
            }
        }
        assert_eq!(from_file.read(&setting::write_deadline_ms).unwrap().as_secs(), 5);
    }
}
