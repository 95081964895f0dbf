"""All at once: what the other tests do one after another, at random, against one server with tight limits."""

import os
import random
import signal
import socket
import time

from faults.case import AUTH_FRAME, HEARTBEAT_FRAME, KIB, MIB, REPLAY_FRAME, SUBSCRIBE_FRAME
from faults.clients import RawPeer
from faults.proxy_headers import version_1, version_2
from faults.secure import HANDSHAKE, TlsCase, TlsPeer, client_hello, record
from faults.test_authentication import WRONG_AUTH_FRAME
from faults.test_reload import FileCase


class Anything(FileCase, TlsCase):
    """A seed repeats what is done, not when."""

    fault = 28
    promise = "Garbage, fragmented or truncated ClientHello, early close_notify: no spin, no panic"
    heavy = True
    text = "unauthenticated_per_ip_max = 20\n"
    options = (
        *("--handshakes-max", 4, "--max-connections", 150, "--unauthenticated-max", 60, "--auth-timeout", "1s"),
        *("--handshake-timeout", "1s", "--write-deadline-ms", 1_000, "--heartbeat-interval", "400ms"),
        *("--heartbeat-timeout", "2s", "--proxy-protocol", "optional", "--proxy-trusted", "127.240.0.0/16"),
        *("--send-buffer", "4KiB", "--unsent-max", "1KiB"),
    )
    seconds = 6
    # The clients, their server and the bystander share the machine.
    late_median_s = 0.5
    resident_max = 48 * MIB

    def setUp(self):
        self.seed = int(os.environ.get("FAULTS_SEED", time.time_ns()))
        self.chance = random.Random(self.seed)
        super().setUp()

    def _formatMessage(self, *arguments):
        return f"{super()._formatMessage(*arguments)} (FAULTS_SEED={self.seed})"

    def test_anything(self):
        hello = client_hello(self.context)
        clients = self.open_clients()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.come(clients, hello)
            clients.run(self.chance.choice((0, 0, 0.02)))
            for peer in self.chance.sample(clients.peers, min(3, len(clients.peers))):
                self.meddle(peer)
            if self.chance.random() < 0.02:
                self.write(self.chance.choice(("", self.text, "max_connections_per_ip = 9\n", "nonsense")))
                self.server.signal(signal.SIGHUP)
            clients.peers = [peer for peer in clients.peers if peer.is_open]
            self.assertLess(self.resident_bytes(), self.resident_max)
        self.write("")
        self.reload()
        clients.close()
        self.wait_until(lambda: self.admin.metrics().total("active_connections") == 1, 6, "only the bystander")
        self.check_tls_serving()
        self.check_serving()

    def come(self, clients, hello):
        """Some connections of a kind."""
        kind = self.chance.choice(("plain", "plain", "tls", "tls", "raw", "bare"))
        host = f"127.{self.chance.choice((240, 241))}.0.{self.chance.randrange(1, 40)}"
        buffer = self.chance.choice((None, KIB, 64 * KIB))
        data = self.chance.choice((b"", AUTH_FRAME, AUTH_FRAME[:9], AUTH_FRAME + SUBSCRIBE_FRAME,
                                   AUTH_FRAME + REPLAY_FRAME, WRONG_AUTH_FRAME, AUTH_FRAME + HEARTBEAT_FRAME * 150))
        header = self.chance.choice((b"", b"", version_1("203.0.113.9"), version_2("2001:db8::9"), b"PROXY UNKNOWN\r"))
        for _ in range(self.chance.randrange(1, 5)):
            if kind == "tls":
                peer = TlsPeer(self.server.host, self.tls_port, self.context, source_host=host, receive_buffer=buffer)
                peer.sealed = header + peer.sealed
                peer.unsent = data
            elif kind == "raw":
                peer = RawPeer(self.server.host, self.tls_port, source_host=host, receive_buffer=buffer)
                peer.unsent = header + self.chance.choice(
                    (hello, hello[:50], hello * 2, AUTH_FRAME, record(HANDSHAKE), self.chance.randbytes(300))
                )
            else:
                peer = RawPeer(self.server.host, self.server.port, source_host=host, receive_buffer=buffer)
                peer.unsent = header + data if kind == "plain" else b""
            clients.peers.append(peer)

    def meddle(self, peer):
        """Does something to a connection."""
        deed = self.chance.randrange(7)
        if not peer.is_open or deed == 0:
            return
        if deed == 1:
            peer.reset()
        elif deed == 2:
            peer.close()
        elif deed == 3:
            peer.reads = not peer.reads
        elif deed == 4:
            peer.unsent += self.chance.choice((HEARTBEAT_FRAME, REPLAY_FRAME, SUBSCRIBE_FRAME, b"T"))
        elif deed == 5 and isinstance(peer, TlsPeer):
            peer.budget = self.chance.choice((0, 1, 100, None))
        elif deed == 6:
            try:
                peer.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass


class AnythingForLonger(Anything):
    is_long = True
    timeout_s = 200
    seconds = 120
