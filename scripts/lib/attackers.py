"""Attackers that tickstream-load doesn't have, all at once, for scripts/torture.

    python3 -m lib.attackers PORT TLS_PORT AUTHORITY.pem RESULT.json    with STREAM_USER and STREAM_PASS in the environment

Each kind has its own rate and its own source addresses, from 127.20.0.0 on. SIGTERM makes all of them leave; then
RESULT has, by kind, how many came and what the server made of each: an ERROR's code, closed, reset, or that we left.
"""

import asyncio
import collections
import json
import os
import pathlib
import random
import signal
import socket
import ssl
import struct
import sys

from support.tickstream_client import (
    MAGIC,
    MAX_PAYLOAD_DEFAULT,
    FrameParser,
    MsgType,
    decode_frame,
    encode_frame,
    encode_header,
    encode_message,
    encode_message_frame,
)

HOST = "127.0.0.1"
AUTH = encode_message_frame(MsgType.AUTH, username=os.environ["STREAM_USER"], password=os.environ["STREAM_PASS"])
# Asks for all that the replay window has: much for few bytes.
REPLAY = encode_frame(MsgType.SUBSCRIBE, encode_message("Subscribe", {"mode": "SECOND", "resume_after": 1}))
HEARTBEAT = encode_frame(MsgType.HEARTBEAT)
# From the kernel's smallest on, so that a stall is seen soon.
SMALL_BUFFER = 4096
# Longer than any deadline of the server.
PATIENCE_S = 30
# Longer than the write deadline.
STALL_S = 9
SILENT_AT_ONCE = 160
# So many addresses for each kind.
ADDRESSES = 8
BAD_CRC = AUTH[:-1] + bytes([AUTH[-1] ^ 1])
BAD_FRAMES = {
    "crc": BAD_CRC,
    "length": encode_header(MsgType.AUTH, 2**32 - 1),
    "too_long": encode_header(MsgType.AUTH, MAX_PAYLOAD_DEFAULT + 1),
    "version": encode_header(MsgType.AUTH, 0, version=2),
    "type": encode_frame(0x7F, b"?"),
    "state": encode_message_frame(MsgType.SUBSCRIBE, mode="SECOND"),
    "payload": encode_frame(MsgType.AUTH, b"\xff" * 40),
    "later_crc": AUTH + BAD_CRC,
    "later_type": AUTH + encode_frame(0x7F),
    "twice": AUTH + AUTH,
    "flood": AUTH + HEARTBEAT * 400,
    "publish": AUTH + encode_frame(MsgType.PUBLISH, b"\x0a\xff\xff\xff\xff\x0f"),
    "publish_bytes": AUTH + encode_frame(MsgType.PUBLISH, random.randbytes(600)),
}


