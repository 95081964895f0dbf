//! `tickstream connections`: a server's connections, page by page, once or again and again.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use tickstream_server::admin::report::{ConnectionReport, ConnectionsReport};
use tickstream_service::text::{self, noun_for, one_line};

use super::{OperatorError, Which, failed, print};
use crate::admin_client::{AdminClient, with_query};
use crate::cli::StopFlag;
use crate::top::terminal::Terminal;
use crate::top::text::{Cell, Line, Style, numbers, table, words};
use crate::top::units::{age, bytes, count, duration};

/// Connections that the endpoint lists at once, at most.
const PAGE: u64 = 1_000;
/// Interval at which keys, signals and the terminal's size are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Columns of a line that goes into a file or a pipe.
const UNBOUNDED: usize = usize::MAX;

/// Least widths of the columns id, user and peer, so that those of several pages are alike.
const EVERY_PAGE: [usize; 3] = [8, 12, 21];
/// As [`EVERY_PAGE`], where there is one page.
const ONE_PAGE: [usize; 3] = [4, 4, 4];

/// Arguments of `connections`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionsArgs {
    /// Only these.
    pub which: Which,
    /// Order, by its name in the endpoint.
    pub sort: String,
    /// The other way round.
    pub reverse: bool,
    /// So many, at most.
    pub limit: u64,
    /// Behind this place.
    pub after: Option<String>,
    /// Again and again, at this interval.
    pub watch: Option<Duration>,
    /// As JSON lines.
    pub json: bool,
}

pub fn run(admin: &AdminClient, args: &ConnectionsArgs) -> Result<(), OperatorError> {
    if let Some(interval) = args.watch {
        return watch(admin, args, interval);
    }
    let mut after = args.after.clone();
    let mut left = args.limit;
    let mut listed = 0;
    loop {
        let page = page(admin, args, left.min(PAGE), after.as_deref())?;
        let rows = page.connections.len() as u64;
        (listed, left) = (listed + rows, left.saturating_sub(rows));
        if args.json {
            print(&json_lines(&page.connections))?;
        } else {
            let lines = rows_of(&page.connections, EVERY_PAGE, listed == rows);
            print(&lines.iter().map(|line| line.plain() + "\n").collect::<String>())?;
        }
        after = page.next.clone();
        if left == 0 || after.is_none() {
            let said = summary(&page, listed);
            let next =
                after.map(|next| format!("; more with --after {}", one_line(&next))).unwrap_or_default();
            // Beside the list: that can be piped into other programs.
            let _ = writeln!(io::stderr(), "{said}{next}");
            return Ok(());
        }
    }
}

/// One page, of at most `limit`.
fn page(
    admin: &AdminClient,
    args: &ConnectionsArgs,
    limit: u64,
    after: Option<&str>,
) -> Result<ConnectionsReport, OperatorError> {
    let limit = limit.to_string();
    let is_largest_first = tickstream_server::shard::SortKey::ALL
        .into_iter()
        .any(|(name, key)| name == args.sort && key.is_largest_first());
    let order = if is_largest_first == args.reverse { "asc" } else { "desc" };
    let pairs = [("limit", limit.as_str()), ("sort", &args.sort), ("order", order)];
    let pairs = pairs.into_iter().chain(after.map(|after| ("after", after))).chain(args.which.pairs());
    admin.json(&with_query("/connections", pairs)).map_err(failed(admin))
}

/// Draws the list until `q` is pressed; where standard output is no terminal, prints it again and again.
fn watch(admin: &AdminClient, args: &ConnectionsArgs, interval: Duration) -> Result<(), OperatorError> {
    // Before the screen is taken: whoever mistyped the address reads it where they typed it.
    let first = page(admin, args, args.limit.min(PAGE), None)?;
    let Some(mut terminal) = Terminal::enter().map_err(OperatorError::Terminal)? else {
        return print_again(admin, args, interval, first);
    };
    let mut answer: Result<_, OperatorError> = Ok(first);
    let has_colours = text::has_colours(&io::stdout());
    let mut shown: Option<ConnectionsReport> = None;
    while !terminal.is_ended() {
        let asked = Instant::now();
        let mut lines = Vec::new();
        match answer {
            Ok(page) => shown = Some(page),
            Err(error) => lines.push(Line::default().with(Style::Bad, one_line(&error.to_string()))),
        }
        let mut size = (0, 0);
        while !terminal.is_ended() && asked.elapsed() < interval {
            let now = terminal.size();
            if now != size {
                size = now;
                let list = shown.iter().flat_map(|page| drawn(page, size.1));
                let painted = lines.iter().cloned().chain(list).take(size.1);
                let painted: Vec<_> = painted.map(|line| line.painted(size.0, has_colours)).collect();
                terminal.draw(&painted, size.1).map_err(OperatorError::Terminal)?;
            }
            terminal.wait(LOOK_INTERVAL).map_err(OperatorError::Terminal)?;
        }
        answer = page(admin, args, args.limit.min(PAGE), None);
    }
    Ok(())
}

