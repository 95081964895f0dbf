"""Common parts of the tests of faults: a server of their own, confined, with a healthy bystander beside the fault.

It builds on tests/protocol: the client, the server process and the checks of harness.py.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]

from faults.clients import Clients
from support import process_stats
from support.admin_client import Admin
from support.harness import PASSWORD, USER, Server, ServerCase
from support.tickstream_client import MsgType, decode_frame, encode_frame, encode_message, encode_message_frame

AUTH_FRAME = encode_message_frame(MsgType.AUTH, username=USER, password=PASSWORD)
SUBSCRIBE_FRAME = encode_message_frame(MsgType.SUBSCRIBE, mode="SECOND")
HEARTBEAT_FRAME = encode_frame(MsgType.HEARTBEAT)
# Asks for all that the replay window has: much for few bytes.
REPLAY_FRAME = encode_frame(MsgType.SUBSCRIBE, encode_message("Subscribe", {"mode": "SECOND", "resume_after": 1}))

KIB, MIB = 1 << 10, 1 << 20
# A deadline may be acted upon this much later (docs/protocol.md).
DEADLINE_SLACK_S = 0.5
# A closed connection lingers for 2 s; what a fault left behind must be gone soon after.
SETTLE_TIMEOUT_S = 6.0
START_REFUSED_TIMEOUT_S = 10
BYSTANDER_END_TIMEOUT_S = 20.0


def confined(*options):
    """A prefix of commands that confine.py runs under these options."""
    return [sys.executable, "-I", "-S", str(TESTS / "faults" / "confine.py"), *map(str, options), "--"]


def chosen_cpu():
    """The CPU for a server's only shard: tests that run at the same time are spread over all."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[int(os.environ.get("FAULTS_LANE", "0")) % len(cpus)]


def own_host():
    """An address to listen on that no other test of this run has: two servers on one address are refused, and
    those that share it would mix their connections."""
    lane = int(os.environ.get("FAULTS_LANE", "0"))
    return f"127.100.{lane // 250}.{lane % 250 + 1}"


def heavy(test):
    """Marks a test that burns CPU time itself: such tests run one after another."""
    test.is_heavy = True
    return test


class Bystander:
    """A process with a healthy subscriber (bystander.py), which sends `prelude` before all else."""

    def __init__(self, server, prelude=b""):
        command = [sys.executable, str(TESTS), "faults.bystander", server.host, str(server.port), prelude.hex()]
        environment = os.environ | {"STREAM_USER": USER, "STREAM_PASS": PASSWORD}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True)
        if self._process.stdout.readline() != "ready\n":
            raise AssertionError(f"the bystander can't subscribe: {self._process.communicate()[1]}")

    def end(self):
        """Its figures, as bystander.py reports them."""
        try:
            output, errors = self._process.communicate(timeout=BYSTANDER_END_TIMEOUT_S)
        finally:
            self.kill()
        if self._process.returncode != 0:
            raise AssertionError(f"the bystander failed: {errors}")
        return json.loads(output)

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Metronome(threading.Thread):
    """Measures how long a thread waits for the server's CPU: what a busy machine adds to every deadline."""

    period_s = 0.02

    def __init__(self):
        super().__init__(daemon=True)
        self.worst_s = 0.0
        self._beats = True

    def run(self):
        os.sched_setaffinity(0, {chosen_cpu()})
        while self._beats:
            began = time.monotonic()
            time.sleep(self.period_s)
            self.worst_s = max(self.worst_s, time.monotonic() - began - self.period_s)

    def end(self):
        self._beats = False


