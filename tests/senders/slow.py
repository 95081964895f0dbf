"""Fault 65: connections that send a byte a second are closed at their deadlines, and others are unharmed. See README.md.

    python3 tests senders.slow TICKSTREAM [CONNECTIONS]
"""

import pathlib
import resource
import selectors
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time

from senders.installation import Installation
from senders.protocols import Own
from support.process_stats import resident_bytes

# The first bytes of each, by listener; then one byte a second.
BEGINNINGS = {
    "http": [b"POST /v1/events HTTP/1.1\r\nx-slow: ", b"POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n["],
    "otlp_grpc": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\0", b"PRI * HT"],
    "syslog_tcp": [b"<13>never ends ", b"9999 <13>"],
    "relp": [b"1 syslog 5000 "],
}
# A message of a stream has 30 s; heads and bodies have what the flags below say. Others share two cores with the flood.
CLOSED_WITHIN_S, LATENCY_S_MAX = 60, 2


def main():
    tickstream = pathlib.Path(sys.argv[1]).resolve()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard >= count + 500, f"{count} connections need more than {hard} descriptors"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="slow-"))
    flags = ("--idle-timeout", "5s", "--body-timeout", "5s")
    installation = Installation(tickstream, folder, collector_flags=flags)
    installation.wait_until_ready()
    latencies, is_over = [], threading.Event()
    other = threading.Thread(target=bystander, args=(installation, latencies, is_over))
    other.start()
    began = time.monotonic()
    open_ones = connect(installation, count)
    peak = resident_bytes(installation.collector.pid) >> 20
    selector = selectors.DefaultSelector()
    for connection in open_ones:
        selector.register(connection, selectors.EVENT_READ)
    while open_ones and time.monotonic() - began < CLOSED_WITHIN_S:
        until = time.monotonic() + 1
        for connection in list(open_ones):
            if not sends(connection, b"a"):
                close(connection, open_ones, selector)
        while (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if has_ended(key.fileobj):
                    close(key.fileobj, open_ones, selector)
        peak = max(peak, resident_bytes(installation.collector.pid) >> 20)
    took = time.monotonic() - began
    is_over.set()
    other.join()
    assert not open_ones, f"{len(open_ones)} of {count} are still open after {took:.0f} s"
    p99 = statistics.quantiles(latencies, n=100)[98]
    assert p99 < LATENCY_S_MAX, f"p99 of another sender: {p99:.2f} s"
    installation.close()
    print(f"{count} slow connections, all closed after {took:.0f} s; {len(latencies)} requests of another sender, p99 {p99 * 1e3:.0f} ms, "
          f"peak {peak} MiB")
    shutil.rmtree(folder)


def bystander(installation, latencies, is_over):
    sender, number = Own("bystander", installation, 0), 0
    while not is_over.is_set():
        began = time.monotonic()
        assert sender.send([f"bystander-{number}"])
        latencies.append(time.monotonic() - began)
        number += 1
        time.sleep(0.02)


def connect(installation, count):
    kinds = [(listener, beginning) for listener, beginnings in BEGINNINGS.items() for beginning in beginnings]
    connections = set()
    for index in range(count):
        listener, beginning = kinds[index % len(kinds)]
        connection = socket.create_connection(("127.0.0.1", installation.ports[listener]), timeout=30)
        connection.sendall(beginning)
        connection.setblocking(False)
        connections.add(connection)
    return connections


def sends(connection, byte):
    try:
        connection.send(byte)
        return True
    except BlockingIOError:
        return True
    except OSError:
        return False


def has_ended(connection):
    try:
        return connection.recv(65_536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def close(connection, open_ones, selector):
    if connection in open_ones:
        open_ones.remove(connection)
        selector.unregister(connection)
        connection.close()


main()
