"""Faults 27 to 30: TLS handshakes, and records that are none."""

import random
import ssl
import subprocess
import time

from faults import openssl_session
from faults.case import (
    AUTH_FRAME,
    DEADLINE_SLACK_S,
    HEARTBEAT_FRAME,
    KIB,
    MIB,
    REPLAY_FRAME,
    SUBSCRIBE_FRAME,
    heavy,
)
from faults.openssl_session import KEY_UPDATE_NOT_REQUESTED, KEY_UPDATE_REQUESTED, OpensslSession
from faults.secure import (
    ALERT,
    ALERTS,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    TlsCase,
    client_context,
    client_hello,
    record,
    records,
)
from support import authority
from support.authority import FOR_CLIENTS, FOR_SERVERS
from support.process_stats import cpu_seconds
from support.tickstream_client import MsgType, encode_header

HANDSHAKE_TIMEOUT_S = 5.0
FATAL, DECODE_ERROR, PROTOCOL_VERSION = 2, 50, 70
SKIPPABLE = 0x80
CLOSE_NOTIFY = record(ALERT, b"\x01\x00")


class DribbledHandshake(TlsCase):
    fault = 27
    promise = "Handshake dribbled: 5 s deadline"
    # Small, so that who holds a place keeps others out.
    options = ("--handshakes-max", 2)

    def check_timed_out(self, peers):
        for peer in peers:
            self.assertFalse(peer.is_open, "still open")
            self.assertFalse(peer.was_reset, "RST instead of FIN")
            latest_s = HANDSHAKE_TIMEOUT_S + DEADLINE_SLACK_S + self.machine_slack_s
            elapsed_s = peer.closed_at - peer.connect_started
            self.check_between(elapsed_s, HANDSHAKE_TIMEOUT_S, latest_s, "seconds without a handshake")
        self.check_metric("tickstream_connections_closed_total", len(peers), reason="handshake_timeout")

    def dribble(self, clients, peers, data):
        """Sends `data` a byte a second until all peers are closed."""
        for byte in data:
            clients.send(bytes([byte]), peers)
            if clients.run_until(lambda: not any(peer.is_open for peer in peers), 1.0):
                return

    def test_the_deadline_closes(self):
        """Clients that send nothing, a byte a second, and all but a byte."""
        hello = client_hello(self.context)
        clients = self.raw_clients()
        silent, dribbling = clients.add(10), clients.add(10)
        lacking = clients.add(10, hello[:-1])
        self.dribble(clients, dribbling, hello[:10])
        clients.run_until(lambda: not any(peer.is_open for peer in clients.peers), 2)
        self.check_timed_out(silent + dribbling + lacking)
        self.assertEqual({bytes(peer.unparsed) for peer in clients.peers}, {b""})

    def test_a_dribbled_end(self):
        """The client's last flight, a byte a second."""
        clients = self.tls_clients()
        peers = clients.add(2)
        for peer in peers:
            peer.budget = len(peer.sealed)
        self.assertTrue(clients.run_until(lambda: all(peer.secured_at for peer in peers), 3))
        while any(peer.is_open for peer in peers):
            for peer in peers:
                peer.budget = 1
            clients.run_until(lambda: not any(peer.is_open for peer in peers), 1.0)
        self.check_timed_out(peers)
        self.assertFalse(any(peer.was_notified for peer in peers), "close_notify before the handshake is done")

    def test_dribblers_take_nobodys_place(self):
        hello = client_hello(self.context)
        clients = self.raw_clients()
        dribbling = clients.add(100, hello[:7])
        clients.run(0.3)
        began = time.monotonic()
        other_clients = self.tls_clients()
        self.subscribers(other_clients, 20)
        self.assertLess(time.monotonic() - began, 2.0, "others wait")
        self.assertTrue(all(peer.is_open for peer in dribbling))

    def test_stalled_ones_hold_places_until_their_deadline(self):
        """A whole ClientHello begins a handshake (docs/security.md, what isn't defended)."""
        clients = self.raw_clients()
        stalled = clients.add(2, client_hello(self.context))
        self.assertTrue(clients.run_until(lambda: all(peer.unparsed for peer in stalled), 3))
        time.sleep(1)
        other_clients = self.tls_clients()
        others = other_clients.add(5, AUTH_FRAME)
        other_clients.run(1)
        self.assertFalse(any(peer.secured_at for peer in others))
        self.check_fired("handshakes", len(others))
        self.assertTrue(other_clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in others), 5))
        clients.run(0.5)
        self.check_timed_out(stalled)


