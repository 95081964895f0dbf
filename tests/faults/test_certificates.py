"""Faults 31 and 32: certificates of clients, and the server's own, which change; session tickets."""

import os
import pathlib
import shutil
import signal
import ssl

from faults.case import AUTH_FRAME
from faults.secure import ALERTS, TlsCase, client_context
from faults.test_reload import FileCase
from support import process_stats
from support.authority import FOR_CLIENTS, FOR_SERVERS, Authority, Pair
from support.harness import PASSWORD, USER
from support.tickstream_client import MsgType


class ClientCertificates(TlsCase):
    fault = 31
    promise = "Client certificate missing, expired, from another CA: refused with an alert"
    client_auth = "required"

    def context_of(self, name, authority=None, **issued):
        """The context of a client with a certificate."""
        pair = (authority or self.authority).issue(name, **{"purpose": FOR_CLIENTS, **issued})
        return client_context(self.authority.ca, pair)

    def check_alert(self, context, alert, reported):
        """A client that comes like this is refused. It learns so where the answer to its AUTH would be."""
        clients = self.tls_clients(context)
        (peer,) = clients.add(1, AUTH_FRAME)
        clients.run_until(lambda: not peer.is_open, 3)
        self.assertFalse(peer.is_open, "still open")
        self.assertEqual((peer.tls_error, peer.frames), (ALERTS[alert], []))
        # Nobody vouches for who it was.
        (record,) = self.wait_until(
            lambda: [one for one in self.closes("tls_failed") if reported in one["detail"]], 3, f"a line that says {reported!r}"
        )
        self.assertNotIn("subject", record)

    def other_authority(self):
        other = Authority("other")
        self.addCleanup(other.close)
        return other

    def check_taken(self, context, subject=None):
        client, ack = self.tls_subscribed(context=context)
        self.check_ticks(client.read_ticks(1), ack["next_sequence"], (1000, self.rate))
        client.close()
        if subject:
            self.wait_until(
                lambda: subject in [one.get("subject") for one in self.closes("peer_closed")], 3, f"a line of {subject}"
            )

    def check_bad_ones(self):
        self.check_alert(self.context_of("late", days=-1), "certificate_expired", "Expired")
        self.check_alert(self.context_of("ada", authority=self.other_authority()), "unknown_ca", "UnknownIssuer")
        wrong_purpose = self.context_of("www", purpose=FOR_SERVERS)
        self.check_alert(wrong_purpose, "unsupported_certificate", "for client authentication")


class RequiredCertificates(ClientCertificates):
    def test_good_ones(self):
        self.check_taken(self.context_of("ada"), "CN=ada")
        self.check_taken(self.context_of("nameless", subject="/O=Example"), "O=Example")

    def test_missing(self):
        self.check_alert(self.context, "certificate_required", "no certificates")
        self.check_taken(self.context_of("ada"))

    def test_bad_ones(self):
        self.check_bad_ones()
        self.check_taken(self.context_of("ada"))

    def test_a_session_isnt_resumed(self):
        """A ticket wouldn't show whether the certificate is still good."""
        context = self.context_of("ada")
        client, _ = self.tls_subscribed(context=context)
        client.read_ticks(1)
        session = client.session
        self.assertFalse(session and session.has_ticket, "a ticket")
        again, _ = self.tls_subscribed(context=context, session=session)
        self.assertFalse(again.is_resumed)
        self.check_metric("tickstream_tls_handshakes_resumed_total", 0)
        self.check_metric("tickstream_tls_handshakes_full_total", 2)


class OptionalCertificates(ClientCertificates):
    client_auth = "optional"

    def test_missing(self):
        self.check_taken(self.context)

    def test_good_ones(self):
        self.check_taken(self.context_of("ada"), "CN=ada")

    def test_bad_ones(self):
        self.check_bad_ones()


