"""Faults 33 to 35: what networks and peers do."""

import time

from faults import namespaces
from faults.case import (
    AUTH_FRAME,
    DEADLINE_SLACK_S,
    HEARTBEAT_FRAME,
    KIB,
    REPLAY_FRAME,
    SUBSCRIBE_FRAME,
    FaultCase,
)
from support.process_stats import connections_of
from support.tickstream_client import MsgType, decode_frame, encode_message_frame, ticks_of


class Distant(FaultCase):
    """A client behind a cable that is pulled."""

    fault = 33
    promise = "Peer vanishes without FIN: gone by heartbeat timeout, TCP_USER_TIMEOUT bounds unsent data"
    host = namespaces.SERVER_HOST
    user_timeout_s = 4.0

    def setUp(self):
        if reason := namespaces.why_not():
            self.skipTest(reason)
        self.cable = namespaces.Cable()
        self.addCleanup(self.cable.close)
        super().setUp()

    def distant_client(self):
        """A subscriber at the other end of the cable, which has just sent a heartbeat, and its next sequence."""
        with self.cable.other_end():
            client, ack = self.subscribed(source_host=namespaces.CLIENT_HOST)
        ticks = self.check_distant_ticks(client, ack["next_sequence"], 2)
        client.heartbeat()
        return client, ticks[-1].sequence + 1

    def check_distant_ticks(self, client, first, count):
        ticks = client.read_ticks(count)
        self.check_ticks(ticks, first, (1000, self.rate))
        return ticks

    def wait_for_close(self, reason, within_s):
        """Its line in the log."""
        self.wait_until(lambda: self.closes(reason), within_s, lambda: f"closed as {reason}")

    def sockets_left(self):
        found = connections_of(self.server.host, self.server.port)
        return [peer for peer in found if peer[0] == namespaces.CLIENT_HOST]


class PeerVanishes(Distant):
    heartbeat_timeout_s = 4.0
    gap_s = 1.0
    options = (
        *("--heartbeat-interval", "1s", "--heartbeat-timeout", f"{heartbeat_timeout_s}s"),
        *("--tcp-user-timeout", f"{Distant.user_timeout_s}s"),
    )

    def test_gone_by_the_heartbeat_timeout(self):
        self.distant_client()
        self.cable.pull()
        self.wait_for_close("heartbeat_timeout", self.heartbeat_timeout_s + DEADLINE_SLACK_S)
        # The ERROR can't be delivered: the server lingers for 2 s, the kernel for TCP_USER_TIMEOUT.
        self.check_settled(2 + DEADLINE_SLACK_S)
        self.wait_until(
            lambda: not self.sockets_left(), 2 * self.user_timeout_s, lambda: "the kernel still has its socket"
        )

    def test_a_cable_that_is_plugged_in_again_costs_no_tick(self):
        client, following = self.distant_client()
        self.cable.pull()
        time.sleep(self.gap_s)
        self.cable.plug()
        client.heartbeat()
        self.check_distant_ticks(client, following, 2 * self.rate)
        self.check_alive(client)


class UnsentData(Distant):
    # Above TCP_USER_TIMEOUT, which comes first here.
    options = ("--heartbeat-timeout", "60s", "--tcp-user-timeout", f"{Distant.user_timeout_s}s")

    def test_tcp_user_timeout_bounds_it(self):
        self.distant_client()
        self.cable.pull()
        pulled_at = time.monotonic()
        # The kernel looks when it retransmits.
        self.wait_for_close("peer_reset", self.user_timeout_s * 1.5)
        self.assertGreater(time.monotonic() - pulled_at, self.user_timeout_s - 0.5)
        self.assertEqual(self.sockets_left(), [])


