"""docs/protocol.md, tested against the real server from outside.

    TICKSTREAM_BIN=target/release/tickstream python3 tests protocol.test_protocol [Class[.test] ...]

Every class starts a server with the options that it needs, and all classes run at the same time; README.md.
"""

import os
import signal
import statistics
import sys
import time
import unittest

from support.harness import (
    ANSWER_TIMEOUT_S,
    HOST,
    PASSWORD,
    STOP_TIMEOUT_S,
    USER,
    ParallelSuite,
    ServerCase,
    at_once,
    duration,
    read_batches,
    ticks_in,
)
from support.tickstream_client import (
    MAX_PAYLOAD_DEFAULT,
    ConnectionClosed,
    MsgType,
    ProtocolError,
    encode_frame,
    encode_header,
    encode_message,
    encode_message_frame,
    ticks_of,
)

AUTH_FRAME = encode_message_frame(MsgType.AUTH, username=USER, password=PASSWORD)
SUBSCRIBE_FRAME = encode_message_frame(MsgType.SUBSCRIBE, mode="SECOND")
SERVER_ONLY_TYPES = (MsgType.DATA_BATCH, MsgType.ERROR, MsgType.ACK, MsgType.GOAWAY, MsgType.PUBLISH_ACK)
UNKNOWN_TYPES = (0x00, 0x08, 0x12, 0x1F, 0x42, 0x7F)
SKIPPABLE_TYPES = (0x80, 0xC3, 0xFF)
MAX_PAYLOAD_BEFORE_AUTH = 4096
# Fields 15 (varint), 16 (bytes), 17 (fixed 32) and 18 (fixed 64): in no message of version 1.
UNKNOWN_FIELDS = bytes.fromhex("7805" "820103616263" "8d0101020304" "91010102030405060708")
HOUR_S = 3600
# The server may be this late with a timeout that protocol.md bounds, beside what the machine's scheduler adds.
TIMEOUT_SLACK_S = 0.5 + 0.05


def with_wrong_crc(frame):
    return frame[:-1] + bytes([frame[-1] ^ 0x01])


# ---- Handshake ----------------------------------------------------------------------------------------------


class Handshake(ServerCase):
    def test_auth_subscribe_data(self):
        client = self.connect()
        client.authenticate(USER, PASSWORD)
        self.check_next_ticks(client, client.subscribe("SECOND"), 2)

    def test_auth_and_subscribe_in_one_write(self):
        client = self.connect()
        client.send_raw(AUTH_FRAME + SUBSCRIBE_FRAME)
        client.read_auth_ack()
        self.check_next_ticks(client, client.read_subscribe_ack(), 1)

    def test_dribbled_byte_by_byte(self):
        client = self.connect()
        for byte in AUTH_FRAME + SUBSCRIBE_FRAME:
            client.send_raw(bytes([byte]))
            time.sleep(0.002)
        client.read_auth_ack()
        self.check_next_ticks(client, client.read_subscribe_ack(), 1)

    def test_every_ack_carries_the_limits(self):
        client = self.connect()
        for ack in (client.authenticate(USER, PASSWORD), client.subscribe("MINUTE"), client.subscribe("SECOND")):
            expected = {
                "heartbeat_interval_ms": 15_000,
                "heartbeat_timeout_ms": 20_000,
                "max_msg_size": MAX_PAYLOAD_DEFAULT,
                "batch_window_ms": 5,
            }
            self.assertEqual({name: ack[name] for name in expected}, expected)
            self.assertAlmostEqual(ack["server_time_ms"] / 1000, ack.frame.received_at, delta=1)

    def test_unknown_fields_are_ignored(self):
        client = self.connect()
        auth = encode_message("Auth", {"username": USER, "password": PASSWORD})
        client.send_frame(MsgType.AUTH, UNKNOWN_FIELDS + auth)
        client.read_auth_ack()
        client.send_frame(MsgType.SUBSCRIBE, encode_message("Subscribe", {"mode": "SECOND"}) + UNKNOWN_FIELDS)
        self.check_next_ticks(client, client.read_subscribe_ack(), 1)

    def test_default_mode_on_the_wire_is_second(self):
        client = self.authenticated()
        client.send_frame(MsgType.SUBSCRIBE, b"\x08\x00")
        self.check_next_ticks(client, client.read_subscribe_ack(), 1)

    def test_skippable_types_are_skipped(self):
        client = self.authenticated()
        for skippable in SKIPPABLE_TYPES:
            client.send_frame(skippable)
            client.send_frame(skippable, b"from the future" * 100)
        self.check_alive(client)

    def test_a_skippable_frame_may_be_as_large_as_any(self):
        client = self.authenticated()
        client.send_frame(0x80, bytes(MAX_PAYLOAD_DEFAULT))
        self.check_alive(client)

    def test_heartbeat_without_subscription(self):
        client = self.authenticated()
        for _ in range(3):
            client.heartbeat()
            self.assertEqual(client.read().type, MsgType.HEARTBEAT)


