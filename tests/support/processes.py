"""Starting, pinning, sampling and ending processes, for tests and scripts.

Every process runs under timeout(1), so that none outlives a script that was killed, and is ended by its own id.
"""

import contextlib
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import time

from support import process_stats

HOST = "127.0.0.1"
PORT_RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
PORT_RANGE_WIDE = "1024 65535"
# Below what connections take when the range is wide, above what services of a machine are usually on.
PORTS_LOW = range(600, 1000)
START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 15.0
KILL_AFTER_S = 10


class ProcessError(Exception):
    """A process didn't start, or ended in a way that leaves nothing to report."""


class Process:
    """A child process under timeout(1), with its output in a file."""

    def __init__(self, name, command, log, *, limit_s, cpus=None, descriptors=None, env=None):
        """`cpus` as for taskset(1); `descriptors` is the RLIMIT_NOFILE that it is to have."""
        self.name = name
        self.log = pathlib.Path(log)
        self.limit_s = limit_s
        pinned = ["taskset", "--cpu-list", str(cpus)] if cpus is not None else []
        limited = ["timeout", f"--kill-after={KILL_AFTER_S}", str(int(limit_s))]
        command = limited + pinned + [str(word) for word in command]
        with self.log.open("ab") as output:
            self._timeout = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if env is None else os.environ | env,
                preexec_fn=None if descriptors is None else lambda: limit_descriptors(descriptors),
            )
        self.pid = self._child()

    def _child(self):
        """The id of what timeout(1) started; taskset(1) leaves its own to the command."""
        children = pathlib.Path(f"/proc/{self._timeout.pid}/task/{self._timeout.pid}/children")
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self.running():
            # It may not have forked yet.
            pids = children.read_text().split() if children.exists() else []
            if pids:
                return int(pids[0])
            time.sleep(0.005)
        raise ProcessError(f"{self.name} ended at once:\n{self.log_tail()}")

    def running(self):
        return self._timeout.poll() is None

    def wait_until_listening(self, port):
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if not self.running():
                raise ProcessError(f"{self.name} ended at its start:\n{self.log_tail()}")
            if is_open(port):
                return
            time.sleep(0.05)
        raise ProcessError(f"{self.name} doesn't listen on port {port}:\n{self.log_tail()}")

    def wait(self):
        """Waits until it ends by itself; returns the exit code."""
        code = self._timeout.wait()
        if code in (124, 137):
            raise ProcessError(f"{self.name} took longer than {self.limit_s:.0f} s:\n{self.log_tail()}")
        return code

    def interrupt(self):
        """Asks it to finish early (SIGINT)."""
        if self.running():
            os.kill(self.pid, signal.SIGINT)

    def kill(self):
        """Ends it at once, without a chance to do anything (SIGKILL)."""
        os.kill(self.pid, signal.SIGKILL)
        self._timeout.wait(END_TIMEOUT_S)

    def end(self):
        """Ends it, if it still runs: SIGTERM, which timeout(1) passes on, then SIGKILL."""
        if self.running():
            self._timeout.terminate()
        try:
            self._timeout.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self._timeout.wait(END_TIMEOUT_S)

    def log_tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    # Samples

    def resident_bytes(self):
        try:
            return process_stats.resident_bytes(self.pid)
        except (OSError, LookupError):
            raise ProcessError(f"{self.name} is gone") from None

    def descriptors(self):
        """Open descriptors of all its threads. A thread may have a table of its own; a shared one counts once."""
        tables = set()
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            tables.add(frozenset(links(task / "fd")))
        return sum(len(table) for table in tables)


def links(directory):
    """Targets of the descriptors in a /proc/…/fd: no two tables with a socket are alike."""
    try:
        entries = list(directory.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        # The thread has ended.
        return
    for entry in entries:
        try:
            yield entry.name, os.readlink(entry)
        except (FileNotFoundError, ProcessLookupError):
            continue


def limit_descriptors(wanted):
    """Raises RLIMIT_NOFILE of the calling process to `wanted`, if it may, else as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    """A port below 1024 where that is allowed: no outgoing connection can have taken it. Else any that is free."""
    if os.geteuid() == 0:
        for port in random.sample(PORTS_LOW, len(PORTS_LOW)):
            if is_free(port):
                return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


# Of this process until it ends.
_reserved_ports = []


def free_ports(count):
    """So many ports that are free, none twice, and none that another process was given here, which may not listen yet."""
    ports = []
    with contextlib.ExitStack() as bound:
        while len(ports) < count:
            port = bound.enter_context(socket.create_server((HOST, 0))).getsockname()[1]
            with contextlib.suppress(OSError):
                _reserved_ports.append(reservation(port))
                ports.append(port)
    return ports


def reservation(port):
    """A name of the kernel's, which goes with the process; an OSError if another process has it."""
    reserved = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    reserved.bind(f"\0tickstream-test-port-{port}")
    return reserved


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(is_so, timeout_s):
    """Waits until `is_so()` is true; False if it isn't in that time."""
    until = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def is_open(port):
    """True if something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def widen_port_range():
    """Lets outgoing connections take every port from 1024 on, if this may be set. Answers what was done."""
    before = " ".join(PORT_RANGE.read_text().split())
    if before == PORT_RANGE_WIDE:
        return None
    if os.geteuid() != 0:
        return f"net.ipv4.ip_local_port_range stays {before}: run as root to widen it to {PORT_RANGE_WIDE}"
    PORT_RANGE.write_text(PORT_RANGE_WIDE)
    return f"net.ipv4.ip_local_port_range was {before}, and is {PORT_RANGE_WIDE} from now on"
