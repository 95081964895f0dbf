"""Fault 14: PROXY headers, and who may send them."""

import struct
import time

from faults import proxy_headers
from faults.case import AUTH_FRAME, DEADLINE_SLACK_S, SUBSCRIBE_FRAME, FaultCase
from faults.proxy_headers import checked, fixed_part, version_1, version_2
from faults.secure import TlsCase
from support.tickstream_client import MsgType

# Load balancers, and everybody else.
BALANCER, STRANGER = "127.220.0.1", "127.221.0.1"
TRUSTED = "127.220.0.0/16"
AUTH_TIMEOUT_S = 5.0
CLIENT = "203.0.113.7"
CLIENT_6 = "2001:db8:7::1"


class Proxied(FaultCase):
    """The bystander comes without a header, from an address that isn't a balancer's."""

    fault = 14
    promise = "Spoofed PROXY header from an untrusted peer: refused"
    has_admin = True
    policy = "optional"
    trusted = TRUSTED

    def start_server(self, *options, **given):
        proxy = ("--proxy-protocol", self.policy, "--proxy-trusted", self.trusted)
        return super().start_server(*(proxy if self.policy else ()), *options, **given)

    def authenticated_by(self, header, source_host=BALANCER):
        client = self.connect(source_host=source_host)
        client.send_raw(header + AUTH_FRAME)
        client.read_auth_ack()
        return client

    def check_known_as(self, address, header, source_host=BALANCER):
        """A client that comes with `header` is shown as `address` while it is there, and in the log."""
        client = self.authenticated_by(header, source_host)
        shown = [one["peer"] for one in self.admin.connections()]
        self.assertIn(address or client._socket.getsockname()[0], [peer.rpartition(":")[0] for peer in shown])
        mark = len(self.records())
        client.close()
        (record,) = self.wait_until(
            lambda: [one for one in self.records()[mark:] if one.get("reason") == "peer_closed"], 3, "no line"
        )
        self.assertEqual(record["peer"].rpartition(":")[0], address or source_host)
        return record["peer"]

    def check_thrown_out(self, reason, *beginnings, source_host=BALANCER):
        """Each is closed without a word, for `reason`."""
        before = self.closed(reason)
        clients = self.open_clients()
        peers = [clients.add(1, data, source_host=source_host)[0] for data in beginnings]
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 3)
        for peer, data in zip(peers, beginnings):
            self.assertFalse(peer.is_open, f"still open after {data}")
            self.assertEqual((peer.frames, bytes(peer.unparsed)), ([], b""), data)
        self.check_metric("tickstream_connections_closed_total", before + len(peers), reason=reason)

    def closed(self, reason):
        # Within 100 ms the endpoint would tell the same again.
        time.sleep(0.15)
        return self.admin.metrics().total("tickstream_connections_closed_total", reason=reason)


class Off(Proxied):
    policy = None

    def test_a_header_is_no_frame(self):
        self.check_thrown_out("not_a_frame", version_1(CLIENT) + AUTH_FRAME, version_2(CLIENT) + AUTH_FRAME)
        self.check_serving()


class Spoofed(Proxied):
    def test_from_a_stranger_a_header_is_no_frame(self):
        spoofed = (version_1(CLIENT), version_2(CLIENT), version_2(CLIENT_6), checked(CLIENT))
        whole = [header + AUTH_FRAME for header in spoofed]
        self.check_thrown_out("not_a_frame", *whole, source_host=STRANGER)
        self.assertEqual([one for one in self.records() if CLIENT in str(one) or CLIENT_6 in str(one)], [])

    def test_failures_are_the_strangers_own(self):
        """A stranger can't use up what a client's address may."""
        for _ in range(12):
            client = self.connect(source_host=STRANGER)
            client.send_raw(version_2(CLIENT) + AUTH_FRAME)
            self.check_closed_silently(client)
        self.authenticated_by(version_2(CLIENT))


