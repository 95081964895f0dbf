"""Fault 88: a collector hands over under load, again and again; no request is refused, nothing is lost. See README.md.

    python3 tests senders.handover TICKSTREAM [ROUNDS]
"""

import http.client
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

from senders.installation import Installation, wait_for
from senders.protocols import Own
from support.process_stats import is_running

THREADS = 4
LATE_S = 0.3
# A connection at rest is closed so long after its process has handed over; less a moment.
LAST_REQUEST_S = 0.8


class Successor:
    """A process that another one has started."""

    def __init__(self, pid):
        self.pid, self.args = pid, ["tickstream", "collect"]

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=60):
        wait_for(lambda: not is_running(self.pid), f"{self.pid} doesn't end")
        return 0


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def collectors(line):
    """The processes with this command line, which names a folder of its own."""
    running = (int(path.name) for path in pathlib.Path("/proc").iterdir() if path.name.isdecimal())
    return {pid for pid in running if command_line(pid) == line}


class Application(threading.Thread):
    """Sends each event once, over a connection of its own, and never again."""

    def __init__(self, sender):
        super().__init__(daemon=True)
        self.sender, self.failures, self.is_over = sender, [], False

    def run(self):
        number = 0
        while not self.is_over:
            markers = [f"{self.sender.name}-{number}"]
            try:
                if self.sender.send(markers):
                    self.sender.answered += markers
                else:
                    self.failures.append((markers, "refused"))
            except (OSError, ValueError) as error:
                self.failures.append((markers, error))
            number += 1


class Late(Own):
    """Connects, and sends its request later."""

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.installation.ports["http"], timeout=12)

    def send(self, markers):
        connection = self.connect()
        connection.connect()
        time.sleep(LATE_S)
        is_stored = self.exchange(connection, markers)
        connection.close()
        return is_stored

    def exchange(self, connection, markers):
        event = {"platform": "test", "event_type": "custom", "custom": {"schema": "s"}}
        body = json.dumps([{**event, "event_name": marker} for marker in markers])
        connection.request("POST", "/v1/events", body, {"X-API-Key": "bk_0b77ffee"})
        answer = connection.getresponse()
        return answer.status == 200 and json.loads(answer.read())["rejected"] == []


class KeptAlive(Late):
    """Sends all requests over one connection, and over another one once an answer says that it is the last."""

    connection, answered_at = None, 0.0

    def send(self, markers):
        self.connection = self.connection or self.connect()
        time.sleep(0.2)
        # Whoever had to wait for the CPU for longer than a connection has for its last request looks first, as clients do.
        if self.connection.sock and time.monotonic() > self.answered_at + LAST_REQUEST_S and select.select([self.connection.sock], [], [], 0)[0]:
            self.connection.close()
        is_stored = self.exchange(self.connection, markers)
        self.answered_at = time.monotonic()
        return is_stored


class Fluent(Own):
    """Sends records without asking for acknowledgements, over a connection that it keeps. Like Fluent's loggers, it looks before each
    whether the connection is closed."""

    stream, listener, pause_s = None, "fluent", 0.01

    def send(self, markers):
        if self.stream and select.select([self.stream], [], [], 0)[0]:
            self.stream.close()
            self.stream = None
        if self.stream is None:
            self.stream = socket.create_connection(("127.0.0.1", self.installation.ports[self.listener]), timeout=12)
        self.stream.sendall(b"".join(map(self.record, markers)))
        time.sleep(self.pause_s)
        return True

    def record(self, marker):
        text = lambda value: bytes([0xD9, len(value)]) + value.encode()
        # A time of 0 is none: the collector's own.
        return b"\x93" + text("app") + b"\x00\x81" + text("message") + text(marker)


class Syslog(Fluent):
    """The same with lines over TCP, like rsyslog."""

    listener, pause_s = "syslog_tcp", 0.002

    def record(self, marker):
        return f"<13>1 - host app - - - {marker}\n".encode()


def main():
    tickstream = pathlib.Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    folder = pathlib.Path(tempfile.mkdtemp(prefix="handover-"))
    log = folder / "app.log"
    log.touch()
    config = f'state_dir = "{folder}/state"\n[[source.file]]\npaths = ["{log}"]\n'
    installation = Installation(tickstream, folder, config=config)
    installation.wait_until_ready()
    kinds = [*[Own] * THREADS, Late, KeptAlive]
    streams = [Application(Syslog("syslog", installation, 0)), Application(Fluent("fluent", installation, 0))]
    applications = [Application(kind(f"app{index}", installation, 0)) for index, kind in enumerate(kinds)] + streams
    for application in applications:
        application.start()
    lines = []
    for _ in range(rounds):
        write(log, lines)
        old = installation.collector
        line = command_line(old.pid)
        old.send_signal(signal.SIGUSR2)
        # The old one may have ended before anybody looks.
        new = lambda: collectors(line) - {old.pid}
        wait_for(new, "no process was started")
        successor = Successor(new().pop())
        write(log, lines)
        assert old.wait(timeout=60) == 0, f"see {folder}"
        installation.collector = successor
        write(log, lines)
        time.sleep(0.5)
    # While the configuration can't be used, nothing is handed over.
    (folder / "collect.toml").write_text(config + "nonsense = 1\n")
    installation.collector.send_signal(signal.SIGUSR2)
    wait_for(lambda: "this process goes on" in (folder / "collector.log").read_text(), "a broken start isn't told")
    for application in applications:
        application.is_over = True
        application.join()
    messages = lambda: [event["log"]["message"] for event in installation.events("--bare") if "log" in event]
    file_events = lambda: [message for message in messages() if message.startswith("line")]
    wait_for(lambda: len(file_events()) >= len(lines), "lines are missing", file_events)
    installation.close()
    stored = [event["event_name"] for event in installation.events("--bare") if "log" not in event]
    assert file_events() == lines, (file_events(), lines)
    for application in applications:
        assert not application.failures, f"{application.failures[:3]}; see {folder}"
        assert application.sender.answered, application.sender.name
    for stream in streams:
        name, sent = stream.sender.name, stream.sender.answered
        found = [message for message in messages() if message.startswith(name)]
        assert sorted(found) == sorted(sent), f"{len(found)} of {len(sent)} by {name}; see {folder}"
    answered = [marker for application in applications if application not in streams for marker in application.sender.answered]
    assert sorted(stored) == sorted(answered), f"{len(stored)} stored, {len(answered)} answered; see {folder}"
    print(f"{rounds} processes took over under load: {len(answered)} requests, none refused; {len(lines)} lines of a file and " + " and ".join(f"{len(stream.sender.answered)} by {stream.sender.name}" for stream in streams) + ", once each")
    shutil.rmtree(folder)


def write(log, lines):
    new = [f"line {len(lines) + index}" for index in range(50)]
    with log.open("a") as file:
        file.write("".join(f"{line}\n" for line in new))
    lines += new


main()
