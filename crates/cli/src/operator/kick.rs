//! `tickstream kick`: closes connections, once the operator has seen how many they are.

use std::io::{self, BufRead, IsTerminal, Write};

use tickstream_server::admin::report::{ClosedReport, ConnectionsReport};
use tickstream_service::text::{counted, one_line};

use super::connection::escaped;
use super::{OperatorError, Which, failed, failed_of, post, print};
use crate::admin_client::{AdminClient, AdminClientError, PATIENCE, with_query};

/// Arguments of `kick`: ids or conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KickArgs {
    /// Connections by shard and number.
    pub ids: Vec<String>,
    /// All that these conditions hold for, where there are no ids.
    pub which: Which,
    /// Without asking.
    pub yes: bool,
}

pub fn run(admin: &AdminClient, args: &KickArgs) -> Result<(), OperatorError> {
    if args.ids.is_empty() { by_condition(admin, args) } else { by_id(admin, args) }
}

fn by_id(admin: &AdminClient, args: &KickArgs) -> Result<(), OperatorError> {
    let ids = args.ids.iter().map(|id| one_line(id)).collect::<Vec<_>>().join(", ");
    confirm(args, &format!("Close {} ({ids})?", counted(args.ids.len() as u64, "connection")))?;
    let mut missing = None;
    for id in &args.ids {
        let closed = admin.post(&format!("/connections/{}/close", escaped(id)), PATIENCE);
        match closed.map_err(failed_of(admin, id)) {
            Ok(said) => print(&format!("{}\n", one_line(said.trim_end())))?,
            // The others are closed all the same.
            Err(error @ OperatorError::NoConnection { .. }) => {
                if let Some(before) = missing.replace(error) {
                    let _ = writeln!(io::stderr(), "error: {before}");
                }
            }
            Err(error) => return Err(error),
        }
    }
    missing.map_or(Ok(()), Err)
}

fn by_condition(admin: &AdminClient, args: &KickArgs) -> Result<(), OperatorError> {
    let list = with_query("/connections", [("limit", "0")].into_iter().chain(args.which.pairs()));
    let listed: ConnectionsReport = admin.json(&list).map_err(failed(admin))?;
    let which = one_line(&args.which.shown()).into_owned();
    if listed.total == 0 {
        return print(&format!("no connection with {which}\n"));
    }
    confirm(args, &format!("Close {} with {which}?", counted(listed.total, "connection")))?;
    let answer = post(admin, &with_query("/connections/close", args.which.pairs()))?;
    let report: Result<ClosedReport, _> = serde_json::from_str(&answer).map_err(AdminClientError::Json);
    let ClosedReport { closed, missing_shards } = report.map_err(failed(admin))?;
    let mut said = format!("{} closed\n", counted(closed, "connection"));
    if !missing_shards.is_empty() {
        let shards: Vec<_> = missing_shards.iter().map(ToString::to_string).collect();
        said += &format!("no answer from shard {}: its connections may be open\n", shards.join(", "));
    }
    print(&said)
}

/// Asks, unless that isn't wanted.
fn confirm(args: &KickArgs, question: &str) -> Result<(), OperatorError> {
    if args.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(OperatorError::NoTerminal);
    }
    let mut terminal = io::stderr();
    write!(terminal, "{question} [y/N] ").and_then(|()| terminal.flush()).map_err(OperatorError::Terminal)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(OperatorError::Terminal)?;
    let is_yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if is_yes { Ok(()) } else { Err(OperatorError::Declined) }
}
