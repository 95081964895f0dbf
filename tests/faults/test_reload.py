"""Faults 43 and 46: settings that are read again, and who asks for metrics too often."""

import http.client
import pathlib
import signal
import socket
import tempfile
import threading
import time

from faults.case import AUTH_FRAME, HEARTBEAT_FRAME, FaultCase, StartCase, own_host
from faults.proxy_headers import version_2
from support import authority, process_stats
from support.harness import PASSWORD, USER, next_source_host
from support.tickstream_client import MsgType, encode_message_frame


class FileCase(FaultCase):
    """A server with a configuration file, `text` at first."""

    fault = 43
    promise = "Bad configuration, bad reload: named field and reason; a running server keeps the old one"
    has_admin = True
    text = ""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "tickstream.toml"
        self.write(self.text)
        super().setUp()

    def start_server(self, *options, **given):
        return super().start_server("--config", self.file, *options, **given)

    def write(self, text):
        self.file.write_text(text)

    def reload(self, message="settings reloaded"):
        """Has the settings read again; the line of the log that tells what came of it."""
        before = len(self.lines(message))
        self.server.signal(signal.SIGHUP)
        (*_, line) = self.wait_until(lambda: self.lines(message)[before:], 3, f"a line that {message!r}")
        # Shards look at what is new ten times a second.
        time.sleep(0.2)
        return line

    def answer(self, data=AUTH_FRAME, **options):
        """The code of the answer to `data`, None for an ACK."""
        client = self.connect(**options)
        client.send_raw(data)
        answer = client.read()
        client.close()
        return answer.fields.get("code")


class Reload(FileCase):
    text = "frames_per_second_max = 50\n"

    def test_limits(self):
        old, ack = self.subscribed()
        host = next_source_host()
        self.write("unauthenticated_per_ip_max = 2\nframes_per_second_max = 5\nauth_timeout = '1s'\n")
        changed = self.reload()["changed"].split()
        self.assertEqual(set(changed), {"unauthenticated_per_ip_max", "frames_per_second_max", "auth_timeout"})
        clients = self.open_clients()
        silent = clients.add(4, source_host=host)
        clients.run(0.3)
        self.check_refused_at_once([peer for peer in silent if not peer.is_open], "SERVER_BUSY")
        clients.run_until(lambda: not any(peer.is_open for peer in silent), 3)
        self.assertEqual([peer.error_code() for peer in silent].count("AUTH_REQUIRED"), 2)
        # Those who are there are held to them, too.
        ticks = old.read_ticks(1)
        self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))
        old.send_raw(HEARTBEAT_FRAME * 20)
        old.expect(MsgType.ERROR, skip=(MsgType.DATA_BATCH, MsgType.HEARTBEAT))
        # And back.
        self.write(self.text)
        self.reload()
        clients = self.open_clients()
        clients.add(4, source_host=host)
        clients.run(1.5)
        self.assertTrue(all(peer.is_open for peer in clients.peers))

    def test_a_cap_counts_who_is_there_already(self):
        clients = self.open_clients()
        host = next_source_host()
        peers = self.subscribers(clients, 4, source_host=host)
        for cap, let_in in ((5, 1), (5, 0)):
            self.write(f"max_connections_per_ip = {cap}\n")
            self.reload()
            more = clients.add(2, source_host=host)
            clients.run(0.3)
            self.assertEqual(sum(peer.is_open for peer in more), let_in)
        # Below what there is: nobody is thrown out.
        self.write("max_connections_per_ip = 2\n")
        self.reload()
        peers[0].close()
        clients.run(0.3)
        self.assertTrue(all(peer.is_open for peer in peers[1:]))
        self.write(self.text)
        self.reload()
        peers[1].close()
        self.write("max_connections_per_ip = 4\n")
        self.reload()
        more = clients.add(3, source_host=host)
        clients.run(0.3)
        self.assertEqual(sum(peer.is_open for peer in more), 1)

    def test_proxies_are_trusted_or_not_from_now_on(self):
        """Under connections whose header is half there."""
        balancer, header = "127.230.0.1", version_2("203.0.113.7")
        clients = self.open_clients()
        policies = [f"proxy_protocol = '{policy}'\nproxy_trusted = '127.230.0.0/16,127.200.0.1'\n"
                    for policy in ("optional", "required", "optional")] + [self.text]
        for policy in policies:
            self.write(policy)
            self.reload()
            peers = [clients.add(1, header[:at], source_host=balancer)[0] for at in (0, 1, 12, 20)]
            clients.run(0.3)
            for at, peer in zip((0, 1, 12, 20), peers):
                peer.unsent = header[at:] + AUTH_FRAME
        clients.run_until(lambda: all(peer.frames or not peer.is_open for peer in clients.peers), 3)
        answered = [peer for peer in clients.peers if peer.count(MsgType.ACK)]
        self.assertEqual(len(answered), 12, "only the last ones expect no header")

    def test_the_log_s_level(self):
        """A probe is a line at level debug."""
        self.write("log_level = 'debug'\n")
        self.reload()
        self.connect().close()
        self.wait_until(lambda: self.closes("probe"), 3, "a line at level debug")
        self.write("log_level = 'info'\n")
        self.reload()
        before = len(self.closes("probe"))
        self.connect().close()
        time.sleep(0.5)
        self.assertEqual(len(self.closes("probe")), before)

    def test_what_needs_a_restart_is_named(self):
        self.write(self.text + "ticks_per_second = 3\nmax_connections = 1\nheartbeat_timeout = '60s'\n")
        reported = self.reload("settings that need a restart have changed; the old ones stay in use")
        # The flag --ticks-per-second goes before the file: that isn't changed at all.
        self.assertEqual(set(reported["changed"].split()), {"max_connections", "heartbeat_timeout"})
        for _ in range(3):
            self.check_serving()

    def test_nothing_has_changed(self):
        self.assertEqual(self.reload()["changed"], "")

    def test_a_storm_of_reloads(self):
        for number in range(100):
            self.write(f"frames_per_second_max = {100 + number}\n")
            self.server.signal(signal.SIGHUP)
            time.sleep(0.01)
        self.write(self.text)
        self.reload()
        self.check_serving()


