"""A server with a journal, and a collector before it, as processes."""

import atexit
import json
import os
import signal
import subprocess
import urllib.request

from support.process_stats import is_running
from support.processes import free_ports, is_open, wait_until

KEYS = """
[key.web]
secret = "wk_5c1f9a00"
public = true
[key.backend]
secret = "bk_0b77ffee"
[key.stream]
secret = "never-sent-at-all"
"""
LISTENERS = ["http", "otlp_grpc", "otlp_http", "syslog_tcp", "relp", "fluent", "syslog_udp", "statsd"]
PATIENCE_S = 60
PORTS = [*LISTENERS, "admin", "server", "server_admin"]
ENVIRONMENT = {"STREAM_USER": "collector", "STREAM_PASS": "secret", "PATH": "/usr/bin:/bin"}


class Installation:
    """Both processes run as soon as it is there; each can be killed and started again."""

    def __init__(self, tickstream, folder, server_flags=(), collector_flags=(), listeners=LISTENERS, config="", keys="", journal=None):
        self.tickstream, self.folder = tickstream, folder
        self.server_flags, self.collector_flags, self.listeners = server_flags, collector_flags, listeners
        self.journal = journal or folder / "journal"
        self.journal.mkdir(exist_ok=True)
        (folder / "keys.toml").write_text(KEYS + keys)
        (folder / "collect.toml").write_text(config)
        self.ports = dict(zip(PORTS, free_ports(len(PORTS))))
        self.server = self.collector = None
        atexit.register(self.kill_rest)
        self.start_server()
        self.start_collector()

    def start_server(self):
        address = f"127.0.0.1:{self.ports['server']}"
        self.server = subprocess.Popen(
            [
                self.tickstream, "serve", "--shards", "1", "--listen", address, "--journal", self.journal,
                "--admin", f"127.0.0.1:{self.ports['server_admin']}",
                "--publish-events-per-second-max", "10000000", *self.server_flags,
            ],
            env=ENVIRONMENT,
            stderr=(self.folder / "server.log").open("a"),
        )
        wait_for_port(self.ports["server"])

    def start_collector(self):
        flags = [f"--{name.replace('_', '-')}=127.0.0.1:{self.ports[name]}" for name in [*self.listeners, "admin"]]
        address = f"127.0.0.1:{self.ports['server']}"
        self.collector = subprocess.Popen(
            [
                self.tickstream, "collect", "--to", address, "--keys", self.folder / "keys.toml",
                "--config", self.folder / "collect.toml", *flags, *self.collector_flags,
            ],
            env=ENVIRONMENT,
            stderr=(self.folder / "collector.log").open("a"),
        )
        wait_for_port(self.ports["admin"])

    def kill(self, names):
        """Ends the processes at once, as a power cut does."""
        for name in names:
            process = getattr(self, name)
            process.kill()
            process.wait()

    def kill_rest(self):
        """Ends what a failed test has left."""
        for process in filter(None, (self.collector, self.server)):
            if getattr(process, "returncode", None) is None and is_running(process.pid):
                os.kill(process.pid, signal.SIGKILL)

    def wait_until_ready(self):
        wait_for(lambda: self.get("/readyz") is not None, "the collector isn't ready")

    def get(self, path, port="admin"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def url(self, listener, path=""):
        return f"http://127.0.0.1:{self.ports[listener]}{path}"

    def events(self, *flags):
        """All events that are stored."""
        export = [self.tickstream, "events", "export", self.journal, *flags]
        lines = subprocess.run(export, check=True, capture_output=True, text=True).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def wait_for_events(self, wanted, count):
        """The events that are wanted, as soon as there are so many."""
        found = lambda: [event for event in self.events("--bare") if wanted(event)]
        wait_for(lambda: len(found()) >= count, "the events aren't stored", lambda: self.events("--bare")[-5:])
        return found()

    def close(self):
        for process in (self.collector, self.server):
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
            assert code == 0, f"{process.args[1]} ended with {code}"


def wait_for_port(port):
    wait_for(lambda: is_open(port), f"nobody listens at port {port}")


def wait_for(condition, problem, details=lambda: ""):
    if not wait_until(condition, PATIENCE_S):
        raise AssertionError(f"{problem}: {details()}")
