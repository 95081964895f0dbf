"""The server that scripts/torture tries, what is done to it from outside, and the clients that nothing may disturb."""

import collections
import hashlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import statistics
import time
import types

from support.admin_client import Admin
from support.authority import Authority
from support.processes import HOST, ProcessError, free_port

SHARDS, TICKS_PER_SECOND = 2, 10
PLAIN, SECURE, PUBLISHERS, EVENTS_PER_SECOND = 240, 60, 4, 2_000
# Addresses of the healthy, and of this script itself.
PLAIN_FROM = ",".join(f"127.10.0.{number}" for number in range(1, 5))
SECURE_FROM, PUBLISHERS_FROM, OWN = "127.10.1.1", "127.10.2.1", "127.10.3.1"
# Unauthenticated connections of an address, on each shard; reloads change it back and forth.
PER_ADDRESS = (60, 90)
# The table of event ids is full within the warm-up: from then on its memory is constant.
EVENT_IDS = 16_384
STOP_S = 1.5
SETTLE_S, SETTLE_TIMEOUT_S = 10, 30
ADMIN_TIMEOUT_S = 10
REFUSED_SETTINGS = "the settings can't be reloaded; those in use stay"
REFUSED_CERTIFICATE = "new certificates can't be used; the old ones stay in use"
PANICKED = "panicked"
WATCHED = (REFUSED_SETTINGS, REFUSED_CERTIFICATE, PANICKED)


