//! The terminal while `top` draws on it: its other screen, its keys one by one, and as it was before in the end.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tickstream_service::text;

use super::controls::{self, Key};

/// The other screen, cleared, without a cursor; xterm's private modes 1049 and 25.
const ENTER: &str = "\x1b[?1049h\x1b[2J\x1b[?25l";
/// The first screen again, with its cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Begin and end of what is shown at once, by terminals that know private mode 2026; others ignore it.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";
/// The size of a terminal that doesn't tell it.
const SIZE: (usize, usize) = (80, 24);
/// Ctrl-C and Ctrl-D come as keys.
const ENDS: [u8; 4] = [b'q', b'Q', 0x03, 0x04];

/// Columns and rows.
pub type Size = (usize, usize);

/// A terminal that is drawn on, until this is dropped.
pub struct Terminal {
    /// Its modes before; `None` where keys don't come from a terminal, and aren't read.
    before: Option<Termios>,
    signalled: Arc<AtomicBool>,
    is_ended: bool,
    pressed: Vec<Key>,
}

impl Terminal {
    /// Takes the terminal of standard output; `None` if it is none, or one that can't be drawn on (`TERM=dumb`).
    pub fn enter() -> io::Result<Option<Self>> {
        if !text::can_draw(&io::stdout()) {
            return Ok(None);
        }
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        let mut before = None;
        if io::stdin().is_terminal() {
            let modes = tcgetattr(stdio::stdin())?;
            let mut by_key = modes.clone();
            by_key.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            tcsetattr(stdio::stdin(), OptionalActions::Now, &by_key)?;
            before = Some(modes);
        }
        // From here on it is given back, whatever happens.
        let terminal = Self { before, signalled, is_ended: false, pressed: Vec::new() };
        write(ENTER)?;
        Ok(Some(terminal))
    }

    /// Its size.
    pub fn size(&self) -> Size {
        let size = tcgetwinsize(stdio::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or(SIZE, |size| (size.ws_col.into(), size.ws_row.into()))
    }

    /// Draws lines in place of what was there: at most as many as there are rows, or they would scroll.
    pub fn draw(&mut self, lines: &[String], rows: usize) -> io::Result<()> {
        // Each line is cleared before it is written: behind the last column, clearing would take that column's character.
        let mut frame: Vec<_> = lines.iter().map(|line| format!("\x1b[K{line}")).collect();
        if lines.len() < rows {
            frame.push("\x1b[J".to_owned());
        }
        write(&format!("{BEGIN}\x1b[H{}{END}", frame.join("\r\n")))
    }

    /// Waits so long, or until there is a key.
    pub fn wait(&mut self, longest: Duration) -> io::Result<()> {
        if self.before.is_none() {
            std::thread::sleep(longest);
            return Ok(());
        }
        let longest = Timespec { tv_sec: 0, tv_nsec: longest.subsec_nanos().into() };
        let mut stdin = [PollFd::from_borrowed_fd(stdio::stdin(), PollFlags::IN)];
        match poll(&mut stdin, Some(&longest)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut keys = [0; 64];
        let length = rustix::io::read(stdio::stdin(), &mut keys)?;
        // No key at all: the terminal has gone.
        self.is_ended |= length == 0 || keys[..length].iter().any(|key| ENDS.contains(key));
        self.pressed.extend(controls::keys(&keys[..length]));
        Ok(())
    }

    /// The keys that were pressed since the last call.
    pub fn take_keys(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.pressed)
    }

    /// True once a key or a signal has ended it.
    pub fn is_ended(&self) -> bool {
        self.is_ended || self.signalled.load(Ordering::Relaxed)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where this fails, there is no terminal any more.
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
