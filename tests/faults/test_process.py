"""Faults 15 and 36 to 39: the process, what it is started with, and its host."""

import fcntl
import os
import tempfile
import time

from faults.case import (
    AUTH_FRAME,
    HEARTBEAT_FRAME,
    REPLAY_FRAME,
    FaultCase,
    StartCase,
)
from support.harness import at_once, ticks_in
from support.tickstream_client import ConnectionClosed, MsgType, ticks_of


class NoCredentials(StartCase):
    fault = 15
    promise = "Empty or missing STREAM_USER / STREAM_PASS: the server refuses to start"
    usage = 2

    def check(self, user, password, *reported, options=()):
        environment = {"STREAM_USER": user, "STREAM_PASS": password}
        self.check_refuses_to_start(self.usage, *reported, environment=environment, options=options)

    def test_missing(self):
        self.check(None, None, "STREAM_USER", "STREAM_PASS")
        self.check("ada", None, "STREAM_PASS")
        self.check(None, "s3cret", "STREAM_USER")

    def test_empty(self):
        self.check("", "", "STREAM_")
        self.check("ada", "", "STREAM_PASS")
        self.check("", "s3cret", "STREAM_USER")

    def test_too_long(self):
        self.check("ada", "p" * 256, "STREAM_PASS")
        self.check("u" * 256, "s3cret", "STREAM_USER")

    def test_a_password_file_that_has_none(self):
        with tempfile.TemporaryDirectory() as folder:
            for text in (b"", b"\n", b"\xff\xfe"):
                path = os.path.join(folder, "password")
                with open(path, "wb") as file:
                    file.write(text)
                self.check("ada", None, "stream_pass_file", options=("--stream-pass-file", path))
            missing = os.path.join(folder, "missing")
            self.check("ada", None, missing, options=("--stream-pass-file", missing))


class Suspended(FaultCase):
    fault = 37
    promise = "SIGSTOP 2 s then SIGCONT: ticks go on, one late batch, no burst of false timeouts"
    suspended_s = 2.0
    # All shorter than the stop: none of them may count it.
    options = (
        *("--heartbeat-interval", "500ms", "--heartbeat-timeout", "1500ms"),
        *("--auth-timeout", "1500ms", "--write-deadline-ms", 1_500),
    )
    # The stop itself, and what the machine adds.
    late_max_s = suspended_s + 2.0
    late_median_s = suspended_s

    def test_ticks_go_on_in_one_late_batch(self):
        subscriptions = [self.subscribed() for _ in range(5)]
        before = [client.read_ticks(3) for client, _ in subscriptions]
        for client, _ in subscriptions:
            client.heartbeat()
        with self.suspended(self.suspended_s) as suspension:
            pass
        for client, _ in subscriptions:
            client.heartbeat()
        results = at_once(lambda subscription: subscription[0].collect(1.0), subscriptions)
        missed = int(self.suspended_s * self.rate)
        for (client, ack), early, messages in zip(subscriptions, before, results):
            self.assertEqual({message.type for message in messages}, {MsgType.DATA_BATCH, MsgType.HEARTBEAT})
            self.check_ticks(early + ticks_in(messages), ack["next_sequence"], (1000, self.rate))
            batches = [ticks_of(message) for message in messages if message.type == MsgType.DATA_BATCH]
            late = [ticks for ticks in batches if ticks[0].epoch_ms / 1000 < suspension.continued_at - 0.2]
            # What was under way before it came; the rest is one batch, at once.
            self.check_between(len(max(late, key=len)), missed - 3, missed + 10, "ticks of the late batch")
            self.assertLessEqual(len(late), 4, "batches instead of one")
            self.assertLess(max(late, key=len)[0].received_at - suspension.continued_at, 1.0)

    def test_nobody_times_out(self):
        clients = self.open_clients()
        subscribed = self.subscribers(clients, 100)
        silent = clients.add(100)
        clients.send(HEARTBEAT_FRAME, subscribed)
        clients.run(0.2)
        with self.suspended(self.suspended_s):
            pass
        clients.send(HEARTBEAT_FRAME, subscribed)
        clients.send(AUTH_FRAME, silent)
        clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in silent), 3)
        self.assertTrue(all(peer.count(MsgType.ACK) == 1 for peer in silent))
        self.assertTrue(all(peer.is_open for peer in subscribed))

    def test_deadlines_go_on(self):
        """A stop isn't an amnesty."""
        clients = self.open_clients()
        silent = clients.add(10)
        with self.suspended(self.suspended_s):
            pass
        self.assertTrue(clients.run_until(lambda: not any(peer.is_open for peer in silent), 1.5 + 1.5))
        self.check_closed(silent, "AUTH_REQUIRED")