/// Prints the list, and again at each interval, until a signal ends it as `q` would.
fn print_again(
    admin: &AdminClient,
    args: &ConnectionsArgs,
    interval: Duration,
    first: ConnectionsReport,
) -> Result<(), OperatorError> {
    let stop = StopFlag::catch().map_err(OperatorError::Signals)?;
    let mut shown = first;
    loop {
        print(&drawn(&shown, UNBOUNDED).iter().map(|line| line.plain() + "\n").collect::<String>())?;
        let printed = Instant::now();
        while printed.elapsed() < interval {
            if stop.is_set() {
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL.min(interval));
        }
        shown = match page(admin, args, args.limit.min(PAGE), None) {
            Err(_) if stop.is_set() => return Ok(()),
            page => page?,
        };
    }
}

/// A page with its summary, in at most so many rows.
fn drawn(page: &ConnectionsReport, rows: usize) -> Vec<Line> {
    let shown = (page.connections.len()).min(rows.saturating_sub(3));
    let summary =
        Line::default().with(Style::Bold, summary(page, shown as u64)).with(Style::Dim, "  q quits");
    let mut lines = vec![summary, Line::default()];
    lines.extend(rows_of(&page.connections[..shown], ONE_PAGE, true));
    lines
}

fn summary(page: &ConnectionsReport, shown: u64) -> String {
    let mut text =
        format!("{} of {} {}", count(shown), count(page.total), noun_for(page.total, "connection"));
    if !page.missing_shards.is_empty() {
        let shards: Vec<_> = page.missing_shards.iter().map(ToString::to_string).collect();
        text += &format!(", without shard {}, which doesn't answer", shards.join(", "));
    }
    text
}

fn json_lines(connections: &[ConnectionReport]) -> String {
    let mut out = Vec::new();
    for connection in connections {
        let value = serde_json::to_value(connection).expect("a report is JSON");
        text::push_json_line(&mut out, &value);
    }
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// A table of connections, with its titles if they are wanted. The last columns are those that a terminal of 80 columns can do
/// without.
fn rows_of(connections: &[ConnectionReport], widths: [usize; 3], has_titles: bool) -> Vec<Line> {
    let [id, user, peer] = widths;
    let columns = [
        words("ID", id),
        words("USER", user),
        words("PEER", peer),
        words("STREAM", 6),
        numbers("UNSENT", 7),
        numbers("BEHIND", 6),
        numbers("SENT", 8),
        numbers("OPEN", 6),
        numbers("RECEIVED", 8),
        numbers("EVENTS", 6),
        words("CLIENT", 0),
    ];
    let rows: Vec<_> = connections.iter().map(row).collect();
    table(&columns, &rows).into_iter().skip(usize::from(!has_titles)).collect()
}

fn row(one: &ConnectionReport) -> Vec<Cell> {
    let plain = |text: String| (Style::Plain, text);
    let foreign = |text: Option<&str>| plain(text.map_or("-".into(), one_line).into_owned());
    let or_none = |number: u64, write: &dyn Fn(u64) -> String| {
        if number == 0 { "-".to_owned() } else { write(number) }
    };
    let lag = if one.lagging { Style::Warn } else { Style::Plain };
    vec![
        foreign(Some(&one.id)),
        foreign(one.user.as_deref()),
        foreign(Some(&one.peer)),
        foreign(one.mode.as_deref().or(Some(one.state.as_str()).filter(|state| *state != "authenticated"))),
        (lag, or_none(one.unsent_ms, &duration)),
        (lag, or_none(one.ticks_behind, &count)),
        plain(bytes(one.bytes_sent as f64)),
        plain(age(one.open_ms)),
        plain(bytes(one.bytes_received as f64)),
        plain(or_none(one.events_accepted, &count)),
        foreign(one.client.as_deref().or(one.subject.as_deref())),
    ]
}