class BadReload(FileCase):
    text = "unauthenticated_per_ip_max = 3\n"
    refused = "the settings can't be reloaded; those in use stay"

    def check_refused(self, text, *reported):
        """A wrong file is named, and nothing of it is in use."""
        self.write(text)
        line = self.reload(self.refused)
        for part in reported:
            self.assertIn(part, line["error"])

    def test_the_old_settings_stay(self):
        path = str(self.file)
        good = "unauthenticated_per_ip_max = 1\n"
        self.check_refused(good + "frames_per_second_max = 0\n", "frames_per_second_max", path, "1 to")
        self.check_refused(good + "frames_per_second_max = 'many'\n", "frames_per_second_max", path)
        self.check_refused(good + "auth_timeout = 5\n", "auth_timeout", path)
        self.check_refused(good + "no_such_setting = 1\n", "no_such_setting", path)
        self.check_refused(good + "this is no TOML\n", path, "2")
        self.check_refused(good + "heartbeat_timeout = '10s'\n", "heartbeat_timeout", "heartbeat_interval")
        self.check_refused("[[[", path)
        self.file.write_bytes(b"\xff\xfe")
        self.reload(self.refused)
        self.file.unlink()
        self.assertIn(path, self.reload(self.refused)["error"])

        clients = self.open_clients()
        silent = clients.add(4, source_host=next_source_host())
        clients.run(0.3)
        self.assertEqual(sum(peer.is_open for peer in silent), 3, "a bad file's settings are in use")
        # What was bad is no hindrance to what is good.
        self.write(good)
        self.reload()
        clients = self.open_clients()
        silent = clients.add(4, source_host=next_source_host())
        clients.run(0.3)
        self.assertEqual(sum(peer.is_open for peer in silent), 1)


