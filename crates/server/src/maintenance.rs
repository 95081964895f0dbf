//! Duties beside the shards, a few times a second: the process's memory, certificates that change, and
//! settings that are to be read again.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use crate::reload::{LogLevelError, LogLevels, ReloadError, Reloaded, Reloader};
use crate::shard::Control;
use crate::tls::watch::Certificates;

/// Interval of its looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The directory of control groups.
const GROUPS: &str = "/sys/fs/cgroup";
/// Time before the end of a certificate at which the log warns of it, seconds.
const EXPIRES_SOON_S: i64 = 14 * 86_400;
/// Interval of these warnings.
const WARNED_AGAIN: Duration = Duration::from_secs(86_400);
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// The way to the maintenance's thread, which ends with the last of its clones.
#[derive(Clone, Debug)]
pub struct Maintenance {
    requests: Sender<Request>,
}

enum Request {
    /// Settings come from here.
    Install(Box<Reloader>),
    /// Read them again, and answer here.
    Reload(Sender<Result<Reloaded, ReloadError>>),
    /// Set the level of the log, or tell it.
    LogLevel(Option<String>, Sender<Result<LogLevels, LogLevelError>>),
}

impl Maintenance {
    /// Has settings read again from now on, when that is asked for.
    pub fn install(&self, reloader: Reloader) {
        // Its thread ends only with the process.
        let _ = self.requests.send(Request::Install(Box::new(reloader)));
    }

    /// Reads settings and certificates again, changed or not.
    ///
    /// # Errors
    /// If they can't be used: those in use stay.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = mpsc::channel();
        self.requests.send(Request::Reload(answer)).map_err(|_| ReloadError::Ending)?;
        answered.recv().map_err(|_| ReloadError::Ending)?
    }

    /// Sets the level of the log; without a `level`, tells it.
    ///
    /// # Errors
    /// If it is no level, or the log isn't the server's: then it stays.
    pub fn log_level(&self, level: Option<String>) -> Result<LogLevels, LogLevelError> {
        let (answer, answered) = mpsc::channel();
        self.requests.send(Request::LogLevel(level, answer)).map_err(|_| LogLevelError::Ending)?;
        answered.recv().map_err(|_| LogLevelError::Ending)?
    }
}

/// Starts the maintenance. Above `memory_max_mib`, or nine tenths of what there is, it lets shards refuse connections.
///
/// # Errors
/// If the thread can't be started.
pub fn spawn(
    certificates: Option<Certificates>,
    memory_max_mib: Option<NonZeroU32>,
    control: Arc<Control>,
) -> io::Result<Maintenance> {
    let (sender, requests) = mpsc::channel();
    let mut memory = Memory { watermark: 0, is_short: false, group: None, control };
    memory.set_watermark(memory_max_mib);
    thread::Builder::new()
        .name("maintenance".to_owned())
        .spawn(move || keep(certificates, memory, &requests))?;
    Ok(Maintenance { requests: sender })
}

fn keep(mut certificates: Option<Certificates>, mut memory: Memory, requests: &Receiver<Request>) {
    let mut reloader: Option<Box<Reloader>> = None;
    let mut warned: Option<Instant> = None;
    loop {
        match requests.recv_timeout(LOOK_INTERVAL) {
            Ok(Request::Install(new)) => reloader = Some(new),
            Ok(Request::Reload(answer)) => {
                let reloaded = match &mut reloader {
                    Some(reloader) => {
                        let reloaded = reloader.reload(certificates.as_mut());
                        memory.set_watermark(reloader.config().settings.memory_max_mib);
                        reloaded
                    }
                    None => {
                        certificates.iter_mut().for_each(Certificates::reload);
                        Ok(Reloaded::default())
                    }
                };
                // An operator who has gone isn't answered.
                let _ = answer.send(reloaded);
            }
            Ok(Request::LogLevel(level, answer)) => {
                let levels = match &mut reloader {
                    Some(reloader) => reloader.log_level(level.as_deref()),
                    None => Err(LogLevelError::NoLog),
                };
                let _ = answer.send(levels);
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(certificates) = &mut certificates {
                    certificates.look();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        memory.look();
        if warned.is_none_or(|at| at.elapsed() > WARNED_AGAIN)
            && let Some(certificates) = &certificates
        {
            warned = certificates.warn_of_end(EXPIRES_SOON_S).then(Instant::now).or(warned);
        }
    }
}

/// The watermark on the process's memory.
struct Memory {
    /// Bytes.
    watermark: u64,
    is_short: bool,
    /// The control group whose limit the watermark comes from: it counts the kernel's memory for sockets, too.
    group: Option<PathBuf>,
    control: Arc<Control>,
}

impl Memory {
    fn set_watermark(&mut self, memory_max_mib: Option<NonZeroU32>) {
        (self.watermark, self.group) = match memory_max_mib {
            Some(mib) => (u64::from(mib.get()) * MIB, None),
            None => default_watermark(),
        };
    }

    fn look(&mut self) {
        let Some(resident) = resident_bytes().max(self.group.as_deref().and_then(group_bytes)) else {
            return;
        };
        // Back below it by a twentieth, so that it doesn't flap.
        let bound = if self.is_short { self.watermark / 20 * 19 } else { self.watermark };
        let is_short = resident > bound;
        if is_short != self.is_short {
            self.is_short = is_short;
            let (resident_mib, watermark_mib) = (resident / MIB, self.watermark / MIB);
            if is_short {
                tracing::warn!(
                    resident_mib,
                    watermark_mib,
                    "above the memory watermark: new connections are refused"
                );
            } else {
                tracing::info!(
                    resident_mib,
                    watermark_mib,
                    "below the memory watermark: new connections are taken"
                );
            }
        }
        self.control.set_memory_is_short(is_short);
    }
}

/// Resident memory of the process, bytes.
fn resident_bytes() -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// A line such as `VmRSS:  1234 kB` of proc(5), in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let kib = text.lines().find_map(|line| line.strip_prefix(name))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// Nine tenths of the machine's memory, or of the control group's if that is less, and then which group that is.
fn default_watermark() -> (u64, Option<PathBuf>) {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib(&text, "MemTotal:"));
    let machine = machine.unwrap_or(u64::MAX);
    match group_limit() {
        Some((limit, group)) if limit < machine => (limit / 10 * 9, Some(group)),
        _ => (machine / 10 * 9, None),
    }
}

/// The least memory.max from this process's control group (cgroups(7), version 2) up to the root, and whose it is.
fn group_limit() -> Option<(u64, PathBuf)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = Path::new(GROUPS).join(group);
    let limits = path.ancestors().take_while(|path| path.starts_with(GROUPS)).filter_map(|path| {
        let limit = fs::read_to_string(path.join("memory.max")).ok()?;
        Some((limit.trim().parse().ok()?, path.to_owned()))
    });
    limits.min()
}

/// Memory of a control group, but for file pages that can be dropped at once, bytes.
fn group_bytes(group: &Path) -> Option<u64> {
    let current: u64 = fs::read_to_string(group.join("memory.current")).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
    let file = stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.parse().ok()?;
    Some(current.saturating_sub(file))
}
