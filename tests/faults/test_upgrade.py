"""Fault 44: the listening sockets are handed to a new process; and taken from a service manager."""

import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

from faults.case import FaultCase, StartCase, own_host
from faults.secure import TlsCase
from faults.test_reload import FileCase
from support.harness import PASSWORD, USER, next_source_host
from support.tickstream_client import Client, ConnectionClosed, MsgType, ProtocolError, ticks_of

SERVES = "a new process serves; this one drains"
NO_UPGRADE = "no upgrade: this process goes on serving"


class Follower(threading.Thread):
    """A subscriber that comes back and resumes whenever its server goes; `faults` is all that isn't as it should be."""

    def __init__(self, connect, waits_for_error):
        super().__init__(daemon=True)
        self.connect = connect
        # Whether it stays until the server closes, or leaves when it is told to go away.
        self.waits_for_error = waits_for_error
        self.following = None
        self.sessions = self.ticks = 0
        self.faults = []
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set() and not self.faults:
            try:
                with self.connect() as client:
                    self.follow(client)
            except (OSError, ConnectionClosed, ProtocolError) as error:
                self.faults.append(f"{type(error).__name__}: {error}")

    def follow(self, client):
        client.authenticate(USER, PASSWORD)
        ack = client.subscribe("SECOND", None if self.following is None else self.following - 1)
        if self.following not in (None, ack["next_sequence"]):
            self.faults.append(f"resumed at {ack['next_sequence']} instead of {self.following}")
        self.following = ack["next_sequence"]
        self.sessions += 1
        while not self.over.is_set():
            try:
                message = client.read(0.2)
            except TimeoutError:
                continue
            if message.type == MsgType.DATA_BATCH:
                self.take(ticks_of(message))
            elif message.type == MsgType.ERROR and message["code"] == "SHUTTING_DOWN":
                return
            elif message.type != MsgType.GOAWAY:
                self.faults.append(f"{message.type.name} {message.fields}")
            elif not self.waits_for_error:
                return

    def take(self, ticks):
        for tick in ticks:
            if tick.sequence != self.following:
                self.faults.append(f"tick {tick.sequence} instead of {self.following}")
            self.following = tick.sequence + 1
            self.ticks += 1


class Visitors(threading.Thread):
    """Connects, logs in and leaves, all the time."""

    def __init__(self, connect):
        super().__init__(daemon=True)
        self.connect = connect
        self.visits = 0
        self.faults = []
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                with self.connect() as client:
                    client.authenticate(USER, PASSWORD)
                self.visits += 1
            except (OSError, ConnectionClosed, ProtocolError) as error:
                self.faults.append(f"{type(error).__name__}: {error}")
            self.over.wait(0.01)


class Upgrades(FaultCase):
    """Tests at whose end another process serves than at the beginning."""

    fault = 44
    promise = "Hand-over of listeners to a new process: no connection refused or reset"
    # It is told to go away, and doesn't know how to come back.
    has_bystander = False
    drain_s = 1
    options = ("--drain-seconds", drain_s)

    def setUp(self):
        self.threads = []
        self.successors = []
        super().setUp()

    def tearDown(self):
        """The one that serves ends as it should; those before have."""
        for opened in self._opened:
            opened.close()
        exit_code = self.server.stop()
        self.assertEqual(exit_code, 0, self.server.log_tail())
        for pid in self.successors[:-1]:
            self.wait_until(lambda pid=pid: not is_running(pid), self.drain_s + 3, f"the end of process {pid}")
        if self.successors:
            os.kill(self.successors[-1], signal.SIGTERM)
            last = self.successors[-1]
            self.wait_until(lambda: not is_running(last), self.drain_s + 3, "the end of the last process")
        self.assertNotIn("panicked", self.server.log_tail(1 << 20))

    def upgrade(self):
        """Has a new process take over from the one that serves; its process id."""
        old = self.successors[-1] if self.successors else self.server.pid
        before = len(self.lines(SERVES))
        os.kill(old, signal.SIGUSR2)
        (*_, line) = self.wait_until(lambda: self.lines(SERVES)[before:], 10, "a line that a new process serves")
        self.successors.append(line["pid"])
        self.addCleanup(kill_if_running, line["pid"])
        self.wait_until(lambda: not is_running(old), self.drain_s + 3, "the end of the old process")
        return line["pid"]

    def start_threads(self, *threads):
        self.threads += threads
        for thread in threads:
            thread.start()

    def end_threads(self):
        for thread in self.threads:
            thread.over.set()
        for thread in self.threads:
            thread.join(10)
        self.assertEqual([fault for thread in self.threads for fault in thread.faults], [])

    def plain_client(self):
        return Client(self.server.host, self.server.port, source_host=next_source_host())


