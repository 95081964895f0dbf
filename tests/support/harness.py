"""Base of test_protocol.py: the real server as a child process, a base class with the shared checks, and a
suite that runs all test classes at the same time.
"""

import atexit
import concurrent.futures
import itertools
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from support.tickstream_client import Client, MsgType, ProtocolError, ticks_of

HOST = "127.0.0.1"
USER, PASSWORD = "stream", "correct horse battery staple"

START_TIMEOUT_S = 15.0
# docs/protocol.md doesn't say how long the server drains after SIGTERM: a generous bound.
STOP_TIMEOUT_S = float(os.environ.get("TICKSTREAM_STOP_TIMEOUT_S", "20"))
# How long an answer may take where its time isn't the point: the machine may be shared.
ANSWER_TIMEOUT_S = 5.0
# Clocks are compared in milliseconds, and epoch_ms is rounded: this much earlier isn't early.
CLOCK_TOLERANCE_S = 0.002
MEDIAN_LATENESS_S = 0.050
ONE_TICK_LATENESS_S = 2.0


def duration(seconds):
    """The value of an option that is a duration and has no unit in its name (--replay-window)."""
    return f"{seconds}s"


# ---- The server ---------------------------------------------------------------------------------------------


class Server:
    """`tickstream serve` on a port of its own, or on `port`.

    `prefix` is a command that becomes the server (env, prlimit); `environment` adds variables, None removes one;
    `streams` are Popen's stdin, stdout, stderr, where they aren't the log.
    """

    _ports_lock = threading.Lock()
    _ports = set()

    def __init__(self, *options, host=HOST, port=None, prefix=(), environment=None, streams=None):
        self.options = [str(option) for option in options]
        self.host = host
        self.port = port
        self._fixed_port = port
        self._prefix = list(prefix)
        self._environment = environment or {}
        self._streams = streams or {}
        self._process = None
        self._log = None

    def start(self, attempts=3):
        """Starts the server and waits until it accepts; on another port if it ends instead (a collision)."""
        for _ in range(attempts):
            self._spawn()
            if self._accepts():
                return
            if self._process.poll() is None:
                self.kill()
                break
        raise RuntimeError(f"the server doesn't accept with {self.options}:\n{self.log_tail()}")

    @property
    def pid(self):
        return self._process.pid

    def signal(self, number):
        self._process.send_signal(number)

    def stop(self):
        """Ends the server with SIGTERM, unless that was done; returns the exit code."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there {STOP_TIMEOUT_S} s after SIGTERM:\n{self.log_tail()}") from None

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log_tail(self, size=3000):
        # Not by seeking: the server writes where the file's one offset is.
        log = self._log.fileno()
        end = os.fstat(log).st_size
        return os.pread(log, size, max(0, end - size)).decode(errors="replace")

    def _spawn(self):
        self.port = self._fixed_port or self.free_port(self.host)
        self._log = tempfile.TemporaryFile()
        command = self._prefix + [os.environ["TICKSTREAM_BIN"], "serve"]
        command += ["--listen", f"{self.host}:{self.port}", "--shards", "1"]
        command += self.options + shlex.split(os.environ.get("TICKSTREAM_ARGS", ""))
        # Options have environment variables too: none may leak in from outside.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "RUST_LOG") if name in os.environ}
        environment = {**kept, "RUST_BACKTRACE": "1", "STREAM_USER": USER, "STREAM_PASS": PASSWORD}
        environment = {name: value for name, value in (environment | self._environment).items() if value is not None}
        streams = {"stdin": subprocess.DEVNULL, "stdout": self._log, "stderr": self._log} | self._streams
        self._process = subprocess.Popen(command, env=environment, **streams)
        atexit.register(self.kill)

    def _accepts(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return True
            except OSError:
                time.sleep(0.05)
        return False

    @classmethod
    def free_port(cls, host):
        """A port that nobody listens on. None twice: with SO_REUSEPORT two servers would share it in silence."""
        with cls._ports_lock:
            while True:
                with socket.socket() as probe:
                    probe.bind((host, 0))
                    port = probe.getsockname()[1]
                if port not in cls._ports:
                    cls._ports.add(port)
                    return port


# ---- The base class -----------------------------------------------------------------------------------------

# Each connection comes from an address of its own (all of 127.0.0.0/8 is local): limits per address, whose numbers
# docs/protocol.md leaves open, then don't turn one test's connections into another's.
_source_hosts = (f"127.{net}.{host // 250}.{host % 250 + 1}" for net in itertools.count(1) for host in range(50_000))
_source_hosts_lock = threading.Lock()


def next_source_host():
    with _source_hosts_lock:
        return next(_source_hosts)


class ServerCase(unittest.TestCase):
    """Tests against one server, which is started for the class with its `options`."""

    options = ()
    # True where the test itself burns CPU time: such classes run one after another.
    heavy = False

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options)
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        exit_code = cls.server.stop()
        assert exit_code == 0, f"exit code {exit_code} after SIGTERM:\n{cls.server.log_tail()}"

    def connect(self, **options):
        options = {"timeout_s": ANSWER_TIMEOUT_S, "source_host": next_source_host(), **options}
        client = Client(self.server.host, self.server.port, **options)
        self.addCleanup(client.close)
        return client

    def authenticated(self, **options):
        client = self.connect(**options)
        client.authenticate(USER, PASSWORD)
        return client

    def subscribed(self, mode="SECOND", resume_after=None, **options):
        """A subscribed client and the ACK of its SUBSCRIBE."""
        client = self.authenticated(**options)
        return client, client.subscribe(mode, resume_after)

    def check_refused(self, client, code, timeout_s=ANSWER_TIMEOUT_S, skip=()):
        """The server's next message must be ERROR `code`, followed by its FIN. Returns the ERROR."""
        error = client.expect(MsgType.ERROR, timeout_s, skip)
        self.assertEqual(error["code"], code, error.fields)
        client.expect_closed()
        return error

    def check_closed_silently(self, client):
        # A server that closes with unread bytes in its buffer resets: also without a word.
        client.expect_closed(may_reset=True)

    def check_alive(self, client):
        """A HEARTBEAT is echoed, with nothing but ticks before it."""
        client.heartbeat()
        client.expect(MsgType.HEARTBEAT, skip=(MsgType.DATA_BATCH,))

    def check_between(self, value, low, high, what):
        self.assertTrue(low <= value <= high, f"{what}: {value} isn't within {low} to {high}")

    def check_ticks(self, ticks, first, per_interval=(1000, 1), mode="SECOND", phase_ms=0):
        """Every tick from sequence `first` on, once and in order, with the right epoch_ms, none of them early.

        The interval is `per_interval[0]` milliseconds divided by `per_interval[1]`.
        """
        self.assertTrue(ticks, "no ticks")
        self.assertEqual([tick.sequence for tick in ticks], list(range(first, first + len(ticks))))
        period_ms, count = per_interval
        expected = [(mode, tick.sequence * period_ms // count + phase_ms) for tick in ticks]
        self.assertEqual([(tick.mode, tick.epoch_ms) for tick in ticks], expected)
        earliest = min(ticks, key=lambda tick: tick.lateness_s)
        self.assertGreaterEqual(earliest.lateness_s, -CLOCK_TOLERANCE_S, f"early: {earliest}")

    def check_next_ticks(self, client, ack, count):
        """The next `count` ticks or more: those that the `ack` of a SUBSCRIBE in SECOND mode announced."""
        ticks = client.read_ticks(count)
        self.check_ticks(ticks, ack["next_sequence"])
        return ticks

    def check_punctual(self, ticks):
        """Live ticks arrive when they are due: the median at once, none of them very late."""
        lateness_s = [tick.lateness_s for tick in ticks]
        self.assertLess(statistics.median(lateness_s), MEDIAN_LATENESS_S, lateness_s[:20])
        self.assertLess(max(lateness_s), ONE_TICK_LATENESS_S)


def ticks_in(messages):
    """The ticks of all batches among `messages`."""
    return [tick for message in messages if message.type == MsgType.DATA_BATCH for tick in ticks_of(message)]


def read_batches(client, seconds):
    """The DATA_BATCHes of the next `seconds`; nothing else may come."""
    messages = client.collect(seconds)
    others = [message for message in messages if message.type != MsgType.DATA_BATCH]
    if others:
        raise ProtocolError(f"DATA_BATCH expected, got {others[0]}")
    return messages


def at_once(function, items):
    """`function` of each item, each in a thread of its own; the results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(function, items))


# ---- The parallel suite -------------------------------------------------------------------------------------


class ParallelSuite(unittest.TestSuite):
    """Runs test classes in threads, and adds up their results as if they had run one after another."""

    def __init__(self, classes, loader):
        self._light = [cls for cls in classes if not cls.heavy]
        self._heavy = [cls for cls in classes if cls.heavy]
        self._suites = {cls: loader.loadTestsFromTestCase(cls) for cls in classes}
        self._merge_lock = threading.Lock()
        super().__init__(self._suites.values())

    def run(self, result, debug=False):
        # Threads that wait for the interpreter are handed it soon: what they measure are arrivals.
        switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)
        lanes = [[cls] for cls in self._light] + [self._heavy]
        threads = [threading.Thread(target=self._run_lane, args=(lane, result)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(switch_interval_s)
        return result

    def _run_lane(self, classes, result):
        for cls in classes:
            started = time.monotonic()
            class_result = unittest.TestResult()
            self._suites[cls].run(class_result)
            with self._merge_lock:
                self._merge(class_result, result)
                verdict = "ok" if class_result.wasSuccessful() else "FAILED"
                seconds = time.monotonic() - started
                print(f"{verdict:6} {cls.__name__}: {class_result.testsRun} tests, {seconds:.1f} s", file=sys.stderr)

    @staticmethod
    def _merge(source, target):
        target.testsRun += source.testsRun
        for kind in ("failures", "errors", "skipped", "expectedFailures", "unexpectedSuccesses"):
            getattr(target, kind).extend(getattr(source, kind))