# ---- Refused before AUTH ------------------------------------------------------------------------------------


class FirstFrame(ServerCase):
    def check_first(self, data, code):
        client = self.connect()
        client.send_raw(data)
        return self.check_refused(client, code)

    def test_any_frame_but_auth(self):
        for first in (*MsgType, *UNKNOWN_TYPES, *SKIPPABLE_TYPES):
            if first == MsgType.AUTH:
                continue
            for payload in (b"", b"\x08\x01"):
                with self.subTest(type=first, payload=payload):
                    self.check_first(encode_frame(first, payload), "AUTH_REQUIRED")

    def test_auth_that_follows_doesnt_help(self):
        self.check_first(SUBSCRIBE_FRAME + AUTH_FRAME, "AUTH_REQUIRED")

    def test_undecodable_auth(self):
        for payload in ("0a", "0aff01", "0a0561", "08", "00", "0a01ff120161"):
            with self.subTest(payload):
                self.check_first(encode_frame(MsgType.AUTH, bytes.fromhex(payload)), "BAD_FRAME")

    def test_wrong_crc(self):
        for frame in (AUTH_FRAME, SUBSCRIBE_FRAME, encode_frame(0x42), encode_frame(0x80)):
            with self.subTest(frame.hex()):
                self.check_first(with_wrong_crc(frame), "BAD_CRC")

    def test_wrong_version_at_its_byte(self):
        for version in (0, 2, 255):
            error = self.check_first(b"TS" + bytes([version]), "UNSUPPORTED_VERSION")
            self.assertIn("1", error["message"])

    def test_oversize_length_from_the_header(self):
        for length in (MAX_PAYLOAD_BEFORE_AUTH + 1, 2**31, 2**32 - 1):
            for first in (MsgType.AUTH, MsgType.SUBSCRIBE, 0x80):
                with self.subTest(type=first, length=length):
                    self.check_first(encode_header(first, length), "MESSAGE_TOO_LARGE")

    def test_the_largest_payload_before_auth(self):
        self.check_first(encode_frame(MsgType.SUBSCRIBE, bytes(MAX_PAYLOAD_BEFORE_AUTH)), "AUTH_REQUIRED")

    def test_wrong_magic_at_the_first_wrong_byte(self):
        for data in (b"X", b"TX", b"\x00", b"GET / HTTP/1.1\r\n\r\n"):
            with self.subTest(data):
                client = self.connect()
                client.send_raw(data)
                self.check_closed_silently(client)


class Credentials(ServerCase):
    def error_frame(self, username, password):
        client = self.connect()
        client.send(MsgType.AUTH, username=username, password=password)
        frame = self.check_refused(client, "AUTH_FAILED").frame
        return encode_frame(frame.type, frame.payload)

    def test_the_answer_doesnt_tell_what_was_wrong(self):
        wrong_user = self.error_frame("wrong", PASSWORD)
        self.assertEqual(self.error_frame(USER, "wrong"), wrong_user)
        self.assertEqual(self.error_frame("wrong", "wrong"), wrong_user)
        self.assertEqual(self.error_frame(USER, PASSWORD + "x"), wrong_user)
        self.assertEqual(self.error_frame(USER, PASSWORD[:-1]), wrong_user)
        self.assertEqual(self.error_frame("u" * 255, "p" * 255), wrong_user)

    def test_subscribe_behind_wrong_credentials(self):
        client = self.connect()
        client.send_raw(encode_message_frame(MsgType.AUTH, username=USER, password="wrong") + SUBSCRIBE_FRAME)
        self.check_refused(client, "AUTH_FAILED")

    def test_lengths_out_of_bounds(self):
        # protocol.md gives the bounds, but not which of the two codes a name out of them gets.
        for username, password in (("", PASSWORD), (USER, ""), ("u" * 256, PASSWORD), (USER, "p" * 256)):
            with self.subTest(username=len(username), password=len(password)):
                client = self.connect()
                client.send(MsgType.AUTH, username=username, password=password)
                self.assertIn(client.expect(MsgType.ERROR)["code"], ("AUTH_FAILED", "BAD_FRAME"))
                client.expect_closed()


