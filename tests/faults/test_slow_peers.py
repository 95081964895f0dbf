"""Faults 23 to 26: who doesn't read."""

import select
import time

from faults.case import (
    DEADLINE_SLACK_S,
    KIB,
    MIB,
    REPLAY_FRAME,
    FaultCase,
)
from support.process_stats import send_queues
from support.tickstream_client import MsgType, encode_frame, encode_header

# The default of the setting write_deadline_ms.
WRITE_DEADLINE_S = 5.0


class SlowPeer(FaultCase):
    """A stream of 13 KB a second, and a peer for whom the kernel takes little: full in a second, and then a byte
    waits."""

    rate = 1_000
    options = ("--send-buffer", "4KiB", "--unsent-max", "1KiB")
    filled_within_s = 1.0

    def subscribed_peer(self):
        """A socket that is subscribed; what it reads is nobody's business."""
        client, _ = self.subscribed(receive_buffer=KIB)
        return client._socket

    def wait_for_reset(self, connection, timeout_s, read=lambda: None):
        """When the server reset `connection`, and when its socket was last seen to take more, which is when the
        oldest unsent byte began to wait, or later. `read` is called every 10 ms."""
        poll = select.poll()
        # Only that it ended, not that there is something to read.
        poll.register(connection, 0)
        address = connection.getsockname()
        queued, filled_at, deadline = 0, time.monotonic(), time.monotonic() + timeout_s
        while not poll.poll(10):
            self.assertLess(time.monotonic(), deadline, "still connected")
            now = send_queues(self.server.host, self.server.port).get(address, 0)
            if now > queued:
                filled_at = time.monotonic()
            queued = now
            read()
        return time.monotonic(), filled_at

    def check_named(self):
        """The log names it, with the age of its oldest unsent byte."""
        self.wait_until(lambda: self.closes("slow_consumer"), 1, lambda: "named in the log")
        (record,) = self.closes("slow_consumer")
        latest_s = WRITE_DEADLINE_S + DEADLINE_SLACK_S + self.machine_slack_s - 0.5
        self.check_between(record["unsent_ms"], WRITE_DEADLINE_S * 1000, latest_s * 1000, "unsent_ms")


class ZeroWindow(SlowPeer):
    fault = 23
    promise = "Zero window: closed at the write deadline, 5.0 to 5.5 s"

    def test_closed_at_the_write_deadline(self):
        connection = self.subscribed_peer()
        began = time.monotonic()
        reset_at, filled_at = self.wait_for_reset(connection, 15)
        latest_s = WRITE_DEADLINE_S + DEADLINE_SLACK_S + self.machine_slack_s
        self.assertGreater(reset_at - began, WRITE_DEADLINE_S)
        self.assertLess(reset_at - filled_at, latest_s)
        self.check_named()


class Drip(SlowPeer):
    fault = 24
    promise = "Drip reader, a byte each 4.9 s: the deadline is on the oldest unsent byte"

    def check_cut_off(self, connection, read, every_s, latest_s):
        connection.setblocking(False)
        began = time.monotonic()
        self.reads, self.next_at = 0, began + every_s

        def read_in_time():
            if time.monotonic() >= self.next_at:
                self.reads += len(connection.recv(read)) > 0
                self.next_at += every_s

        reset_at, _ = self.wait_for_reset(connection, 30, read_in_time)
        self.assertGreater(self.reads, 0)
        self.check_between(reset_at - began, WRITE_DEADLINE_S, latest_s + self.machine_slack_s, "seconds to the reset")


class DripReader(Drip):
    def test_a_byte_each_4_9_seconds_wins_nothing(self):
        latest_s = self.filled_within_s + WRITE_DEADLINE_S + DEADLINE_SLACK_S
        self.check_cut_off(self.subscribed_peer(), 1, 4.9, latest_s)
        self.check_named()

    def test_steady_progress_that_is_too_slow(self):
        """2 of 13 KB a second: the window opens again and again, the lag grows, and 5 s of it are too much."""
        latest_s = self.filled_within_s + WRITE_DEADLINE_S * 13 / 11 + DEADLINE_SLACK_S
        self.check_cut_off(self.subscribed_peer(), KIB, 0.5, latest_s)

    def test_a_pause_below_the_deadline_costs_nothing(self):
        # Of the 33 KB that come meanwhile this and the server's socket hold less than half.
        client, ack = self.subscribed(receive_buffer=8 * KIB)
        ticks = client.read_ticks(self.rate)
        time.sleep(WRITE_DEADLINE_S / 2)
        ticks += client.read_ticks(6 * self.rate, timeout_s=20)
        self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))


