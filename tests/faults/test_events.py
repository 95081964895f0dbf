"""Faults 47 to 54: what event collection promises when the disk, the journal or the process fails."""

import contextlib
import os
import pathlib
import re
import tempfile
import threading
import time

from faults.case import MIB, SETTLE_TIMEOUT_S, FaultCase, StartCase
from faults.publisher import Publisher, event, events_command, exported
from support import disk, process_stats
from support.harness import at_once
from support.tickstream_client import ConnectionClosed, MsgType


class EventsCase(FaultCase):
    """A server that keeps events in `self.journal`."""

    has_admin = True
    # The disk of this size that the journals are on, MiB; otherwise a directory.
    disk_mib = None
    journal_options = ("--journal-segment-mib", 4)

    def prepare(self):
        super().prepare()
        if self.disk_mib is None:
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            self.journal = pathlib.Path(folder.name) / "events"
        else:
            if why_not := disk.why_not():
                self.skipTest(why_not)
            self.disk = disk.Disk(self.disk_mib)
            self.addCleanup(self.disk.close)
            self.journal = self.disk.path / "events"
        self.options = (*type(self).options, "--journal", self.journal, *self.journal_options)

    def publisher(self, like=None):
        """One of its own, or the producer of another one on a new connection."""
        client = self.authenticated()
        return Publisher(client, like.producer, like.sequence) if like else Publisher(client)

    def check_stored(self, *publishers):
        """All acknowledged events are there, each once, and every byte is sound."""
        verified = events_command("verify", self.journal)
        self.assertEqual(verified.returncode, 0, verified.stdout)
        found = exported(self.journal)
        self.assertEqual(len(found), len(set(found)), "stored twice")
        for publisher in publishers:
            self.assertLessEqual(set(publisher.stored), set(found), "acknowledged, but not there")
        return found

    def check_settled(self, within_s=SETTLE_TIMEOUT_S):
        """As ever, but for the segment that is written and the one that is made ready, which come with the first event."""
        least, most = self.descriptors, self.descriptors + 2

        def now():
            return process_stats.shard_descriptors(self.server.pid)

        self.wait_until(lambda: least <= now() <= most, within_s, lambda: f"{least} to {most} descriptors, but {now()}")

    def segments(self):
        return sorted(str(path.relative_to(self.journal)) for path in self.journal.glob("*/*.journal"))


class FullDisk(EventsCase):
    fault = 47
    promise = "Disk full for events: retryable verdicts, ticks go on, nothing deleted, goes on when there is room"
    disk_mib = 64
    # Zeroed segments of a slow disk, and the server's second between two tries.
    recovers_within_s = 15.0

    def test_events_are_refused_until_there_is_room(self):
        self.disk.fill(leave=10 * MIB)
        publisher = self.publisher()
        refused = None
        for _ in range(200):
            ack = publisher.publish([event(size=60_000) for _ in range(4)])
            if ack["rejected"]:
                refused = ack
                break
            time.sleep(ack["throttle_ms"] / 1_000)
        self.assertIsNotNone(refused, "never full")
        self.assertEqual({(one["code"], one["retryable"]) for one in refused["rejected"]}, {("STORAGE_FULL", True)})
        self.check_metric("tickstream_journal_full", 1)
        reported = "the disk is full: events are refused until there is room, and nothing is deleted"
        self.assertEqual(len(self.lines(reported)), 1)
        before = self.segments()
        # Not stored, so not known: the same batch may come again.
        again = [event()]
        sequence = publisher.sequence + 1
        self.check_serving()
        while True:
            ack = publisher.publish(again, sequence)
            if ack["rejected"]:
                break
            # A small one still fitted.
            publisher.sequence, again, sequence = sequence, [event(size=60_000)], sequence + 1
        self.assertTrue(all(one["retryable"] for one in ack["rejected"]))
        self.assertEqual(self.segments(), before, "segments came or went")
        self.check_stored(publisher)
        self.disk.empty()

        def is_taken():
            ack = publisher.publish(again, sequence)
            return not ack["rejected"] and ack["accepted"] == 1

        self.wait_until(is_taken, self.recovers_within_s, "events are taken again")
        publisher.sequence = sequence
        self.assertEqual(publisher.publish([event() for _ in range(10)])["accepted"], 10)
        self.check_metric("tickstream_journal_full", 0)
        self.check_stored(publisher)


class ReadOnlyDisk(EventsCase):
    fault = 48
    promise = "The journals' file system turns read-only: no acknowledgement, the process ends and says why"
    disk_mib = 64
    has_bystander = False

    def tearDown(self):
        for opened in self._opened:
            opened.close()

    def test_the_process_ends(self):
        publisher = self.publisher()
        for _ in range(20):
            publisher.publish([event() for _ in range(10)])
        self.disk.fail()
        acknowledged = None
        try:
            publisher.send([event()])
            acknowledged = publisher.client.read()
        except (ConnectionClosed, ConnectionError):
            pass
        self.assertIsNone(acknowledged)
        self.assertEqual(self.server.wait(), 1)
        (line,) = self.lines("the server ends")
        cause = "Read-only file system"
        for part in (str(self.journal / "000"), ".journal at offset", cause, "nothing is acknowledged"):
            self.assertIn(part, line["error"])
        self.check_stored(publisher)


