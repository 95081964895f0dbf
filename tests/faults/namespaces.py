"""Two hosts and a cable between them: network namespaces, joined by a veth pair. Needs root, ip(8) and nsenter(1)."""

import contextlib
import ctypes
import os
import shutil
import subprocess

from faults.case import confined

CLONE_NEWNET = 0x40000000
SERVER_HOST, CLIENT_HOST = "10.199.0.1", "10.199.0.2"

libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why this machine can't; None if it can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    missing = [tool for tool in ("ip", "nsenter", "unshare") if not shutil.which(tool)]
    return f"needs {' and '.join(missing)}" if missing else None


class Cable:
    """Moves this process into a network namespace where it is SERVER_HOST, and makes another for clients."""

    def __init__(self):
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        self._here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        # A process that lives as long as the other namespace is needed.
        self._holder = subprocess.Popen([*confined(), "unshare", "--net", "sh", "-c", "echo && exec sleep 600"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self._holder.stdout.readline()
        self._there = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "server0", "type", "veth", "peer", "name", "client0", "netns", self._holder.pid)
        run("ip", "address", "add", f"{SERVER_HOST}/24", "dev", "server0")
        run("ip", "link", "set", "server0", "up")
        self._there_run("ip", "address", "add", f"{CLIENT_HOST}/24", "dev", "client0")
        self.plug()

    def plug(self):
        self._there_run("ip", "link", "set", "client0", "up")

    def pull(self):
        """From now on nothing passes, and nobody is told."""
        self._there_run("ip", "link", "set", "client0", "down")

    @contextlib.contextmanager
    def other_end(self):
        """Sockets that this thread makes inside the block are the clients' host's."""
        enter(self._there)
        try:
            yield
        finally:
            enter(self._here)

    def close(self):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
        os.close(self._there)
        os.close(self._here)

    def _there_run(self, *command):
        run("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command)


def enter(namespace):
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)
