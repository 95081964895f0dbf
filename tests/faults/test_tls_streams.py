"""Faults 23, 24 and 42 over TLS: slow readers, and how connections end."""

import signal
import socket
import time

from faults.case import AUTH_FRAME, DEADLINE_SLACK_S, KIB, MIB, REPLAY_FRAME, heavy
from faults.secure import TlsCase
from support.harness import PASSWORD, USER
from support.tickstream_client import MsgType, encode_message_frame, ticks_of


class SlowOverTls(TlsCase):
    fault = 23
    promise = "Zero window: closed at the write deadline, 5.0 to 5.5 s"
    rate = 1_000
    write_deadline_s = 2.0
    options = ("--write-deadline-ms", int(write_deadline_s * 1_000))
    stalled = 50
    # What a connection that doesn't take it keeps of a frame, sealed (docs/tls.md): 16 KiB and what is around it.
    sealed_max = 17 * KIB

    def test_closed_at_the_write_deadline(self):
        clients = self.tls_clients()
        before = self.resident_bytes()
        peers = self.subscribers(clients, self.stalled, receive_buffer=4 * KIB)
        for peer in peers:
            peer.reads = False
        clients.send(REPLAY_FRAME, peers)
        clients.run(self.write_deadline_s / 2)
        self.assertLess(self.resident_bytes() - before, self.stalled * self.sealed_max + 2 * MIB)
        latest_s = 1 + self.write_deadline_s + DEADLINE_SLACK_S + self.machine_slack_s
        self.wait_until(lambda: len(self.closes("slow_consumer")) == self.stalled, latest_s, "closed")
        for record in self.closes("slow_consumer"):
            latest_ms = (self.write_deadline_s + DEADLINE_SLACK_S) * 1_000
            self.check_between(record["unsent_ms"], self.write_deadline_s * 1_000, latest_ms, "unsent_ms")
        # They stand behind what they haven't read: RST, neither close_notify nor FIN.
        for peer in peers:
            peer.reads = True
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 3)
        self.assertTrue(all(peer.was_reset for peer in peers))


class ReplayToSlowReader(TlsCase):
    fault = 24
    promise = "Drip reader, a byte each 4.9 s: the deadline is on the oldest unsent byte"
    rate = 1_000
    # replay_ticks_max, 900 KB: what a socket holds, many times over.
    replayed = 100_000
    options = ("--send-buffer", "8KiB", "--unsent-max", "1KiB")

    @heavy
    def test_all_of_it_arrives(self):
        """Records that the socket takes in pieces are whole and in order, and live ticks follow."""
        client, ack = self.tls_subscribed(resume_after=1, receive_buffer=2 * KIB)
        self.check_ticks(self.slowly_read(client, self.replayed + 2 * self.rate), ack["next_sequence"],
                         (1000, self.rate))
        self.check_alive(client)

    def slowly_read(self, client, count):
        ticks = []
        while len(ticks) < count:
            ticks += ticks_of(client.expect(MsgType.DATA_BATCH, skip=(MsgType.HEARTBEAT,)))
            if len(ticks) % 8_000 < 1_000:
                time.sleep(0.05)
        return ticks

    def test_pauses_below_the_deadline_cost_nothing(self):
        client, ack = self.tls_subscribed(resume_after=1, receive_buffer=2 * KIB)
        ticks = client.read_ticks(5_000)
        time.sleep(2.5)
        ticks += client.read_ticks(5_000)
        self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))

    def test_the_same_ticks_as_without_tls(self):
        resume_after = int((time.time() - 30) * self.rate)
        plain, _ = self.subscribed(resume_after=resume_after)
        over_tls, _ = self.tls_subscribed(resume_after=resume_after)
        ticks = plain.read_ticks(20_000), over_tls.read_ticks(20_000)
        both = [{tick.sequence: (tick.mode, tick.epoch_ms) for tick in some[:20_000]} for some in ticks]
        self.assertEqual(both[0], both[1])


class OrderlyCloses(TlsCase):
    fault = 28
    promise = "Garbage, fragmented or truncated ClientHello, early close_notify: no spin, no panic"
    options = ("--heartbeat-interval", "500ms", "--heartbeat-timeout", "1500ms", "--auth-timeout", "2s")
    # The bystander heartbeats by what it was told: every 250 ms.

    def check_notified(self, peers, code):
        """Each got its ERROR, close_notify, and then FIN."""
        self.check_closed(peers, code)
        for peer in peers:
            self.assertTrue(peer.was_notified, "FIN without close_notify")
            self.assertIsNone(peer.tls_error)

    def ended(self, data, timeout_s=5):
        clients = self.tls_clients()
        peers = clients.add(10, data)
        clients.run_until(lambda: not any(peer.is_open for peer in peers), timeout_s)
        return peers

    def test_auth_failed(self):
        wrong = encode_message_frame(MsgType.AUTH, username=USER, password="x" + PASSWORD)
        self.check_notified(self.ended(wrong), "AUTH_FAILED")

    def test_no_auth_in_time(self):
        self.check_notified(self.ended(b""), "AUTH_REQUIRED")

    def test_heartbeat_timeout(self):
        self.check_notified(self.ended(AUTH_FRAME), "HEARTBEAT_TIMEOUT")

    def test_bytes_that_are_no_frame(self):
        for peer in self.ended(b"GET / HTTP/1.1\r\n\r\n"):
            self.assertFalse(peer.is_open or peer.was_reset)
            self.assertTrue(peer.was_notified and not peer.frames)

    def test_the_client_closes(self):
        """By close_notify or by FIN alone: either is answered with close_notify and FIN."""
        for _ in range(5):
            client = self.tls_client()
            client.send_raw(AUTH_FRAME)
            client.read_auth_ack()
            client.finish()
        clients = self.tls_clients()
        peers = self.subscribers(clients, 5)
        for peer in peers:
            peer.socket.shutdown(socket.SHUT_WR)
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 3)
        for peer in peers:
            self.assertFalse(peer.is_open or peer.was_reset)
            self.assertTrue(peer.was_notified, "FIN without close_notify")
        self.wait_until(lambda: len(self.closes("peer_closed")) == 10, 3, "closed as peer_closed")


class DrainOverTls(TlsCase):
    fault = 42
    promise = "SIGTERM: stop accepting, GOAWAY paced, flush, close; a second SIGTERM or the drain limit ends it"
    has_bystander = False
    drain_s = 2
    options = ("--drain-seconds", drain_s)

    def tearDown(self):
        for opened in self._opened:
            opened.close()

    def test_close_notify_comes_before_fin(self):
        clients = self.tls_clients()
        peers = self.subscribers(clients, 50)
        handshaking = clients.add(5)
        for peer in handshaking:
            peer.budget = 10
        clients.run(0.2)
        self.server.signal(signal.SIGTERM)
        clients.run_until(lambda: not any(peer.is_open for peer in clients.peers), self.drain_s + 2)
        for peer in peers:
            others = [kind for kind in peer.types() if kind not in (MsgType.ACK, MsgType.DATA_BATCH)]
            self.assertEqual(others, [MsgType.GOAWAY, MsgType.ERROR])
            self.assertTrue(peer.was_notified, "FIN without close_notify")
        self.check_closed(peers, "SHUTTING_DOWN")
        for peer in handshaking:
            self.assertFalse(peer.is_open or peer.was_reset)
            self.assertFalse(peer.was_notified or peer.frames)
        self.assertEqual(self.server.wait(), 0)