class AuthTimeout(ServerCase):
    timeout_s = 5.0

    def check_timeout(self, client):
        error = self.check_refused(client, "AUTH_REQUIRED", self.timeout_s + 3)
        elapsed_s = error.frame.received_monotonic - client.connect_started
        self.check_between(elapsed_s, self.timeout_s, self.timeout_s + TIMEOUT_SLACK_S, "seconds without AUTH")

    def test_silent_connection(self):
        self.check_timeout(self.connect())

    def test_auth_byte_by_byte_wins_no_time(self):
        client = self.connect()
        for byte in AUTH_FRAME[:5]:
            client.send_raw(bytes([byte]))
            time.sleep(self.timeout_s / 6)
        self.check_timeout(client)


# ---- Refused after AUTH -------------------------------------------------------------------------------------


class AfterAuth(ServerCase):
    def check_each(self, data, code):
        """`data` is refused right after AUTH, and while ticks are sent."""
        fresh, (subscribed, _) = self.authenticated(), self.subscribed()
        fresh.send_raw(data)
        self.check_refused(fresh, code)
        subscribed.send_raw(data)
        return self.check_refused(subscribed, code, skip=(MsgType.DATA_BATCH,))

    def test_second_auth(self):
        self.check_each(AUTH_FRAME, "PROTOCOL_VIOLATION")

    def test_types_that_only_the_server_sends(self):
        for server_only in SERVER_ONLY_TYPES:
            for payload in (b"", b"\x08\x01"):
                with self.subTest(type=server_only, payload=payload):
                    self.check_each(encode_frame(server_only, payload), "PROTOCOL_VIOLATION")

    def test_unknown_types(self):
        for unknown in UNKNOWN_TYPES:
            with self.subTest(type=unknown):
                self.check_each(encode_frame(unknown, b"\x08\x01"), "UNSUPPORTED_TYPE")

    def test_bad_mode(self):
        for payload in (b"\x08\x02", b"\x08\x7f", b"\x08" + b"\xff" * 9 + b"\x01"):
            with self.subTest(payload):
                self.check_each(encode_frame(MsgType.SUBSCRIBE, payload), "BAD_FRAME")

    def test_undecodable_subscribe(self):
        for payload in ("08", "0801" "10", "0801" "10" + "ff" * 10 + "01", "7a05" "61", "00"):
            with self.subTest(payload):
                self.check_each(encode_frame(MsgType.SUBSCRIBE, bytes.fromhex(payload)), "BAD_FRAME")

    def test_heartbeat_with_payload(self):
        self.check_each(encode_frame(MsgType.HEARTBEAT, b"\x00"), "BAD_FRAME")

    def test_wrong_crc(self):
        for frame in (SUBSCRIBE_FRAME, encode_frame(MsgType.HEARTBEAT), encode_frame(0x42), encode_frame(0x80)):
            with self.subTest(frame.hex()):
                self.check_each(with_wrong_crc(frame), "BAD_CRC")

    def test_wrong_version_at_its_byte(self):
        self.check_each(b"TS\x02", "UNSUPPORTED_VERSION")

    def test_oversize_length_from_the_header(self):
        for length in (MAX_PAYLOAD_DEFAULT + 1, 2**32 - 1):
            with self.subTest(length=length):
                self.check_each(encode_header(MsgType.SUBSCRIBE, length), "MESSAGE_TOO_LARGE")

    def test_wrong_magic_at_the_first_wrong_byte(self):
        for data in (b"X", b"TX"):
            with self.subTest(data):
                client = self.authenticated()
                client.send_raw(data)
                self.check_closed_silently(client)

    def test_frames_before_the_bad_one_are_answered(self):
        client = self.authenticated()
        client.send_raw(encode_frame(MsgType.HEARTBEAT) * 2 + b"TS\x02")
        client.expect(MsgType.HEARTBEAT)
        client.expect(MsgType.HEARTBEAT)
        self.check_refused(client, "UNSUPPORTED_VERSION")

    def test_what_is_still_sent_doesnt_hide_the_error(self):
        """A server that closed with unread bytes would reset, and the ERROR would be lost."""
        client = self.authenticated()
        client.send_raw(encode_header(MsgType.SUBSCRIBE, 2**20) + bytes(2**20))
        self.check_refused(client, "MESSAGE_TOO_LARGE")

    def test_discarding_ends(self):
        client = self.authenticated()
        client.send_raw(b"TS\x02")
        self.check_refused(client, "UNSUPPORTED_VERSION")
        closed_at = time.monotonic()
        with self.assertRaises(OSError):
            while time.monotonic() < closed_at + 4:
                client.send_raw(b"more")
                time.sleep(0.05)