class Resets(FaultCase):
    fault = 34
    promise = "RST in mid-frame, between accept and first read, during a send: that connection only"
    clients = 100

    def tearDown(self):
        self.check_serving()
        super().tearDown()
        self.assertEqual([record for record in self.records() if record["level"] == "ERROR"], [])

    def reset(self, peers):
        for peer in peers:
            peer.reset()

    def test_in_mid_frame(self):
        for data in (AUTH_FRAME[:5], AUTH_FRAME[:-1], AUTH_FRAME + SUBSCRIBE_FRAME + HEARTBEAT_FRAME[:-1]):
            clients = self.open_clients()
            peers = clients.add(self.clients, data)
            clients.run(0.3)
            self.assertTrue(all(peer.is_open for peer in peers))
            self.reset(peers)

    def test_between_accept_and_first_read(self):
        for _ in range(10):
            for data in (b"", AUTH_FRAME + SUBSCRIBE_FRAME):
                clients = self.open_clients()
                peers = clients.add(self.clients, data)
                clients.run_until(lambda: not any(peer.unsent for peer in peers), 1)
                self.reset(peers)

    def test_before_accept(self):
        clients = self.open_clients()
        with self.suspended():
            peers = clients.add(self.clients, AUTH_FRAME)
            clients.run(0.2)
            self.reset(peers[::2])
        kept = peers[1::2]
        self.assertTrue(clients.run_until(lambda: all(peer.count(MsgType.ACK) for peer in kept), 5))

    def test_during_a_send(self):
        for _ in range(3):
            clients = self.open_clients()
            # A replay of many times what the socket takes is always underway.
            peers = clients.add(self.clients, AUTH_FRAME + REPLAY_FRAME, receive_buffer=4 * KIB)
            clients.run_until(lambda: all(peer.count(MsgType.ACK) == 2 for peer in peers), 5)
            self.reset(peers)


class ReconnectStorm(FaultCase):
    fault = 35
    promise = "Reconnect storm: all back, authenticated and subscribed, within seconds"
    heavy = True
    clients = 1_000
    # On two busy cores, of which the clients here take one.
    back_within_s = 5.0

    def last_sequence(self, peer):
        ticks = [frame for frame in peer.frames if frame.type == MsgType.DATA_BATCH]
        return ticks_of(decode_frame(ticks[-1]))[-1].sequence

    def test_all_are_back(self):
        clients = self.open_clients()
        peers = self.subscribers(clients, self.clients)
        clients.run_until(lambda: all(peer.count(MsgType.DATA_BATCH) for peer in peers), 5)
        last = [self.last_sequence(peer) for peer in peers]
        for number, peer in enumerate(peers):
            peer.reset() if number % 2 else peer.close()
        began = time.monotonic()
        again = self.open_clients()
        for sequence in last:
            resume = encode_message_frame(MsgType.SUBSCRIBE, mode="SECOND", resume_after=sequence)
            again.add(1, AUTH_FRAME + resume)
        back = again.run_until(lambda: all(peer.count(MsgType.ACK) == 2 for peer in again.peers), 20)
        self.assertTrue(back, "not all are back")
        self.assertLess(time.monotonic() - began, self.back_within_s)
        again.run_until(lambda: all(peer.count(MsgType.DATA_BATCH) for peer in again.peers), 5)
        for peer, sequence in zip(again.peers, last):
            first = next(frame for frame in peer.frames if frame.type == MsgType.DATA_BATCH)
            self.assertEqual(decode_frame(first)["first_sequence"], sequence + 1, "a gap")


class ReconnectStormOf15000(FaultCase):
    fault = 35
    promise = ReconnectStorm.promise
    is_long = True
    heavy = True
    timeout_s = 200
    clients = 15_000
    rate = 1
    back_within_s = 10.0
    # Generator, server and bystander share the machine.
    late_median_s = 1.0
    late_max_s = 5.0

    def test_all_are_back(self):
        result = self.load("-n", self.clients, "--ticks-per-second", self.rate, "--storm", "all", measured_s=5)
        storm = result["storm"]
        self.assertIsNotNone(storm, "there was no storm")
        self.assertEqual(storm["lost"], 0)
        self.assertLess(storm["took_us"] / 1e6, self.back_within_s)