class CertificatesThatName(ClientCertificates):
    client_auth = "optional"
    options = ("--tls-user", "certificate")

    def check_auth(self, context, username, password=PASSWORD, code=None):
        client = self.tls_client(context)
        client.send(MsgType.AUTH, username=username, password=password)
        answer = client.read()
        self.assertEqual(answer.fields.get("code"), code)

    def test_the_name_stands_in_for_auth_s(self):
        context = self.context_of("ada")
        for username in ("", "ada"):
            self.check_auth(context, username)
        self.check_auth(context, USER, code="AUTH_FAILED")
        self.check_auth(context, "", "wrong", code="AUTH_FAILED")
        # Who shows none is judged as ever.
        self.check_auth(self.context, USER)
        self.check_auth(self.context, "", code="AUTH_FAILED")
        self.check_auth(self.context, "ada", code="AUTH_FAILED")

    def test_nameless(self):
        """A certificate without a common name says nothing of who it is."""
        clients = self.tls_clients(self.context_of("nameless", subject="/O=Example"))
        (peer,) = clients.add(1, AUTH_FRAME)
        clients.run_until(lambda: not peer.is_open, 3)
        self.assertFalse(peer.is_open, "still open")
        self.assertEqual(peer.frames, [])
        (record,) = self.wait_until(lambda: self.closes("tls_failed"), 3, "a line of the log")
        self.assertIn("no common name", record["detail"])


class Tickets(TlsCase):
    fault = 31
    promise = ClientCertificates.promise

    def session(self):
        """Of a client that has its ticket."""
        client, _ = self.tls_subscribed()
        client.read_ticks(1)
        self.assertFalse(client.is_resumed)
        self.assertTrue(client.session.has_ticket)
        return client.session

    def test_a_session_is_resumed(self):
        session = self.session()
        for _ in range(3):
            client, ack = self.tls_subscribed(session=session)
            self.check_ticks(client.read_ticks(1), ack["next_sequence"], (1000, self.rate))
            self.assertTrue(client.is_resumed)
            session = client.session
        self.check_metric("tickstream_tls_handshakes_resumed_total", 3)
        self.check_metric("tickstream_tls_handshakes_full_total", 1)

    def test_tickets_outlive_a_reload(self):
        session = self.session()
        self.server.signal(signal.SIGHUP)
        self.wait_until(lambda: self.lines("certificates reloaded"), 3, "certificates reloaded")
        client, _ = self.tls_subscribed(session=session)
        self.assertTrue(client.is_resumed)

    def test_a_ticket_of_another_server_means_a_full_handshake(self):
        session = self.session()
        self.server.stop()
        self.bystander.kill()
        self.server = self.start_server()
        self.bystander = self.start_bystander()
        self.descriptors = process_stats.shard_descriptors(self.server.pid)
        client, ack = self.tls_subscribed(session=session)
        self.check_ticks(client.read_ticks(1), ack["next_sequence"], (1000, self.rate))
        self.assertFalse(client.is_resumed)


class MutualTlsTurnedOn(FileCase, TlsCase):
    fault = 31
    promise = ClientCertificates.promise

    def test_tickets_from_before_arent_taken(self):
        old, ack = self.tls_subscribed()
        old.read_ticks(1)
        self.write(f"tls_client_ca = '{self.authority.ca}'\n")
        self.reload("certificates reloaded")
        with self.assertRaises(ssl.SSLError) as raised:
            self.tls_subscribed(session=old.session)
        self.assertEqual(raised.exception.reason, ALERTS["certificate_required"])
        self.check_tls_serving(client_context(self.authority.ca, self.authority.issue("ada", purpose=FOR_CLIENTS)))
        # Sessions that live stay, whoever they are.
        following = old.read_ticks(2)
        self.check_ticks(following, following[0].sequence, (1000, self.rate))
        self.check_alive(old)
        self.check_metric("tickstream_tls_handshakes_resumed_total", 0)
        self.write("")
        self.reload("certificates reloaded")
        self.check_tls_serving()

    def test_files_that_cannot_be_used_leave_all_as_it_was(self):
        """Not the settings beside them in use, and the certificates not."""
        before = self.admin.get("/config")
        for bad in ("/nowhere.pem", self.file):
            self.write(f"frames_per_second_max = 5\ntls_client_ca = '{bad}'\n")
            line = self.reload("the settings can't be reloaded; those in use stay")
            self.assertIn(str(bad), line["error"])
            self.assertEqual(self.lines("settings reloaded"), [])
            self.assertEqual(self.admin.get("/config"), before)
            self.check_tls_serving()


