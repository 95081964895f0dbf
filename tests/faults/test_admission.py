"""Fault 18, and the other limits on who is let in: each is shown to fire, with its metric."""

import pathlib
import signal
import tempfile
import time

from faults.case import AUTH_FRAME, HEARTBEAT_FRAME, KIB, MIB, FaultCase
from faults.secure import TlsCase
from support.harness import next_source_host
from support.tickstream_client import MsgType, encode_frame

SKIPPABLE = 0x80


class Admission(FaultCase):
    fault = 18
    promise = "Silent connections: pre-auth cap in all and per IP, deadline"
    has_admin = True

    def fill(self, clients, count, data=AUTH_FRAME, **options):
        """`count` connections that are let in."""
        peers = clients.add(count, data, **options)
        if data:
            clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in peers), 5)
        clients.run(0.3)
        self.assertEqual(sum(peer.is_open and not peer.error_code() for peer in peers), count, "not all were let in")
        return peers

    def check_kept_out(self, clients, count, **options):
        """`count` more aren't, and are told when to come back."""
        peers = clients.add(count, **options)
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 5)
        self.check_refused_at_once(peers, "SERVER_BUSY")


class UnauthenticatedCap(Admission):
    limit = 30
    auth_timeout_s = 5.0
    options = ("--unauthenticated-max", limit)

    def test_beyond_it_nobody_is_let_in(self):
        clients = self.open_clients()
        # Who has authenticated doesn't count.
        self.fill(clients, 20)
        silent = self.fill(clients, self.limit, b"")
        self.check_metric("tickstream_connections_unauthenticated", self.limit)
        self.check_kept_out(clients, 40)
        self.check_fired("unauthenticated", 40)
        self.check_metric("tickstream_connections_refused_total", 40)
        # Each that authenticates or leaves makes room for another.
        clients.send(AUTH_FRAME, silent[:5])
        self.assertTrue(clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in silent[:5]), 3))
        for peer in silent[5:10]:
            peer.close()
        self.check_metric("tickstream_connections_unauthenticated", self.limit - 10)
        self.fill(clients, 10, b"")
        self.check_kept_out(clients, 1)
        # The deadline lets go of all.
        clients.run_until(lambda: not any(peer.is_open for peer in silent[10:]), self.auth_timeout_s + 2)
        self.check_closed(silent[10:], "AUTH_REQUIRED")
        self.check_serving()


class UnauthenticatedPerAddressCap(Admission):
    limit = 5
    options = ("--unauthenticated-per-ip-max", limit)

    def test_an_address_has_its_own_cap(self):
        clients = self.open_clients()
        host = next_source_host()
        silent = self.fill(clients, self.limit, b"", source_host=host)
        self.check_kept_out(clients, 20, source_host=host)
        self.fill(clients, self.limit, b"", source_host=next_source_host())
        self.check_fired("unauthenticated_per_address", 20)
        clients.send(AUTH_FRAME, silent)
        self.assertTrue(clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in silent), 3))
        self.fill(clients, self.limit, b"", source_host=host)
        self.check_kept_out(clients, 1, source_host=host)


class ConnectionsCap(Admission):
    # The bystander is one.
    limit = 21
    options = ("--max-connections", limit)

    def test_beyond_it_nobody_is_let_in(self):
        clients = self.open_clients()
        peers = self.fill(clients, self.limit - 1)
        self.check_kept_out(clients, 40)
        self.check_fired("connections", 40)
        self.check_metric("active_connections", self.limit)
        for peer in peers[:5]:
            peer.close()
        self.check_metric("active_connections", self.limit - 5)
        self.fill(clients, 5)
        self.check_kept_out(clients, 1)


class ConnectionsPerAddressCap(Admission):
    limit = 5
    options = ("--max-connections-per-ip", limit)

    def test_an_address_has_its_own_cap(self):
        clients = self.open_clients()
        host = next_source_host()
        peers = self.fill(clients, self.limit, source_host=host)
        self.check_kept_out(clients, 20, source_host=host)
        self.fill(clients, self.limit, source_host=next_source_host())
        self.check_fired("connections_per_address", 20)
        peers[0].close()
        self.check_metric("active_connections", 2 * self.limit)
        self.fill(clients, 1, source_host=host)
        self.check_kept_out(clients, 1, source_host=host)


class ConnectionRate(Admission):
    rate_max = 20
    options = ("--connections-per-second-max", rate_max)

    def burst(self, count):
        """Number of `count` clients that come at once and are let in; the others are told to come back."""
        clients = self.open_clients()
        began = time.monotonic()
        with self.suspended():
            peers = clients.add(count)
            clients.run(0.3)
        clients.run_until(lambda: sum(not peer.is_open for peer in peers) >= count - 2 * self.rate_max - 5, 5)
        clients.run(0.2)
        refused = [peer for peer in peers if not peer.is_open]
        self.check_refused_at_once(refused, "SERVER_BUSY")
        clients.close()
        return count - len(refused), time.monotonic() - began

    def test_two_seconds_worth_may_come_at_once(self):
        # Since the server's start the probe and the bystander came.
        time.sleep(0.5)
        let_in, took_s = self.burst(100)
        self.check_between(let_in, 2 * self.rate_max - 2, (2 + took_s) * self.rate_max, "connections let in")
        self.check_fired("connection_rate", 100 - let_in)
        time.sleep(1)
        let_in, took_s = self.burst(100)
        self.check_between(let_in, self.rate_max - 2, (2 + took_s) * self.rate_max, "connections let in")


