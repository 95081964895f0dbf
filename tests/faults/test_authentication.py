"""Faults 10 to 13: who guesses passwords."""

import collections
import concurrent.futures
import random
import statistics
import time

from faults import proxy_headers
from faults.case import AUTH_FRAME, KIB, MIB, FaultCase, heavy
from faults.secure import TlsCase
from support.harness import PASSWORD, USER, ticks_in
from support.tickstream_client import ConnectionClosed, MsgType, encode_message_frame

# The defaults of the setting auth_failures_per_minute_max, and of the time that one failure costs.
FAILURES_MAX = 10
FAILURE_COSTS_S = 6.0
ATTACKER = "127.210.0.1"
WRONG_AUTH_FRAME = encode_message_frame(MsgType.AUTH, username=USER, password="wrong")


class Guesses(FaultCase):
    """Attempts to log in. `told` counts their answers by code; None is for an ACK."""

    has_admin = True

    def setUp(self):
        self.reported = collections.Counter()
        super().setUp()

    def attempt(self, source_host=ATTACKER, username=USER, password="wrong", header=b""):
        """The answer to an AUTH."""
        client = self.connect(source_host=source_host)
        client.send_raw(header + encode_message_frame(MsgType.AUTH, username=username, password=password))
        answer = client.read()
        if answer.type == MsgType.ERROR:
            client.expect_closed()
        client.close()
        self.reported[answer.fields.get("code")] += 1
        return answer

    def check_attempt(self, code, **options):
        """The answer is ERROR `code`, or the ACK if that is None. Returns it."""
        answer = self.attempt(**options)
        self.assertEqual(answer.fields.get("code"), code)
        return answer

    def check_limited(self, **options):
        """An attempt isn't judged. Returns how long that goes on, seconds."""
        return self.check_retry(self.check_attempt("RATE_LIMITED", **options))

    def check_retry(self, answer):
        retry_ms = answer["retry_after_ms"]
        self.check_between(retry_ms, 1, FAILURE_COSTS_S * 1_000, "retry_after_ms")
        return retry_ms / 1_000

    def exhaust(self, **options):
        """As many failures as an address has, and one attempt more. Returns how long to wait, seconds."""
        began = time.monotonic()
        for failures in range(2 * FAILURES_MAX):
            answer = self.attempt(**options)
            if answer["code"] == "RATE_LIMITED":
                break
            self.assertEqual(answer["code"], "AUTH_FAILED")
        forgiven = (time.monotonic() - began) / FAILURE_COSTS_S
        self.check_between(failures, FAILURES_MAX, FAILURES_MAX + forgiven, "failures that were judged")
        return self.check_retry(answer)


class SameRefusal(Guesses):
    fault = 10
    promise = "Unknown user and wrong password: same reply, same work"
    options = ("--auth-failures-per-minute-max", 0)
    rounds = 400
    # Of 400 against 400 alike ones, the share of pairs in which one is slower deviates by 0.02 from a half.
    share_tolerance = 0.1

    def credentials(self):
        """Wrong ones, by what is wrong with them."""
        return {
            "user": ("nobody", PASSWORD),
            "password": (USER, "guess"),
            "all but the last letter right": (USER, PASSWORD[:-1] + "!"),
            "both": ("nobody", "guess"),
            "longest": ("n" * 255, "p" * 255),
            "empty": ("", ""),
        }

    def test_the_reply_is_the_same(self):
        clients = self.open_clients()
        frames = [encode_message_frame(MsgType.AUTH, username=username, password=password)
                  for username, password in self.credentials().values()]
        peers = [clients.add(1, frame)[0] for frame in frames]
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 5)
        self.check_closed(peers, "AUTH_FAILED")
        self.assertEqual(len({peer.frames[-1].payload for peer in peers}), 1, "the replies differ")
        self.check_metric("tickstream_auth_failures_total", len(peers))
        # What was tried isn't for those who read the log, either.
        log = self.server.log_tail(MIB)
        self.assertEqual([word for word in ("nobody", "guess", PASSWORD[:-1]) if word in log], [])

    @heavy
    def test_the_timing_is_alike(self):
        """Between pairs of answers chance decides which is the slower."""
        names = ("user", "password", "all but the last letter right", "longest")
        chosen = {name: self.credentials()[name] for name in names}
        frames = {name: encode_message_frame(MsgType.AUTH, username=username, password=password)
                  for name, (username, password) in chosen.items()}
        seconds = {name: [] for name in names}
        for _ in range(self.rounds):
            for name in random.sample(names, len(names)):
                seconds[name].append(self.time_of_answer(frames[name]))
        for name in names[1:]:
            share = share_of_slower(seconds[name], seconds["user"])
            self.assertLess(abs(share - 0.5), self.share_tolerance, f"{name}: slower in {share:.1%}")

    def time_of_answer(self, frame):
        with self.connect() as client:
            began = time.perf_counter()
            client.send_raw(frame)
            client.expect(MsgType.ERROR)
            return time.perf_counter() - began