class Renewal(TlsCase):
    """A certificate that is replaced under an open session."""

    fault = 32
    promise = "Certificate replaced on disk: new handshakes use it, sessions live on; a bad file keeps the old"
    kept = "new certificates can't be used; the old ones stay in use"

    def setUp(self):
        super().setUp()
        # What the server was started with is written over; this is another copy.
        self.old = self.certificate.fingerprint
        self.session_client, self.session_ack = self.tls_subscribed()
        self.assertEqual(self.session_client.fingerprint(), self.old)

    def tearDown(self):
        ticks = self.session_client.read_ticks(2)
        self.check_ticks(ticks, self.session_ack["next_sequence"], (1000, self.rate))
        self.check_alive(self.session_client)
        super().tearDown()

    def put(self, pair):
        """Writes certificate and key of `pair` over those in use."""
        shutil.copyfile(pair.cert, self.certificate.cert)
        shutil.copyfile(pair.key, self.certificate.key)

    def shown(self, context=None):
        client, _ = self.tls_subscribed(context=context)
        shown = client.fingerprint()
        client.close()
        return shown

    def check_renewed(self, new):
        self.wait_until(lambda: self.shown() == new.fingerprint, 3, "the new certificate shown")

    def check_kept(self, *reported):
        """The log says why, and new handshakes use the old certificate."""
        record = self.wait_until(lambda: self.lines(self.kept), 3, "a line that the old ones stay")[-1]
        for part in reported:
            self.assertIn(part, record["error"])
        self.assertEqual(self.shown(), self.old)


class ReplacedOnDisk(Renewal):
    def test_by_writing_the_files(self):
        new = self.authority.issue("renewed")
        self.put(new)
        self.check_renewed(new)
        again = self.authority.issue("again")
        self.put(again)
        self.check_renewed(again)

    def test_by_renaming(self):
        new = self.authority.issue("renewed")
        expected = new.fingerprint
        os.replace(new.key, self.certificate.key)
        os.replace(new.cert, self.certificate.cert)
        self.wait_until(lambda: self.shown() == expected, 3, "the new certificate shown")

    def test_by_sighup(self):
        """SIGHUP has them read in any case."""
        self.server.signal(signal.SIGHUP)
        self.wait_until(lambda: self.lines("certificates reloaded"), 3, "certificates reloaded")
        self.assertEqual(self.shown(), self.old)
        new = self.authority.issue("renewed")
        self.put(new)
        self.server.signal(signal.SIGHUP)
        self.check_renewed(new)


class ReplacedByLink(Renewal):
    """As Kubernetes mounts a secret: files that lead over one link, which is renamed."""

    def setUp(self):
        self.made = 0
        super().setUp()

    def tls_options(self):
        self.volume = self.authority.folder / "volume"
        self.volume.mkdir()
        self.point_to(self.certificate)
        for name in ("tls.crt", "tls.key"):
            (self.volume / name).symlink_to(pathlib.Path("..data") / name)
        self.certificate = Pair(self.volume / "tls.crt", self.volume / "tls.key")
        return super().tls_options()

    def point_to(self, pair):
        self.made += 1
        version = self.volume / f"..{self.made}"
        version.mkdir()
        shutil.copyfile(pair.cert, version / "tls.crt")
        shutil.copyfile(pair.key, version / "tls.key")
        link = self.volume / "..data_tmp"
        link.symlink_to(version.name)
        os.rename(link, self.volume / "..data")

    def test_a_link_that_is_renamed(self):
        for name in ("renewed", "again"):
            new = self.authority.issue(name)
            self.point_to(new)
            self.check_renewed(new)
        # Both files changed at once: it never saw halves of two pairs.
        self.assertEqual(self.lines(self.kept), [])