class DripWithinFrame(Drip):
    suspended_s = 2.5
    # The stop comes on top.
    late_max_s = suspended_s + Drip.late_max_s
    late_median_s = suspended_s

    def test_progress_within_a_frame_wins_nothing(self):
        """A late batch of 25 KB, of which a little is taken each second: all of it is owed since it was published."""
        connection = self.subscribed_peer()
        with self.suspended(self.suspended_s):
            pass
        self.check_cut_off(connection, KIB // 2, 1.0, WRITE_DEADLINE_S + DEADLINE_SLACK_S)


class StalledBeforeAuth(FaultCase):
    fault = 25
    promise = "Stalled before auth: at most 1 KiB owed to it"
    pending_max = KIB
    lingering_s = 2.0
    largest = 4_096
    # A name that the server could repeat in its answer.
    long_name = b"\x0a\xfc\x1f" + b"n" * 4_092

    def first_frames(self):
        """Faults of the first frame, each as large as is allowed."""
        auth = encode_frame(MsgType.AUTH, self.long_name)
        return [
            auth,
            auth[:-1] + bytes([auth[-1] ^ 1]),
            encode_frame(MsgType.AUTH, b"\xff" * self.largest),
            encode_frame(MsgType.AUTH, b"\x0a\xff\x0f" + b"\xff" * 2_047),
            encode_frame(MsgType.SUBSCRIBE, bytes(self.largest)),
            encode_frame(0x42, bytes(self.largest)),
            encode_frame(0xFF, bytes(self.largest)),
            encode_header(MsgType.AUTH, self.largest + 1),
            b"TS\x7f" + bytes(1_000),
            b"GET / HTTP/1.1\r\n" + b"x" * 1_000,
            b"",
        ]

    def test_at_most_1_kib_is_owed(self):
        clients = self.open_clients()
        peers = [clients.add(1, data, receive_buffer=KIB)[0] for data in self.first_frames()]
        for peer in peers:
            peer.reads = False
        clients.run(1)
        queues = send_queues(self.server.host, self.server.port)
        for peer in peers:
            self.assertLessEqual(queues.get(peer.socket.getsockname(), 0), self.pending_max)
        # The auth deadline, then lingering: all are let go of, though none has read or closed.
        self.check_settled(5 + DEADLINE_SLACK_S + self.lingering_s + DEADLINE_SLACK_S)
        for peer in peers:
            peer.reads = True
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 2)
        for peer in peers:
            received = sum(len(frame.payload) + 12 for frame in peer.frames) + len(peer.unparsed)
            self.assertLessEqual(received, self.pending_max)


class HalfStalls(FaultCase):
    fault = 26
    promise = "Half of all clients stall at once: the healthy half keeps its latency, memory stays flat"
    heavy = True
    half = 250
    rate = 5

    def test_the_healthy_half_is_unharmed(self):
        clients = self.open_clients()
        healthy = self.subscribers(clients, self.half)
        stalling = self.subscribers(clients, self.half, receive_buffer=4 * KIB)
        clients.run(1)
        before = self.resident_bytes()
        for peer in stalling:
            peer.reads = False
        # A replay fills what the kernel takes for them, at once.
        clients.send(REPLAY_FRAME, stalling)
        peak = before
        began = time.monotonic()
        ticks = [peer.count(MsgType.DATA_BATCH) for peer in healthy]
        while len(self.closes("slow_consumer")) < self.half:
            clients.run(0.25)
            peak = max(peak, self.resident_bytes())
            latest_s = WRITE_DEADLINE_S + DEADLINE_SLACK_S + 0.25 + self.machine_slack_s
            self.assertLess(time.monotonic() - began, latest_s, "still connected")
        seconds = time.monotonic() - began
        for peer, count in zip(healthy, ticks):
            self.assertTrue(peer.is_open)
            received = peer.count(MsgType.DATA_BATCH) - count
            self.check_between(received, int((seconds - 1) * self.rate), int((seconds + 1) * self.rate), "ticks")
        # A frame of their replay, a few KB, is all that each holds.
        self.assertLess(peak - before, 6 * MIB)


class HalfOf10000Stalls(FaultCase):
    fault = 26
    promise = HalfStalls.promise
    is_long = True
    heavy = True
    timeout_s = 300
    clients = 10_000
    rate = 5
    # Frames of 30 bytes have to fill a socket in a minute.
    options = ("--unsent-max", "1KiB")
    # Generator, server and bystander share the machine.
    late_median_s = 1.0

    def test_the_healthy_half_is_unharmed(self):
        slow = ("--stalled", 50, "--slow-receive-buffer", 1)
        result = self.load("-n", self.clients, "--ticks-per-second", self.rate, *slow, "--warmup", "0s", measured_s=60)
        classes = {one["class"]: one for one in result["classes"]}
        steady, stalled = classes["steady"], classes["stalled"]
        self.assertEqual(sum(steady["faults"].values()) + sum(steady["closes"].values()), 0, steady)
        self.assertEqual(steady["connections"] + stalled["connections"], self.clients)
        self.assertEqual(sum(stalled["closes"].values()), stalled["connections"], "stalled, but not closed")
        self.assertLess(result["latency"]["p95_us"], 1_000_000)
        # 160 bytes of each connection, in tables that double, and what the process has by itself.
        self.assertLess(result["server_usage"]["rss_peak_bytes"], 32 * MIB)
