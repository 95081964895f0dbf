//! What is looked after beside the shards, a few times a second: the process's memory, certificates that change, and
//! settings that are to be read again.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;
use std::{fs, io, thread};

use crate::config::Tls;
use crate::reload::Reloader;
use crate::shard::Control;
use crate::tls::watch::Certificates;

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// The way to the keeper's thread, which ends with the last of its clones.
#[derive(Clone, Debug)]
pub struct Keeper {
    orders: Sender<Order>,
}

enum Order {
    /// Settings come from here.
    Install(Box<Reloader>),
    Reload,
}

impl Keeper {
    /// Has settings read again from now on, when that is asked for.
    pub fn install(&self, reloader: Reloader) {
        // Its thread ends only with the process.
        let _ = self.orders.send(Order::Install(Box::new(reloader)));
    }

    /// Has settings and certificates read again, changed or not.
    pub fn reload(&self) {
        let _ = self.orders.send(Order::Reload);
    }
}

/// Starts the keeper. Above `memory_max_mib`, or nine tenths of what there is, it lets shards refuse connections.
///
/// # Errors
/// If the thread can't be started.
pub fn spawn(
    certificates: Option<Certificates>,
    memory_max_mib: Option<NonZeroU32>,
    control: Arc<Control>,
) -> io::Result<Keeper> {
    let (sender, orders) = mpsc::channel();
    let memory = Memory { watermark: watermark(memory_max_mib), is_short: false, control };
    thread::Builder::new().name("keeper".to_owned()).spawn(move || keep(certificates, memory, &orders))?;
    Ok(Keeper { orders: sender })
}

fn keep(mut certificates: Option<Certificates>, mut memory: Memory, orders: &Receiver<Order>) {
    let mut reloader: Option<Box<Reloader>> = None;
    loop {
        match orders.recv_timeout(LOOK_INTERVAL) {
            Ok(Order::Install(new)) => reloader = Some(new),
            Ok(Order::Reload) => match &mut reloader {
                Some(reloader) => {
                    if let Some(config) = reloader.reload() {
                        memory.watermark = watermark(config.memory_max_mib);
                        change(&mut certificates, config.tls.as_ref());
                    }
                }
                None => {
                    if let Some(certificates) = &mut certificates {
                        certificates.reload();
                    }
                }
            },
            Err(RecvTimeoutError::Timeout) => {
                if let Some(certificates) = &mut certificates {
                    certificates.look();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        memory.look();
    }
}

/// Reads certificates from where the settings say now.
fn change(certificates: &mut Option<Certificates>, tls: Option<&Tls>) {
    match (certificates, tls) {
        (Some(certificates), Some(tls)) => {
            if let Err(error) = certificates.change(tls.clone()) {
                tracing::error!(%error, "new certificates can't be used; the old ones stay in use");
            }
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => tracing::warn!("turning TLS on or off needs a restart"),
    }
}

fn watermark(memory_max_mib: Option<NonZeroU32>) -> u64 {
    memory_max_mib.map_or_else(default_watermark, |mib| u64::from(mib.get()) * MIB)
}

/// The watermark on the process's memory.
struct Memory {
    /// Bytes.
    watermark: u64,
    is_short: bool,
    control: Arc<Control>,
}

impl Memory {
    fn look(&mut self) {
        let Some(resident) = resident_bytes() else { return };
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

/// Nine tenths of the machine's memory, or of the control group's if that is less.
fn default_watermark() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib(&text, "MemTotal:"));
    let bytes = machine.unwrap_or(u64::MAX).min(group_limit().unwrap_or(u64::MAX));
    bytes / 10 * 9
}

/// The least memory.max from this process's control group (cgroups(7), version 2) up to the root.
fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = std::path::Path::new("/sys/fs/cgroup").join(group);
    let limits = path
        .ancestors()
        .take_while(|path| path.starts_with("/sys/fs/cgroup"))
        .filter_map(|path| fs::read_to_string(path.join("memory.max")).ok()?.trim().parse::<u64>().ok());
    limits.min()
}