class NewCredentials(FileCase):
    """The password is in a file, which is what operators change."""

    def write(self, text):
        super().write(text)
        (self.folder / "password").write_text(PASSWORD)

    def start_server(self, *options, **given):
        password = ("--stream-pass-file", self.folder / "password")
        return super().start_server(*password, *options, environment={"STREAM_PASS": None}, **given)

    def test_new_credentials(self):
        old, ack = self.subscribed()
        new_frame = encode_message_frame(MsgType.AUTH, username=USER, password="new")
        self.assertEqual((self.answer(), self.answer(new_frame)), (None, "AUTH_FAILED"))
        (self.folder / "password").write_text("new\n")
        self.reload()
        self.assertEqual((self.answer(), self.answer(new_frame)), ("AUTH_FAILED", None))
        self.check_ticks(old.read_ticks(2), ack["next_sequence"], (1000, self.rate))
        # One that is none leaves it.
        for bad in ("", "\n", "p" * 256):
            (self.folder / "password").write_text(bad)
            self.assertIn("stream_pass_file", self.reload(BadReload.refused)["error"])
        self.assertEqual((self.answer(), self.answer(new_frame)), ("AUTH_FAILED", None))
        self.assertNotIn(PASSWORD, self.server.log_tail(1 << 20))


class BadStart(StartCase):
    fault = 43
    promise = FileCase.promise
    usage = 2

    def check(self, text, *reported, options=()):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "tickstream.toml"
            path.write_text(text)
            self.check_refuses_to_start(self.usage, *reported, options=("--config", str(path), *options))

    def test_the_field_and_the_reason_are_named(self):
        self.check("ticks_per_second = 0", "ticks_per_second", "1 to")
        self.check("ticks_per_second = 'x'", "ticks_per_second")
        self.check("tics_per_second = 1", "tics_per_second")
        self.check("replay_window = '1'", "replay_window")
        self.check("heartbeat_timeout = '1s'", "heartbeat_timeout", "heartbeat_interval")
        self.check("proxy_protocol = 'required'", "proxy_trusted")
        self.check("proxy_trusted = '10.0.0.0/33'", "proxy_trusted", "10.0.0.0/33")
        self.check("tls_cert = '/nowhere.pem'", "tls_key")
        self.check("listen_tls = '127.0.0.1:0'", "tls_cert")
        self.check("", "--no-such-flag", options=("--no-such-flag",))

    def test_certificates_that_arent_there(self):
        files = ("--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key")
        self.check_refuses_to_start(1, "/nowhere.pem", options=files)


class SecondServer(FaultCase):
    """Another server on the address of one that serves."""

    fault = 43
    promise = BadStart.promise

    def test_it_is_refused(self):
        host, port = self.server.host, self.server.port
        # Whatever the password, and on all addresses, too.
        for address in (f"{host}:{port}", f"0.0.0.0:{port}"):
            self.check_refuses_to_start(
                1, f"can't listen on {address}", "another process", "listen_shared",
                options=("--listen", address), environment={"STREAM_PASS": "another"},
            )
        for _ in range(10):
            self.check_serving()


class SharedAddress(FaultCase):
    fault = 43
    promise = BadStart.promise
    options = ("--listen-shared", "yes")

    def test_several_that_ask_for_it_share_an_address(self):
        second = self.start_server(port=self.server.port)
        self.wait_until(lambda: '"serving"' in second.log_tail(), 5, "a line that it serves")
        for _ in range(10):
            self.check_serving()
        self.assertEqual(second.stop(), 0)
        self.check_refuses_to_start(
            1, "another process", options=("--listen", f"{self.server.host}:{self.server.port}")
        )


class TlsTurnedOnAndOff(FileCase):
    """A setting that needs a restart isn't shown as in use before one."""

    def setUp(self):
        if reason := authority.why_not():
            self.skipTest(reason)
        own = authority.Authority()
        self.addCleanup(own.close)
        pair = own.issue("server")
        self.tls = f"tls_cert = '{pair.cert}'\ntls_key = '{pair.key}'\n"
        super().setUp()

    def shown(self):
        return self.admin.get("/config")

    def test_turned_on(self):
        before = self.shown()
        self.write(self.tls)
        reported = self.reload("settings that need a restart have changed; the old ones stay in use")
        self.assertEqual(set(reported["changed"].split()), {"tls_cert", "tls_key"})
        self.assertEqual(self.shown(), before)
        # And another setting beside, which doesn't.
        self.write(self.tls + "auth_timeout = '7s'\n")
        self.reload()
        self.assertNotIn("server.pem", str(self.shown()))
        self.assertIn("7s", str(self.shown()))


