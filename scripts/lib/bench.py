"""One run of a benchmark script: builds, keeps the results in a folder, starts servers and loads, judges.

    with Bench("storm", arguments) as bench:
        server = bench.tickstream("--shards", 2)
        result = bench.load("clients", server, "-n", 15000)
        bench.bar("back within", result["storm"]["took_us"] / 1e6, 3, "s")
    sys.exit(bench.verdict())
"""

import argparse
import datetime
import html
import json
import math
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys

from support.processes import HOST, Process, ProcessError, free_port, widen_port_range

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of a Python that runs a module of this folder: python3 -m lib.MODULE
MODULES = {"PYTHONPATH": str(ROOT / "scripts")}
# Servers are there on Debian, which isn't on everybody's PATH.
SYSTEM_PATH = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])
# Room for building up, warm-up, grace and files beyond the time that a load measures.
LOAD_SPARE_S = 180
SERVER_LIMIT_S = 3_600
NOT_RUN = 3
# Of servers that a script starts for itself alone.
CREDENTIALS = {"STREAM_USER": "ada", "STREAM_PASS": "s3cret"}
PROGRAMS = ["--package", "tickstream", "--package", "tickstream-load"]


class Bench:
    """A results folder, and all processes of a run, which end with it."""

    def __init__(self, name, arguments):
        self.name = name
        self.arguments = arguments
        self.bars = []
        self.notes = []
        self.figures = {}
        self.processes = []
        target = target_directory()
        self.programs = target / "release"
        time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        self.folder = arguments.results or target / "bench" / f"{name}-{time}"
        self.credentials = {"STREAM_USER": "bench", "STREAM_PASS": secrets.token_hex(16)}

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        # So that processes are ended, too, when this script is.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        if note := widen_port_range():
            self.say(note)
        if not self.arguments.no_build:
            build()
        return self

    def __exit__(self, kind, error, _):
        for process in reversed(self.processes):
            process.end()
        if isinstance(error, ProcessError):
            self.say(f"{self.name}: {error}")
            sys.exit(NOT_RUN)
        if kind in (None, SystemExit):
            self._write()

    # Processes

    def start(self, name, command, **options):
        """Starts a process that ends with this run at the latest."""
        process = Process(name, command, self.folder / f"{name}.log", **options)
        self.processes.append(process)
        return process

    def server(self, name, command, port, *, limit_s=SERVER_LIMIT_S, **options):
        """Starts a server, and waits until it listens."""
        process = self.start(name, command, limit_s=limit_s, **options)
        process.port = port
        process.wait_until_listening(port)
        return process

    def tickstream(self, *options, name="server", pin=None, limit_s=SERVER_LIMIT_S):
        """Starts tickstream; `pin` is the CPU of its only shard."""
        port = self.arguments.port or free_port()
        placed = [] if pin is None else ["--cpus", pin, "--shards", 1]
        command = [self.programs / "tickstream", "serve", "--listen", f"{HOST}:{port}", *placed, *options]
        env = self.credentials | {"TICKSTREAM_LOG_FORMAT": "json"}
        return self.server(name, command, port, cpus=pin, env=env, limit_s=limit_s)

    def bare_loop(self, *options, name="bare-loop", pin=None):
        """Starts tickstream-bare-loop, whose loop has the CPU `pin`."""
        port = self.arguments.port or free_port()
        placed = [] if pin is None else ["--cpu", pin]
        command = [self.programs / "tickstream-bare-loop", "--port", port, *placed, *options]
        return self.server(name, command, port, cpus=pin)

    def start_load(self, name, server, *options, measured_s, program="tickstream-load", niceness=0, port=None):
        """Starts a load for `measured_s` seconds, at the server's `port` [default: its first]. It isn't pinned as a
        whole: it has to see all CPUs to tell what part of the machine is busy."""
        files = ["--json", self.folder / f"{name}.json"]
        if program == "tickstream-load":
            files += ["--report", self.folder / f"{name}.html"]
        nice = ["nice", "-n", niceness] if niceness else []
        command = [*nice, self.programs / program, *options, "--addr", f"{HOST}:{port or server.port}"]
        command += ["--server-pid", server.pid, "--duration", f"{measured_s}s", "--quiet", *files]
        return self.start(name, command, limit_s=measured_s + LOAD_SPARE_S, env=self.credentials)

    def finish_load(self, process):
        """Waits for a load; returns what it found."""
        code = process.wait()
        path = self.folder / f"{process.name}.json"
        if code not in (0, 1) or not path.exists():
            raise ProcessError(f"{process.name} ended with {code}:\n{process.log_tail()}")
        result = json.loads(path.read_text())
        for failure in result["failures"]:
            self.say(f"  {process.name}: {failure}")
        for warning in result["warnings"]:
            self.say(f"  {process.name}: warning: {warning}")
        return result

    def load(self, name, server, *options, measured_s, program="tickstream-load"):
        """Runs a load to its end."""
        load = self.start_load(name, server, *options, measured_s=measured_s, program=program)
        return self.finish_load(load)

    # What is told

    def say(self, text):
        """Tells people, and the log."""
        print(text, flush=True)
        self.notes.append(text)

    def bar(self, what, value, at_most, unit):
        """Judges a figure: at most that much, to pass."""
        passed = value <= at_most
        self.bars.append({"what": what, "value": value, "at_most": at_most, "unit": unit, "passed": passed})
        shown = f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
        self.say(f"{'pass' if passed else 'FAIL'}  {what}: {shown} {unit} (at most {at_most:,})")

    def verdict(self):
        """The exit code: 0 if every bar was met, else 1."""
        return 0 if all(bar["passed"] for bar in self.bars) else 1

    def _write(self):
        passed = self.verdict() == 0
        results = {"name": self.name, "passed": passed, "bars": self.bars, "figures": self.figures}
        (self.folder / "results.json").write_text(json.dumps(finite(results), indent=2) + "\n")
        (self.folder / "results.log").write_text("\n".join(self.notes) + "\n")
        (self.folder / "results.html").write_text(self._page())
        print(f"results: {self.folder}")

    def _page(self):
        files = sorted(path.name for path in self.folder.iterdir())
        plots = "".join(f'<img src="{name}" alt="{name}">' for name in files if name.endswith(".svg"))
        items = "".join(f'<li><a href="{name}">{name}</a>' for name in files)
        notes = html.escape("\n".join(self.notes))
        return (
            f'<!doctype html><meta charset="utf-8"><title>{self.name}</title>'
            f"<style>body{{font:15px sans-serif;max-width:70em;margin:2em auto}}</style>"
            f"<h1>{self.name}</h1><pre>{notes}</pre>{plots}<ul>{items}</ul>\n"
        )