class UpgradesUnderLoad(Upgrades):
    heavy = True
    followers = 40
    upgrades = 5
    timeout_s = 120
    has_admin = True

    def test_five_in_a_row(self):
        self.start_threads(*(Follower(self.plain_client, number % 2) for number in range(self.followers)))
        visitors = [Visitors(self.plain_client) for _ in range(4)]
        self.start_threads(*visitors)
        time.sleep(0.5)
        for _ in range(self.upgrades):
            self.upgrade()
            status, _ = self.admin.get("/readyz")
            self.assertEqual(status, 200)
        time.sleep(0.5)
        self.end_threads()
        for follower in self.threads[:self.followers]:
            self.assertEqual(follower.sessions, self.upgrades + 1)
            self.assertGreater(follower.ticks, 2 * self.upgrades * self.drain_s * self.rate // 5)
        self.assertGreater(sum(visitor.visits for visitor in visitors), 20 * self.upgrades)


class UpgradeByCommand(Upgrades):
    has_admin = True

    def setUp(self):
        with tempfile.NamedTemporaryFile("w", delete=False) as token:
            token.write("a-token-of-many-letters")
        self.token = token.name
        self.addCleanup(os.unlink, self.token)
        self.options = (*Upgrades.options, "--admin-token-file", self.token)
        super().setUp()

    def test_the_new_process_runs_where_the_old_one_did(self):
        """The admin endpoint's thread, which is asked, has CPUs and a niceness of its own."""
        allowed, niceness = os.sched_getaffinity(self.server.pid), os.getpriority(os.PRIO_PROCESS, self.server.pid)
        admin = self.admin
        said = subprocess.run(
            [os.environ["TICKSTREAM_BIN"], "upgrade", "--admin", f"{admin.host}:{admin.port}",
             "--admin-token-file", self.token],
            capture_output=True, text=True, timeout=30,
        )
        self.assertEqual(said.returncode, 0, said.stderr)
        (line,) = self.lines(SERVES)
        self.assertEqual(said.stdout, f"process {line['pid']} serves; this one drains\n")
        self.successors.append(line["pid"])
        self.addCleanup(kill_if_running, line["pid"])
        self.assertEqual(os.sched_getaffinity(line["pid"]), allowed)
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, line["pid"]), niceness)


class UpgradeOfTls(TlsCase, Upgrades):
    def tls_visitor(self):
        return self.tls_client()

    def test_both_ports_are_handed_over(self):
        self.start_threads(*(Follower(self.tls_visitor, number % 2) for number in range(5)))
        self.start_threads(*(Follower(self.plain_client, number % 2) for number in range(5)))
        self.start_threads(Visitors(self.tls_visitor), Visitors(self.plain_client))
        time.sleep(0.5)
        for _ in range(2):
            self.upgrade()
        time.sleep(0.5)
        self.end_threads()
        for follower in self.threads[:10]:
            self.assertEqual(follower.sessions, 3)


class WaitingConnections(Upgrades):
    def test_who_waits_to_be_accepted_is_taken(self):
        """Connections in the queue of a socket belong to all that hold it."""
        clients = self.open_clients()
        self.server.signal(signal.SIGUSR2)
        peers = []
        # Before, during and after.
        while not self.lines(SERVES):
            peers += clients.add(20)
            clients.run(0.01)
        peers += clients.add(100)
        (line,) = self.lines(SERVES)
        self.successors.append(line["pid"])
        self.addCleanup(kill_if_running, line["pid"])
        self.wait_until(lambda: not is_running(self.server.pid), self.drain_s + 3, "the end of the old process")
        clients.run(0.5)
        # Who was still unknown to the old one is told that it goes; nobody is cut off.
        self.assertFalse(any(peer.was_reset for peer in peers))
        for peer in peers:
            self.assertIn(peer.error_code(), (None, "SHUTTING_DOWN"))
            self.assertEqual(peer.is_open, peer.error_code() is None)


