//! `tickstream top`: what the live page shows, on a terminal.
//!
//! - `history`: its answers over time, and how two of them differ;
//! - `screen`: what is shown of that, as lines, from the parts of `parts`, `text` and `units`; none of it does I/O;
//! - `views`: one thing alone, scrolled; `controls`: what keys choose; `terminal`: the screen and the keys.

mod controls;
mod history;
mod parts;
mod screen;
pub mod terminal;
pub mod text;
pub mod units;
mod views;

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin_client::{AdminClient, AdminClientError};
use controls::{Controls, View};
use history::History;
use screen::{Content, Silence};
use terminal::Terminal;
use tickstream_server::admin::report::{ConnectionsReport, Report};
use tickstream_service::admin::AdminAddress;

/// Connections are listed at most that often: it makes the shards look at all of theirs.
const LISTS_APART: Duration = Duration::from_secs(5);
/// Connections that are asked for: in the overview, and where they are all that is shown.
const SLOWEST: usize = 30;
const LISTED: usize = 500;
/// Interval at which keys, signals and the terminal's size are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `top`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopArgs {
    /// The admin endpoint.
    pub admin: AdminClient,
    /// Interval between two requests.
    pub interval: Duration,
    /// Print plain text once instead of drawing on the terminal.
    pub once: bool,
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The endpoint.
    #[error("no answer from the admin endpoint at {address}: {}", tickstream_service::text::one_line(&source.to_string()))]
    Silent {
        /// Its address.
        address: AdminAddress,
        /// The reason.
        source: AdminClientError,
    },
    /// Standard output.
    #[error("standard output is no terminal to draw on: --once prints plain text")]
    NoTerminal,
    /// Drawing or reading keys.
    #[error("can't use the terminal: {0}")]
    Terminal(io::Error),
    /// Printing.
    #[error("can't print: {0}")]
    Print(io::Error),
}

/// An answer, from the thread that asks to the one that draws.
enum Answer {
    Report(Box<Report>),
    Slowest(ConnectionsReport),
    Silent(AdminClientError),
}

/// Shows the server until `q` is pressed or a signal comes, or once.
///
/// # Errors
/// See [`TopError`]. Once it draws, an endpoint that falls silent is no error: it is shown.
pub fn run(args: &TopArgs) -> Result<(), TopError> {
    if args.once { once(args) } else { live(args) }
}

/// Asks twice, so that there are rates, and prints.
fn once(args: &TopArgs) -> Result<(), TopError> {
    let silent = |source| TopError::Silent { address: args.admin.address.clone(), source };
    let ask = || args.admin.json::<Report>("/snapshot").map_err(silent);
    let began = Instant::now();
    let mut history = History::new(args.interval);
    history.take(ask()?, false);
    thread::sleep(args.interval.saturating_sub(began.elapsed()));
    history.take(ask()?, false);
    let slowest = args.admin.json(&Controls::default().query(SLOWEST)).map_err(silent)?;
    let text = screen::plain(&Content { history: &history, slowest: Some(&slowest), silence: None });
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who closed it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(TopError::Print(error)),
        _ => Ok(()),
    }
}

fn live(args: &TopArgs) -> Result<(), TopError> {
    // Before the screen is taken: whoever mistyped the address reads it where they typed it.
    let first = args.admin.json::<Report>("/snapshot");
    let first = first.map_err(|source| TopError::Silent { address: args.admin.address.clone(), source })?;
    let mut terminal = Terminal::enter().map_err(TopError::Terminal)?.ok_or(TopError::NoTerminal)?;
    let mut history = History::new(args.interval);
    let due = time_to_next(first.now_unix_ms, args.interval);
    history.take(first, true);
    let (sender, answers) = mpsc::channel();
    let (admin, interval) = (args.admin.clone(), args.interval);
    // It ends with the process, or with the first answer that nobody takes.
    let (wishes, wanted) = mpsc::channel();
    thread::spawn(move || poll(&admin, (interval, due), &wanted, &sender));
    draw(&mut terminal, history, &answers, &wishes).map_err(TopError::Terminal)
}

