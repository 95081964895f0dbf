//! `tickstream connection`: all that a server knows of one connection.

use std::fmt::Write;

use tickstream_server::admin::report::ConnectionReport;
use tickstream_service::text::{json, noun_for, one_line};

use super::{OperatorError, failed_of, print};
use crate::admin_client::{AdminClient, PATIENCE};
use crate::top::units::{bytes, count, duration};

pub fn run(admin: &AdminClient, id: &str, as_json: bool) -> Result<(), OperatorError> {
    let path = format!("/connections/{}", escaped(id));
    if as_json {
        let answer = admin.get(&path, PATIENCE).map_err(failed_of(admin, id))?;
        return print(&format!("{}\n", json(String::from_utf8_lossy(&answer).trim_end())));
    }
    let connection: ConnectionReport = admin.json(&path).map_err(failed_of(admin, id))?;
    print(&text(&connection))
}

/// An id as part of a path: what has other characters is no id, and stays none.
pub fn escaped(id: &str) -> String {
    id.chars().map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' }).collect()
}

fn text(one: &ConnectionReport) -> String {
    let or_none = |text: &Option<String>| text.as_deref().map_or("-".into(), one_line).into_owned();
    let lag = match one.lagging {
        true => {
            let (unsent, behind) = (duration(one.unsent_ms), count(one.ticks_behind));
            format!("{unsent} unsent, {behind} {} behind", noun_for(one.ticks_behind, "tick"))
        }
        false => "none".to_owned(),
    };
    let lines = [
        ("Connection", one_line(&one.id).into_owned()),
        ("State", one_line(&one.state).into_owned()),
        ("Peer", one_line(&one.peer).into_owned()),
        ("User", or_none(&one.user)),
        ("Certificate", or_none(&one.subject)),
        ("Client", or_none(&one.client)),
        ("Stream", or_none(&one.mode)),
        ("Open", duration(one.open_ms)),
        ("Lag", lag),
        ("Received", bytes(one.bytes_received as f64)),
        ("Sent", bytes(one.bytes_sent as f64)),
        ("Events", format!("{} accepted", count(one.events_accepted))),
    ];
    let mut text = String::new();
    for (label, value) in lines {
        writeln!(text, "{label:<12} {value}").expect("writing to a String can't fail");
    }
    text
}