class FailedUpgrades(FileCase):
    """The old process goes on as if nothing had been: the bystander is there all the time."""

    fault = 44
    promise = Upgrades.promise

    def check_goes_on(self, *reported):
        before = len(self.lines(NO_UPGRADE))
        self.server.signal(signal.SIGUSR2)
        (*_, line) = self.wait_until(lambda: self.lines(NO_UPGRADE)[before:], 10, "a line that nothing was upgraded")
        for part in reported:
            self.assertIn(part, line["error"])
        self.check_serving()
        self.assertEqual(children_of(self.server.pid), [], "the new process is still there")

    def test_a_bad_configuration(self):
        self.write("frames_per_second_max = 0\n")
        self.check_goes_on("ended before it served")
        self.assertIn("frames_per_second_max", self.server.log_tail(1 << 16))
        self.file.unlink()
        self.check_goes_on("ended before it served")

    def test_tls_without_a_certificate(self):
        """Settings of the new process alone."""
        self.write(f"listen_tls = '{own_host()}:0'\n")
        self.check_goes_on("ended before it served")


class FailedUpgradeByCommand(FileCase):
    """The unix socket that it is asked by stays the old process's."""

    fault = 44
    promise = Upgrades.promise
    has_admin = False

    def write(self, text):
        self.socket = self.folder / "admin.sock"
        super().write(f"admin = 'unix:{self.socket}'\n" + text)

    def test_it_can_be_asked_again(self):
        # What only a shard or its certificates notice: the new process is far on its way.
        self.write("tls_cert = '/nowhere.pem'\ntls_key = '/nowhere.key'\n")
        before = self.socket.stat()
        for _ in range(2):
            command = [os.environ["TICKSTREAM_BIN"], "upgrade", "--admin", f"unix:{self.socket}"]
            run = subprocess.run(command, capture_output=True, text=True, timeout=30)
            self.assertEqual(run.returncode, 1)
            self.assertIn("ended before it served", run.stderr)
            self.check_serving()
        self.assertEqual(self.socket.stat().st_ino, before.st_ino)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["admin.sock", "tickstream.toml"])


