//! A small table that the tests of this module share.

use super::{AnySetting, Table, ValueError, Values, kind};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn credential() -> String {
    "text of 1 to 255 bytes".to_owned()
}

fn any_text(text: &str) -> Result<Option<String>, ValueError> {
    Ok(Some(text.to_owned()))
}

crate::settings! {
    /// Settings of no program.
    pub struct Settings, handles in setting;
    section "Credentials" {
        /// User.
        stream_user: String = kind::text(credential, |text| Ok(text.to_owned())).variable("STREAM_USER");
        /// Password.
        stream_pass: String = kind::text(credential, |text| Ok(text.to_owned())).variable("STREAM_PASS").secret();
        /// File with the password.
        stream_pass_file: Option<std::path::PathBuf> = kind::path().or_none("none");
    }
    section "Rest" {
        /// Address.
        listen: SocketAddr = kind::address().default("0.0.0.0:7400");
        /// Shards.
        shards: Option<NonZeroU32> = kind::positive_or_none(1, 8_192, "").or_none("one per chosen CPU");
        /// CPUs.
        cpus: Option<String> = kind::text_or_number(|| "CPU numbers and ranges, such as 0-3,8".to_owned(), any_text).or_none("all that the process may run on");
        /// Ticks.
        ticks_per_second: u32 = kind::integer(1, 10_000_000, "").default("1");
        /// Heartbeats.
        heartbeat_interval: Duration = kind::duration(SECOND, MINUTE).default("15s");
        /// Time without one.
        heartbeat_timeout: Duration = kind::duration(SECOND, MINUTE).default("20s");
        /// Deadline,
        /// in two lines.
        write_deadline_ms: Duration = kind::duration(MS, MINUTE).bare(MS).variable("WRITE_DEADLINE_MS").default("5000");
        /// Size.
        max_msg_size: NonZeroU32 = kind::size(1_024, 16 << 20).default("64KiB").live();
    }
}

pub static TABLE: Table = Table {
    command: "tickstream serve",
    groups: &[Settings::SECTIONS],
    former_variables: &["STREAM_SHARDS", "STREAM_PASS_FILE"],
};

#[test]
fn settings_are_found_by_key() {
    let variable = |key| TABLE.find(key).map(|setting| setting.about().variable());
    assert_eq!(variable("listen").as_deref(), Some("TICKSTREAM_LISTEN"));
    assert_eq!(variable("write_deadline_ms").as_deref(), Some("WRITE_DEADLINE_MS"));
    assert_eq!(TABLE.find("max_msg_size").unwrap().about().flag(), "max-msg-size");
    assert!(TABLE.find("Listen").is_none());
    assert_eq!(TABLE.settings().map(|setting| setting.about().key).collect::<HashSet<_>>().len(), 11);
}

#[test]
fn a_doc_comment_is_the_help() {
    assert_eq!(setting::write_deadline_ms.about().help, "Deadline, in two lines.");
    assert!(setting::max_msg_size.about().live && !setting::listen.about().live);
}

#[test]
fn every_value_is_read_as_its_type() {
    let values =
        [("stream_user", "u"), ("stream_pass", "p"), ("shards", "3"), ("write_deadline_ms", "30s 500ms")];
    let values = Values::of_program(&TABLE, values).unwrap();
    let settings = Settings::read(&values).unwrap();
    assert_eq!((settings.shards, settings.write_deadline_ms.as_millis()), (NonZeroU32::new(3), 30_500));
    let wrong =
        Values::of_program(&TABLE, [("stream_user", "u"), ("stream_pass", "p"), ("shards", "0")]).unwrap();
    let error = Settings::read(&wrong).unwrap_err().to_string();
    assert!(error.starts_with("shards = \"0\" (from program): is out of range; accepted: "), "{error}");
}
