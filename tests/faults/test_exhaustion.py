"""Faults 16 to 22: what runs out."""

import os
import resource
import time
import unittest

from faults.case import (
    AUTH_FRAME,
    DEADLINE_SLACK_S,
    HEARTBEAT_FRAME,
    KIB,
    MIB,
    REPLAY_FRAME,
    FaultCase,
    StartCase,
    heavy,
)
from support.process_stats import cpu_seconds, lowest_free_descriptor, send_queues
from support.tickstream_client import MsgType, encode_frame

SKIPPABLE = 0x80


class NoDescriptors(FaultCase):
    fault = 16
    promise = "EMFILE: accepting pauses and resumes, no spin, existing clients unharmed"
    nofile = 200
    # What the server keeps beside its connections (docs/limits.md).
    reserved = 128
    confinement = ("--nofile", nofile)

    def limit_descriptors(self, soft):
        resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, (soft, self.nofile))

    def pauses(self):
        return [record for record in self.records() if record["message"].startswith("accepting pauses")]

    def test_a_burst_of_more_than_there_are_descriptors(self):
        clients = self.open_clients()
        with self.suspended():
            burst = clients.add(3 * self.nofile, AUTH_FRAME)
            clients.run(0.2)
        answered = clients.run_until(lambda: all(peer.count(MsgType.ACK) or not peer.is_open for peer in burst), 15)
        self.assertTrue(answered, f"{sum(not peer.frames for peer in burst)} without an answer")
        self.assertTrue(self.pauses(), "descriptors didn't run out")
        taken = [peer for peer in burst if peer.count(MsgType.ACK)]
        self.check_between(len(taken), 1, self.nofile - self.reserved - 1, "connections taken")
        self.check_closed([peer for peer in burst if peer not in taken], "SERVER_BUSY")
        self.assertTrue(all(peer.is_open for peer in taken))
        clients.close()
        self.check_settled()
        self.check_serving()

    def test_accepting_pauses_and_resumes(self):
        clients = self.open_clients()
        old = self.subscribers(clients, 20)
        with self.suspended():
            new = clients.add(5 * self.nofile, AUTH_FRAME)
            clients.run(0.2)
            # An ACCEPT that is armed keeps the limit that was: the burst ends it, the next has this one.
            self.limit_descriptors(lowest_free_descriptor(self.server.pid))
        self.assertTrue(clients.run_until(lambda: len(self.pauses()) >= 3, 5), "descriptors didn't run out")
        clients.run(0.5)
        waiting = [peer for peer in new if not peer.frames]
        self.assertGreater(len(waiting), self.nofile // 2, "descriptors didn't run out")

        seconds, ticks = 3, [peer.count(MsgType.DATA_BATCH) for peer in old]
        cpu_before, pauses_before = cpu_seconds(self.server.pid), len(self.pauses())
        clients.run(seconds)
        self.assertLess(cpu_seconds(self.server.pid) - cpu_before, seconds / 4, "it spins")
        self.check_between(len(self.pauses()) - pauses_before, 1, seconds * 10 + 5, "attempts to accept")
        self.assertFalse(any(peer.frames for peer in waiting))
        for peer, before in zip(old, ticks):
            self.assertTrue(peer.is_open)
            received = peer.count(MsgType.DATA_BATCH) - before
            self.check_between(received, (seconds - 1) * self.rate, (seconds + 1) * self.rate, "ticks")

        self.limit_descriptors(self.nofile)
        self.assertTrue(clients.run_until(lambda: all(peer.frames for peer in new), 5), "accepting didn't resume")


class SilentConnections(FaultCase):
    fault = 18
    promise = "Silent connections: pre-auth cap in all and per IP, deadline"
    auth_timeout_s = 5.0

    def test_the_deadline_closes_all(self):
        clients = self.open_clients()
        before = self.resident_bytes()
        silent = clients.add(1_000)
        clients.run(2)
        self.assertTrue(all(peer.is_open for peer in silent))
        # A connection is 160 bytes, in tables that double.
        self.assertLess(self.resident_bytes() - before, 2 * MIB)
        self.check_serving()
        clients.run_until(lambda: not any(peer.is_open for peer in silent), 10)
        self.check_closed(silent, "AUTH_REQUIRED")
        for peer in silent:
            elapsed_s = peer.frames[-1].received_monotonic - peer.connect_started
            latest_s = self.auth_timeout_s + DEADLINE_SLACK_S + self.machine_slack_s
            self.check_between(elapsed_s, self.auth_timeout_s, latest_s, "seconds without AUTH")


class ReceiveBuffers(FaultCase):
    fault = 19
    promise = "Receive buffers exhausted: re-armed, nobody dropped"
    # The shard's provided buffers hold this (docs/limits.md, a pass of a shard).
    buffered = 512 * KIB
    clients = 200
    bytes_each = 40 * KIB

    def test_nobody_is_dropped(self):
        clients = self.open_clients()
        peers = self.subscribers(clients, self.clients)
        self.assertGreater(self.clients * self.bytes_each, 10 * self.buffered)
        for _ in range(3):
            echoes = [peer.count(MsgType.HEARTBEAT) + 1 for peer in peers]
            # While it is stopped all of this gathers in the kernel; then it comes at once.
            with self.suspended():
                clients.send(encode_frame(SKIPPABLE, bytes(self.bytes_each)) + HEARTBEAT_FRAME)
                self.assertTrue(clients.run_until(lambda: not any(peer.unsent for peer in peers), 2), "not sent")

            def echoed():
                return all(peer.count(MsgType.HEARTBEAT) == count for peer, count in zip(peers, echoes))

            self.assertTrue(clients.run_until(echoed, 10), "not all were answered")
        self.assertTrue(all(peer.is_open for peer in peers))

    @heavy
    def test_a_trickle_beside_it_is_read(self):
        """A client that sends a byte at a time finds a buffer, too."""
        clients = self.open_clients()
        flooders = self.subscribers(clients, 50)
        trickle = self.subscribers(clients, 1)[0]
        block = encode_frame(SKIPPABLE, bytes(self.bytes_each))
        for _ in range(3):
            echoes = trickle.count(MsgType.HEARTBEAT) + 1
            # All three times together are within the budget of frames of one second.
            clients.send(block * 33, flooders)
            for byte in HEARTBEAT_FRAME:
                clients.send(bytes([byte]), [trickle])
                clients.run(0.01)
            self.assertTrue(clients.run_until(lambda: trickle.count(MsgType.HEARTBEAT) == echoes, 3))
            clients.run_until(lambda: not any(peer.unsent for peer in flooders), 10)
            time.sleep(1)
        self.assertTrue(all(peer.is_open for peer in flooders))


class SocketMemory(FaultCase):
    fault = 20
    promise = "Kernel socket memory: SO_SNDBUF capped, so that stalled clients can't eat tcp_mem"
    rate = 1_000
    options = ("--write-deadline-ms", 3_000)
    clients = 100
    # The default of the setting send_buffer.
    send_buffer = 64 * KIB

    def test_a_stalled_client_holds_little(self):
        clients = self.open_clients()
        before = self.resident_bytes()
        # Each asks for a megabyte, and reads nothing.
        stalled = clients.add(self.clients, AUTH_FRAME + REPLAY_FRAME, receive_buffer=4 * KIB)
        for peer in stalled:
            peer.reads = False
        clients.run(1.5)
        addresses = [peer.socket.getsockname() for peer in stalled]
        queues = send_queues(self.server.host, self.server.port)
        held = [queues[address] for address in addresses]
        self.assertGreater(min(held), 4 * KIB, "not stalled")
        self.assertLessEqual(max(held), self.send_buffer)
        self.assertLess(self.resident_bytes() - before, 4 * MIB)
        # Then the write deadline lets go of all of it.
        time.sleep(3)
        left = send_queues(self.server.host, self.server.port)
        self.assertFalse(set(addresses) & set(left), "still connected")


class Preflight(StartCase):
    fault = 21
    promise = "io_uring denied, kernel too old, memlock or descriptors too low: a clear error at start"

    def check(self, confinement, *reported):
        self.check_refuses_to_start(1, *reported, confinement=confinement)

    def test_io_uring_is_denied(self):
        for syscall in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
            for error in ("EPERM", "EACCES"):
                with self.subTest(syscall=syscall, error=error):
                    self.check(
                        ("--deny", f"{syscall}={error}"), "io_uring can't be used", "seccomp", "io_uring_disabled"
                    )

    def test_io_uring_is_not_there(self):
        for syscall in ("io_uring_setup", "io_uring_enter"):
            with self.subTest(syscall=syscall):
                self.check(("--deny", f"{syscall}=ENOSYS"), "io_uring can't be used", "built without it")

    def test_io_uring_lacks_something(self):
        for syscall in ("io_uring_setup", "io_uring_register"):
            with self.subTest(syscall=syscall):
                self.check(("--deny", f"{syscall}=EINVAL"), "io_uring can't be used", "Linux 6.1")

    def test_too_little_memory_for_io_uring(self):
        self.check(("--deny", "io_uring_setup=ENOMEM"), "io_uring can't be used", "RLIMIT_MEMLOCK")

    def test_memlock_is_too_low(self):
        for limit in (0, 64 * KIB, 512 * KIB - 1):
            with self.subTest(limit=limit):
                self.check(("--memlock", limit), "RLIMIT_MEMLOCK", str(limit), "ulimit -l")

    def test_too_few_descriptors(self):
        for limit in (64, 128):
            with self.subTest(limit=limit):
                self.check(("--nofile", limit), "RLIMIT_NOFILE", str(limit), "ulimit -n")

    @unittest.skipUnless(os.geteuid() == 0, "needs root to pretend another kernel's release")
    def test_the_kernel_is_too_old(self):
        for release in ("5.15.0-91-generic", "6.0.19"):
            with self.subTest(release=release):
                self.check(("--osrelease", release), release, "too old", "6.1")
