"""Many connections at once, read and written without blocking: what a test sends and sees as bytes.

Frames are cut by their Length alone: whether each is right is for the few clients of tickstream_client.py.
"""

import errno
import os
import selectors
import socket
import struct
import time

from support.harness import next_source_host
from support.tickstream_client import HEADER, TRAILER, Frame, MsgType, decode_frame

RECEIVE_SIZE = 65_536


class Peer:
    """One connection: what is still to be sent, what was received, and how it ended."""

    def __init__(self, host, port, source_host=None, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((source_host or next_source_host(), 0))
        self.socket.setblocking(False)
        self.connect_started = time.monotonic()
        answer = self.socket.connect_ex((host, port))
        if answer not in (0, errno.EINPROGRESS):
            raise OSError(answer, os.strerror(answer))
        self.reads = True
        # Bytes to be sent, and those that came and aren't a frame yet.
        self.unsent = b""
        self.unparsed = bytearray()
        self.frames = []
        self.closed_at = None
        self.was_reset = False

    @property
    def is_open(self):
        return self.closed_at is None

    @property
    def wants_write(self):
        return bool(self.unsent)

    def types(self):
        return [frame.type for frame in self.frames]

    def count(self, frame_type):
        return sum(frame.type == frame_type for frame in self.frames)

    def error_code(self):
        """The code of the ERROR that it got, its last frame; None if there was none."""
        if not self.frames or self.frames[-1].type != MsgType.ERROR:
            return None
        return decode_frame(self.frames[-1])["code"]

    def close(self):
        self.socket.close()
        self.closed_at = self.closed_at or time.monotonic()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _ended(self, was_reset):
        self.was_reset = was_reset
        self.close()

    def _read(self):
        try:
            data = self.socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            return self._ended(was_reset=True)
        self._received(data)
        if not data:
            self._ended(was_reset=False)

    def _received(self, data):
        """Bytes that came; none at the end."""
        self.unparsed += data
        self._parse()

    def _parse(self):
        while len(self.unparsed) >= HEADER.size:
            _, _, frame_type, length = HEADER.unpack_from(self.unparsed)
            whole = HEADER.size + length + TRAILER.size
            if len(self.unparsed) < whole:
                return
            payload = bytes(self.unparsed[HEADER.size:HEADER.size + length])
            self.frames.append(Frame(frame_type, payload, time.time(), time.monotonic()))
            del self.unparsed[:whole]

    def _write(self):
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass
        except OSError:
            self._ended(was_reset=True)


class RawPeer(Peer):
    """A peer that keeps all that it gets as it came, in `unparsed`."""

    def _parse(self):
        pass


class Clients:
    """Peers on one selector, each made by `kind`. They go on only within `run_until`."""

    def __init__(self, host, port, kind=Peer):
        self.host = host
        self.port = port
        self.kind = kind
        self.peers = []

    def add(self, count, data=b"", **options):
        """Opens `count` connections, each with `data` to send; returns them."""
        added = [self.kind(self.host, self.port, **options) for _ in range(count)]
        for peer in added:
            peer.unsent = data
        self.peers += added
        return added

    def send(self, data, peers=None):
        for peer in self.peers if peers is None else peers:
            if peer.is_open:
                peer.unsent += data

    def run_until(self, is_done, timeout_s):
        """Sends and receives until `is_done()`; False if it wasn't within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            interests = {}
            while True:
                self._register(selector, interests)
                if is_done():
                    return True
                if time.monotonic() >= deadline:
                    return False
                for key, events in selector.select(0.02):
                    peer = key.data
                    if events & selectors.EVENT_WRITE and peer.is_open:
                        peer._write()
                    if events & selectors.EVENT_READ and peer.is_open:
                        peer._read()

    def run(self, seconds):
        self.run_until(lambda: False, seconds)

    def close(self):
        for peer in self.peers:
            peer.close()

    def _register(self, selector, interests):
        for peer in self.peers:
            wanted = 0
            if peer.is_open:
                wanted = selectors.EVENT_READ * peer.reads | selectors.EVENT_WRITE * peer.wants_write
            known = interests.get(peer, (0, -1))
            if known[0] == wanted:
                continue
            if known[0]:
                # By number: the socket may be closed, and then it has none.
                selector.unregister(known[1])
            if wanted:
                selector.register(peer.socket, wanted, peer)
            interests[peer] = (wanted, peer.socket.fileno())
