"""tickstream-warehouse in measurements: commands and their costs, a running one that is asked, figures of its process."""

import csv
import dataclasses
import io
import os
import pathlib
import resource
import subprocess
import threading
import time
import urllib.error
import urllib.request

from lib.bench import ROOT, target_directory
from support.process_stats import resident_peak_bytes
from support.processes import HOST, ProcessError, free_port

PACKAGES = ["--package", "tickstream", "--package", "tickstream-load", "--package", "tickstream-warehouse"]
READERS = ["chdb", "duckdb", "duckdb_extension_delta", "pyarrow"]
COMMAND_S_MAX = 7_200
ANSWER_S_MAX = 600


@dataclasses.dataclass
class Cost:
    """Cost of a command or a question: seconds on the clock and of CPU, the most memory that was resident."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str = ""


def command(program, *words, cpus=None, env=None):
    """Runs a command to its end; what it printed and cost."""
    pinned = ["taskset", "--cpu-list", str(cpus)] if cpus is not None else []
    words = [*pinned, str(program), *map(str, words)]
    began = time.monotonic()
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=os.environ | (env or {}), **pipes) as child:
        peak = Peak(child.pid)
        try:
            output, errors = child.communicate(timeout=COMMAND_S_MAX)
        except BaseException:
            child.kill()
            raise
        finally:
            peak.end()
    used = peak.used
    if child.returncode != 0:
        raise ProcessError(f"{' '.join(words)} ended with {child.returncode}:\n{errors}")
    return Cost(time.monotonic() - began, used, peak.most, output)


class Peak:
    """Looks at a process ten times a second: its CPU time, and the most memory."""

    def __init__(self, pid):
        self.pid, self.most, self.used = pid, 0, 0.0
        self._stop = threading.Event()
        self._before = children_cpu()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._stop.is_set():
            self.most = max(self.most, peak_bytes(self.pid))
            self._stop.wait(0.1)

    def end(self):
        self._stop.set()
        self._thread.join()
        self.used = children_cpu() - self._before


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_bytes(pid):
    """Most memory of a process that was resident at a time; 0 if it is gone."""
    try:
        return resident_peak_bytes(pid)
    except (OSError, LookupError):
        return 0


class Warehouse:
    """`tickstream-warehouse run` over tables, which answers questions over HTTP."""

    def __init__(self, bench, tables, *options, name="warehouse", cpus=None):
        self.port = free_port()
        words = [bench.programs / "tickstream-warehouse", "run", "--tables", tables, "--http", f"{HOST}:{self.port}",
                 "--query-time", "10m", "--log-format", "json", *options]
        self.process = bench.server(name, words, self.port, cpus=cpus)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.end()

    def ask(self, sql):
        """Rows of an answer, as texts."""
        request = urllib.request.Request(f"http://{HOST}:{self.port}/v1/query", data=sql.encode(), headers={"Accept": "text/csv"})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as answer:
                return [tuple(row) for row in csv.reader(io.StringIO(answer.read().decode()))][1:]
        except urllib.error.HTTPError as error:
            raise ProcessError(f"{sql}\n{error.code} {error.read().decode()}") from error


def python():
    """A Python with the other engines, made in target/readers as scripts/warehouse-readers does."""
    found = target_directory() / "readers" / "bin" / "python3"
    imports = "import " + ", ".join(READERS)
    if not found.exists() or subprocess.run([found, "-c", imports], capture_output=True, cwd=ROOT).returncode != 0:
        folder = found.parents[1]
        subprocess.run(["python3", "-m", "venv", folder], check=True, timeout=300)
        packages = ["deltalake", "duckdb", "duckdb-extension-delta", "chdb-core", "polars", "pyarrow"]
        subprocess.run([found, "-m", "pip", "install", "--quiet", *packages], check=True, timeout=1_200)
    return found


def size_of(folder):
    """Files below a folder, and their bytes."""
    sizes = [path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def table(bench, head, rows):
    """Prints a table in Markdown."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]]
    bench.say("\n".join(["", *lines, ""]))


def mb(count):
    return f"{count / 1e6:,.0f}"
