"""Faults 1 to 9: what a client may send."""

import time

from faults.case import (
    AUTH_FRAME,
    DEADLINE_SLACK_S,
    HEARTBEAT_FRAME,
    KIB,
    MIB,
    REPLAY_FRAME,
    SUBSCRIBE_FRAME,
    FaultCase,
)
from support.process_stats import virtual_peak_bytes
from support.tickstream_client import MAX_PAYLOAD_DEFAULT, MsgType, encode_frame, encode_header

MAX_PAYLOAD_BEFORE_AUTH = 4096
SKIPPABLE = 0x80


class HugeLength(FaultCase):
    fault = 1
    promise = "Huge Length: refused from the header, nothing allocated"
    huge = (2**31 - 1, 2**31, 2**32 - 12, 2**32 - 1)

    def test_refused_from_the_header(self):
        for length in (MAX_PAYLOAD_BEFORE_AUTH + 1, MAX_PAYLOAD_DEFAULT, *self.huge):
            for frame_type in (MsgType.AUTH, MsgType.SUBSCRIBE, SKIPPABLE):
                client = self.connect()
                client.send_raw(encode_header(frame_type, length))
                self.check_refused(client, "MESSAGE_TOO_LARGE")
        for length in (MAX_PAYLOAD_DEFAULT + 1, *self.huge):
            for frame_type in (MsgType.SUBSCRIBE, SKIPPABLE):
                client, _ = self.subscribed()
                client.send_raw(encode_header(frame_type, length))
                self.check_refused(client, "MESSAGE_TOO_LARGE", skip=(MsgType.DATA_BATCH,))

    def test_nothing_is_allocated_for_a_length(self):
        """Memory for an allowed payload is allocated as it comes, for a refused one never."""
        clients = self.open_clients()
        before, peak_before = self.resident_bytes(), virtual_peak_bytes(self.server.pid)
        held = self.subscribers(clients, 300)
        clients.send(encode_header(SKIPPABLE, MAX_PAYLOAD_DEFAULT) + b"x", held)
        refused = [peer for length in self.huge for peer in clients.add(50, encode_header(MsgType.AUTH, length))]
        clients.run_until(lambda: not any(peer.is_open for peer in refused), 5)
        self.check_closed(refused, "MESSAGE_TOO_LARGE")
        self.assertTrue(all(peer.is_open for peer in held))
        # 300 payloads of 64 KiB would be 19 MiB.
        self.assertLess(self.resident_bytes() - before, 4 * MIB)
        self.assertLess(virtual_peak_bytes(self.server.pid) - peak_before, 512 * MIB)


class DribbledAuth(FaultCase):
    fault = 2
    promise = "AUTH dribbled a byte a second: at most 4 KiB held, the auth deadline (5 s) closes"
    auth_timeout_s = 5.0

    def check_timed_out(self, peers):
        self.check_closed(peers, "AUTH_REQUIRED")
        for peer in peers:
            elapsed_s = peer.frames[-1].received_monotonic - peer.connect_started
            latest_s = self.auth_timeout_s + DEADLINE_SLACK_S + self.machine_slack_s
            self.check_between(elapsed_s, self.auth_timeout_s, latest_s, "seconds without AUTH")

    def dribble(self, clients, peers, data):
        """Sends `data` a byte a second until all peers are closed."""
        for byte in data:
            clients.send(bytes([byte]), peers)
            if clients.run_until(lambda: not any(peer.is_open for peer in peers), 1.0):
                return

    def test_the_deadline_closes(self):
        clients = self.open_clients()
        peers = clients.add(20)
        self.dribble(clients, peers, AUTH_FRAME[:10])
        self.check_timed_out(peers)

    def test_little_is_held(self):
        clients = self.open_clients()
        before = self.resident_bytes()
        # All but the last bytes of the largest frame that is allowed before AUTH.
        largest = encode_frame(MsgType.AUTH, bytes(MAX_PAYLOAD_BEFORE_AUTH))
        peers = clients.add(500, largest[:-12])
        clients.run_until(lambda: not any(peer.unsent for peer in peers), 2)
        self.dribble(clients, peers, largest[-12:-4])
        grown = self.resident_bytes() - before
        self.check_timed_out(peers)
        # 4 KiB of each, in a buffer that doubles as it grows, and 1 MiB for tables of connections.
        self.assertLess(grown, 500 * 2 * 4 * KIB + MIB)


