use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Gives the calling thread a descriptor table of its own, so that RLIMIT_NOFILE holds for it alone.
///
/// # Errors
/// What `unshare(2)` answers.
pub fn unshare_descriptors() -> io::Result<()> {
    // SAFETY: only this thread's own view of descriptors changes. Callers do it before they open anything, so
    // that no descriptor that another thread owns is used here.
    checked(unsafe { libc::unshare(libc::CLONE_FILES) })
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// If there is no such CPU, or it is not allowed.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the set is a local of plain numbers, for which all zeroes is the empty set; CPU_SET indexes it with
    // `cpu`, which is within it by the check above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        checked(libc::sched_setaffinity(0, size_of_val(&set), &set))
    }
}

/// The kernel's id of the calling thread, as in `/proc/self/task`.
pub fn thread_id() -> i32 {
    // SAFETY: takes nothing and can't fail.
    unsafe { libc::gettid() }
}

/// Time that the calling thread has spent on a CPU, ns.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time lives on this stack; the clock is there since Linux 2.6.12, so that the call can't fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Raises the soft limit on descriptors to the hard one, and gives it.
///
/// # Errors
/// What `getrlimit(2)` and `setrlimit(2)` answer.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit and reads one, both times the local one.
    unsafe {
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            checked(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
        }
    }
    Ok(limit.rlim_cur)
}

/// Binds `socket` to a source address and leaves the port to `connect`, which can then use a port once per
/// destination instead of once at all.
///
/// # Errors
/// If the address isn't one of this host's.
pub fn local_socket_options(socket: BorrowedFd<'_>, source: Ipv4Addr) -> io::Result<()> {
    let on: libc::c_int = 1;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(source).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: the kernel reads the option, an int, and the address, a sockaddr_in, from this stack, and no more than
    // the sizes that are told with them.
    unsafe {
        checked(libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        ))?;
        checked(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        ))
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
