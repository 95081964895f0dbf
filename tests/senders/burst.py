"""Memory of connections after a burst: those that have all sent at once hold no more than those at rest. See README.md.

    python3 tests senders.burst TICKSTREAM [CONNECTIONS]
"""

import json
import pathlib
import resource
import selectors
import shutil
import socket
import sys
import tempfile
import time

from senders.installation import Installation
from support.process_stats import resident_bytes

# As many bytes as scripts/collect allows for a connection at rest; given back within so long after the last answer.
CONNECTION_BYTES_MAX, GIVEN_BACK_WITHIN_S = 10_000, 30
# What the first requests take for good isn't a connection's.
WARMING = 200
EVENT = {"platform": "web", "event_type": "custom", "event_name": "opened", "custom": {"schema": "s"}}
BODY = json.dumps(EVENT).encode()
REQUEST = b"POST /v1/events HTTP/1.1\r\nhost: collector\r\nx-api-key: bk_0b77ffee\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


def main():
    tickstream = pathlib.Path(sys.argv[1]).resolve()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard >= count + 500, f"{count} connections need more than {hard} descriptors"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="burst-"))
    # Memory is measured, not speed: on a busy machine a burst takes longer than senders usually wait.
    installation = Installation(tickstream, folder, collector_flags=["--answer-timeout", "60s"], listeners=["http"])
    try:
        measure(installation, count)
        installation.close()
    finally:
        for process in (installation.collector, installation.server):
            process.kill()
    shutil.rmtree(folder)


def measure(installation, count):
    installation.wait_until_ready()
    warm = connect(installation, WARMING)
    send_at_once(warm)
    before = resident_bytes(installation.collector.pid)
    connections = connect(installation, count)
    opened = resident_bytes(installation.collector.pid)
    began = time.monotonic()
    send_at_once(connections)
    took = time.monotonic() - began
    peak = resident_bytes(installation.collector.pid)
    each = lambda resident: (resident - before) / count
    until = time.monotonic() + GIVEN_BACK_WITHIN_S
    while (left := resident_bytes(installation.collector.pid)) > before + count * CONNECTION_BYTES_MAX and time.monotonic() < until:
        time.sleep(0.2)
    figures = (f"{count} connections that sent at once, answered within {took:.1f} s; bytes of each: {each(opened):,.0f} when opened, "
               f"{each(peak):,.0f} with the answers, {each(left):,.0f} within {GIVEN_BACK_WITHIN_S - max(0, until - time.monotonic()):.1f} s after")
    print(figures)
    for connection in [*warm, *connections]:
        connection.close()
    assert each(left) <= CONNECTION_BYTES_MAX, figures


def connect(installation, count):
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection(("127.0.0.1", installation.ports["http"])))
    time.sleep(0.5)
    return connections


def send_at_once(connections):
    """Until each has its answer."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    for connection in connections:
        assert connection.send(REQUEST) == len(REQUEST)
    waiting = len(connections)
    while waiting:
        ready = selector.select(30)
        assert ready, f"{waiting} connections have no answer"
        for key, _ in ready:
            answer = key.fileobj.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            selector.unregister(key.fileobj)
            waiting -= 1


if __name__ == "__main__":
    main()