/// Asks the endpoint again and again, and for the list of connections that is `wanted`, at once when that changes.
fn poll(
    admin: &AdminClient,
    (interval, mut due): (Duration, Duration),
    wanted: &Receiver<String>,
    answers: &Sender<Answer>,
) {
    let mut listed = None::<Instant>;
    let mut list = Controls::default().query(SLOWEST);
    loop {
        let until = Instant::now() + due;
        let mut left = due;
        while let Ok(path) = wanted.recv_timeout(left) {
            list = path;
            listed = ask_for_list(admin, &list, answers).or(listed);
            left = until.saturating_duration_since(Instant::now());
        }
        let answer = admin.json::<Report>("/snapshot");
        due = answer.as_ref().map_or(interval, |report| time_to_next(report.now_unix_ms, interval));
        let asked = Instant::now();
        let is_silent = answer.is_err();
        if answers
            .send(answer.map_or_else(Answer::Silent, |report| Answer::Report(Box::new(report))))
            .is_err()
        {
            return;
        }
        // A list that can't be had now is asked for again with the next answer.
        if !is_silent && listed.is_none_or(|listed| listed.elapsed() >= LISTS_APART) {
            listed = ask_for_list(admin, &list, answers).or(listed);
        }
        due = due.saturating_sub(asked.elapsed());
    }
}

/// Asks for a list of connections. Answers when that was, if there was one.
fn ask_for_list(admin: &AdminClient, path: &str, answers: &Sender<Answer>) -> Option<Instant> {
    let list = admin.json(path).ok()?;
    let _ = answers.send(Answer::Slowest(list));
    Some(Instant::now())
}

/// Time until the next request. Ticks of an aligned stream are due on the second: whoever asks each
/// second, half past the second, sees one fan-out more each time. So it is for whole seconds; other intervals just pass.
fn time_to_next(server_unix_ms: u64, interval: Duration) -> Duration {
    if !interval.as_millis().is_multiple_of(1_000) {
        return interval;
    }
    let past_half = Duration::from_millis((server_unix_ms + 500) % 1_000);
    let wait = interval.saturating_sub(past_half);
    // An answer that came late makes the next wait longer: a rate of a short time says little.
    if wait < Duration::from_millis(600) { wait + Duration::from_secs(1) } else { wait }
}

/// Draws each answer, until a key or a signal ends it.
fn draw(
    terminal: &mut Terminal,
    mut history: History,
    answers: &Receiver<Answer>,
    wishes: &Sender<String>,
) -> io::Result<()> {
    let mut slowest = None;
    // Since when, and why.
    let mut silence: Option<(Instant, String)> = None;
    let (mut size, mut is_new): (terminal::Size, bool) = ((0, 0), true);
    let mut controls = Controls::default();
    let has_colours = tickstream_service::text::has_colours(&io::stdout());
    while !terminal.is_ended() {
        for answer in answers.try_iter() {
            is_new = true;
            match answer {
                Answer::Report(report) => {
                    history.take(*report, false);
                    silence = None;
                }
                Answer::Slowest(list) => slowest = Some(list),
                Answer::Silent(error) => {
                    let since = silence.map_or_else(Instant::now, |(since, _)| since);
                    silence = Some((since, error.to_string()));
                }
            }
        }
        for key in terminal.take_keys() {
            let before = wish(&controls);
            controls.press(key, size.1.saturating_sub(screen::HEAD_ROWS));
            if wish(&controls) != before {
                slowest = None;
                let _ = wishes.send(wish(&controls));
            }
            is_new = true;
        }
        let size_now = terminal.size();
        if is_new || size != size_now || silence.is_some() {
            (size, is_new) = (size_now, false);
            let silence = silence.as_ref().map(|(since, why)| Silence { lasts: since.elapsed(), why });
            let seen = Content { history: &history, slowest: slowest.as_ref(), silence };
            terminal.draw(&screen::drawn(&seen, &mut controls, size, has_colours), size.1)?;
        }
        terminal.wait(LOOK_INTERVAL)?;
    }
    Ok(())
}

/// The list of connections that a view shows.
fn wish(controls: &Controls) -> String {
    controls.query(if controls.view == View::Connections { LISTED } else { SLOWEST })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_asked_for_half_past_each_second() {
        let check = |now_ms: u64, interval_ms: u64, expected_ms: u64| {
            let found = time_to_next(now_ms, Duration::from_millis(interval_ms));
            assert_eq!(found, Duration::from_millis(expected_ms), "{now_ms} {interval_ms}");
        };
        check(10_500, 1_000, 1_000);
        check(10_530, 1_000, 970);
        check(10_490, 1_000, 1_010);
        check(10_100, 1_000, 1_400);
        check(10_800, 1_000, 700);
        check(11_300, 1_000, 1_200);
        check(10_530, 5_000, 4_970);
        check(10_530, 250, 250);
        check(10_530, 1_500, 1_500);
    }
}