class NoSpin(TlsCase):
    """Tests that must cost the server little CPU time."""

    fault = 28
    promise = "Garbage, fragmented or truncated ClientHello, early close_notify: no spin, no panic"
    # All of it, for hundreds of connections.
    cpu_max_s = 1.5

    def setUp(self):
        super().setUp()
        self.cpu_before = cpu_seconds(self.server.pid)

    def tearDown(self):
        cpu_s = cpu_seconds(self.server.pid) - self.cpu_before
        super().tearDown()
        self.assertLess(cpu_s, self.cpu_max_s, "it spins")


class FlippedHellos(NoSpin):
    def test_hellos_with_bytes_flipped(self):
        chance = random.Random(28)
        hello = client_hello(self.context)
        clients = self.raw_clients()
        for _ in range(200):
            flipped = bytearray(hello)
            # Behind the length of the record.
            for at in chance.sample(range(5, len(hello)), 3):
                flipped[at] ^= 1 << chance.randrange(8)
            clients.add(1, bytes(flipped))
        clients.run(2)
        # What was flipped may not matter, or may ask for another ClientHello.
        for peer in clients.peers:
            kinds = {kind for kind, _ in records(peer.unparsed)}
            self.assertLessEqual(kinds, {ALERT, HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA})
        self.assertGreater(sum(not peer.is_open for peer in clients.peers), 20)
        clients.close()
        self.check_tls_serving()