class WrongState(FaultCase):
    fault = 3
    promise = "Any frame in any wrong state: ERROR, close"
    known = {int(frame_type) for frame_type in MsgType}

    def check_all(self, prelude, codes):
        """Each frame type of `codes`, sent after `prelude`, is answered with its ERROR, and what follows isn't."""
        clients = self.open_clients()
        frames = {frame_type: prelude + encode_frame(frame_type) + HEARTBEAT_FRAME for frame_type in codes}
        peers = {frame_type: clients.add(1, data)[0] for frame_type, data in frames.items()}
        clients.run_until(lambda: not any(peer.is_open for peer in peers.values()), 10)
        for frame_type, code in codes.items():
            with self.subTest(type=frame_type):
                self.check_closed([peers[frame_type]], code)
                self.assertEqual(peers[frame_type].count(MsgType.HEARTBEAT), 0)

    def test_before_auth(self):
        self.check_all(b"", {kind: "AUTH_REQUIRED" for kind in range(256) if kind != MsgType.AUTH})

    def after_auth(self):
        violations = self.known - {MsgType.SUBSCRIBE, MsgType.HEARTBEAT, MsgType.PUBLISH}
        # This server collects no events.
        unknown = set(range(SKIPPABLE)) - self.known | {MsgType.PUBLISH}
        return {kind: "PROTOCOL_VIOLATION" for kind in violations} | {kind: "UNSUPPORTED_TYPE" for kind in unknown}

    def test_after_auth(self):
        self.check_all(AUTH_FRAME, self.after_auth())

    def test_while_subscribed(self):
        self.check_all(AUTH_FRAME + SUBSCRIBE_FRAME, self.after_auth())

    def test_after_an_error_nothing_counts(self):
        for late in (AUTH_FRAME + SUBSCRIBE_FRAME, HEARTBEAT_FRAME, b"\x00" * 100):
            client = self.connect()
            client.send_frame(MsgType.SUBSCRIBE)
            client.send_raw(late)
            self.check_refused(client, "AUTH_REQUIRED")


class FrameFlood(FaultCase):
    fault = 8
    promise = "Flood of heartbeats or subscribes: a budget per second, then closed"
    heavy = True
    flooders = 10
    budget = 100
    lingering_s = 2.0

    def check_flood(self, frame, is_answered):
        clients = self.open_clients()
        peers = clients.add(self.flooders, AUTH_FRAME)
        clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in peers), 10)
        began = time.monotonic()

        def flood():
            for peer in peers:
                if peer.is_open and len(peer.unsent) < 16 * KIB:
                    peer.unsent += frame * 500
            return not any(peer.is_open for peer in peers)

        clients.run_until(flood, 10)
        for peer in peers:
            self.assertFalse(peer.is_open, "still open")
            # Who goes on writing may find its connection reset after the ERROR.
            self.assertEqual(peer.error_code(), "RATE_LIMITED")
            self.assertLess(peer.closed_at - began, 1 + self.lingering_s + self.machine_slack_s)
            answers = sum(is_answered(answer) for answer in peer.frames)
            # Two seconds of the server's clock may have seen them.
            self.check_between(answers, 0, 2 * self.budget, "answers to a flood")

    def test_heartbeats(self):
        self.check_flood(HEARTBEAT_FRAME, lambda answer: answer.type == MsgType.HEARTBEAT)

    def test_subscribes(self):
        self.check_flood(SUBSCRIBE_FRAME, lambda answer: answer.type == MsgType.ACK)

    def test_subscribes_with_replay(self):
        """Each asks for an hour of ticks: a hundred times the work of any other frame."""
        self.check_flood(REPLAY_FRAME, lambda answer: answer.type == MsgType.ACK)

    def test_frames_that_are_skipped(self):
        self.check_flood(encode_frame(SKIPPABLE), lambda answer: answer.type == MsgType.HEARTBEAT)

    def test_floods_of_clients_that_dont_read(self):
        clients = self.open_clients()
        before = self.resident_bytes()
        peers = clients.add(self.flooders, AUTH_FRAME + REPLAY_FRAME * 1_000, receive_buffer=4 * KIB)
        for peer in peers:
            peer.reads = False
        clients.run(2)
        self.assertLess(self.resident_bytes() - before, 8 * MIB)
        for peer in peers:
            peer.reads = True
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 10)
        self.assertFalse(any(peer.is_open for peer in peers), "still open")