def share_of_slower(some, others):
    """The share of all pairs in which the one of `some` is the slower: the statistic of Mann and Whitney."""
    ranked = sorted([(value, True) for value in some] + [(value, False) for value in others])
    ranks = sum(rank for rank, (_, is_one) in enumerate(ranked, 1) if is_one)
    return (ranks - len(some) * (len(some) + 1) / 2) / (len(some) * len(others))


class BruteForce(Guesses):
    fault = 11
    promise = "Brute force from one IP, one IPv6 /64: limited, RATE_LIMITED with retry_after"

    def test_one_address_is_limited_and_others_arent(self):
        self.exhaust()
        self.check_limited()
        self.check_limited(password=PASSWORD)
        began = time.monotonic()
        self.check_attempt(None, source_host="127.210.0.2", password=PASSWORD)
        self.assertLess(time.monotonic() - began, 1.0)
        failed, limited = self.reported["AUTH_FAILED"], self.reported["RATE_LIMITED"]
        self.check_metric("tickstream_auth_failures_total", failed)
        self.check_metric("tickstream_connections_closed_total", failed, reason="auth_failed")
        self.check_metric("tickstream_connections_closed_total", limited, reason="rate_limited")
        self.check_fired("auth_failures", limited)

    def test_the_next_attempt_is_judged_when_that_was_told(self):
        time.sleep(self.exhaust())
        self.check_attempt(None, password=PASSWORD)

    def test_who_succeeds_isnt_limited(self):
        for _ in range(3 * FAILURES_MAX):
            self.check_attempt(None, password=PASSWORD)
        for _ in range(FAILURES_MAX - 1):
            self.check_attempt("AUTH_FAILED")
        self.check_attempt(None, password=PASSWORD)


class BruteForceByProxy(Guesses):
    fault = 11
    promise = BruteForce.promise
    options = ("--proxy-protocol", "optional", "--proxy-trusted", "127.0.0.0/8")

    def test_a_64_counts_as_one_address(self):
        for host in range(FAILURES_MAX - 2):
            header = proxy_headers.version_2(f"2001:db8:0:1:{host:x}::{host + 1:x}")
            self.check_attempt("AUTH_FAILED", header=header)
        while self.attempt(header=proxy_headers.version_2("2001:db8:0:1::1"))["code"] == "AUTH_FAILED":
            self.assertLess(self.reported["AUTH_FAILED"], 2 * FAILURES_MAX)
        self.check_limited(header=proxy_headers.version_1("2001:db8:0:1:ffff::2"), password=PASSWORD)
        for other in ("2001:db8:0:2::1", "2001:db8:1:1::1"):
            self.check_attempt(None, header=proxy_headers.version_2(other), password=PASSWORD)
        self.check_fired("auth_failures", self.reported["RATE_LIMITED"])

    def test_ipv4_in_the_form_of_ipv6_is_ipv4(self):
        self.exhaust(header=proxy_headers.version_2("203.0.113.7"))
        self.check_limited(header=proxy_headers.version_2("::ffff:203.0.113.7"), password=PASSWORD)
        self.check_attempt(None, header=proxy_headers.version_2("::ffff:203.0.113.8"), password=PASSWORD)