class CapsOverTls(TlsCase, Admission):
    """A client that can't read an ERROR yet gets FIN alone."""

    limit = 5
    options = ("--unauthenticated-max", limit)

    def test_beyond_a_cap_tls_is_refused_without_a_word(self):
        clients = self.raw_clients()
        self.fill_raw(clients, self.limit)
        peers = clients.add(20)
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 5)
        for peer in peers:
            self.assertFalse(peer.is_open or peer.was_reset)
            self.assertEqual(peer.unparsed, b"")
        self.check_fired("unauthenticated", 20)
        clients.close()
        self.check_tls_serving()

    def fill_raw(self, clients, count):
        peers = clients.add(count)
        clients.run(0.3)
        self.assertTrue(all(peer.is_open for peer in peers))


class FrameBudget(Admission):
    fault = 8
    promise = "Flood of heartbeats or subscribes: a budget per second, then closed"
    budget = 10
    options = ("--frames-per-second-max", budget)

    def test_its_metric(self):
        clients = self.open_clients()
        peers = self.fill(clients, 20, AUTH_FRAME + HEARTBEAT_FRAME * (self.budget // 2))
        clients.send(HEARTBEAT_FRAME * 3 * self.budget)
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 5)
        self.check_refused_at_once(peers, "RATE_LIMITED")
        self.check_fired("frames", len(peers))
        self.check_metric("tickstream_connections_closed_total", len(peers), reason="rate_limited")


class FrameSize(Admission):
    fault = 1
    promise = "Huge Length: refused from the header, nothing allocated"
    options = ("--max-msg-size", "2KiB")

    def test_its_metric(self):
        clients = self.open_clients()
        allowed, too_large = (encode_frame(SKIPPABLE, bytes(size)) for size in (2 * KIB, 2 * KIB + 1))
        self.fill(clients, 5, AUTH_FRAME + allowed)
        before, after = clients.add(5, too_large), clients.add(5, AUTH_FRAME + too_large)
        clients.run_until(lambda: not any(peer.is_open for peer in before + after), 5)
        self.check_closed(before + after, "MESSAGE_TOO_LARGE")
        self.check_fired("frame_bytes", 10)


class MemoryWatermark(Admission):
    fault = 20
    promise = "Kernel socket memory: SO_SNDBUF capped, so that stalled clients can't eat tcp_mem"

    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.file = pathlib.Path(self._folder.name) / "tickstream.toml"
        self.allow(64 * KIB)
        self.options = ("--config", self.file)
        super().setUp()

    def allow(self, mib):
        self.file.write_text(f"memory_max_mib = {mib}\n")

    def test_above_it_nobody_is_let_in(self):
        """The watermark changes, and the memory in use doesn't."""
        clients = self.open_clients()
        old = self.fill(clients, 5)
        self.allow(1)
        self.server.signal(signal.SIGHUP)
        above, below = ("above the memory watermark: new connections are refused",
                        "below the memory watermark: new connections are taken")
        self.wait_until(lambda: self.lines(above), 5, "a line about the watermark")
        time.sleep(0.2)
        self.check_kept_out(clients, 20)
        self.check_fired("memory", 20)
        self.assertTrue(all(peer.is_open for peer in old))
        # Back below it by a twentieth.
        self.allow(self.resident_bytes() * 2 // MIB)
        self.server.signal(signal.SIGHUP)
        self.wait_until(lambda: self.lines(below), 5, "a line about the watermark")
        time.sleep(0.2)
        self.fill(clients, 5)


class Lag(Admission):
    fault = 22
    promise = "CPU overload: ticks are late, then batched; nobody is starved, latency recovers at once"
    options = ("--overload-lag", "500ms")
    suspended_s = 1.0
    busy_s = 1.0

    def test_a_late_server_lets_nobody_in_for_a_second(self):
        clients = self.open_clients()
        old = self.fill(clients, 5)
        with self.suspended(self.suspended_s) as suspension:
            pass
        self.wait_until(self.is_kept_out, 0.8, "nobody let in")
        self.assertTrue(all(peer.is_open for peer in old))
        latest_s = suspension.continued_at + self.busy_s + 2 - time.time()
        self.wait_until(lambda: not self.is_kept_out(), latest_s, "everybody let in")
        self.check_metric("tickstream_limits_fired_total", 1, 1_000, limit="lag")

    def is_kept_out(self):
        clients = self.open_clients()
        (peer,) = clients.add(1, AUTH_FRAME)
        self.assertTrue(clients.run_until(lambda: peer.frames, 3), "no answer")
        clients.close()
        self.assertIn(peer.error_code(), (None, "SERVER_BUSY"))
        return peer.error_code() == "SERVER_BUSY"