class BadHandshakes(NoSpin):
    # So few places that one which isn't given back is missed.
    options = ("--handshakes-max", 4)

    def check_thrown_out(self, beginnings):
        """Each is answered with one alert, and closed."""
        clients = self.raw_clients()
        peers = [clients.add(1, data)[0] for data in beginnings]
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 4)
        for peer, data in zip(peers, beginnings):
            self.assertFalse(peer.is_open, f"still open after {data[:40]}")
            self.assertFalse(peer.was_reset, f"RST after {data[:40]}")
            self.assertEqual([kind for kind, _ in records(peer.unparsed)], [ALERT], data[:40])
        self.check_metric("tickstream_connections_closed_total", len(peers), reason="tls_failed")
        self.check_tls_serving()

    def test_garbage(self):
        chance = random.Random(28)
        garbage = [chance.randbytes(chance.choice((5, 6, 100, 2_000))) for _ in range(100)]
        # Not what would be the beginning of a ClientHello, whose rest is waited for.
        garbage = [data for data in garbage if data[0] != HANDSHAKE]
        self.check_thrown_out(garbage + [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", bytes(100), b"\xff" * 100])

    def test_plain_frames(self):
        """A client that doesn't know that this port speaks TLS."""
        self.check_thrown_out([AUTH_FRAME, AUTH_FRAME + SUBSCRIBE_FRAME, HEARTBEAT_FRAME])

    def test_records_that_mustnt_be_first(self):
        self.check_thrown_out([
            record(APPLICATION_DATA, b"x"),
            record(CHANGE_CIPHER_SPEC, b"\x02"),
            record(HANDSHAKE, b"\x02\x00\x00\x00"),
            record(HANDSHAKE, b"\x01\x00\x00\x10" + bytes(16)),
            record(ALERT, b"\x02\x28\x00"),
            record(99, b"x" * 10),
        ])

    def test_a_hello_cut_anywhere_by_tcp(self):
        clients = self.tls_clients()
        peers = clients.add(100, AUTH_FRAME)
        for at, peer in enumerate(peers):
            peer.budget = 1 + at * (len(peer.sealed) - 1) // len(peers)
        clients.run(0.3)
        for peer in peers:
            peer.budget = None
        self.assertTrue(clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in peers), 5))

    def test_a_hello_in_many_pieces(self):
        clients = self.tls_clients()
        peers = clients.add(5, AUTH_FRAME)
        for _ in range(len(peers[0].sealed) // 16):
            for peer in peers:
                peer.budget = 16
            clients.run_until(lambda: not any(peer.budget for peer in peers), 1)
        for peer in peers:
            peer.budget = None
        self.assertTrue(clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in peers), 5))

    def test_a_hello_in_several_records(self):
        """RFC 8446, section 5.1: a handshake message may be spread over records."""
        for pieces in (2, 10, 100):
            clients = self.tls_clients()
            (peer,) = clients.add(1, AUTH_FRAME)
            hello = peer.sealed[5:]
            size = -(-len(hello) // pieces)
            parts = [hello[at:at + size] for at in range(0, len(hello), size)]
            peer.sealed = b"".join(record(HANDSHAKE, part, 0x0301) for part in parts)
            self.assertTrue(clients.run_until(lambda: peer.count(MsgType.ACK), 3), f"{pieces} pieces")

    def test_a_large_hello(self):
        """More than a receive buffer of the server, as with keys of post-quantum key exchange."""
        context = client_context(self.authority.ca)
        context.set_alpn_protocols([f"{number:0200}" for number in range(20)])
        self.assertGreater(len(client_hello(context)), 4 * KIB)
        self.check_tls_serving(context)

    def test_a_hello_that_never_ends(self):
        """Nothing above the bound is kept."""
        clients = self.raw_clients()
        endless = record(HANDSHAKE, b"\x01\x00\xff\xff" + bytes(16_380)) * 10
        before = self.resident_bytes()
        peers = clients.add(50, endless)
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 4)
        self.assertFalse(any(peer.is_open for peer in peers))
        self.assertLess(self.resident_bytes() - before, 4 * MIB)

    def test_truncated(self):
        hello = client_hello(self.context)
        clients = self.raw_clients()
        peers = [clients.add(1, hello[:at])[0] for at in range(1, len(hello), 7)]
        clients.run_until(lambda: not any(peer.unsent for peer in peers), 3)
        clients.run(0.2)
        for number, peer in enumerate(peers):
            peer.reset() if number % 2 else peer.close()
        self.check_tls_serving()

    def test_early_close_notify(self):
        clients = self.raw_clients()
        later = clients.add(4, client_hello(self.context))
        self.assertTrue(clients.run_until(lambda: all(peer.unparsed for peer in later), 3))
        clients.send(CLOSE_NOTIFY, later)
        clients.run_until(lambda: not any(peer.is_open for peer in later), 3)
        self.assertFalse(any(peer.is_open for peer in later), "still open")
        # Where nothing has begun that could be closed, the deadline is what ends it.
        first = clients.add(10, CLOSE_NOTIFY)
        clients.run_until(lambda: not any(peer.is_open for peer in first), HANDSHAKE_TIMEOUT_S + DEADLINE_SLACK_S + 1)
        self.assertFalse(any(peer.is_open for peer in first), "still open")
        self.check_tls_serving()

    def test_floods_before_a_hello(self):
        """Empty records, alerts, changes of cipher: none of them says anything."""
        hello = client_hello(self.context)
        floods = [record(HANDSHAKE), record(APPLICATION_DATA), record(ALERT), record(CHANGE_CIPHER_SPEC, b"\x01"),
                  record(ALERT, b"\x01\x5a")]
        before = self.resident_bytes()
        for flood in floods:
            clients = self.raw_clients()
            peers = clients.add(5, flood * (MIB // len(flood)))
            peers += clients.add(5, hello + flood * (MIB // len(flood)))
            clients.run_until(lambda: not any(peer.is_open for peer in peers), 4)
            self.assertFalse(any(peer.is_open for peer in peers), f"still open after {flood}")
        self.assertLess(self.resident_bytes() - before, 4 * MIB)
        self.check_tls_serving()

    def test_a_wrong_record_after_the_handshake(self):
        for wrong in (record(APPLICATION_DATA, bytes(50)), record(APPLICATION_DATA), record(HANDSHAKE, bytes(50)),
                      record(APPLICATION_DATA, bytes(16_641)), AUTH_FRAME):
            clients = self.tls_clients()
            (peer,) = self.subscribers(clients, 1)
            peer.sealed = wrong
            clients.run_until(lambda: not peer.is_open, 4)
            self.assertFalse(peer.is_open, f"still open after {wrong[:40]}")
            self.assertIsNotNone(peer.tls_error, "no alert")
        self.check_metric("tickstream_connections_closed_total", 5, reason="tls_failed")


class ResetHandshakes(TlsCase):
    """Fault 34 in a handshake: RST at any point of it."""

    fault = 34
    promise = "RST in mid-frame, between accept and first read, during a send: that connection only"
    clients = 60
    options = BadHandshakes.options

    def reset(self, peers):
        for peer in peers:
            peer.reset()

    def test_at_any_point(self):
        hello = client_hello(self.context)
        for beginning in (b"", hello[:100], hello, hello + record(CHANGE_CIPHER_SPEC, b"\x01")):
            for pause_s in (0, 0.05):
                clients = self.raw_clients()
                peers = clients.add(self.clients, beginning)
                clients.run_until(lambda: not any(peer.unsent for peer in peers), 3)
                clients.run(pause_s)
                self.reset(peers)
        self.check_tls_serving()

    def test_before_accept(self):
        clients = self.raw_clients()
        with self.suspended():
            peers = clients.add(self.clients, client_hello(self.context))
            clients.run(0.2)
            self.reset(peers)
        self.check_tls_serving()

    def test_as_soon_as_it_is_done(self):
        """Before, with and behind the client's last flight."""
        for data in (b"", AUTH_FRAME, AUTH_FRAME + REPLAY_FRAME):
            clients = self.tls_clients()
            peers = clients.add(self.clients, data, receive_buffer=4 * KIB)
            for pause_s in (0, 0.05, 0.2):
                clients.run(pause_s)
                self.reset([peer for peer in peers if peer.secured_at][:self.clients // 4])
                peers = [peer for peer in peers if peer.is_open]
            self.reset(peers)
        self.check_tls_serving()


class HelloOnThePlainPort(TlsCase):
    fault = 28
    promise = BadHandshakes.promise

    def test_a_hello_on_the_plain_port(self):
        clients = self.open_clients()
        peers = clients.add(10, client_hello(self.context))
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 3)
        for peer in peers:
            self.assertFalse(peer.is_open)
            self.assertEqual((peer.frames, bytes(peer.unparsed)), ([], b""))
        self.check_metric("tickstream_connections_closed_total", 10, reason="not_a_frame")


class OldVersions(TlsCase):
    fault = 28
    promise = BadHandshakes.promise

    def test_tls_1_2_is_told_that_it_is_too_old(self):
        context = client_context(self.authority.ca)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises(ssl.SSLError) as raised:
            self.tls_client(context)
        self.assertEqual(raised.exception.reason, ALERTS["protocol_version"])
        clients = self.raw_clients()
        peers = clients.add(5, client_hello(context))
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 3)
        for peer in peers:
            self.assertEqual(records(peer.unparsed), [(ALERT, bytes((FATAL, PROTOCOL_VERSION)))])
            self.assertFalse(peer.is_open or peer.was_reset)
        self.check_tls_serving()

    def test_openssl_says_so_too(self):
        self.assertIn("alert protocol version", self.s_client("-tls1_2").stderr)
        reported = self.s_client("-verify_return_error").stdout
        self.assertIn("New, TLSv1.3", reported)
        self.assertIn("Verify return code: 0 (ok)", reported)

    def s_client(self, option):
        command = ["openssl", "s_client", "-connect", f"{self.server.host}:{self.tls_port}"]
        command += ["-CAfile", str(self.authority.ca), option]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)


class KeyUpdates(TlsCase):
    fault = 29
    promise = "KeyUpdate flood: closed"
    # What rustls takes without data in between (docs/limits.md, after AUTH).
    updates_max = 32
    cpu_max_s = 1.0

    def setUp(self):
        if not openssl_session.library():
            self.skipTest("the OpenSSL of Python's ssl module can't be found")
        super().setUp()

    def session(self, data=AUTH_FRAME, **options):
        connection = self.connect_tcp(**options)
        session = OpensslSession(connection)
        self.addCleanup(session.close)
        session.write(data)
        return session, connection

    def connect_tcp(self, **options):
        clients = self.raw_clients()
        (peer,) = clients.add(1, **options)
        # SSL_connect waits for the TCP connection.
        return peer.socket

    def flood(self, step):
        """Goes on until the connection fails, or long beyond what is allowed. The line of the log that ended it."""
        before, cpu_before = len(self.closes("tls_failed")), cpu_seconds(self.server.pid)
        try:
            for _ in range(20_000):
                step()
        except ConnectionError:
            pass
        self.wait_until(lambda: len(self.closes("tls_failed")) > before, 3, "closed")
        self.assertLess(cpu_seconds(self.server.pid) - cpu_before, self.cpu_max_s)
        return self.closes("tls_failed")[-1]

    def test_a_flood_is_closed(self):
        for kind in (KEY_UPDATE_NOT_REQUESTED, KEY_UPDATE_REQUESTED):
            session, _ = self.session()
            ended = self.flood(lambda: session.key_update(kind))
            self.assertIn("TooManyKeyUpdateRequests", ended["detail"])
        self.check_tls_serving()

    def test_as_many_as_are_allowed(self):
        session, _ = self.session()
        for _ in range(self.updates_max):
            session.key_update(KEY_UPDATE_REQUESTED)
        session.write(SUBSCRIBE_FRAME + HEARTBEAT_FRAME)
        self.assertTrue(session.read(64 * KIB))
        time.sleep(0.5)
        self.assertEqual(self.closes("tls_failed"), [])

    def test_some_among_data_are_taken(self):
        """Of an ordinary client, which changes its keys now and then."""
        session, _ = self.session(AUTH_FRAME + SUBSCRIBE_FRAME)
        for _ in range(3 * self.updates_max):
            session.key_update(KEY_UPDATE_REQUESTED)
            session.write(HEARTBEAT_FRAME)
            self.assertTrue(session.read(64 * KIB))
            time.sleep(0.011)
        self.assertEqual(self.closes("tls_failed"), [])

    def test_answers_that_nobody_reads_are_bounded(self):
        """Each requested one is owed an answer, while the socket takes nothing."""
        session, _ = self.session(AUTH_FRAME + REPLAY_FRAME, receive_buffer=4 * KIB)
        time.sleep(0.5)
        before, cpu_before = self.resident_bytes(), cpu_seconds(self.server.pid)
        # A frame whose payload comes byte by byte, a KeyUpdate between two of them.
        session.write(encode_header(SKIPPABLE, 60_000))
        try:
            for _ in range(5_000):
                session.key_update(KEY_UPDATE_REQUESTED)
                session.write(b"x")
        except ConnectionError:
            pass
        self.assertLess(self.resident_bytes() - before, MIB)
        self.assertLess(cpu_seconds(self.server.pid) - cpu_before, self.cpu_max_s)
        # That it answers keeps nobody who doesn't read.
        self.wait_until(lambda: self.closes("slow_consumer"), 7, "closed at the write deadline")


class Alerts(TlsCase):
    """A client that can't be served is told why: the alert reaches it, wherever the handshake fails."""

    fault = 28
    promise = NoSpin.promise

    def reported(self, *options, waits_s=10):
        """Output of `openssl s_client` about the server's answer; an alert ends it."""
        command = ["openssl", "s_client", "-connect", f"{self.server.host}:{self.tls_port}", "-tls1_3", *options]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(list(map(str, command)), text=True, **streams) as run:
            try:
                # The alert of mutual TLS comes once the client has finished its handshake.
                run.wait(waits_s)
            except subprocess.TimeoutExpired:
                pass
            return run.communicate(timeout=20)[0]

    def check_reported(self, alert, *options):
        self.assertIn(f"alert {alert}", self.reported(*options), options)

    def test_no_common_ground(self):
        # ServerHello is queued when it turns out that no signature scheme fits.
        self.check_reported("handshake failure", "-sigalgs", "ecdsa_secp384r1_sha384")
        self.check_reported("handshake failure", "-sigalgs", "ed25519")
        self.check_reported("handshake failure", "-groups", "P-521")
        self.check_reported("handshake failure", "-ciphersuites", "TLS_AES_128_CCM_SHA256")

    def test_without_alpn_any_is_taken(self):
        self.assertIn("No ALPN negotiated", self.reported("-alpn", "h2", waits_s=1))

    def test_too_large(self):
        """A ClientHello longer than any is answered, too: not by its contents, which aren't read."""
        clients = self.raw_clients()
        (peer,) = clients.add(1, record(HANDSHAKE, b"\x01\x00\xff\xff" + bytes(16_380)) * 3)
        clients.run_until(lambda: not peer.is_open, 4)
        self.assertEqual(records(peer.unparsed), [(ALERT, bytes([FATAL, DECODE_ERROR]))])


class AlertsOfMutualTls(Alerts):
    client_auth = "required"

    def setUp(self):
        super().setUp()
        self.good = self.authority.issue("good", FOR_CLIENTS)
        self.context.load_cert_chain(self.good.cert, self.good.key)

    def test_bad_certificates(self):
        stranger = authority.Authority("stranger")
        self.addCleanup(stranger.close)
        for alert, pair in (
            ("unknown ca", stranger.issue("theirs", FOR_CLIENTS)),
            ("certificate expired", self.authority.issue("old", FOR_CLIENTS, days=-1)),
            ("unsupported certificate", self.authority.issue("server-s", FOR_SERVERS)),
        ):
            self.check_reported(alert, "-cert", pair.cert, "-key", pair.key)
        self.check_reported("certificate required")


class HandshakeStorm(TlsCase):
    fault = 30
    promise = "Handshake storm: bounded in flight, ticks keep flowing"
    clients = 300
    # The clients take most of the time: longer deadlines than theirs.
    options = ("--handshakes-max", 8, "--handshake-timeout", "30s", "--auth-timeout", "30s")
    timeout_s = 90

    @heavy
    def test_all_complete(self):
        old, ack = self.tls_subscribed()
        plain, plain_ack = self.subscribed()
        clients = self.tls_clients()
        with self.suspended():
            peers = clients.add(self.clients, AUTH_FRAME + SUBSCRIBE_FRAME)
            clients.run(0.3)
        done = clients.run_until(lambda: all(peer.count(MsgType.ACK) == 2 for peer in peers), 20)
        self.assertTrue(done, f"{sum(not peer.secured_at for peer in peers)} handshakes aren't complete")
        self.check_metric("tickstream_tls_handshakes_full_total", self.clients + 1)
        # The others waited for their turn.
        self.check_metric("tickstream_limits_fired_total", 1, self.clients, limit="handshakes")
        for client, first in ((old, ack["next_sequence"]), (plain, plain_ack["next_sequence"])):
            self.check_ticks(client.read_ticks(3), first, (1000, self.rate))
        clients.run(1)
        self.assertTrue(all(peer.is_open and peer.count(MsgType.DATA_BATCH) for peer in peers))


class HandshakeStormOf5000(TlsCase):
    fault = 30
    promise = HandshakeStorm.promise
    is_long = True
    heavy = True
    timeout_s = 180
    handshakes = 5_000
    # Generator, server and bystander share the machine.
    late_median_s = 0.25

    def test_all_complete(self):
        before = self.resident_bytes()
        given = ("--handshakes", self.handshakes, "--tls-ca", self.authority.ca, "--tls-server-name", "localhost")
        result = self.load(*given, "--tls-resume", "off", port=self.tls_port, measured_s=60)
        self.assertEqual(result["answers"], {"ACK": self.handshakes})
        self.check_metric("tickstream_tls_handshakes_full_total", self.handshakes)
        # 1,024 in flight, each some 20 KB while it lasts (docs/limits.md).
        self.assertLess(self.resident_bytes() - before, 48 * MIB)


class Slowloris(TlsCase):
    fault = 27
    promise = DribbledHandshake.promise
    is_long = True
    heavy = True
    timeout_s = 120
    connections = 10_000
    late_median_s = 0.25
    # What is held of each: plain 4 KiB of a frame; TLS what docs/limits.md says of a dribbled handshake, of which a
    # byte a second is little.
    held_max = 4 * KIB

    def check_dribbled(self, *options, port, timeout_s, code):
        before = self.resident_bytes()
        result = self.load("--dribble", "-n", self.connections, *options, port=port, measured_s=30)
        self.assertEqual(result["left_open"], 0)
        self.assertEqual(set(result["ends"]), {code}, result["ends"])
        latest_us = (timeout_s + DEADLINE_SLACK_S + self.machine_slack_s) * 1e6
        # The histogram is coarse.
        self.assertGreater(result["until_closed"]["p50_us"], 0.98 * timeout_s * 1e6)
        self.assertLess(result["until_closed"]["max_us"], latest_us)
        held = result["server"]["rss_peak_bytes"] - before
        self.assertLess(held, self.connections * (self.held_max + KIB))

    def test_plain(self):
        self.check_dribbled(port=self.server.port, timeout_s=5.0, code="AUTH_REQUIRED")

    def test_tls(self):
        given = ("--tls-ca", self.authority.ca, "--tls-server-name", "localhost")
        self.check_dribbled(*given, port=self.tls_port, timeout_s=HANDSHAKE_TIMEOUT_S, code="closed without a word")
