"""Becomes a command under limits that it doesn't expect:

    python3 tests/faults/confine.py [--nofile N] [--memlock N] [--deny NAME=ERRNO ...] [--osrelease TEXT] [--close FD ...]
        [--activate FD] -- COMMAND

--activate passes a descriptor as a service manager does: as number 3, named by LISTEN_FDS and LISTEN_PID.

The command ends with the thread that started it (PR_SET_PDEATHSIG), so that no server outlives its test.
"""

import argparse
import ctypes
import errno
import os
import resource
import signal
import struct
import sys
import tempfile

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
BPF_LD_W_ABS, BPF_JMP_JEQ_K, BPF_RET_K = 0x20, 0x15, 0x06
# The same on all architectures that have io_uring at all, but alpha.
SYSCALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x00020000, 0x1000, 0x4000, 0x40000
# The first descriptor of sd_listen_fds(3).
MANAGER_FD = 3
OSRELEASE = "/proc/sys/kernel/osrelease"

libc = ctypes.CDLL(None, use_errno=True)


def main():
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--nofile", type=int)
    options.add_argument("--memlock", type=int)
    options.add_argument("--deny", action="append", default=[])
    options.add_argument("--osrelease")
    options.add_argument("--close", type=int, action="append", default=[])
    options.add_argument("--activate", type=int)
    options.add_argument("command", nargs="+")
    given = options.parse_args()

    called("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    if given.osrelease:
        pretend_release(given.osrelease)
    for kind, limit in ((resource.RLIMIT_NOFILE, given.nofile), (resource.RLIMIT_MEMLOCK, given.memlock)):
        if limit is not None:
            resource.setrlimit(kind, (limit, limit))
    if given.deny:
        deny(dict(one.split("=") for one in given.deny))
    for descriptor in given.close:
        os.close(descriptor)
    if given.activate is not None:
        os.dup2(given.activate, MANAGER_FD)
        os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    os.execvp(given.command[0], given.command)


def called(name, *arguments):
    """Calls a function of the C library whose answer other than 0 is an error."""
    widened = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*widened) != 0:
        number = ctypes.get_errno()
        sys.exit(f"confine: {name}: {os.strerror(number)}")


def deny(errors):
    """A seccomp filter that answers these system calls with these errors, and allows all others."""
    program = [(BPF_LD_W_ABS, 0, 0, 0)]  # seccomp_data.nr
    for name, error in errors.items():
        program.append((BPF_JMP_JEQ_K, 0, 1, SYSCALLS[name]))
        program.append((BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | getattr(errno, error)))
    program.append((BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    # struct sock_fprog: the count is padded to a pointer's alignment.
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    called("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    called("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_))


def pretend_release(release):
    """Lets this process read another kernel's release, in a mount namespace of its own. Needs root."""
    called("unshare", CLONE_NEWNS)
    called("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(release + "\n")
        file.flush()
        # The file lives on under the mount.
        called("mount", file.name.encode(), OSRELEASE.encode(), None, MS_BIND, None)


if __name__ == "__main__":
    main()