class BruteForceOverTls(TlsCase, Guesses):
    fault = 11
    promise = BruteForce.promise

    def test_guessing_costs_no_handshake(self):
        """An address with too many failures is refused before TLS begins."""
        self.exhaust()
        clients = self.raw_clients()
        refused = clients.add(5, source_host=ATTACKER)
        clients.run_until(lambda: not any(peer.is_open for peer in refused), 5)
        for peer in refused:
            self.assertFalse(peer.is_open or peer.was_reset)
            self.assertEqual(peer.unparsed, b"")
        self.check_limited(password=PASSWORD)
        self.check_tls_serving()
        self.check_fired("auth_failures", self.reported["RATE_LIMITED"] + len(refused))
        self.check_metric("tickstream_tls_handshakes_full_total", 1)

    def test_failures_over_tls_count(self):
        for _ in range(FAILURES_MAX - 1):
            client = self.tls_client(source_host=ATTACKER)
            client.send_raw(WRONG_AUTH_FRAME)
            self.check_refused(client, "AUTH_FAILED")
        while self.attempt()["code"] == "AUTH_FAILED":
            self.assertLess(self.reported["AUTH_FAILED"], FAILURES_MAX)


class Attack(Guesses):
    """Guesses from many addresses, and logins from others."""

    fault = 11
    promise = BruteForce.promise
    # A line for each close, at most 50 a second, and a few that sum up (docs/security.md, the log under a flood).
    lines_per_second_max = 55

    def logins(self, is_over, pause_s):
        """Seconds that each login took, one after another, each from an address of its own."""
        seconds = []
        while not is_over():
            began = time.monotonic()
            with self.connect() as client:
                client.authenticate(USER, PASSWORD)
            seconds.append(time.monotonic() - began)
            time.sleep(pause_s)
        return seconds

    def check_log(self, lines, seconds):
        self.check_between(lines, 1, (seconds + 2) * self.lines_per_second_max, "lines of the log")


class AttackFromMany(Attack):
    addresses = 30
    seconds = 3

    @heavy
    def test_others_log_in_and_the_log_doesnt_flood(self):
        end, guesses, seconds = time.monotonic() + self.seconds, [], []
        lines_before = len(self.records())
        while time.monotonic() < end:
            clients = self.open_clients()
            guesses += [clients.add(1, WRONG_AUTH_FRAME, source_host=f"127.211.0.{number + 1}")[0]
                        for number in range(self.addresses)]
            clients.run_until(lambda: not any(peer.is_open for peer in clients.peers), 5)
            seconds += self.logins(lambda logins=iter((False, True)): next(logins), 0)
        codes = [peer.error_code() for peer in guesses]
        self.assertEqual(set(codes), {"AUTH_FAILED", "RATE_LIMITED"})
        at_most = self.addresses * (FAILURES_MAX + 1 + self.seconds / FAILURE_COSTS_S)
        self.check_between(codes.count("AUTH_FAILED"), FAILURES_MAX, at_most, "guesses that were judged")
        self.assertLess(statistics.median(seconds), 0.5)
        self.check_fired("auth_failures", codes.count("RATE_LIMITED"))
        self.check_log(len(self.records()) - lines_before, self.seconds)


