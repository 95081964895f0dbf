"""A plain healthy subscriber, in a process of its own so that nothing of a test delays it.

    python3 tests faults.bystander HOST PORT [PRELUDE]    with STREAM_USER and STREAM_PASS in the environment

PRELUDE are bytes to send before all others, in hexadecimal.

Says "ready" once it is subscribed, reads and heartbeats until its standard input ends, then waits for the ticks that
were due until then, and says as JSON what it saw. Every tick counts: a missing, doubled or mislabelled one, an ERROR
and a lost connection are told as "fault".
"""

import json
import os
import sys
import threading
import time

from support.tickstream_client import Client, ConnectionClosed, MsgType, ProtocolError, ticks_of

# How long after the end a tick that was due before it may come.
GRACE_S = 5.0
SOURCE_HOST = "127.200.0.1"


class Bystander:
    def __init__(self, client, interval_s, next_sequence):
        self.client = client
        self.interval_s = interval_s
        self.heartbeat_at = time.monotonic()
        self.next_sequence = next_sequence
        self.lateness_s = []
        self.newest_due = 0.0

    def read_until(self, is_over):
        while not is_over():
            self._heartbeat()
            try:
                message = self.client.read(0.1)
            except TimeoutError:
                continue
            if message.type == MsgType.DATA_BATCH:
                self._check(ticks_of(message))
            elif message.type != MsgType.HEARTBEAT:
                raise ProtocolError(f"{message.type.name} {message.fields}")

    def _heartbeat(self):
        if time.monotonic() >= self.heartbeat_at:
            self.client.heartbeat()
            self.heartbeat_at = time.monotonic() + self.interval_s / 2

    def _check(self, ticks):
        for tick in ticks:
            if tick.sequence != self.next_sequence:
                raise ProtocolError(f"tick {tick.sequence} instead of {self.next_sequence}")
            self.next_sequence += 1
            self.newest_due = tick.epoch_ms / 1000
            self.lateness_s.append(tick.lateness_s)

    def result(self, fault):
        lateness_s = sorted(self.lateness_s)
        median_s = lateness_s[len(lateness_s) // 2] if lateness_s else 0.0
        worst_s = lateness_s[-1] if lateness_s else 0.0
        return {"ticks": len(lateness_s), "late_median_s": median_s, "late_max_s": worst_s, "fault": fault}


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    source_host = SOURCE_HOST if host.startswith("127.") else None
    client = Client(host, port, timeout_s=15.0, source_host=source_host)
    if len(sys.argv) > 3:
        client.send_raw(bytes.fromhex(sys.argv[3]))
    ack = client.authenticate(os.environ["STREAM_USER"], os.environ["STREAM_PASS"])
    first = client.subscribe("SECOND")["next_sequence"]
    bystander = Bystander(client, ack["heartbeat_interval_ms"] / 1000, first)
    print("ready", flush=True)

    ending = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ending.set()), daemon=True).start()
    fault = None
    try:
        bystander.read_until(ending.is_set)
        end, deadline = time.time(), time.monotonic() + GRACE_S
        bystander.read_until(lambda: bystander.newest_due >= end or time.monotonic() > deadline)
        if bystander.newest_due < end:
            fault = f"no tick for the last {end - bystander.newest_due:.1f} s"
    except (ConnectionClosed, ProtocolError, OSError) as error:
        fault = f"{type(error).__name__}: {error}"
    print(json.dumps(bystander.result(fault)), flush=True)


if __name__ == "__main__":
    main()