def parser(usage):
    """An argument parser with what all scripts take; `usage` is the script's docstring."""
    parsed = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parsed.add_argument("--port", type=int, help="port of the server [default: a free one, below 1024 as root]")
    parsed.add_argument("--no-build", action="store_true", help="take the programs that are there")
    parsed.add_argument("--results", type=pathlib.Path, help="folder [default: target/bench/NAME-TIME]")
    return parsed


def target_directory():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60).stdout
    return pathlib.Path(json.loads(output)["target_directory"])


def build(*options):
    """Builds server and loads, or what cargo's options name; cargo tells what is wrong where it fails."""
    command = ["cargo", "build", "--release", *(options or PROGRAMS)]
    if subprocess.run(command, cwd=ROOT, timeout=1_800).returncode != 0:
        sys.exit(NOT_RUN)


def installed(program):
    """Path of a program; `None` if it isn't there."""
    return shutil.which(program, path=os.environ["PATH"] + os.pathsep + SYSTEM_PATH)


def faults(result):
    """Ticks of steady connections that were lost or wrong, and connections that were lost."""
    steady = next((one for one in result["classes"] if one["class"] == "steady"), None)
    lost = result["connections_wanted"] - result["connections_subscribed"]
    if steady is None:
        return lost
    return lost + sum(steady["faults"].values()) + sum(steady["closes"].values())


def latency_ms(result, percentile):
    """p50, p95, … in ms; infinite if nothing came, so that it meets no bar."""
    latency = result["latency"]
    return latency[f"{percentile}_us"] / 1e3 if latency else math.inf


def line(figures):
    """Figures in one line."""
    return "  ".join(f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in figures.items())


def finite(value):
    """As JSON can tell it."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
