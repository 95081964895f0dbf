//! Conditions for the first shard's start: the kernel, io_uring and the limits, checked in one place, so
//! that a server that starts can serve.

use std::io;
use std::num::NonZeroU32;

use crate::config::Config;
use crate::ring;

/// The oldest kernel that has all that the socket ring needs (IORING_SETUP_DEFER_TASKRUN came last).
pub const KERNEL_MIN: (u32, u32) = (6, 1);
/// Descriptors of a shard beside its connections: rings, event descriptors, the listener, standard streams, what
/// other shards had open when it began, and room to refuse connections.
pub const DESCRIPTORS_RESERVED: u64 = 128;
/// Locked memory that glommio wants for an executor, bytes.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Something about this machine that makes serving impossible.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// A kernel without what the socket ring needs.
    #[error(
        "Linux {} is too old: tickstream needs {}.{} or later for io_uring's DEFER_TASKRUN and multishot receive",
        .release, KERNEL_MIN.0, KERNEL_MIN.1
    )]
    Kernel {
        /// Name of the kernel.
        release: String,
    },
    /// A limit below what a shard needs.
    #[error(
        "the limit on {what} is {limit}, which is below the {needed} that a shard needs; raise it with {how}"
    )]
    Limit {
        /// Descriptors or locked memory.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The least.
        needed: u64,
        /// The command.
        how: &'static str,
    },
    /// More connections than descriptors.
    #[error(
        "max_connections = {wanted} doesn't fit: {} of {descriptors} descriptors each \
         (RLIMIT_NOFILE) hold {most}; raise the limit (ulimit -Hn, LimitNOFILE=) or the number of shards",
        tickstream_service::text::counted(*shards as u64, "shard")
    )]
    Connections {
        /// Connections that the settings ask for.
        wanted: u32,
        /// Number of shards.
        shards: usize,
        /// The limit of each.
        descriptors: u64,
        /// Connections that fit.
        most: u64,
    },
    /// io_uring can't be used.
    #[error("io_uring can't be used: {cause} ({source})")]
    IoUring {
        /// The likely cause, and what to do.
        cause: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// A limit can't be read or raised.
    #[error("can't read or raise {what}: {source}")]
    Unreadable {
        /// The limit.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

/// Checks the machine, raises the limits on descriptors and locked memory as far as they go, and answers how many connections each
/// shard may hold.
///
/// # Errors
/// See [`PreflightError`].
pub fn check(config: &Config) -> Result<NonZeroU32, PreflightError> {
    check_kernel()?;
    let memlock = ring::raise_limit(libc::RLIMIT_MEMLOCK)
        .map_err(|source| PreflightError::Unreadable { what: "RLIMIT_MEMLOCK", source })?;
    let needed = MEMLOCK_BYTES_MIN;
    if memlock < needed {
        let (what, how) = ("locked memory, bytes (RLIMIT_MEMLOCK),", "ulimit -l 8192 or LimitMEMLOCK=8M");
        return Err(PreflightError::Limit { what, limit: memlock, needed, how });
    }
    let descriptors = ring::raise_limit(libc::RLIMIT_NOFILE)
        .map_err(|source| PreflightError::Unreadable { what: "RLIMIT_NOFILE", source })?;
    if descriptors <= DESCRIPTORS_RESERVED {
        let (what, how) = ("descriptors (RLIMIT_NOFILE)", "ulimit -n 20000 or LimitNOFILE=");
        let needed = DESCRIPTORS_RESERVED + 1;
        return Err(PreflightError::Limit { what, limit: descriptors, needed, how });
    }
    probe().map_err(|source| PreflightError::IoUring { cause: cause(&source), source })?;
    share(config.settings.max_connections, config.shards.get(), descriptors)
}

/// Tries to make a ring as a shard needs it, in a thread that is thrown away with it.
pub fn probe() -> io::Result<()> {
    let panicked = |_| Err(io::Error::other("the probe panicked"));
    std::thread::spawn(ring::probe).join().unwrap_or_else(panicked)
}

fn check_kernel() -> Result<(), PreflightError> {
    let path = "/proc/sys/kernel/osrelease";
    let release =
        std::fs::read_to_string(path).map_err(|source| PreflightError::Unreadable { what: path, source })?;
    let release = release.trim();
    if is_recent(release) { Ok(()) } else { Err(PreflightError::Kernel { release: release.to_owned() }) }
}

/// True if a kernel of this release has what is needed; one that can't be parsed may try.
fn is_recent(release: &str) -> bool {
    kernel_version(release).is_none_or(|version| version >= KERNEL_MIN)
}

/// Major and minor version; `None` for a release that doesn't begin with them.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Why io_uring refused, as far as the errno tells.
pub fn cause(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden here; set kernel.io_uring_disabled=0 with sysctl, or allow io_uring_setup, \
             io_uring_enter and io_uring_register in the container's seccomp profile"
        }
        Some(libc::ENOSYS) => "the kernel was built without it, or a seccomp filter hides it",
        Some(libc::EINVAL) => {
            "the kernel lacks DEFER_TASKRUN or provided buffer rings; use Linux 6.1 or later"
        }
        Some(libc::ENOMEM) => "out of memory, or RLIMIT_MEMLOCK is too low; raise it with ulimit -l",
        _ => "unexpectedly",
    }
}

/// Connections of each shard: what was asked for divided among them, or as many as descriptors allow.
fn share(wanted: Option<NonZeroU32>, shards: usize, descriptors: u64) -> Result<NonZeroU32, PreflightError> {
    let fits = (descriptors - DESCRIPTORS_RESERVED).min(u64::from(ring::SLOTS));
    let each = match wanted {
        None => fits,
        Some(wanted) => u64::from(wanted.get()).div_ceil(shards as u64),
    };
    match u32::try_from(each).ok().filter(|_| each <= fits).and_then(NonZeroU32::new) {
        Some(each) => Ok(each),
        None => Err(PreflightError::Connections {
            wanted: wanted.map_or(0, NonZeroU32::get),
            shards,
            descriptors,
            most: fits * shards as u64,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_6_1_on_are_taken() {
        let check = |release, expected| assert_eq!(is_recent(release), expected, "{release}");
        check("6.1.0", true);
        check("6.18.44-generic", true);
        check("7.0", true);
        check("6.0.19", false);
        check("5.15.0-91-generic", false);
        check("custom", true);
    }

    #[test]
    fn connections_are_shared_out_and_must_fit() {
        let check = |wanted, shards, descriptors, expected: Option<u32>| {
            let each = share(NonZeroU32::new(wanted), shards, descriptors).ok().map(NonZeroU32::get);
            assert_eq!(each, expected, "{wanted} on {shards} shards of {descriptors}");
        };
        check(0, 4, 20_000, Some(19_872));
        check(10, 4, 20_000, Some(3));
        check(79_488, 4, 20_000, Some(19_872));
        check(79_489, 4, 20_000, None);
        check(1, 1, 129, Some(1));
    }
}
