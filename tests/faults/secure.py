"""Clients over TLS, and what the tests of TLS run on: a server with a port for TLS beside the plain one, where the
bystander is.
"""

import functools
import hashlib
import ssl
import struct
import time

from faults.case import AUTH_FRAME, SUBSCRIBE_FRAME, FaultCase, own_host
from faults.clients import Clients, Peer, RawPeer
from support import authority
from support.authority import Authority
from support.harness import ANSWER_TIMEOUT_S, Server, next_source_host
from support.tickstream_client import Client

SERVER_NAME = "localhost"
HANDSHAKE, ALERT, CHANGE_CIPHER_SPEC, APPLICATION_DATA = 22, 21, 20, 23
LEGACY_VERSION = 0x0303
RECEIVE_SIZE = 65_536
# The alerts that docs/protocol.md names, as OpenSSL calls them.
ALERTS = {
    "certificate_required": "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "unknown_ca": "TLSV1_ALERT_UNKNOWN_CA",
    "certificate_expired": "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "unsupported_certificate": "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    "protocol_version": "TLSV1_ALERT_PROTOCOL_VERSION",
}


def client_context(ca, pair=None):
    """Trusts the authority in the file `ca`, and shows the certificate of `pair`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def client_hello(context):
    """The first record of a client."""
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=SERVER_NAME).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def record(content_type, payload=b"", version=LEGACY_VERSION):
    return struct.pack(">BHH", content_type, version, len(payload)) + payload


def records(data):
    """The content type and the payload of each whole record in `data`."""
    found, offset = [], 0
    while offset + 5 <= len(data):
        content_type, _, length = struct.unpack_from(">BHH", data, offset)
        found.append((content_type, bytes(data[offset + 5:offset + 5 + length])))
        offset += 5 + length
    return found


class TlsClient(Client):
    """A blocking connection under TLS. FIN without close_notify is an ssl.SSLEOFError, not a close."""

    def __init__(self, host, port, context, session=None, **options):
        super().__init__(host, port, **options)
        try:
            self._socket = context.wrap_socket(
                self._socket, server_hostname=SERVER_NAME, suppress_ragged_eofs=False, session=session
            )
        except BaseException:
            self.close()
            raise

    @property
    def session(self):
        """To be resumed; it is there once something was read."""
        return self._socket.session

    @property
    def is_resumed(self):
        return self._socket.session_reused

    def finish(self):
        """Sends close_notify and waits for the server's, and then for its FIN."""
        plain = self._socket.unwrap()
        self._socket = plain
        self.expect_closed()

    def fingerprint(self):
        """Of the server's certificate."""
        return hashlib.sha256(self._socket.getpeercert(True)).hexdigest()


class TlsPeer(Peer):
    """A client over TLS. `budget` is how many sealed bytes it may send yet; None: all."""

    def __init__(self, host, port, context, session=None, **options):
        super().__init__(host, port, **options)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=SERVER_NAME, session=session)
        self.sealed = b""
        self.budget = None
        self.secured_at = None
        # close_notify came.
        self.was_notified = False
        # What OpenSSL calls the alert that came, or the fault that it found.
        self.tls_error = None
        self._turn()

    @property
    def wants_write(self):
        return bool(self.sealed and self.budget != 0 or self.unsent and self.secured_at)

    def _received(self, data):
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        self._turn()

    def _turn(self):
        if self.tls_error or self.was_notified:
            return
        try:
            if not self.secured_at:
                self._tls.do_handshake()
                self.secured_at = time.monotonic()
            if self.unsent:
                self._tls.write(self.unsent)
                self.unsent = b""
            while data := self._tls.read(RECEIVE_SIZE):
                self.unparsed += data
            self.was_notified = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.tls_error = error.reason
        self.sealed += self._outgoing.read()
        self._parse()

    def _write(self):
        self._turn()
        try:
            sent = self.socket.send(self.sealed[:self.budget])
        except BlockingIOError:
            return
        except OSError:
            return self._ended(was_reset=True)
        self.sealed = self.sealed[sent:]
        if self.budget is not None:
            self.budget -= sent


class TlsCase(FaultCase):
    """Tests against a server with a second port, for TLS."""

    has_admin = True
    # Clients' certificates: the setting tls_client_auth, None for no mutual TLS.
    client_auth = None

    def setUp(self):
        if reason := authority.why_not():
            self.skipTest(reason)
        self.authority = Authority()
        self.addCleanup(self.authority.close)
        self.certificate = self.authority.issue("server")
        self.context = client_context(self.authority.ca)
        self.tls_port = Server.free_port(own_host())
        super().setUp()

    def tls_options(self):
        given = ["--listen-tls", f"{own_host()}:{self.tls_port}", "--tls-cert", self.certificate.cert]
        given += ["--tls-key", self.certificate.key]
        if self.client_auth:
            given += ["--tls-client-ca", self.authority.ca, "--tls-client-auth", self.client_auth]
        return given

    def start_server(self, *options, **given):
        return super().start_server(*self.tls_options(), *options, **given)

    def tls_client(self, context=None, **options):
        options = {"timeout_s": ANSWER_TIMEOUT_S, "source_host": next_source_host(), **options}
        client = TlsClient(self.server.host, self.tls_port, context or self.context, **options)
        self.addCleanup(client.close)
        self._opened.append(client)
        return client

    def tls_subscribed(self, resume_after=None, **options):
        """A subscribed client over TLS and the ACK of its SUBSCRIBE."""
        client = self.tls_client(**options)
        client.send_raw(AUTH_FRAME)
        client.read_auth_ack()
        return client, client.subscribe("SECOND", resume_after)

    def tls_clients(self, context=None):
        """Clients over TLS."""
        return self._clients_of(functools.partial(TlsPeer, context=context or self.context))

    def raw_clients(self):
        """Clients at the port for TLS, whose bytes are the tests' own."""
        return self._clients_of(RawPeer)

    def _clients_of(self, kind):
        clients = Clients(self.server.host, self.tls_port, kind)
        self._opened.append(clients)
        return clients

    def check_tls_serving(self, context=None):
        """A new client gets a tick over TLS."""
        client, ack = self.tls_subscribed(context=context)
        self.check_ticks(client.read_ticks(1), ack["next_sequence"], (1000, self.rate))
        client.close()

    def check_tls_subscribed(self, clients, count, timeout_s=20, **options):
        """`count` peers that have both their ACKs over TLS."""
        return self.subscribers(clients, count, AUTH_FRAME + SUBSCRIBE_FRAME, timeout_s=timeout_s, **options)