class Optional(Proxied):
    def test_version_1(self):
        self.assertEqual(self.check_known_as(CLIENT, version_1(CLIENT, 4711)), f"{CLIENT}:4711")
        self.assertEqual(self.check_known_as(f"[{CLIENT_6}]", version_1(CLIENT_6, 1)), f"[{CLIENT_6}]:1")

    def test_version_2(self):
        self.assertEqual(self.check_known_as(CLIENT, version_2(CLIENT, 4711)), f"{CLIENT}:4711")
        self.assertEqual(self.check_known_as(f"[{CLIENT_6}]", version_2(CLIENT_6, 65535)), f"[{CLIENT_6}]:65535")
        self.check_known_as(CLIENT, checked(CLIENT))
        # A client's certificate: PP2_TYPE_SSL with PP2_SUBTYPE_SSL_CLIENT_CERT, and one as large as a chain.
        for size in (1_200, 4_096, 8_000):
            certificate = struct.pack(">BH", 0x28, size) + b"\x30" * size
            ssl = b"\x07" + bytes(4) + certificate
            header = version_2(CLIENT, 4711, tlvs=struct.pack(">BH", 0x20, len(ssl)) + ssl)
            self.assertEqual(self.check_known_as(CLIENT, header), f"{CLIENT}:4711")
        # Fields that nobody knows.
        self.check_known_as(CLIENT, version_2(CLIENT, tlvs=b"\xee\x00\x03abc" * 100))

    def test_a_balancer_that_speaks_for_itself(self):
        for header in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN 198.51.100.1 198.51.100.2 1 2\r\n",
            fixed_part(proxy_headers.LOCAL, 0, 0),
            version_2(CLIENT, command=proxy_headers.LOCAL),
        ):
            self.check_known_as(None, header)

    def test_without_a_header(self):
        self.check_known_as(None, b"")
        self.check_known_as(None, b"", source_host=STRANGER)

    def test_a_second_header_is_no_frame(self):
        for first, second in ((version_2, version_2), (version_1, version_2), (version_2, version_1)):
            self.check_thrown_out("not_a_frame", first(CLIENT) + second("198.51.100.9") + AUTH_FRAME)

    def test_garbage(self):
        self.check_thrown_out(
            "bad_proxy_header",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
            b"PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            b"PROXY SCTP 203.0.113.7 192.0.2.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n",
            b"PROXY UNKNOWN " + b"x" * 200,
            b"PROXYTS" + bytes(100),
            checked(CLIENT, wrong=1),
            proxy_headers.SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
            fixed_part(0x2F, proxy_headers.TCP4, 12) + bytes(12),
            fixed_part(proxy_headers.PROXY, 0x7F, 12) + bytes(12),
            fixed_part(proxy_headers.PROXY, proxy_headers.TCP4, 11) + bytes(11),
            fixed_part(proxy_headers.PROXY, proxy_headers.TCP4, 65_535),
            fixed_part(proxy_headers.PROXY, proxy_headers.TCP4, 8_192 - 15),
            version_2(CLIENT, tlvs=b"\xee\xff\xff"),
        )
        # What only begins as a header is judged as one, in however many pieces it comes.
        self.check_thrown_out("bad_proxy_header", b"PROXX", proxy_headers.SIGNATURE[:-1] + b"X")
        self.check_thrown_out("not_a_frame", b"GET / HTTP/1.1\r\n\r\n")
        self.check_serving()

    def test_however_it_is_cut(self):
        clients = self.open_clients()
        for header in (version_1(CLIENT), version_2(CLIENT_6)):
            data = header + AUTH_FRAME + SUBSCRIBE_FRAME
            peers = clients.add(len(header) + 2, source_host=BALANCER)
            for at, peer in enumerate(peers):
                peer.unsent = data[:at]
            clients.run_until(lambda: not any(peer.unsent for peer in peers), 3)
            clients.run(0.3)
            for at, peer in enumerate(peers):
                peer.unsent = data[at:]
            self.assertTrue(clients.run_until(lambda: all(peer.count(MsgType.ACK) == 2 for peer in peers), 5))

    def test_dribbled_and_completed(self):
        clients = self.open_clients()
        (peer,) = clients.add(1, source_host=BALANCER)
        for byte in version_1(CLIENT) + AUTH_FRAME + SUBSCRIBE_FRAME:
            clients.send(bytes([byte]))
            clients.run(0.01)
        self.assertTrue(clients.run_until(lambda: peer.count(MsgType.ACK) == 2, 3))

    def test_dribbled_without_end(self):
        clients = self.open_clients()
        peers = clients.add(10, source_host=BALANCER)
        for byte in version_2(CLIENT)[:10]:
            clients.send(bytes([byte]))
            if clients.run_until(lambda: not any(peer.is_open for peer in peers), 1.0):
                break
        for peer in peers:
            latest_s = AUTH_TIMEOUT_S + DEADLINE_SLACK_S + self.machine_slack_s
            self.check_between(peer.closed_at - peer.connect_started, AUTH_TIMEOUT_S, latest_s, "seconds")
        self.check_metric("tickstream_connections_closed_total", len(peers), reason="auth_timeout")

    def test_probes_are_quiet(self):
        before = len(self.records())
        clients = self.open_clients()
        for source_host in (BALANCER, STRANGER):
            headers = (fixed_part(proxy_headers.LOCAL, 0, 0), b"PROXY UNKNOWN\r\n") if source_host == BALANCER else ()
            for data in (b"", *headers):
                peers = clients.add(100, data, source_host=source_host)
                clients.run_until(lambda: not any(peer.unsent for peer in peers), 3)
                clients.run(0.1)
                for peer in peers:
                    peer.close()
        # The server's own probe when it was started is one, too.
        self.check_metric("tickstream_connections_closed_total", 401, reason="probe")
        time.sleep(1.2)
        self.assertEqual(self.records()[before:], [])


