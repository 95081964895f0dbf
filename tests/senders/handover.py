"""Fault 88: a collector hands over under load, again and again; no request is refused, nothing is lost. See README.md.

    handover.py TICKSTREAM [ROUNDS]
"""

import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time

from installation import Installation, wait_for
from protocols import Own

THREADS = 4


class Successor:
    """A process that another one has started."""

    def __init__(self, pid):
        self.pid, self.args = pid, ["tickstream", "collect"]

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=60):
        wait_for(lambda: not is_running(self.pid), f"{self.pid} doesn't end")
        return 0


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


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


def main():
    tickstream = pathlib.Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    folder = pathlib.Path(tempfile.mkdtemp(prefix="handover-"))
    log = folder / "app.log"
    log.touch()
    config = f'state_dir = "{folder}/state"\n[[source.file]]\npaths = ["{log}"]\n'
    installation = Installation(tickstream, folder, config=config)
    installation.wait_until_ready()
    applications = [Application(Own(f"app{index}", installation, 0)) for index in range(THREADS)]
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
    file_events = lambda: [event["log"]["message"] for event in installation.events("--bare") if "log" in event]
    wait_for(lambda: len(file_events()) >= len(lines), "lines are missing", file_events)
    installation.close()
    stored = [event["event_name"] for event in installation.events("--bare") if "log" not in event]
    assert file_events() == lines, (file_events(), lines)
    for application in applications:
        assert not application.failures, f"{application.failures[:3]}; see {folder}"
        assert application.sender.answered, application.sender.name
    answered = [marker for application in applications for marker in application.sender.answered]
    assert sorted(stored) == sorted(answered), f"{len(stored)} stored, {len(answered)} answered; see {folder}"
    print(f"{rounds} processes took over under load: {len(answered)} requests, none refused; {len(lines)} lines, once each")
    shutil.rmtree(folder)


def write(log, lines):
    new = [f"line {len(lines) + index}" for index in range(50)]
    with log.open("a") as file:
        file.write("".join(f"{line}\n" for line in new))
    lines += new


main()