class ReplaceableBinary(FaultCase):
    """A server whose program is a copy of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.binary = pathlib.Path(folder.name) / "tickstream"
        shutil.copy(os.environ["TICKSTREAM_BIN"], self.binary)
        self.addCleanup(os.environ.__setitem__, "TICKSTREAM_BIN", os.environ["TICKSTREAM_BIN"])
        os.environ["TICKSTREAM_BIN"] = str(self.binary)
        super().setUp()

    def replace(self, text, mode=0o755):
        new = self.binary.with_suffix(".new")
        new.write_text(text)
        new.chmod(mode)
        os.replace(new, self.binary)


class ReplacedBinary(ReplaceableBinary):
    fault = 44
    promise = Upgrades.promise

    check_goes_on = FailedUpgrades.check_goes_on

    def test_a_binary_that_is_no_good(self):
        self.replace("#!/bin/sh\nexit 3\n")
        self.check_goes_on("ended before it served", "3")
        self.replace("#!/bin/sh\nkill -9 $$\n")
        self.check_goes_on("ended before it served", "9")
        self.replace("no program")
        self.check_goes_on("can't be started")
        self.replace("#!/bin/sh\n", mode=0o644)
        self.check_goes_on("can't be started", "ermission denied")
        self.binary.unlink()
        self.check_goes_on("can't be started", "No such file")

    def test_one_that_hangs_doesnt_hold_up_the_old_one(self):
        self.replace("#!/bin/sh\nexec sleep 30\n")
        self.server.signal(signal.SIGUSR2)
        (child,) = self.wait_until(lambda: children_of(self.server.pid), 5, "a new process")
        self.addCleanup(kill_if_running, child)
        # A second one has to wait; signals of another kind don't.
        self.server.signal(signal.SIGUSR2)
        self.server.signal(signal.SIGHUP)
        self.wait_until(lambda: self.lines("settings reloaded"), 3, "settings reloaded")
        self.check_serving()
        os.kill(child, signal.SIGKILL)
        self.wait_until(lambda: self.lines(NO_UPGRADE), 5, "a line that nothing was upgraded")
        second = self.wait_until(lambda: set(children_of(self.server.pid)) - {child}, 5, "the second").pop()
        os.kill(second, signal.SIGKILL)
        self.wait_until(lambda: len(self.lines(NO_UPGRADE)) == 2, 5, "a line that nothing was upgraded")


class EndedWhileUpgrading(ReplaceableBinary):
    fault = 44
    promise = Upgrades.promise
    has_bystander = False
    drain_s = 2

    def tearDown(self):
        for opened in self._opened:
            opened.close()

    def test_sigterm_goes_before_an_upgrade_that_isnt_done(self):
        self.subscribed()
        self.replace("#!/bin/sh\nexec sleep 30\n")
        self.server.signal(signal.SIGUSR2)
        (child,) = self.wait_until(lambda: children_of(self.server.pid), 5, "a new process")
        self.addCleanup(kill_if_running, child)
        self.server.signal(signal.SIGTERM)
        self.wait_until(lambda: not is_running(self.server.pid), 5 + self.drain_s, "its end")
        self.assertEqual(self.server.wait(), 0)
        self.wait_until(lambda: not is_running(child), 1, "the end of the new process")


class UpgradedTwiceAtOnce(Upgrades):
    def test_one_new_process_is_enough(self):
        client, ack = self.subscribed()
        for _ in range(3):
            self.server.signal(signal.SIGUSR2)
        self.wait_until(lambda: self.lines(SERVES), 10, "a line that a new process serves")
        (line,) = self.lines(SERVES)
        self.successors.append(line["pid"])
        self.addCleanup(kill_if_running, line["pid"])
        messages = client.collect(self.drain_s + 2)
        self.assertEqual(messages[-1].type, MsgType.ERROR)
        self.wait_until(lambda: not is_running(self.server.pid), self.drain_s + 3, "the end of the old process")
        self.assertEqual(len(self.lines("serving")), 2)
        self.check_serving()


class SocketActivation(FaultCase):
    """A socket that a service manager has opened, and goes on holding."""

    fault = 44
    promise = Upgrades.promise

    def setUp(self):
        self.listener = socket.socket()
        self.addCleanup(self.listener.close)
        self.listener.bind((own_host(), 0))
        self.listener.listen(128)
        # A client that came before the server.
        self.early = socket.create_connection(self.listener.getsockname(), timeout=10)
        self.addCleanup(self.early.close)
        super().setUp()

    def start_server(self, *options, **given):
        descriptor = self.listener.fileno()
        self.confinement = ("--activate", descriptor)
        passed = {"pass_fds": (descriptor,)}
        return super().start_server(*options, port=self.listener.getsockname()[1], streams=passed, **given)

    def test_the_socket_of_the_service_manager_is_used(self):
        host, port = self.listener.getsockname()
        (serving,) = self.wait_until(lambda: self.lines("serving"), 5, "a line that it serves")
        self.assertEqual(serving["address"], f"{host}:{port}")
        self.early.sendall(b"TS\x09")
        self.assertIn(b"UNSUPPORTED_VERSION", self.early.recv(1_000))
        self.check_serving()
        self.assertEqual(len(listeners_on(host, port)), 1, "it has a socket of its own")


class ActivatedUpgrades(Upgrades):
    """Sockets of the service manager, which don't fit `listen`, through several upgrades."""

    family = socket.AF_INET
    address = "0.0.0.0"

    def setUp(self):
        self.listener = socket.socket(self.family)
        self.addCleanup(self.listener.close)
        if self.family == socket.AF_INET6:
            self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.listener.bind((self.address, 0))
        self.listener.listen(128)
        super().setUp()

    def start_server(self, *options, **given):
        descriptor = self.listener.fileno()
        self.confinement = ("--activate", descriptor)
        passed = {"pass_fds": (descriptor,)}
        return super().start_server(*options, port=self.listener.getsockname()[1], streams=passed, **given)

    def test_they_stay_in_use(self):
        port = self.listener.getsockname()[1]
        # The socket took connections before there was a server.
        self.wait_until(lambda: self.lines("serving"), 5, "a line that it serves")
        for _ in range(3):
            self.upgrade()
            serving = self.lines("serving")[-1]
            self.assertEqual(serving["address"].rpartition(":")[2], str(port))
            self.assertNotIn(own_host(), serving["address"])
            for _ in range(5):
                self.check_serving()


class ActivatedUpgradesOfBothFamilies(ActivatedUpgrades):
    family = socket.AF_INET6
    address = "::"


class BadActivation(StartCase):
    fault = 44
    promise = Upgrades.promise

    def test_what_is_no_listening_socket_is_named(self):
        with tempfile.TemporaryFile() as file, socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as udp:
            for one in (file, idle, udp):
                descriptor = one.fileno()
                self.check_refuses_to_start(
                    1, "descriptor 3", "LISTEN_FDS", confinement=("--activate", descriptor), pass_fds=(descriptor,)
                )


def is_running(pid):
    """True if it is a process that hasn't ended."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def kill_if_running(pid):
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)


def children_of(pid):
    """Processes that it has started and that run."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return [child for child in found if is_running(child)]


def listeners_on(host, port):
    """Lines of the kernel's table about sockets that listen there."""
    address = struct.unpack("=I", socket.inet_aton(host))[0]
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = [line.split() for line in lines]
    return [fields for fields in found if fields[1] == f"{address:08X}:{port:04X}" and fields[3] == "0A"]
