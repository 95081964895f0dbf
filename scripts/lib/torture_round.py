"""One round of scripts/torture: all attacks at once for a while, then all attackers leave."""

import collections
import csv
import http.client
import json
import os
import signal
import sys
import threading
import time

from lib.bench import MODULES
from lib.torture_server import (
    ADMIN_TIMEOUT_S,
    PER_ADDRESS,
    REFUSED_CERTIFICATE,
    REFUSED_SETTINGS,
    SHARDS,
    TICKS_PER_SECOND,
)
from support.admin_client import Metrics
from support.process_stats import cpu_seconds
from support.processes import HOST, ProcessError, wait_until

CHURNING, CHURN_PER_SECOND = 60, 40
GUESSES_PER_SECOND = 200
SLOWLORIS = 40
# Addresses, by who comes from them; attackers.py has those from 127.20 to 127.29.
CHURN_FROM = "127.40.0.1,127.40.0.2"
GUESSERS = [f"127.41.0.{number}" for number in range(1, 17)]
SLOWLORIS_FROM, SECURE_SLOWLORIS_FROM = "127.42.0.1", "127.42.1.1"
RELOAD_EVERY_S, SAMPLE_EVERY_S = 5, 10
BAD_SETTINGS, BAD_CERTIFICATE = "bad settings", "bad certificate"
RELOADS = ("limit", "certificate", "limit", BAD_SETTINGS, "limit", "certificate", "limit", BAD_CERTIFICATE)
REFUSED = {BAD_SETTINGS: REFUSED_SETTINGS, BAD_CERTIFICATE: REFUSED_CERTIFICATE}
LISTS = ["/connections?limit=200", "/connections?limit=200&offset=200"]
# What is asked for in turn, and the seconds in between.
SCRAPES = ((["/metrics"], 0.2), ([*LISTS, "/snapshot", "/readyz", "/healthz", "/config"], 2))
# After a SIGSTOP, what is asked may say that the server stood still.
EXCUSED_S = 1.0
STEP_S = 0.05
SPARE_S = 120


def attack(bench, subject, name, seconds, stop_every_s):
    """All of it for so long; then all of them leave. What was done, and what became of it."""
    round_of = Round(bench, subject, name, seconds, stop_every_s)
    try:
        round_of.run()
    finally:
        round_of.end()
    return round_of.seen