@contextlib.contextmanager
def heartbeats(client, interval_s=0.3):
    """Sends heartbeats from a thread of its own, at once and then again and again."""
    ended = threading.Event()

    def send():
        while True:
            client.heartbeat()
            if ended.wait(interval_s):
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class SuspendedPublishing(EventsCase):
    fault = 49
    promise = "SIGSTOP 2 s while events come: nobody is closed, every batch is acknowledged once"
    suspended_s = 2.0
    # The stop itself, and what the machine adds.
    late_max_s = suspended_s + 2.0
    late_median_s = suspended_s
    options = ("--heartbeat-interval", "500ms", "--heartbeat-timeout", "1500ms")

    def test_it_goes_on(self):
        publishers = [self.publisher() for _ in range(8)]
        batches = {publisher: [[event() for _ in range(20)] for _ in range(8)] for publisher in publishers}
        for publisher in publishers:
            publisher.client.heartbeat()
        with self.suspended(self.suspended_s):
            for publisher in publishers:
                for batch in batches[publisher]:
                    publisher.send(batch)

        def acknowledged(publisher):
            answers = []
            # A disk that is busy may take longer than the heartbeat's timeout.
            with heartbeats(publisher.client):
                while len(answers) < len(batches[publisher]):
                    message = publisher.client.expect(MsgType.PUBLISH_ACK, skip=(MsgType.HEARTBEAT,))
                    publisher.stored += [one["event_id"] for one in batches[publisher][len(answers)]]
                    answers.append((message["sequence"], message["accepted"]))
            return answers

        for answers in at_once(acknowledged, publishers):
            self.assertEqual(answers, [(sequence, 20) for sequence in range(1, 9)])
        self.assertEqual(len(self.check_stored(*publishers)), 8 * 8 * 20)


class FailedSync(EventsCase):
    fault = 50
    promise = "An fsync that fails: nothing is acknowledged from there on, the process ends and says why, and restarts"
    has_bystander = False
    fails_after_ms = 1_000

    def setUp(self):
        self.prepare()

    def tearDown(self):
        for opened in self._opened:
            opened.close()

    def test_the_process_ends(self):
        self.server = self.start_server(environment={"TICKSTREAM_CHAOS": f"fsync:0:{self.fails_after_ms}"})
        publisher = self.publisher()
        batch = None
        try:
            while True:
                batch = [event() for _ in range(10)]
                self.assertEqual(publisher.publish(batch)["accepted"], 10)
                if publisher.sequence > 100_000 or self.ignores_chaos():
                    self.skipTest("TICKSTREAM_BIN is a build without debug assertions")
        except (ConnectionClosed, ConnectionError):
            pass
        self.assertEqual(self.server.wait(), 1)
        self.assertGreater(len(publisher.stored), 0)
        (line,) = self.lines("the server ends")
        for part in (str(self.journal / "000"), ".journal at offset", "Input/output error", "nothing is acknowledged"):
            self.assertIn(part, line["error"])
        self.check_stored(publisher)
        # It starts again, and knows what it has.
        self.server = self.start_server()
        again = self.publisher(like=publisher)
        last = publisher.sequence
        ack = again.publish(batch, last)
        self.assertEqual(ack["accepted"] + ack["duplicates"], 10)
        self.assertEqual(again.publish([event()])["accepted"], 1)
        self.check_stored(publisher, again)
        self.assertEqual(self.server.stop(), 0)

    def ignores_chaos(self):
        if not hasattr(self, "_began"):
            self._began = time.monotonic()
        return time.monotonic() - self._began > 10 * self.fails_after_ms / 1_000


class DamagedJournal(StartCase):
    fault = 51
    promise = "A damaged journal: the server doesn't start, and names file, offset and what to do"
    exit_code = 4

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.journal = pathlib.Path(folder.name) / "events"
        self.prepare()

    def test_it_names_file_and_offset(self):
        options = ("--journal", self.journal, "--journal-segment-mib", 4)
        self.server = self.start_server(*options)
        client = self.authenticated()
        publisher = Publisher(client)
        for _ in range(5):
            publisher.publish([event(size=3_000)])
        client.close()
        self.assertEqual(self.server.stop(), 0)
        (segment,) = self.journal.glob("000/*.journal")
        with open(segment, "r+b") as file:
            # Within the second flush, behind the segment's header and a flush of one block.
            file.seek(2 * 4_096 + 2_000)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        self.check_refuses_to_start(
            self.exit_code, "the server ends", str(self.journal / "000"), segment.name, "damaged at offset 8192",
            "Restore the file from a copy", options=tuple(map(str, options)),
        )
        verified = events_command("verify", self.journal)
        self.assertEqual(verified.returncode, 1)
        self.assertRegex(verified.stdout, re.escape(segment.name) + " is damaged at offset 8192")
        # What comes before is there still.
        run = events_command("export", self.journal)
        self.assertEqual((run.returncode, len(run.stdout.splitlines())), (1, 1), run.stderr)
        self.assertIn("damaged at offset 8192", run.stderr)

    def test_what_cannot_be_written_is_named(self):
        self.check_refuses_to_start(self.exit_code, "/proc/events", options=("--journal", "/proc/events"))