class ScrapeStorm(FaultCase):
    fault = 46
    promise = "Scrape storm on the metrics port: shards don't notice"
    has_admin = True
    rate = 100
    seconds = 3
    # Scrapers, server and clients share two CPUs.
    late_median_s = 0.25
    # How often the shards are asked for their counters (docs/limits.md).
    collections_per_second = 10

    def setUp(self):
        super().setUp()
        self.over = threading.Event()
        self.statuses = []
        self.threads = []

    def tearDown(self):
        self.over.set()
        super().tearDown()

    def start(self, count, step):
        for _ in range(count):
            thread = threading.Thread(target=self.go_on, args=(step,), daemon=True)
            thread.start()
            self.threads.append(thread)

    def go_on(self, step):
        while not self.over.is_set():
            try:
                step()
            except (OSError, http.client.HTTPException):
                # A listener takes 64 connections.
                pass

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(10)
            self.assertFalse(thread.is_alive(), "a request hangs")

    def check_serving_beside(self):
        """Ticks come, and the endpoint answers, while the storm goes on."""
        client, ack = self.subscribed()
        collections = self.admin.metrics().total("tickstream_admin_collections_total")
        began, health = time.monotonic(), []
        ticks = []
        while time.monotonic() < began + self.seconds:
            ticks += client.read_ticks(self.rate // 10)
            health.append(self.get("/healthz"))
        seconds = time.monotonic() - began
        self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))
        self.assertEqual(set(health) - {503}, {200})
        return self.admin.metrics().total("tickstream_admin_collections_total") - collections, seconds

    def get(self, path):
        return self.admin.get(path)[0]

    def test_scrapes_and_lists(self):
        admin = self.admin
        clients = self.open_clients()
        self.subscribers(clients, 200)
        self.start(6, lambda: self.statuses.append(admin.get("/metrics")[0]))
        self.start(3, lambda: self.statuses.append(admin.get("/connections?limit=1000")[0]))
        self.start(2, lambda: self.statuses.append(admin.get("/snapshot")[0]))
        collections, seconds = self.check_serving_beside()
        self.end()
        self.assertGreater(self.statuses.count(200), 20)
        # Lists that come too fast are told to come back.
        self.assertLessEqual(set(self.statuses), {200, 503})
        self.assertLess(collections, (seconds + 1) * self.collections_per_second)

    def test_requests_without_end(self):
        """Connections that hold the endpoint's places don't reach the shards; its health is what suffers."""
        admin = self.admin
        held = []

        def hold():
            connection = socket.create_connection((admin.host, admin.port), timeout=2)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            held.append(connection)
            time.sleep(0.05)

        self.start(2, hold)
        client, ack = self.subscribed()
        ticks = client.read_ticks(self.rate * self.seconds)
        self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))
        self.end()
        for connection in held:
            connection.close()
        self.wait_until(lambda: self.healthy(), 5, "the endpoint healthy again")

    def healthy(self):
        try:
            return self.get("/healthz") == 200
        except OSError:
            return False

    def test_answers_that_nobody_reads(self):
        admin = self.admin
        clients = self.open_clients()
        self.subscribers(clients, 200)
        before = process_stats.resident_bytes(self.server.pid)
        held = []
        for _ in range(50):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            connection.connect((admin.host, admin.port))
            request = f"GET /metrics HTTP/1.1\r\nHost: {own_host()}\r\n\r\n".encode()
            connection.sendall(request * 20)
            held.append(connection)
        client, ack = self.subscribed()
        self.check_ticks(client.read_ticks(self.rate), ack["next_sequence"], (1000, self.rate))
        self.assertLess(process_stats.resident_bytes(self.server.pid) - before, 16 << 20)
        for connection in held:
            connection.close()
        self.wait_until(lambda: self.healthy(), 5, "the endpoint healthy again")