class Subject:
    """The server, and what is done to it from outside."""

    def __init__(self, bench, folder, limit_s):
        self.bench = bench
        self.folder = folder
        self.authority = Authority()
        self.pairs = [self.authority.issue(f"server-{number}") for number in range(2)]
        self.fingerprints = [pair.fingerprint for pair in self.pairs]
        broken = types.SimpleNamespace(cert=self.pairs[0].cert, key=self.pairs[1].key)
        self.certificates = folder / "certificates"
        for number, pair in enumerate([*self.pairs, broken]):
            version = self.certificates / str(number)
            version.mkdir(parents=True)
            shutil.copyfile(pair.cert, version / "tls.crt")
            shutil.copyfile(pair.key, version / "tls.key")
        self.show_certificate(0)
        self.token = "torture-" + os.urandom(16).hex()
        (folder / "token").write_text(self.token + "\n")
        self.config = folder / "tickstream.toml"
        self.write_settings(PER_ADDRESS[0])
        self.journal = folder / "journal"
        self.tls_port, self.admin_port = free_port(), free_port()
        current = self.certificates / "current"
        self.process = bench.tickstream(
            "--config", self.config, "--shards", SHARDS, "--ticks-per-second", TICKS_PER_SECOND,
            "--listen-tls", f"{HOST}:{self.tls_port}",
            "--tls-cert", current / "tls.crt", "--tls-key", current / "tls.key",
            "--admin", f"{HOST}:{self.admin_port}", "--admin-token-file", folder / "token",
            "--journal", self.journal, "--journal-segment-mib", 16, "--journal-max-mib", 256,
            "--event-ids-max", EVENT_IDS, "--max-connections-per-ip", 2_000, limit_s=limit_s,
        )
        self.secure = types.SimpleNamespace(port=self.tls_port, pid=self.process.pid)
        self.admin = Admin(HOST, self.admin_port)
        self.answers_total = collections.Counter()
        self.stopped_until = 0.0
        self.log_read, self.watched = 0, collections.Counter()

    # What is done to it

    def show_certificate(self, number):
        """0 and 1 are good, 2 has another's key. One rename replaces both files."""
        link = self.certificates / "next"
        link.symlink_to(str(number))
        os.rename(link, self.certificates / "current")

    def write_settings(self, per_address, more=""):
        following = self.config.with_suffix(".next")
        following.write_text(f"unauthenticated_per_ip_max = {per_address}\n{more}")
        os.rename(following, self.config)

    def reload(self, by_post):
        if not by_post:
            os.kill(self.process.pid, signal.SIGHUP)
            return
        connection = http.client.HTTPConnection(HOST, self.admin_port, timeout=ADMIN_TIMEOUT_S)
        try:
            connection.request("POST", "/reload", headers={"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            answer.read()
            self.answers_total[f"POST /reload {answer.status}"] += 1
        finally:
            connection.close()

    def suspend(self):
        self.stopped_until = float("inf")
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            time.sleep(STOP_S)
        finally:
            self.resume()
            self.stopped_until = time.monotonic()

    def resume(self):
        if self.process.running():
            os.kill(self.process.pid, signal.SIGCONT)

    # What it shows

    def metrics(self):
        return self.admin.metrics()

    def setting(self, name):
        """As it is in use."""
        _, text = self.admin.get("/config")
        found = [one for one in text.splitlines() if one.startswith(f"{name} = ")]
        return found[0].split("=")[1].split("#")[0].strip() if found else None

    def shown_certificate(self):
        """Of a new connection."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        with socket.create_connection((HOST, self.tls_port), 5, (OWN, 0)) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                return hashlib.sha256(secured.getpeercert(True)).hexdigest()

    def log_lines(self, word):
        """Number of lines with it, of WATCHED. Lines that were read before aren't read again."""
        with self.process.log.open("rb") as log:
            log.seek(self.log_read)
            for one in log:
                if not one.endswith(b"\n"):
                    break
                self.log_read += len(one)
                self.watched.update(watched for watched in WATCHED if watched.encode() in one)
        return self.watched[word]

    def settled(self, connections, baseline=None):
        """Connections, descriptors and memory, when the attackers are gone."""
        time.sleep(SETTLE_S)
        until = time.monotonic() + SETTLE_TIMEOUT_S
        most = baseline["descriptors"] if baseline else None
        while True:
            state = self.state()
            calm = state["active_connections"] == connections and state["unauthenticated"] == 0
            if calm and (most is None or state["descriptors"] <= most) or time.monotonic() > until:
                break
            time.sleep(0.5)
        resident = []
        for _ in range(5):
            resident.append(self.process.resident_bytes() / 1e6)
            time.sleep(1)
        return state | {"rss_mb": round(statistics.median(resident), 2)}

    def state(self):
        metrics = self.metrics()
        # The admin endpoint's own connection is closed by now, or soon.
        time.sleep(0.3)
        return {
            "active_connections": int(metrics.total("active_connections")),
            "unauthenticated": int(metrics.total("tickstream_connections_unauthenticated")),
            "descriptors": self.process.descriptors(),
        }


class Healthy:
    """Connections of well-behaved clients, which nothing may disturb."""

    def __init__(self, bench, subject, limit_s):
        self.bench = bench
        self.connections = PLAIN + SECURE + PUBLISHERS
        rate = ["--strict", "--ticks-per-second", TICKS_PER_SECOND, "--in-flight", 16]
        measured_s = int(limit_s)
        self.plain = bench.start_load("healthy-plain", subject.process, "-n", PLAIN, "--source", PLAIN_FROM, *rate,
                                      measured_s=measured_s)
        self.secure = bench.start_load(
            "healthy-tls", subject.secure, "-n", SECURE, "--source", SECURE_FROM, *rate,
            "--tls-ca", subject.authority.ca, measured_s=measured_s)
        self.publishers = bench.start_load(
            "healthy-publishers", subject.process, "--publish", "-n", PUBLISHERS, "--rate", EVENTS_PER_SECOND,
            "--source", PUBLISHERS_FROM, measured_s=measured_s)
        until = time.monotonic() + 30
        while subject.metrics().total("active_connections") < self.connections:
            if time.monotonic() > until:
                raise ProcessError("the healthy clients don't get in")
            time.sleep(0.2)

    def finish(self):
        """Lets all of them end; what each saw."""
        loads = (self.plain, self.secure, self.publishers)
        for load in loads:
            load.interrupt()
        return [self.bench.finish_load(load) for load in loads]
