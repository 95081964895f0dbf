"""Faults 42 to 46: what operators do."""

import signal
import time

from faults.case import (
    AUTH_FRAME,
    KIB,
    REPLAY_FRAME,
    SUBSCRIBE_FRAME,
    FaultCase,
    heavy,
)
from support.harness import at_once, ticks_in
from support.tickstream_client import VERSION, MsgType, encode_frame


class Terminator(FaultCase):
    fault = 42
    promise = "SIGTERM: stop accepting, GOAWAY paced, flush, close; a second SIGTERM or the drain limit ends it"
    has_bystander = False

    def tearDown(self):
        for opened in self._opened:
            opened.close()

    def ended_within(self, seconds):
        """Waits for its end; exit code 0, not later than `seconds` from now."""
        began = time.monotonic()
        self.assertEqual(self.server.wait(), 0)
        self.assertLess(time.monotonic() - began, seconds + self.machine_slack_s)


class Terminated(Terminator):
    drain_s = 3.0
    clients = 1_000
    options = ("--drain-seconds", int(drain_s))

    @heavy
    def test_every_client_leaves_in_good_order(self):
        clients = self.open_clients()
        peers = self.subscribers(clients, self.clients)
        witness, ack = self.subscribed()
        self.server.signal(signal.SIGTERM)
        began = time.monotonic()
        clients.run_until(lambda: not any(peer.is_open for peer in peers), self.drain_s + 2)
        messages = witness.collect(1)
        self.check_ticks(ticks_in(messages), ack["next_sequence"], (1000, self.rate))
        self.assertEqual(messages[-1].type, MsgType.ERROR)
        for peer in peers:
            others = [kind for kind in peer.types() if kind not in (MsgType.ACK, MsgType.DATA_BATCH)]
            self.assertEqual(others, [MsgType.GOAWAY, MsgType.ERROR])
        self.check_closed(peers, "SHUTTING_DOWN")
        reported_s = sorted(frame.received_monotonic - began for peer in peers for frame in peer.frames
                        if frame.type == MsgType.GOAWAY)
        closed_s = sorted(peer.closed_at - began for peer in peers)
        self.assertLess(reported_s[0], 0.5 + self.machine_slack_s)
        # Some hundreds at once, the others evenly over three fifths of the drain.
        self.assertLess(reported_s[self.clients // 4], reported_s[self.clients // 2] - 0.05, "all are told at once")
        self.assertLess(reported_s[self.clients // 2], reported_s[-1] - 0.3, "all are told at once")
        self.assertLess(closed_s[-1], self.drain_s + self.machine_slack_s)
        self.ended_within(self.drain_s)

    def test_no_more_connections_are_accepted(self):
        old, _ = self.subscribed()
        self.server.signal(signal.SIGTERM)
        old.expect(MsgType.GOAWAY, self.drain_s, skip=(MsgType.DATA_BATCH,))
        with self.assertRaises(ConnectionRefusedError):
            self.connect()
        self.ended_within(self.drain_s)

    def test_clients_that_leave_end_the_drain(self):
        clients = [self.subscribed()[0] for _ in range(5)]
        self.server.signal(signal.SIGTERM)

        def leave(client):
            client.expect(MsgType.GOAWAY, self.drain_s, skip=(MsgType.DATA_BATCH,))
            client.close()

        began = time.monotonic()
        at_once(leave, clients)
        # The last one may be told late; nobody is waited for any longer.
        reported_s = time.monotonic() - began
        self.ended_within(max(1.0, self.drain_s - reported_s))

    def test_the_drain_limit_ends_it(self):
        """Stalled clients, and ones that never authenticate."""
        clients = self.open_clients()
        stalled = clients.add(20, AUTH_FRAME + REPLAY_FRAME, receive_buffer=4 * KIB)
        for peer in stalled:
            peer.reads = False
        clients.add(20, AUTH_FRAME[:5])
        clients.run(0.5)
        self.server.signal(signal.SIGTERM)
        self.ended_within(self.drain_s)


class TerminatedAtOnce(Terminator):
    starts = 8

    def setUp(self):
        self.prepare()

    def test_as_soon_as_it_accepts(self):
        for _ in range(self.starts):
            self.server = self.start_server()
            self.server.signal(signal.SIGTERM)
            self.ended_within(5)


class TerminatedWithoutTime(Terminator):
    options = ("--drain-seconds", 0)
    clients = 200

    @heavy
    def test_every_client_is_told_why(self):
        clients = self.open_clients()
        peers = self.subscribers(clients, self.clients)
        silent = clients.add(20)
        clients.run(0.3)
        self.server.signal(signal.SIGTERM)
        clients.run_until(lambda: not any(peer.is_open for peer in peers + silent), 3)
        self.check_closed(peers + silent, "SHUTTING_DOWN")
        self.ended_within(1)


class TerminatedTwice(Terminator):
    options = ("--drain-seconds", 60)

    def test_a_second_sigterm_ends_it_at_once(self):
        """A client that stays would be waited for: a second until it is told, two that its end lingers."""
        self.subscribed()
        self.server.signal(signal.SIGTERM)
        time.sleep(0.5)
        self.server.signal(signal.SIGTERM)
        self.ended_within(0.5)


class VersionSkew(FaultCase):
    fault = 45
    promise = "Version skew: a client one version ahead gets an ERROR that it can read"

    def check_reported(self, client, skip=()):
        """The ERROR is a frame of this version, and names the versions that are supported."""
        error = self.check_refused(client, "UNSUPPORTED_VERSION", skip=skip)
        self.assertIn(f"{VERSION} to {VERSION}", error["message"])
        self.assertIn(str(VERSION + 1), error["message"])

    def ahead(self, frame):
        return frame[:2] + bytes([VERSION + 1]) + frame[3:]

    def test_at_its_first_frame(self):
        for data in (self.ahead(AUTH_FRAME), self.ahead(AUTH_FRAME + SUBSCRIBE_FRAME), b"TS\x02"):
            client = self.connect()
            client.send_raw(data)
            self.check_reported(client)

    def test_with_a_header_that_this_version_lacks(self):
        """Nothing behind the version is looked at: its meaning is that version's."""
        for rest in (b"\xff" * 64, b"\x01\xff\xff\xff\xff", bytes(2_000)):
            client = self.connect()
            client.send_raw(b"TS\x02" + rest)
            self.check_reported(client)

    def test_later(self):
        client = self.authenticated()
        client.send_raw(self.ahead(SUBSCRIBE_FRAME))
        self.check_reported(client)
        client, _ = self.subscribed()
        client.send_raw(self.ahead(encode_frame(MsgType.HEARTBEAT)))
        self.check_reported(client, skip=(MsgType.DATA_BATCH,))

    def test_new_types_and_fields_of_this_version_are_no_skew(self):
        client = self.authenticated()
        client.send_frame(0x80, b"new")
        client.send_frame(MsgType.SUBSCRIBE, b"\x08\x00" + b"\x7a\x03new")
        ack = client.read_subscribe_ack()
        self.check_ticks(client.read_ticks(1), ack["next_sequence"], (1000, self.rate))