class FaultCase(ServerCase):
    """Tests of one fault. Each test has a server of its own, and a bystander whom the fault must not harm."""

    # Its number and promise in the list of faults.
    fault = 0
    promise = ""
    options = ()
    # Where the server listens; by default an address of its own.
    host = None
    # Ticks a second, for bystanders and others.
    rate = 10
    # Options of confine.py.
    confinement = ()
    has_bystander = True
    bystander_prelude = b""
    # Whether the server has an admin endpoint, `self.admin`.
    has_admin = False
    # What the bystander may see of it, seconds. Generous, since all tests share the machine; what is broken is late
    # by a write deadline or for ever.
    late_median_s = 0.25
    late_max_s = 3.0
    # Left out unless the run is a full one.
    is_long = False
    # Of the whole test, after which it counts as hanging; on a busy machine most of it is a wait for the CPU.
    timeout_s = 180

    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def setUp(self):
        self.prepare()
        self.server = self.start_server()
        self.bystander = None
        if self.has_bystander:
            self.bystander = self.start_bystander()
            self.descriptors = process_stats.shard_descriptors(self.server.pid)

    def prepare(self):
        """Preparations before a server is started."""
        self._opened = []
        self._metronome = Metronome()
        self._metronome.start()
        self.addCleanup(self._metronome.end)

    def tearDown(self):
        if self.bystander:
            self.check_unharmed(self.bystander.end())
            self.descriptors -= 1
        for opened in self._opened:
            opened.close()
        self.check_settled()
        if self.has_admin:
            self.check_accounts()
        exit_code = self.server.stop()
        self.assertEqual(exit_code, 0, self.server.log_tail())
        self.assertNotIn("panicked", self.server.log_tail(MIB))

    def start_server(self, *options, port=None, **given):
        host = self.host or own_host()
        common = ["--ticks-per-second", self.rate, "--cpus", chosen_cpu()]
        if self.has_admin:
            common += ["--admin", f"{host}:0"]
        prefix = confined(*self.confinement)
        server = Server(*common, *self.options, *options, host=host, port=port, prefix=prefix, **given)
        server.start(attempts=1 if port else 3)
        self.addCleanup(server.kill)
        return server

    @property
    def admin(self):
        """The admin endpoint of the server that serves now."""
        (*_, serving) = self.wait_until(lambda: self.lines("serving"), 5, "a line that it serves")
        host, _, port = serving["admin"].rpartition(":")
        return Admin(host, int(port))

    def start_bystander(self):
        bystander = Bystander(self.server, self.bystander_prelude)
        self.addCleanup(bystander.kill)
        return bystander

    def connect(self, **options):
        client = super().connect(**options)
        self._opened.append(client)
        return client

    def open_clients(self):
        clients = Clients(self.server.host, self.server.port)
        self._opened.append(clients)
        return clients

    def subscribers(self, clients, count, frames=AUTH_FRAME + SUBSCRIBE_FRAME, timeout_s=20, **options):
        """`count` peers that have both their ACKs."""
        peers = clients.add(count, frames, **options)
        acked = clients.run_until(lambda: all(peer.count(MsgType.ACK) >= 2 for peer in peers), timeout_s)
        self.assertTrue(acked, f"{sum(peer.count(MsgType.ACK) < 2 for peer in peers)} of {count} aren't subscribed")
        return peers

    def check_unharmed(self, seen):
        """Checks that bystander.py got its ticks in order, and not late beyond the bound."""
        self.assertIsNone(seen["fault"], "the bystander was harmed")
        self.assertGreater(seen["ticks"], 0, "the bystander saw nothing")
        self.assertLess(seen["late_median_s"], self.late_median_s, "the bystander's ticks were late")
        self.assertLess(seen["late_max_s"], self.late_max_s, "a tick of the bystander was late")

    @property
    def machine_slack_s(self):
        """Allowance on top of a bound here and now: several threads have to get the CPU one after another."""
        return 0.5 + 3 * self._metronome.worst_s

    def wait_until(self, is_so, within_s, what):
        """Answer of `is_so()` once it's true, which must be within that time and the machine's slack; else fails
        with `what`, or what that answers."""
        began = time.monotonic()
        while not (answer := is_so()):
            if time.monotonic() - began > within_s + self.machine_slack_s:
                self.fail(f"not in {within_s} s: {what() if callable(what) else what}")
            time.sleep(0.02)
        return answer

    def check_settled(self, within_s=SETTLE_TIMEOUT_S):
        """No descriptor is left of the connections that the fault brought."""

        def now():
            return process_stats.shard_descriptors(self.server.pid)

        self.wait_until(
            lambda: now() <= self.descriptors, within_s, lambda: f"{self.descriptors} descriptors again, but {now()}"
        )

    def check_accounts(self):
        """Whoever was taken has ended for some reason, and counts for no limit any more."""
        self.check_metric("active_connections", 0)
        self.check_metric("tickstream_connections_unauthenticated", 0)
        metrics = self.admin.metrics()
        self.assertEqual(metrics.total("tickstream_connections_accepted_total"), metrics.total("tickstream_connections_closed_total"))

    def check_closed(self, peers, code):
        """Each of `peers` got ERROR `code`, then FIN."""
        for peer in peers:
            self.assertFalse(peer.is_open, "still open")
            self.assertEqual(peer.error_code(), code)
            self.assertFalse(peer.was_reset, "RST instead of FIN")

    def check_refused_at_once(self, peers, code, retry_ms=(1_000, 1_999)):
        """Each of `peers` was told to come back after a while, of its own where there are many."""
        self.check_closed(peers, code)
        reported_ms = [decode_frame(peer.frames[-1])["retry_after_ms"] for peer in peers]
        for one_ms in reported_ms:
            self.check_between(one_ms, *retry_ms, "retry_after_ms")
        if len(peers) >= 20:
            self.assertGreater(len(set(reported_ms)), len(peers) // 4, "all are told to return at once")

    def check_fired(self, limit, times, at_most=None):
        """The metric of a limit says how often it has fired, and the log that it has."""
        self.check_metric("tickstream_limits_fired_total", times, times if at_most is None else at_most, limit=limit)
        self.wait_until(lambda: [line for line in self.lines("a limit fired") if line["limit"] == limit], 5,
                      f"a line that the limit {limit} fired")

    def check_metric(self, name, least, most=None, **labels):
        """The sum of its series with these labels is, or becomes, within these bounds."""
        most = least if most is None else most
        self.wait_until(lambda: least <= self.admin.metrics().total(name, **labels) <= most, 3,
                      lambda: f"{name} {labels} {least} to {most}: {self.admin.metrics().total(name, **labels)}")

    def check_refuses_to_start(self, exit_code, *reported, confinement=(), options=(), environment=None, pass_fds=()):
        """Checks that it ends soon, and that its one line of output says why, without a panic."""
        given = {"PATH": os.environ["PATH"], "STREAM_USER": USER, "STREAM_PASS": PASSWORD} | (environment or {})
        given = {name: value for name, value in given.items() if value is not None}
        command = [*confined(*confinement), os.environ["TICKSTREAM_BIN"], "serve", "--shards", "1"]
        if "--listen" not in options:
            command += ["--listen", f"{own_host()}:0"]
        command += options
        run = subprocess.run(
            command, env=given, stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=pass_fds,
            timeout=START_REFUSED_TIMEOUT_S,
        )
        self.assertEqual(run.returncode, exit_code, run.stderr)
        for part in reported:
            self.assertIn(part, run.stderr)
        self.assertNotIn("panicked", run.stderr)
        self.assertNotIn("confine:", run.stderr)
        self.assertLess(len(run.stderr), 1_000, run.stderr)

    def check_serving(self):
        """A new client gets a tick."""
        client, ack = self.subscribed()
        self.check_ticks(client.read_ticks(1), ack["next_sequence"], (1000, self.rate))
        client.close()

    def load(self, *options, measured_s, port=None):
        """Runs tickstream-load against the server to its end; what it found."""
        program = os.environ.get("TICKSTREAM_LOAD")
        if not program:
            self.skipTest("needs TICKSTREAM_LOAD, the path of tickstream-load")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "result.json"
            command = [program, "--addr", f"{self.server.host}:{port or self.server.port}"]
            command += ["--server-pid", self.server.pid]
            command += ["--duration", f"{measured_s}s", "--quiet", "--json", path, *options]
            environment = os.environ | {"STREAM_USER": USER, "STREAM_PASS": PASSWORD}
            subprocess.run([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL)
            self.assertTrue(path.exists(), "tickstream-load failed")
            return json.loads(path.read_text())

    def suspended(self, seconds=0.0):
        """SIGSTOP now, SIGCONT at the end of the with-block, or `seconds` later than that."""
        return Suspension(self.server, seconds)

    def resident_bytes(self):
        return process_stats.resident_bytes(self.server.pid)

    def records(self):
        """The server's log."""
        lines = self.server.log_tail(64 * MIB).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def lines(self, message):
        """Lines of the log with this message."""
        return [record for record in self.records() if record["message"] == message]

    def closes(self, reason):
        """Lines of the log about connections that ended for `reason`."""
        return [record for record in self.records() if record.get("reason") == reason]


class Suspension:
    """A server that is stopped while the block of a `with` runs."""

    def __init__(self, server, seconds):
        self._server = server
        self._seconds = seconds
        self.continued_at = None

    def __enter__(self):
        self._server.signal(signal.SIGSTOP)
        # A thread stops when it next enters or leaves the kernel.
        while not process_stats.is_stopped(self._server.pid):
            time.sleep(0.001)
        return self

    def __exit__(self, *_):
        time.sleep(self._seconds)
        self._server.signal(signal.SIGCONT)
        self.continued_at = time.time()


class StartCase(FaultCase):
    """Tests of servers that must not start: none is started for the test."""

    def setUp(self):
        pass

    def tearDown(self):
        pass
