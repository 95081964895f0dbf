//! Calls of Linux that std doesn't offer: a thread's signals, descriptors, CPUs and clocks, limits, and free memory.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Keeps signals from the calling thread and those that it starts: they are the main thread's to handle.
///
/// # Errors
/// None that is known.
pub fn block_signals() -> io::Result<()> {
    // SAFETY: the set is a local of plain numbers, filled before it is read; the kernel takes null for the old one.
    let errno = unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut())
    };
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// Gives the calling thread a descriptor table of its own: RLIMIT_NOFILE then holds for it alone, and other
/// threads don't contend for it. What is open stays open in both.
///
/// # Errors
/// ENOMEM, or EPERM from a seccomp filter.
pub fn own_descriptor_table() -> io::Result<()> {
    // SAFETY: no pointers. Numbers of descriptors that other threads open later mean nothing here: none is
    // passed, and signal handlers, which write to such, don't run here (`block_signals`).
    match unsafe { libc::unshare(libc::CLONE_FILES) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes over the descriptors that are this thread's own, and closes the others: after [`own_descriptor_table`], in a
/// thread whose table was copied from one that has both.
pub fn keep_descriptors(own: &[RawFd], all: &[RawFd]) -> Vec<OwnedFd> {
    for fd in all.iter().filter(|fd| !own.contains(fd)) {
        // SAFETY: the table is this thread's own. What owns these numbers elsewhere owns descriptors of another
        // table, so nothing owns the copies that came with this one; `all` names each once.
        drop(unsafe { OwnedFd::from_raw_fd(*fd) });
    }
    // SAFETY: as above; `own` names each once, and they were left open.
    own.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }).collect()
}

/// Takes over a descriptor that the process was started with. Call it once for each.
///
/// # Errors
/// EBADF if it isn't open.
pub fn take_descriptor(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; F_GETFD changes nothing, whatever the number means.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open. The environment says that it was passed on for who calls this, which happens once for each
    // (see above), before anything else could own it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The calling thread, as the kernel numbers it.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments; it can't fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// Lets the calling thread, and those that it starts, run on these CPUs only.
///
/// # Errors
/// EINVAL if none of them may be used.
pub fn run_on(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: the set is a local of plain numbers, all zeros when it is empty. CPU_SET indexes it, with numbers below
    // CPU_SETSIZE only; the kernel reads as many bytes as it has.
    let result = unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets others run before the calling thread, and those that it starts: adds to its niceness, 0 to 19.
///
/// # Errors
/// None that is known for more than 0.
pub fn be_nice(by: i32) -> io::Result<()> {
    // SAFETY: no pointers. On Linux this is about the calling thread alone (setpriority(2), "C library/kernel
    // differences").
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, by.clamp(0, 19)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Longest wait for what a process that was killed had: 6 to 160 ms were seen, more than a second on a busy machine.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);
/// Wait between two attempts.
const RELEASE_INTERVAL: Duration = Duration::from_millis(20);

/// Takes something that a process which was just killed may still have; tries again for a moment while `is_held` says so. The
/// kernel gives back what a ring has a moment after its process has ended: its sockets, and locked memory, as which a
/// user's rings count since Linux 6.14.
///
/// # Errors
/// Those of `take`.
pub fn once_released<T, E>(
    mut take: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match take() {
            Err(error) if is_held(&error) && begun.elapsed() < RELEASED_WITHIN => {
                std::thread::sleep(RELEASE_INTERVAL);
            }
            taken => return taken,
        }
    }
}

/// Gives memory that glibc's allocator holds free back to the system; without glibc, nothing is done. Threads that allocate
/// wait for it: it goes over all free memory.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; malloc_trim(3) may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Memory that the program has from glibc's allocator, in bytes; `None` without glibc. What is resident beyond it is, but for
/// programs' code and stacks, free memory that the allocator holds.
pub fn allocated_memory() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: no pointers; mallinfo2(3) takes the locks that it needs.
        let info = unsafe { libc::mallinfo2() };
        Some((info.uordblks + info.hblkhd) as u64)
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

/// The peer of a connected socket.
///
/// # Errors
/// ENOTCONN if it is gone already.
pub fn peer(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = SockRef::from(&fd.as_fd()).peer_addr()?;
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// CLOCK_MONOTONIC, which the ring's timer runs on, nanoseconds.
    pub mono_ns: u64,
    /// CLOCK_REALTIME, nanoseconds since 1970.
    pub unix_ns: u64,
}

/// Reads both clocks.
pub fn clocks() -> Clocks {
    Clocks { mono_ns: clock_ns(libc::CLOCK_MONOTONIC), unix_ns: clock_ns(libc::CLOCK_REALTIME) }
}

/// CPU time of the calling thread, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec of our own to write into; all three clocks exist on every Linux, so it can't fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The real-time clock's discipline: true if something synchronizes it, and its largest error in microseconds, as the
/// kernel accounts for it; `None` where a seccomp filter forbids to ask.
pub fn clock_discipline() -> Option<(bool, u64)> {
    // SAFETY: `timex` is a local of plain numbers, for which zeros are valid; with no mode set, the kernel only
    // writes into it.
    let (state, timex) = unsafe {
        let mut timex = std::mem::zeroed::<libc::timex>();
        (libc::adjtimex(&raw mut timex), timex)
    };
    let is_synchronized = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    (state >= 0).then(|| (is_synchronized, u64::try_from(timex.maxerror).unwrap_or(0)))
}

/// A soft and a hard limit of the process.
///
/// # Errors
/// EINVAL for a resource that doesn't exist.
pub fn limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit, into the local one; it refuses resources that it doesn't know.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => Ok((limit.rlim_cur, limit.rlim_max)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit on a resource to the hard one, and answers with it.
///
/// # Errors
/// Errors of getrlimit(2) and setrlimit(2).
pub fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let (soft, hard) = limit(resource)?;
    let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit, the local one, and changes no memory.
    if soft < hard && unsafe { libc::setrlimit(resource, &raw const raised) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(hard)
}

/// Binds `socket` to a source address and leaves the port to `connect`, which can then use a port once per
/// destination instead of once at all.
///
/// # Errors
/// If the address isn't one of this host's.
pub fn bind_source(socket: BorrowedFd<'_>, source: Ipv4Addr) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads the option, an int, from this stack, and no more than the size that is passed with it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    SockRef::from(&socket).bind(&SocketAddrV4::new(source, 0).into())
}