class AttackOf5000(Attack):
    is_long = True
    heavy = True
    timeout_s = 180
    seconds = 60
    per_second = 5_000
    addresses = 200
    # Attackers, server, logins and bystander share the machine.
    late_median_s = 0.25
    p99_s = 0.1

    def test_others_log_in_and_memory_stays_fixed(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            guessing = ("--brute-force", self.per_second, "--source-addresses", self.addresses)
            attack = pool.submit(self.load, *guessing, measured_s=self.seconds)
            # Tables have grown by then to what this many connections need.
            time.sleep(self.seconds / 6)
            before, lines_before, began = self.resident_bytes(), len(self.records()), time.monotonic()
            seconds = sorted(self.logins(attack.done, 0.01))
            result = attack.result()
        self.check_log(len(self.records()) - lines_before, time.monotonic() - began)
        self.assertEqual(set(result["answers"]), {"AUTH_FAILED", "RATE_LIMITED"})
        self.assertGreater(result["per_second"], 0.8 * self.per_second, "it isn't the attack that was wanted")
        self.assertLess(self.resident_bytes() - before, MIB)
        self.assertLess(seconds[len(seconds) * 99 // 100], self.p99_s)


class FloodOfAddresses(Guesses):
    fault = 12
    promise = "Flood of addresses against the limiter: its memory is fixed"
    options = BruteForceByProxy.options
    # 16,384 addresses have a place (docs/limits.md): this many fill a quarter of it.
    addresses = 4_000
    at_once = 250

    @heavy
    def test_memory_is_fixed(self):
        victim = proxy_headers.version_2("198.18.0.1")
        self.exhaust(header=victim)
        self.fail_from(0)
        # The table is there since the first failure, and the tables of connections have grown.
        before = self.resident_bytes()
        for first in range(self.at_once, self.addresses, self.at_once):
            self.fail_from(first)
        self.assertLess(self.resident_bytes() - before, 512 * KIB)
        self.check_attempt(None, header=proxy_headers.version_2("198.19.0.1"), password=PASSWORD)
        self.check_limited(header=victim)

    def fail_from(self, first):
        clients = self.open_clients()
        headers = [proxy_headers.version_2(f"10.{number >> 8}.{number & 255}.1")
                   for number in range(first, first + self.at_once)]
        peers = [clients.add(1, header + WRONG_AUTH_FRAME)[0] for header in headers]
        clients.run_until(lambda: not any(peer.is_open for peer in peers), 5)
        self.check_closed(peers, "AUTH_FAILED")


class FloodOf20000Addresses(Guesses):
    fault = 12
    promise = FloodOfAddresses.promise
    is_long = True
    heavy = True
    timeout_s = 120
    addresses = 20_000
    per_second = 2_000
    late_median_s = 0.25

    def test_memory_is_fixed(self):
        """More addresses than have places, each of which fails twice."""
        self.exhaust()
        guessing = ("--brute-force", self.per_second, "--source-addresses", self.addresses)
        self.load(*guessing, measured_s=2)
        before = self.resident_bytes()
        result = self.load(*guessing, measured_s=2 * self.addresses / self.per_second)
        self.assertGreater(result["answers"]["AUTH_FAILED"], self.addresses)
        self.assertLess(self.resident_bytes() - before, MIB)
        self.check_attempt(None, source_host="127.212.0.1", password=PASSWORD)


class BehindNat(Guesses):
    fault = 13
    promise = "Failures from a NAT: live sessions behind it are untouched"

    def check_untouched(self, client, ack, fail):
        """A session goes on while its address fails."""
        ticks = client.read_ticks(1)
        fail()
        client.heartbeat()
        messages = client.collect(1.0)
        self.assertEqual([message.type for message in messages].count(MsgType.HEARTBEAT), 1)
        ticks += ticks_in(messages)
        self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))
        ack = client.subscribe("SECOND", ticks[-1].sequence)
        self.assertEqual(ack["next_sequence"], ticks[-1].sequence + 1)

    def test_live_sessions_are_untouched(self):
        client, ack = self.subscribed(source_host=ATTACKER)

        self.check_untouched(client, ack, self.exhaust)
        # It may not come back before another client's failures are forgiven.
        self.check_limited(password=PASSWORD)


class BehindProxyAndNat(BehindNat):
    options = BruteForceByProxy.options
    header = proxy_headers.version_2("203.0.113.7")

    def test_live_sessions_are_untouched(self):
        client = self.connect()
        client.send_raw(self.header + AUTH_FRAME)
        client.read_auth_ack()
        self.check_untouched(client, client.subscribe("SECOND"), lambda: self.exhaust(header=self.header))


class BehindNatOverTls(TlsCase, BehindNat):
    def test_live_sessions_are_untouched(self):
        client, ack = self.tls_subscribed(source_host=ATTACKER)
        self.check_untouched(client, ack, self.exhaust)
        with self.assertRaises((ConnectionClosed, OSError)):
            self.tls_client(source_host=ATTACKER)