class Round:
    def __init__(self, bench, subject, name, seconds, stop_every_s):
        self.bench = bench
        self.subject = subject
        self.name = name
        self.seconds = seconds
        self.stop_every_s = stop_every_s
        self.seen = collections.defaultdict(collections.Counter)
        self.reloads = 0
        self.dribbles = {}
        self.over = threading.Event()
        self.certificate = 0

    def run(self):
        bench, subject = self.bench, self.subject
        limit_s = int(self.seconds) + SPARE_S
        self.others = bench.start(
            f"attackers-{self.name}",
            [sys.executable, "-m", "lib.attackers", subject.process.port, subject.tls_port,
             subject.authority.ca, bench.folder / f"attackers-{self.name}.json"],
            limit_s=limit_s, env=bench.credentials | MODULES)
        self.churn = bench.start_load(
            f"churn-{self.name}", subject.process, "-n", CHURNING, "--churn", f"{CHURN_PER_SECOND}/s", "--strict",
            "--ticks-per-second", TICKS_PER_SECOND, "--in-flight", 16, "--source", CHURN_FROM,
            measured_s=int(self.seconds))
        self.guesses = self.load("guesses", subject.process.port, "--brute-force", GUESSES_PER_SECOND, "--source",
                                 ",".join(GUESSERS))
        scrapers = [threading.Thread(target=self.scrape, args=given, daemon=True) for given in SCRAPES]
        for scraper in scrapers:
            scraper.start()
        self.schedule()
        self.over.set()
        for scraper in scrapers:
            scraper.join(ADMIN_TIMEOUT_S * 2)

    def load(self, name, port, *options):
        """One of tickstream-load's runs without a report."""
        name = f"{name}-{self.name}"
        command = [self.bench.programs / "tickstream-load", *options, "--addr", f"{HOST}:{port}", "--quiet",
                   "--duration", f"{int(self.seconds)}s", "--json", self.bench.folder / f"{name}.json"]
        return self.bench.start(name, command, limit_s=int(self.seconds) + SPARE_S, env=self.bench.credentials)

    def schedule(self):
        """Whatever is done from here, one after the other: a reload is never asked of a server that stands."""
        began = time.monotonic()
        due = {self.reload: began + 2, self.stop: began + self.stop_every_s / 2, self.sample: began}
        every = {self.reload: RELOAD_EVERY_S, self.stop: self.stop_every_s, self.sample: SAMPLE_EVERY_S}
        while time.monotonic() < began + self.seconds:
            self.dribble()
            for what, at in due.items():
                if time.monotonic() >= at:
                    what()
                    due[what] = max(at + every[what], time.monotonic())
            for process in (self.subject.process, self.others):
                if not process.running():
                    raise ProcessError(f"{process.name} ended:\n{process.log_tail()}")
            time.sleep(STEP_S)

    def stop(self):
        self.subject.suspend()
        self.seen["SIGSTOP"]["times"] += 1

    def dribble(self):
        """Slowloris, again and again: each run ends when the server has closed all of its connections."""
        tls = ["--tls-ca", self.subject.authority.ca]
        for kind, port, source, more in (("slowloris", self.subject.process.port, SLOWLORIS_FROM, []),
                                         ("slowloris-tls", self.subject.tls_port, SECURE_SLOWLORIS_FROM, tls)):
            running = self.dribbles.get(kind)
            if running and running.running():
                continue
            if running:
                self.count_dribble(kind)
            self.dribbles[kind] = self.load(kind, port, "--dribble", "-n", SLOWLORIS, "--source", source, *more)
            self.seen[kind]["runs"] += 1

    def count_dribble(self, kind):
        path = self.bench.folder / f"{kind}-{self.name}.json"
        self.bench.processes.remove(self.dribbles[kind])
        if path.exists():
            self.seen[kind].update(json.loads(path.read_text())["ends"])
            path.unlink()

    def reload(self):
        """Limits, certificates and what is wrong in turn, by SIGHUP or over HTTP; checks what came of it."""
        subject, seen, number = self.subject, self.seen["reloads"], self.reloads
        self.reloads += 1
        limit = PER_ADDRESS[number % 2]
        kind = RELOADS[number % len(RELOADS)]
        more, shown = "", self.certificate
        if kind == BAD_SETTINGS:
            more, limit = "frames_per_second_max = 'many'\n", None
        elif kind == "certificate":
            shown = self.certificate = 1 - self.certificate
        in_use = subject.setting("unauthenticated_per_ip_max")
        reported = REFUSED.get(kind)
        refused = subject.log_lines(reported) if reported else 0
        subject.write_settings(limit or 1, more)
        subject.show_certificate(2 if kind == BAD_CERTIFICATE else shown)
        subject.reload(by_post=number % 3 == 0)
        wanted = str(limit) if limit else in_use
        done = reported is None or wait_until(lambda: subject.log_lines(reported) > refused, 5)
        done = done and wait_until(lambda: subject.setting("unauthenticated_per_ip_max") == wanted, 5)
        done = done and wait_until(lambda: subject.shown_certificate() == subject.fingerprints[shown], 5)
        if kind == BAD_CERTIFICATE:
            subject.show_certificate(shown)
        seen[kind] += 1
        if not done:
            seen["without effect"] += 1
            is_now = subject.setting("unauthenticated_per_ip_max")
            self.bench.say(f"  reload {number} ({kind}): {wanted} wanted, {is_now} or the certificate is not")

    def sample(self):
        path = self.bench.folder / f"samples-{self.name}.csv"
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            table = csv.writer(file)
            if is_new:
                table.writerow(["unix_seconds", "rss_bytes", "descriptors", "cpu_seconds"])
            process = self.subject.process
            cpu = cpu_seconds(process.pid)
            table.writerow([round(time.time(), 1), process.resident_bytes(), process.descriptors(), cpu])

    def scrape(self, paths, pause_s):
        number = 0
        while not self.over.wait(pause_s):
            path = paths[number % len(paths)]
            number += 1
            began, silent = time.monotonic(), 0
            try:
                status, text = self.subject.admin.get(path)
                if path == "/metrics":
                    silent = SHARDS - int(Metrics(text).total("tickstream_shard_up"))
            except (OSError, http.client.HTTPException, AssertionError) as error:
                status = f"{type(error).__name__}: {error}"
            is_excused = self.subject.stopped_until + EXCUSED_S > began
            when = "in a SIGSTOP" if is_excused else "otherwise"
            kind = "failed scrapes in a SIGSTOP" if is_excused and status != 200 else "scrapes"
            self.seen[kind][f"{path.split('?')[0]} {status}"] += 1
            # Its counters are then those of before; a busy machine does that, too.
            self.seen["a shard took longer than a scrape waits"][when] += silent
            slowest = self.seen["slowest scrape"]
            slowest["ms"] = max(slowest["ms"], round((time.monotonic() - began) * 1e3))

    def end(self):
        """All attackers leave."""
        self.over.set()
        self.subject.resume()
        self.subject.write_settings(PER_ADDRESS[0])
        self.subject.show_certificate(self.certificate)
        self.subject.reload(by_post=False)
        os.kill(self.others.pid, signal.SIGTERM)
        self.churn.interrupt()
        # Guessing ends by itself, now.
        wait_until(lambda: not self.guesses.running(), 5)
        for process in (self.guesses, *self.dribbles.values()):
            process.end()
        if self.others.wait() != 0:
            raise ProcessError(f"the attackers failed:\n{self.others.log_tail()}")
        for kind, ends in json.loads((self.bench.folder / f"attackers-{self.name}.json").read_text()).items():
            self.seen[kind].update(ends)
        result = self.bench.finish_load(self.churn)
        for one in result["classes"]:
            self.seen["churn"].update({"dropped and resumed": 0, **one["faults"]})
            self.seen["churn"].update({f"closed: {reason}": times for reason, times in one["closes"].items()})
        self.seen["churn"]["dropped and resumed"] = result["churned"]
        guesses = self.bench.folder / f"guesses-{self.name}.json"
        if guesses.exists():
            reported = json.loads(guesses.read_text())
            self.seen["guesses"].update({"attempts": reported["attempts"], **reported["answers"]})
