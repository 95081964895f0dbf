"""Linux's figures of processes and their sockets, by proc(5)."""

import os
import pathlib
import socket
import struct

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
TCP_ESTABLISHED = 1


def _status_bytes(pid, field):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no {field} of process {pid}")


def resident_bytes(pid):
    return _status_bytes(pid, "VmRSS")


def resident_peak_bytes(pid):
    """Most memory that was resident at a time, since the start or `clear_resident_peak`."""
    return _status_bytes(pid, "VmHWM")


def clear_resident_peak(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def virtual_peak_bytes(pid):
    return _status_bytes(pid, "VmPeak")


def _stat(path):
    """Fields behind the name: the state, the parent, …"""
    return (pathlib.Path(path) / "stat").read_text().rpartition(")")[2].split()


def is_running(pid):
    """False where it has ended, whether or not its parent knows."""
    try:
        return _stat(f"/proc/{pid}")[0] != "Z"
    except OSError:
        return False


def cpu_seconds(pid):
    """User and system time of all its threads."""
    fields = _stat(f"/proc/{pid}")
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def is_stopped(pid):
    """True if each of its threads is."""
    return all(_stat(task)[0] == "T" for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def _descriptors(pid):
    """Those of the one shard, whose thread has a table of its own."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("shard-"):
            return [int(entry.name) for entry in (task / "fd").iterdir()]
    raise LookupError(f"process {pid} has no shard")


def shard_descriptors(pid):
    """Number of descriptors that the shard has open."""
    return len(_descriptors(pid))


def lowest_free_descriptor(pid):
    """The number that the shard's next descriptor gets."""
    taken = set(_descriptors(pid))
    return next(number for number in range(len(taken) + 1) if number not in taken)


def send_queues(host, port):
    """Of each connection that a server on `host`:`port` has: bytes that its peer hasn't acknowledged."""
    return {peer: queued for peer, state, queued in _connections(host, port) if state == TCP_ESTABLISHED}


def connections_of(host, port):
    """Peers of which the kernel still has a socket that belonged to a server on `host`:`port`, in any state."""
    return [peer for peer, _, _ in _connections(host, port)]


def _connections(host, port):
    address = struct.unpack("=I", socket.inet_aton(host))[0]
    local = f"{address:08X}:{port:04X}"
    for line in pathlib.Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and fields[3] != "0A":
            peer_address, peer_port = fields[2].split(":")
            peer = (socket.inet_ntoa(struct.pack("=I", int(peer_address, 16))), int(peer_port, 16))
            yield peer, int(fields[3], 16), int(fields[4].split(":")[0], 16)