class ExpiredIntermediate(Renewal):
    def put(self, pair):
        expired = self.authority.issue("between", days=-1)
        self.certificate.cert.write_text(pair.cert.read_text() + expired.cert.read_text())
        shutil.copyfile(pair.key, self.certificate.key)

    def test_it_is_warned_of(self):
        new = self.authority.issue("new")
        self.put(new)
        self.check_renewed(new)
        line = self.wait_until(
            lambda: [one for one in self.records() if "behind the server's own" in one["message"]], 5, "a warning"
        )[0]
        self.assertEqual((line["level"], line["subject"]), ("WARN", "CN=between"))
        self.assertIn("has expired", line["message"])


class BadFiles(Renewal):
    def check_recovers(self):
        """Bad files are no hindrance to good ones."""
        new = self.authority.issue("good")
        self.put(new)
        self.check_renewed(new)

    def test_a_certificate_of_another_key(self):
        shutil.copyfile(self.authority.issue("other").cert, self.certificate.cert)
        self.check_kept("can't be used together", str(self.certificate.key))
        self.check_recovers()

    def test_expired(self):
        self.put(self.authority.issue("late", days=-1))
        # The moment between the two files may have its own line.
        self.wait_until(lambda: "has expired" in str(self.lines(self.kept)), 3, "a line that it has expired")
        self.check_kept()
        self.check_recovers()

    def test_an_encrypted_key(self):
        shutil.copyfile(self.authority.encrypted(self.certificate.key), self.certificate.key)
        self.check_kept("is encrypted", str(self.certificate.key))
        self.check_recovers()

    def test_garbage(self):
        self.certificate.cert.write_bytes(os.urandom(1_000))
        self.check_kept(str(self.certificate.cert))
        self.certificate.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.check_kept(str(self.certificate.cert))
        self.check_recovers()

    def test_half_written(self):
        whole = self.authority.issue("renewed")
        text = whole.cert.read_text()
        self.certificate.cert.write_text(text[:len(text) // 2])
        self.check_kept(str(self.certificate.cert))
        self.check_recovers()

    def test_gone(self):
        self.certificate.key.rename(self.certificate.key.with_suffix(".away"))
        self.check_kept(str(self.certificate.key), "No such file")
        self.check_recovers()

    def test_too_large(self):
        with open(self.certificate.cert, "wb") as file:
            file.truncate(1 << 30)
        self.check_kept(str(self.certificate.cert), "longer than")
        self.check_recovers()


class AnotherClientAuthority(Renewal):
    client_auth = "required"

    def setUp(self):
        super(Renewal, self).setUp()
        self.first = client_context(self.authority.ca, self.authority.issue("ada", purpose=FOR_CLIENTS))
        self.old = self.certificate.fingerprint
        self.session_client, self.session_ack = self.tls_subscribed(context=self.first)

    def test_new_handshakes_are_judged_by_it(self):
        other = Authority("other")
        self.addCleanup(other.close)
        second = client_context(self.authority.ca, other.issue("bob", purpose=FOR_CLIENTS))
        ca = pathlib.Path(shutil.copyfile(self.authority.ca, self.authority.folder / "trusted.pem"))
        shutil.copyfile(other.ca, self.authority.ca)
        self.wait_until(lambda: self.lines("certificates reloaded"), 3, "certificates reloaded")
        self.wait_until(lambda: self.is_taken(second), 3, "taken with one of the new authority")
        self.assertFalse(self.is_taken(self.first), "who has one of the old authority is taken")
        # Nothing that is no authority takes its place.
        self.authority.ca.write_text("nothing")
        self.wait_until(lambda: self.lines(self.kept), 3, "a line that the old ones stay")
        self.assertTrue(self.is_taken(second))
        shutil.copyfile(ca, self.authority.ca)

    def is_taken(self, context):
        clients = self.tls_clients(context)
        (peer,) = clients.add(1, AUTH_FRAME)
        clients.run_until(lambda: peer.frames or not peer.is_open, 3)
        clients.close()
        return peer.count(MsgType.ACK) == 1