class LockedJournal(EventsCase):
    fault = 52
    promise = "A journal directory that another process has: refused, unless both are to share it"
    options = ("--listen-shared", "yes")

    def test_two_servers_share_a_directory(self):
        first = self.publisher()
        batch = [event() for _ in range(10)]
        first.publish(batch)
        second_server = self.start_server()
        kept, self.server = self.server, second_server
        second = self.publisher()
        second.publish([event() for _ in range(10)])
        # What the first server has stored was read by the second one.
        self.assertEqual(self.publisher(like=first).publish(batch, first.sequence)["duplicates"], 10)
        self.assertEqual({name.split("/")[0] for name in self.segments()}, {"000", "001"})
        self.assertEqual(len(self.check_stored(first, second)), 20)
        for opened in self._opened[1:]:
            opened.close()
        self.assertEqual(second_server.stop(), 0)
        self.server = kept


class TakenJournals(EventsCase):
    fault = 52
    promise = LockedJournal.promise

    def test_a_second_server_is_refused(self):
        first = self.publisher()
        first.publish([event()])
        for shared in ("no", "yes"):
            self.check_refuses_to_start(
                4, "another server writes to the journals", str(self.journal), "listen_shared",
                options=("--journal", str(self.journal), "--listen-shared", shared),
            )
        self.assertEqual({name.split("/")[0] for name in self.segments()}, {"000"})
        self.check_stored(first)


class EventQuota(EventsCase):
    fault = 54
    promise = "A quota of events: two seconds' worth at once, however large the batch"
    options = ("--publish-events-per-second-max", 10)

    def test_the_first_events_of_a_large_batch_are_taken(self):
        publisher = self.publisher()
        left, taken, began = [event() for _ in range(100)], 0, time.monotonic()
        ack = publisher.publish(left)
        refused = [verdict["index"] for verdict in ack["rejected"]]
        self.assertEqual((ack["accepted"], refused), (20, list(range(20, 100))))
        self.assertEqual({(one["code"], one["retryable"]) for one in ack["rejected"]}, {("RATE_LIMITED", True)})
        # Those who wait as they are told get the others in.
        taken, left = ack["accepted"], left[20:]
        while taken < 50:
            time.sleep(ack["throttle_ms"] / 1000)
            ack = publisher.publish(left)
            self.assertGreater(ack["accepted"], 0, ack)
            taken, left = taken + ack["accepted"], left[ack["accepted"]:]
            self.assertLessEqual(taken, 20 + 10 * (time.monotonic() - began) + 1)
        self.check_stored(publisher)


class RestartedCollection(EventsCase):
    fault = 53
    promise = "kill -9 while events come: what was acknowledged is there, and what is sent again is known"
    has_bystander = False

    def tearDown(self):
        for opened in self._opened:
            opened.close()
        self.assertEqual(self.server.stop(), 0)

    def test_what_is_sent_again_is_known(self):
        publishers = [self.publisher() for _ in range(4)]
        sent = {publisher: [] for publisher in publishers}
        for _ in range(30):
            for publisher in publishers:
                batch = [event() for _ in range(10)]
                sent[publisher].append(batch)
                publisher.publish(batch)
        # On their way when the server is killed.
        unanswered = {publisher: [event() for _ in range(10)] for publisher in publishers}
        for publisher in publishers:
            publisher.send(unanswered[publisher])
        self.server.kill()
        self.check_stored(*publishers)
        self.server = self.start_server()
        for old in publishers:
            publisher = self.publisher(like=old)
            for sequence, batch in enumerate(sent[old], 1):
                self.assertEqual(publisher.publish(batch, sequence)["duplicates"], 10)
            ack = publisher.publish(unanswered[old], old.sequence)
            self.assertEqual(ack["accepted"] + ack["duplicates"], 10)
            self.assertEqual(publisher.publish([event()])["accepted"], 1)
        self.assertEqual(len(self.check_stored(*publishers)), 4 * (31 * 10 + 1))


class FrozenDisk(EventsCase):
    fault = 54
    promise = "A disk that stands still while the server ends: it is waited for, and what came is stored"
    disk_mib = 64
    has_bystander = False
    # Longer than the watchdog waits for a shard, shorter than the server for a disk.
    frozen_s = 7.5

    def tearDown(self):
        self.thawing.join()

    def test_it_is_waited_for(self):
        publisher = self.publisher()
        publisher.publish([event() for _ in range(10)])
        last = event()
        self.disk.freeze()
        self.thawing = threading.Timer(self.frozen_s, self.disk.thaw)
        self.thawing.start()
        publisher.send([last])
        time.sleep(0.5)
        publisher.client.close()
        self.assertEqual(self.server.stop(), 0, self.server.log_tail())
        self.assertIn(last["event_id"], self.check_stored(publisher))