# ---- Heartbeats ---------------------------------------------------------------------------------------------


class HeartbeatNeverSent(ServerCase):
    timeout_s = 20.0

    def test_timeout_runs_from_the_ack_of_auth(self):
        client = self.connect()
        sent_at = time.monotonic()
        ack = client.authenticate(USER, PASSWORD)
        error = self.check_refused(client, "HEARTBEAT_TIMEOUT", self.timeout_s + 3)
        self.assertGreaterEqual(error.frame.received_monotonic - sent_at, self.timeout_s)
        since_ack_s = error.frame.received_monotonic - ack.frame.received_monotonic
        self.assertLessEqual(since_ack_s, self.timeout_s + TIMEOUT_SLACK_S)


class HeartbeatMissed(ServerCase):
    timeout_s = 20.0

    def test_only_heartbeats_restart_the_timer(self):
        client = self.authenticated()
        time.sleep(1)
        sent_at = time.monotonic()
        self.check_alive(client)
        while True:
            client.send_raw(SUBSCRIBE_FRAME + encode_frame(0x80))
            messages = client.collect(self.timeout_s / 6)
            if messages and messages[-1].type == MsgType.ERROR:
                break
            self.assertLess(time.monotonic(), sent_at + self.timeout_s + 3, "no ERROR")
        self.assertEqual(messages[-1]["code"], "HEARTBEAT_TIMEOUT")
        elapsed_s = messages[-1].frame.received_monotonic - sent_at
        self.check_between(elapsed_s, self.timeout_s, self.timeout_s + TIMEOUT_SLACK_S, "seconds without HEARTBEAT")
        client.expect_closed()


class HeartbeatsKept(ServerCase):
    def test_a_client_that_sends_them_stays(self):
        client = self.connect()
        interval_s = client.authenticate(USER, PASSWORD)["heartbeat_interval_ms"] / 1000
        client.subscribe("MINUTE")
        for wait_s in (interval_s, 11, 1):
            self.assertFalse([message for message in client.collect(wait_s) if message.type != MsgType.DATA_BATCH])
            sent_at = time.monotonic()
            self.check_alive(client)
            self.assertLess(time.monotonic() - sent_at, 1)


# ---- Ticks --------------------------------------------------------------------------------------------------


class SecondTicks(ServerCase):
    def test_labels_sequences_and_lateness(self):
        client, ack = self.subscribed()
        due_in_ms = ack["next_sequence"] * 1000 - ack["server_time_ms"]
        self.check_between(due_in_ms, -5, 1005, "milliseconds until the first tick")
        batches = read_batches(client, 9)
        self.assertEqual({len(batch["ticks"]) for batch in batches}, {1})
        ticks = ticks_in(batches)
        self.assertGreaterEqual(len(ticks), 8)
        self.check_ticks(ticks, ack["next_sequence"])
        self.check_punctual(ticks)


class MinuteTicks(ServerCase):
    def test_ticks_arrive_at_the_minutes_boundary(self):
        subscriptions = [self.subscribed("MINUTE") for _ in range(5)]

        def first_tick(subscription):
            client, ack = subscription
            for _ in range(7):
                messages = client.collect(ack["heartbeat_interval_ms"] / 1000 * 2 / 3)
                if ticks_in(messages):
                    return ticks_in(messages)[0]
                client.heartbeat()
            self.fail("no tick in 70 s")

        ticks = at_once(first_tick, subscriptions)
        for (_, ack), tick in zip(subscriptions, ticks):
            self.check_ticks([tick], ack["next_sequence"], (60_000, 1), "MINUTE")
            self.assertEqual(tick.epoch_ms, tick.sequence * 60_000)
        self.check_punctual(ticks)


class OddRates(ServerCase):
    """Intervals that are no whole number of milliseconds: nothing may add up."""

    options = ("--ticks-per-second", 3, "--ticks-per-minute", 70)

    def check_rate(self, mode, per_interval):
        client, ack = self.subscribed(mode)
        ticks = ticks_in(read_batches(client, 4))
        self.check_between(len(ticks), 3, 13, "ticks")
        self.check_ticks(ticks, ack["next_sequence"], per_interval, mode)
        self.check_punctual(ticks)

    def test_three_a_second(self):
        self.check_rate("SECOND", (1000, 3))

    def test_seventy_a_minute(self):
        self.check_rate("MINUTE", (60_000, 70))