class Killed(FaultCase):
    fault = 38
    promise = "kill -9 under load: the next start binds at once"
    has_bystander = False
    bound_within_s = 3.0
    clients = 200

    def tearDown(self):
        for opened in self._opened:
            opened.close()

    def back(self, sequence):
        """A client that resumes after `sequence`, as soon as the new server takes it. The kernel cleans up after a
        ring when its process has ended: for some milliseconds the dead listener may take a connection yet, and then
        resets it."""
        deadline = time.monotonic() + self.bound_within_s
        while True:
            try:
                return self.subscribed(resume_after=sequence)
            except (ConnectionClosed, ConnectionError):
                self.assertLess(time.monotonic(), deadline, "the new server doesn't serve")

    def test_the_next_start_binds_at_once(self):
        client, _ = self.subscribed()
        sequence = client.read_ticks(1)[0].sequence
        for _ in range(4):
            clients = self.open_clients()
            # Live, in a replay, and not yet read.
            self.subscribers(clients, self.clients)
            clients.send(REPLAY_FRAME * 3 + HEARTBEAT_FRAME * 20)
            clients.run(0.2)
            self.server.kill()
            began = time.monotonic()
            self.server = self.start_server(port=self.server.port)
            client, ack = self.back(sequence)
            self.assertLess(time.monotonic() - began, self.bound_within_s)
            self.assertEqual(ack["next_sequence"], sequence + 1)
            ticks = client.read_ticks(2)
            self.check_ticks(ticks, sequence + 1, (1000, self.rate))
            sequence = ticks[-1].sequence
        self.assertEqual(self.server.stop(), 0)


class LogFault(FaultCase):
    """Standard streams that take nothing. The bystander is there all the time."""

    fault = 39
    promise = "stdout or stderr closed, disk full for logs: serving goes on"
    stop_timeout_s = 10.0

    def setUp(self):
        self.prepare()

    def tearDown(self):
        for opened in self._opened:
            opened.close()

    def check_serves(self, streams=None, confinement=(), meanwhile=lambda: None):
        self.confinement = confinement
        self.server = self.start_server(streams=streams)
        bystander = self.start_bystander()
        self.provoke_logs()
        meanwhile()
        self.provoke_logs()
        self.check_serving()
        self.check_unharmed(bystander.end())
        began = time.monotonic()
        self.assertEqual(self.server.stop(), 0)
        self.assertLess(time.monotonic() - began, self.stop_timeout_s)

    def provoke_logs(self):
        """The 50 lines that a second may have of closed connections."""
        clients = self.open_clients()
        peers = clients.add(100, b"TS\x7f")
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 5)


class NoLog(LogFault):
    def test_closed_from_the_start(self):
        self.check_serves(confinement=("--close", 1, "--close", 2))

    def test_all_three_closed_from_the_start(self):
        self.check_serves(confinement=("--close", 0, "--close", 1, "--close", 2))

    def test_disk_full(self):
        with open("/dev/full", "w") as full:
            self.check_serves({"stdout": full, "stderr": full})

    def test_a_pipe_whose_reader_is_gone(self):
        reader, writer = os.pipe()
        self.check_serves({"stdout": writer, "stderr": writer}, meanwhile=lambda: os.close(reader))
        os.close(writer)


class StuckLog(LogFault):
    """A pipe that nobody reads."""

    # Lines of slow consumers aren't limited: with this each client is one soon.
    options = ("--write-deadline-ms", 1_000, "--send-buffer", "4KiB", "--unsent-max", "1KiB")

    def check_stuck(self, slow_consumers):
        reader, writer = os.pipe()
        # One page, the least: some ten lines.
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4_096)
        self.check_serves({"stdout": writer, "stderr": writer}, meanwhile=lambda: self.provoke_many(slow_consumers))
        os.close(writer)
        os.close(reader)

    def provoke_many(self, slow_consumers):
        """Lines of this many clients, a thousand at a time."""
        for _ in range(0, slow_consumers, 1_000):
            clients = self.open_clients()
            stalled = clients.add(1_000, AUTH_FRAME + REPLAY_FRAME, receive_buffer=1_024)
            for peer in stalled:
                peer.reads = False
            clients.run(2)
            clients.close()


class FullPipe(StuckLog):
    def test_a_pipe_that_nobody_reads(self):
        self.check_stuck(0)


class FullQueue(StuckLog):
    is_long = True
    heavy = True
    timeout_s = 120

    def test_more_lines_than_wait_in_the_queue(self):
        """8,192 wait (docs/limits.md)."""
        self.check_stuck(10_000)