class Attackers:
    def __init__(self, port, tls_port, ca):
        self.port = port
        self.tls_port = tls_port
        self.context = ssl.create_default_context(cafile=ca)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.seen = collections.defaultdict(collections.Counter)
        self.leaving = asyncio.Event()
        self.visits = set()

    async def run(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leaving.set)
        kinds = [
            # Seconds from one to the next; who never reads stays for some.
            (self.stalled, 1.0),
            (self.drip, 1.5),
            (self.bad_frame, 0.03),
            (self.garbage, 0.05),
            (self.half_handshake, 0.1),
            (self.finished_handshake, 0.2),
            (self.reset, 0.1),
            (self.half_publish, 1.0),
            (self.silent_clients, 12.0),
        ]
        await asyncio.gather(*(self.keep_coming(block, kind, pause) for block, (kind, pause) in enumerate(kinds)))
        for visit in self.visits:
            visit.cancel()
        await asyncio.gather(*self.visits, return_exceptions=True)

    async def keep_coming(self, block, kind, pause_s):
        """Another one each `pause_s`, from addresses of their own."""
        number = 0
        while not self.leaving.is_set():
            source = f"127.{20 + block}.0.{number % ADDRESSES + 1}"
            visit = asyncio.create_task(self.visit(kind, source))
            self.visits.add(visit)
            visit.add_done_callback(self.visits.discard)
            number += 1
            await self.pause(pause_s * random.uniform(0.5, 1.5))

    async def pause(self, seconds):
        """Ends early when all are to leave."""
        try:
            await asyncio.wait_for(self.leaving.wait(), seconds)
        except TimeoutError:
            pass

    async def visit(self, kind, source):
        seen = self.seen[kind.__name__]
        seen["came"] += 1
        try:
            end = await kind(source)
        except asyncio.CancelledError:
            end = "left at the end"
        except ConnectionResetError:
            end = "reset"
        except BrokenPipeError:
            end = "closed"
        except ssl.SSLError as error:
            end = f"TLS: {error.reason}"
        except OSError as error:
            end = f"{type(error).__name__}: {error.strerror}"
        seen[end] += 1

    async def open(self, port, source, receive_buffer=None):
        opened = socket.socket()
        try:
            if receive_buffer:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            opened.setblocking(False)
            opened.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(opened, (HOST, port))
        except BaseException:
            opened.close()
            raise
        return opened

    async def reported(self, opened, patience_s=PATIENCE_S):
        """Reads to the end; what the last ERROR was, or that there was none."""
        parser, code = FrameParser(1 << 24), None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience_s):
                while data := await loop.sock_recv(opened, 65_536):
                    parser.feed(data)
                    while frame := parser.next_frame():
                        if frame.type == MsgType.ERROR:
                            code = decode_frame(frame)["code"]
        except TimeoutError:
            return "left"
        except ConnectionResetError:
            return code or "reset"
        return code or "closed"

    async def say(self, opened, data):
        await asyncio.get_running_loop().sock_sendall(opened, data)

    # Kinds

    async def stalled(self, source):
        """Asks for a lot, and never reads."""
        with await self.open(self.port, source, SMALL_BUFFER) as opened:
            await self.say(opened, AUTH + REPLAY)
            await self.pause(STALL_S)
            return await self.reported(opened, 2)

    async def drip(self, source):
        """Asks for a lot, and reads 300 bytes a second."""
        with await self.open(self.port, source, SMALL_BUFFER) as opened:
            await self.say(opened, AUTH + REPLAY)
            for _ in range(PATIENCE_S):
                await self.pause(1)
                async with asyncio.timeout(5):
                    if not await asyncio.get_running_loop().sock_recv(opened, 300):
                        return "closed"
                if self.leaving.is_set():
                    break
            return "left"

    async def bad_frame(self, source):
        with await self.open(self.port, source) as opened:
            await self.say(opened, random.choice(list(BAD_FRAMES.values())))
            return await self.reported(opened)

    async def garbage(self, source):
        """Random bytes, at either port, with the right first ones sometimes."""
        with await self.open(random.choice([self.port, self.tls_port]), source) as opened:
            start = random.choice([b"", MAGIC, MAGIC + b"\x01\x01", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"])
            await self.say(opened, start + random.randbytes(random.randrange(1, 3_000)))
            return await self.raw_end(opened)

    async def half_handshake(self, source):
        """Part of a ClientHello, or a whole one with a byte flipped, or whole and no more."""
        hello = self.hello()
        with await self.open(self.tls_port, source) as opened:
            kind = random.randrange(3)
            if kind == 0:
                hello = hello[:random.randrange(1, len(hello))]
            elif kind == 1:
                at = random.randrange(len(hello))
                hello = hello[:at] + bytes([hello[at] ^ 1 << random.randrange(8)]) + hello[at + 1:]
            await self.say(opened, hello)
            if random.random() < 0.3:
                return self.abort(opened)
            return await self.raw_end(opened)

    async def finished_handshake(self, source):
        """TLS to its end, and then frames that are none."""
        reader, writer = await asyncio.open_connection(
            HOST, self.tls_port, ssl=self.context, local_addr=(source, 0), server_hostname="localhost")
        try:
            writer.write(random.choice([BAD_CRC, random.randbytes(200), AUTH + BAD_CRC]))
            await asyncio.wait_for(reader.read(), PATIENCE_S)
            return "closed"
        except TimeoutError:
            return "left"
        finally:
            writer.transport.abort()

    async def reset(self, source):
        """RST at any point."""
        words = AUTH + REPLAY + HEARTBEAT * 3
        with await self.open(random.choice([self.port, self.tls_port]), source) as opened:
            await self.say(opened, words[:random.randrange(len(words) + 1)])
            await self.pause(random.uniform(0, 0.5))
            return self.abort(opened)

    async def half_publish(self, source):
        """The first bytes of a large PUBLISH, and then no more for a while, not even a HEARTBEAT."""
        with await self.open(self.port, source) as opened:
            await self.say(opened, AUTH + encode_header(MsgType.PUBLISH, 400_000) + random.randbytes(50_000))
            end = await self.reported(opened, random.uniform(1, PATIENCE_S))
            return self.abort(opened) if end == "left" else end

    async def silent_clients(self, source):
        """Many that say nothing, from one address: more than it may have."""
        connections = [await self.open(self.port, source) for _ in range(SILENT_AT_ONCE)]
        try:
            ends = await asyncio.gather(*map(self.reported, connections))
        finally:
            for opened in connections:
                opened.close()
        self.seen["silent_clients_connections"].update(ends)
        return "seen off" if "left" not in ends else "left"

    def hello(self):
        outgoing = ssl.MemoryBIO()
        try:
            self.context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
        except ssl.SSLWantReadError:
            pass
        return outgoing.read()

    async def raw_end(self, opened):
        """Reads to the end, whatever it is."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await asyncio.get_running_loop().sock_recv(opened, 65_536):
                    pass
        except TimeoutError:
            return "left"
        return "closed"

    def abort(self, opened):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "reset by us"


def main():
    port, tls_port, ca, result = sys.argv[1:]

    async def attack():
        attackers = Attackers(int(port), int(tls_port), ca)
        await attackers.run()
        return attackers.seen

    seen = asyncio.run(attack())
    pathlib.Path(result).write_text(json.dumps({kind: dict(ends) for kind, ends in seen.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