class SwitchMode(ServerCase):
    options = ("--ticks-per-second", 100, "--ticks-per-minute", 600)
    intervals = {"SECOND": (1000, 100), "MINUTE": (60_000, 600)}

    def check_subscription(self, client, mode, ack):
        ticks = ticks_in(read_batches(client, 0.6))
        self.check_ticks(ticks, ack["next_sequence"], self.intervals[mode], mode)
        return ticks

    def test_nothing_of_the_old_mode_follows_the_ack(self):
        client = self.authenticated()
        for mode in ("SECOND", "MINUTE") * 3:
            self.check_subscription(client, mode, client.subscribe(mode))

    def test_nothing_is_lost_before_the_ack(self):
        client, ack = self.subscribed()
        old = self.check_subscription(client, "SECOND", ack)
        client.send_subscribe("MINUTE")
        while (message := client.read()).type == MsgType.DATA_BATCH:
            old += ticks_of(message)
        self.check_ticks(old, ack["next_sequence"], self.intervals["SECOND"])
        self.assertEqual(message["acked_type"], "SUBSCRIBE")
        self.check_subscription(client, "MINUTE", message)

    def test_same_mode_from_elsewhere(self):
        client, ack = self.subscribed()
        last = self.check_subscription(client, "SECOND", ack)[-1].sequence
        for resume_after in (last - 50, None, last - 500):
            ack = client.subscribe("SECOND", resume_after)
            if resume_after is not None:
                self.assertEqual(ack["next_sequence"], resume_after + 1)
            self.check_subscription(client, "SECOND", ack)


# ---- Resume -------------------------------------------------------------------------------------------------