class LimitsByClient(Proxied):
    options = ("--max-connections-per-ip", 5)

    def test_limits_are_those_of_the_client(self):
        """Many clients behind one balancer, and one client behind two."""
        for number in range(10):
            self.authenticated_by(version_2(f"198.51.100.{number}"))
        for number in range(5):
            self.authenticated_by(version_2(CLIENT), source_host=f"127.220.1.{number + 1}")
        clients = self.open_clients()
        refused = clients.add(3, version_2(CLIENT), source_host=BALANCER)
        clients.run_until(lambda: not any(peer.is_open for peer in refused), 3)
        self.check_refused_at_once(refused, "SERVER_BUSY")
        self.check_fired("connections_per_address", 3)
        self.check_metric("tickstream_connections_closed_total", 3, reason="server_busy")


class Required(Proxied):
    policy = "required"
    trusted = f"{TRUSTED},127.200.0.1"
    bystander_prelude = version_2("198.51.100.77")

    def test_strangers_are_refused(self):
        clients = self.open_clients()
        beginnings = (b"", AUTH_FRAME, version_1(CLIENT), version_2(CLIENT) + AUTH_FRAME)
        peers = [clients.add(1, data, source_host=STRANGER)[0] for data in beginnings]
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 3)
        for peer in peers:
            self.assertFalse(peer.is_open)
            self.assertEqual((peer.frames, bytes(peer.unparsed)), ([], b""))
        # The server's own probe when it was started is one, too.
        self.check_fired("untrusted_proxy", len(peers) + 1)
        self.check_metric("tickstream_connections_refused_total", len(peers) + 1)
        self.assertNotIn(CLIENT, str(self.records()))

    def test_balancers_need_a_header(self):
        self.check_known_as(CLIENT, version_1(CLIENT))
        self.check_known_as(None, fixed_part(proxy_headers.LOCAL, 0, 0))
        self.check_thrown_out("bad_proxy_header", AUTH_FRAME, b"GET / HTTP/1.1\r\n\r\n")


class BeforeTls(TlsCase, Proxied):
    def test_the_header_comes_before_tls(self):
        clients = self.tls_clients()
        for header in (version_1(CLIENT, 1), version_2(CLIENT, 2)):
            (peer,) = clients.add(1, AUTH_FRAME, source_host=BALANCER)
            # In one segment, and with the header in pieces.
            peer.sealed = header + peer.sealed
            self.assertTrue(clients.run_until(lambda: peer.count(MsgType.ACK), 5))
        shown = [one["peer"] for one in self.admin.connections()]
        self.assertTrue({f"{CLIENT}:1", f"{CLIENT}:2"} <= set(shown), shown)

    def test_a_header_in_pieces(self):
        clients = self.tls_clients()
        (peer,) = clients.add(1, AUTH_FRAME, source_host=BALANCER)
        header = version_2(CLIENT, 3)
        peer.sealed = header + peer.sealed
        # The last piece ends within the ClientHello.
        for piece in (1, 6, 5, 2, len(header)):
            peer.budget = piece
            clients.run(0.05)
        peer.budget = None
        self.assertTrue(clients.run_until(lambda: peer.count(MsgType.ACK), 5))

    def test_from_a_stranger_it_is_no_handshake(self):
        clients = self.raw_clients()
        peers = clients.add(3, version_2(CLIENT) + bytes(100), source_host=STRANGER)
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 3)
        self.assertFalse(any(peer.is_open for peer in peers))
        self.check_metric("tickstream_connections_closed_total", 3, reason="tls_failed")
        self.assertNotIn(CLIENT, str(self.records()))