class Resume(ServerCase):
    def test_the_gap_is_replayed(self):
        client, ack = self.subscribed()
        before = client.read_ticks(2)
        client.close()
        time.sleep(3)
        client, resumed = self.subscribed(resume_after=before[-1].sequence)
        self.assertEqual(resumed["next_sequence"], before[-1].sequence + 1)
        after = client.read_ticks(6)
        self.check_ticks(before + after, ack["next_sequence"])
        old = [tick for tick in after if tick.epoch_ms <= resumed["server_time_ms"]]
        self.assertGreaterEqual(len(old), 3)
        self.assertLess(old[-1].received_at - resumed.frame.received_at, 0.5, "replayed at once")
        self.check_punctual(after[len(old):])

    def test_before_the_servers_start(self):
        resume_after = int(time.time()) - 1000
        client, ack = self.subscribed(resume_after=resume_after)
        self.assertEqual(ack["next_sequence"], resume_after + 1)
        self.check_ticks(client.read_ticks(1001), resume_after + 1)

    def test_resume_after_0_is_not_absent(self):
        client, ack = self.subscribed(resume_after=0)
        self.assertAlmostEqual(ack["next_sequence"], ack["server_time_ms"] // 1000 - HOUR_S, delta=2)
        self.check_ticks(client.read_ticks(HOUR_S), ack["next_sequence"])

    def test_slightly_in_the_future(self):
        resume_after = int(time.time()) + 3
        client, ack = self.subscribed(resume_after=resume_after)
        self.assertEqual(ack["next_sequence"], resume_after + 1)
        self.check_ticks(client.read_ticks(2, timeout_s=8), resume_after + 1)

    def test_a_position_that_cannot_be_starts_at_the_next_tick(self):
        now = int(time.time())
        for mode, resume_after in (
            ("SECOND", now + HOUR_S + 10),
            ("MINUTE", now // 60 + HOUR_S // 60 + 2),
            ("SECOND", 2**63),
            ("SECOND", 2**64 - 1),
            ("MINUTE", 2**64 - 1),
        ):
            with self.subTest(mode=mode, resume_after=resume_after):
                client, ack = self.subscribed(mode, resume_after)
                newest = ack["server_time_ms"] // (1000 if mode == "SECOND" else 60_000)
                self.assertEqual(ack["next_sequence"], newest + 1)
                if mode == "SECOND":
                    self.check_ticks(client.read_ticks(1, timeout_s=3), newest + 1)


class ResumeMinutes(ServerCase):
    def check_replay(self, resume_after):
        client, ack = self.subscribed("MINUTE", resume_after)
        now = ack["server_time_ms"] // 60_000
        ticks = client.read_ticks(now - ack["next_sequence"] + 1)
        self.check_ticks(ticks, ack["next_sequence"], (60_000, 1), "MINUTE")
        return ack["next_sequence"], now

    def test_before_the_servers_start(self):
        resume_after = int(time.time()) // 60 - 7
        self.assertEqual(self.check_replay(resume_after)[0], resume_after + 1)

    def test_further_back_than_the_window(self):
        first, now = self.check_replay(int(time.time()) // 60 - 1000)
        self.check_between(now - first, 58, 60, "minutes replayed")


class ResumeWindow(ServerCase):
    window_s, rate = 10, 10
    options = ("--replay-window", duration(window_s), "--ticks-per-second", rate)

    def test_the_replay_starts_with_the_oldest_tick_kept(self):
        for resume_after in (0, 1, int(time.time() - 60) * self.rate):
            client, ack = self.subscribed(resume_after=resume_after)
            oldest = (ack["server_time_ms"] - self.window_s * 1000) * self.rate // 1000
            self.assertAlmostEqual(ack["next_sequence"], oldest, delta=2)
            ticks = client.read_ticks(self.window_s * self.rate + 5)
            self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))

    def test_within_the_window(self):
        resume_after = int((time.time() - 5) * self.rate)
        client, ack = self.subscribed(resume_after=resume_after)
        self.assertEqual(ack["next_sequence"], resume_after + 1)
        self.check_ticks(client.read_ticks(5 * self.rate), resume_after + 1, (1000, self.rate))

    def test_the_window_bounds_the_future_too(self):
        near = int((time.time() + self.window_s - 1) * self.rate)
        _, ack = self.subscribed(resume_after=near)
        self.assertEqual(ack["next_sequence"], near + 1)
        far = int((time.time() + self.window_s + 1) * self.rate)
        _, ack = self.subscribed(resume_after=far)
        self.assertLess(ack["next_sequence"], near)

    def test_a_position_of_a_lower_rate_replays_nothing(self):
        _, live = self.subscribed()
        for rate in range(1, self.rate):
            _, ack = self.subscribed(resume_after=int(time.time() * rate))
            self.assertGreaterEqual(ack["next_sequence"], live["next_sequence"], rate)


class ResumeFast(ServerCase):
    heavy = True
    options = ("--ticks-per-second", 1000)
    replay_ticks_max = 100_000

    def test_the_gap_is_replayed(self):
        client, ack = self.subscribed()
        before = client.read_ticks(500)
        client.close()
        time.sleep(3)
        client, resumed = self.subscribed(resume_after=before[-1].sequence)
        self.assertEqual(resumed["next_sequence"], before[-1].sequence + 1)
        ticks = before + client.read_ticks(5000, timeout_s=10)
        self.check_ticks(ticks, ack["next_sequence"], (1000, 1000))
        self.check_punctual(ticks[-1000:])

    def test_the_number_of_ticks_is_limited(self):
        client, ack = self.subscribed(resume_after=1)
        newest = ack["server_time_ms"]
        self.assertAlmostEqual(newest - ack["next_sequence"], self.replay_ticks_max, delta=50)
        ticks = client.read_ticks(self.replay_ticks_max + 1000, timeout_s=15)
        self.check_ticks(ticks, ack["next_sequence"], (1000, 1000))


# ---- Batches, sizes, options --------------------------------------------------------------------------------


class Batching(ServerCase):
    heavy = True
    rate = 10_000
    options = ("--ticks-per-second", rate, "--batch-window-ms", 5)

    def test_frames_a_second(self):
        client, ack = self.subscribed()
        seconds = 5
        batches = read_batches(client, seconds)
        self.assertLessEqual(len(batches), 210 * seconds)
        ticks = ticks_in(batches)
        self.assertGreaterEqual(len(ticks), self.rate * (seconds - 1))
        self.check_ticks(ticks, ack["next_sequence"], (1000, self.rate))
        self.check_punctual(ticks)

    def test_a_batch_spans_the_window(self):
        client, _ = self.subscribed()
        spans_ms = [
            batch["ticks"][-1]["epoch_ms"] - batch["ticks"][0]["epoch_ms"] for batch in read_batches(client, 2)
        ]
        self.check_between(statistics.median(spans_ms), 4, 7, "median span of a batch in ms")


class ReplayWithSmallMessages(ServerCase):
    max_payload, rate = 2048, 1000
    options = ("--max-msg-size", max_payload, "--ticks-per-second", rate)

    def test_the_servers_payloads_keep_the_limit(self):
        resume_after = int((time.time() - 5) * self.rate)
        client, ack = self.subscribed(resume_after=resume_after)
        self.assertEqual(ack["max_msg_size"], self.max_payload)
        # The client refuses a larger payload than the ACK's max_msg_size.
        self.check_ticks(client.read_ticks(6000), resume_after + 1, (1000, self.rate))

    def test_the_clients_limit(self):
        client = self.authenticated()
        client.send_frame(0x80, bytes(self.max_payload))
        self.check_alive(client)
        client.send_raw(encode_header(MsgType.SUBSCRIBE, self.max_payload + 1))
        self.check_refused(client, "MESSAGE_TOO_LARGE")

    def test_the_clients_limit_before_auth(self):
        client = self.connect()
        client.send_raw(encode_header(MsgType.AUTH, self.max_payload + 1))
        self.check_refused(client, "MESSAGE_TOO_LARGE")


class OptionsInTheAck(ServerCase):
    options = (
        *("--heartbeat-interval", duration(1), "--heartbeat-timeout", duration(2)),
        *("--auth-timeout", duration(1), "--batch-window-ms", 20),
    )

    def test_the_ack_names_them(self):
        ack = self.connect().authenticate(USER, PASSWORD)
        names = ("heartbeat_interval_ms", "heartbeat_timeout_ms", "batch_window_ms")
        self.assertEqual([ack[name] for name in names], [1000, 2000, 20])


class ShortAuthTimeout(AuthTimeout):
    timeout_s = 1.0
    options = ("--auth-timeout", duration(1))


class ShortHeartbeatNeverSent(HeartbeatNeverSent):
    timeout_s = 2.0
    options = ("--heartbeat-interval", duration(1), "--heartbeat-timeout", duration(2))


class ShortHeartbeatMissed(HeartbeatMissed):
    timeout_s = 2.0
    options = ("--heartbeat-interval", duration(1), "--heartbeat-timeout", duration(2))


class SpreadPhase(ServerCase):
    options = ("--phase", "spread")

    def test_each_connection_has_a_phase_of_its_own(self):
        subscriptions = [self.subscribed() for _ in range(8)]
        results = at_once(lambda subscription: read_batches(subscription[0], 5), subscriptions)
        phases_ms = []
        for (_, ack), batches in zip(subscriptions, results):
            ticks = ticks_in(batches)
            phase_ms = ticks[0].epoch_ms - ticks[0].sequence * 1000
            self.check_between(phase_ms, 0, 999, "phase in ms")
            self.check_ticks(ticks, ack["next_sequence"], phase_ms=phase_ms)
            self.check_punctual(ticks)
            phases_ms.append(phase_ms)
        self.assertGreater(len(set(phases_ms)), 1, phases_ms)


# ---- Bystanders and limits ----------------------------------------------------------------------------------


class Bystanders(ServerCase):
    rate = 10
    options = ("--ticks-per-second", rate)

    def disturb(self):
        for garbage in (b"\x00" * 1000, with_wrong_crc(AUTH_FRAME), encode_header(MsgType.AUTH, 2**32 - 1)):
            self.connect().send_raw(garbage)
        for data in (bytes(range(256)) * 64, b"TS\x02", with_wrong_crc(SUBSCRIBE_FRAME), SUBSCRIBE_FRAME[:5]):
            client, _ = self.subscribed()
            client.send_raw(data)
            time.sleep(0.02)  # or the RST overtakes the data
            client.reset()

    def test_garbage_of_one_client_doesnt_disturb_another(self):
        (client, ack), (same_host, same_host_ack) = self.subscribed(), self.subscribed(source_host=HOST)
        for _ in range(3):
            self.disturb()
            time.sleep(0.5)
        for ticks, first in (
            (ticks_in(read_batches(client, 0.5)), ack["next_sequence"]),
            (ticks_in(read_batches(same_host, 0.5)), same_host_ack["next_sequence"]),
        ):
            self.assertGreaterEqual(len(ticks), 15)
            self.check_ticks(ticks, first, (1000, self.rate))


class FrameFlood(ServerCase):
    heavy = True

    def check_limited(self, frame):
        client = self.authenticated()
        client.send_raw(frame * 500)
        error = self.check_refused(client, "RATE_LIMITED", skip=(MsgType.HEARTBEAT,))
        self.assertGreater(error["retry_after_ms"], 0)

    def test_heartbeats(self):
        self.check_limited(encode_frame(MsgType.HEARTBEAT))

    def test_skippable_frames(self):
        self.check_limited(encode_frame(0x80))

    def test_half_the_limit_is_no_flood(self):
        client = self.authenticated()
        for _ in range(100):
            client.heartbeat()
            client.expect(MsgType.HEARTBEAT)
            time.sleep(0.02)


class SlowConsumer(ServerCase):
    heavy = True
    options = ("--ticks-per-second", 10_000, "--write-deadline-ms", 500)

    def test_a_client_that_doesnt_read_is_cut_off(self):
        client = self.authenticated(receive_buffer=4096)
        # Each asks for a replay of more than a megabyte: together more than the kernel takes off the server's hands.
        was_reset = False
        try:
            for _ in range(15):
                client.send_subscribe("SECOND", 1)
                time.sleep(0.1)
        except ConnectionError:
            was_reset = True  # a socket tells of a reset only once
        bystander, ack = self.subscribed()
        ticks = ticks_in(read_batches(bystander, 5))
        self.check_ticks(ticks, ack["next_sequence"], (1000, 10_000))
        try:
            messages = client.collect(ANSWER_TIMEOUT_S)
        except ConnectionClosed:
            return  # the ERROR was behind what the client didn't read
        except ProtocolError:
            self.assertTrue(was_reset, "FIN in the middle of a frame")
            return
        self.assertEqual(messages[-1].type, MsgType.ERROR, "still connected")
        self.assertEqual(messages[-1]["code"], "SLOW_CONSUMER")


# ---- The server's end, and its sleep ------------------------------------------------------------------------


class Termination(ServerCase):
    rate = 10
    options = ("--ticks-per-second", rate)

    def check_goodbye(self, subscription):
        """Ticks, GOAWAY, more ticks, ERROR, FIN. Returns the GOAWAY."""
        client, ack = subscription
        messages = client.collect(STOP_TIMEOUT_S)
        types = [message.type for message in messages]
        self.assertEqual([kind for kind in types if kind != MsgType.DATA_BATCH], [MsgType.GOAWAY, MsgType.ERROR])
        self.assertEqual(messages[-1]["code"], "SHUTTING_DOWN")
        client.expect_closed()
        self.check_ticks(ticks_in(messages), ack["next_sequence"], (1000, self.rate))
        return messages[types.index(MsgType.GOAWAY)]

    def test_sigterm(self):
        subscriptions = [self.subscribed() for _ in range(8)]
        time.sleep(0.5)
        self.server.signal(signal.SIGTERM)
        goaways = at_once(self.check_goodbye, subscriptions)
        self.assertGreater(len({goaway["retry_after_ms"] for goaway in goaways}), 1, "all return at once")
        self.assertEqual(self.server.wait(), 0)


class Suspension(ServerCase):
    rate, suspended_s = 10, 2
    options = ("--ticks-per-second", rate)

    def suspend(self):
        self.server.signal(signal.SIGSTOP)
        try:
            time.sleep(self.suspended_s)
        finally:
            self.server.signal(signal.SIGCONT)
        return time.time()

    def test_ticks_go_on_after_sigcont(self):
        subscriptions = [self.subscribed() for _ in range(5)]
        before = [client.read_ticks(3) for client, _ in subscriptions]
        continued_at = self.suspend()
        after = at_once(lambda subscription: ticks_in(read_batches(subscription[0], 3)), subscriptions)
        for (client, ack), early, late in zip(subscriptions, before, after):
            self.check_ticks(early + late, ack["next_sequence"], (1000, self.rate))
            caught_up = next(tick for tick in late if tick.received_at >= continued_at)
            self.assertLess(caught_up.received_at - continued_at, 0.5)
            self.check_live_again(late, continued_at)
            self.check_alive(client)

    def check_live_again(self, ticks, continued_at):
        live = [tick for tick in ticks if tick.epoch_ms / 1000 > continued_at + 0.5]
        self.assertGreaterEqual(len(live), 2 * self.rate)
        self.check_punctual(live)


def load_tests(loader, _tests, _pattern):
    classes = [cls for cls in globals().values() if isinstance(cls, type) and issubclass(cls, ServerCase)]
    return ParallelSuite([cls for cls in classes if cls is not ServerCase], loader)


if __name__ == "__main__":
    if "TICKSTREAM_BIN" not in os.environ:
        sys.exit("TICKSTREAM_BIN must be the path of the tickstream executable")
    unittest.main()
