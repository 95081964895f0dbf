"""A million malformed requests over the wire: each has an answer that says what is wrong. See README.md.

    python3 tests senders.malformed TICKSTREAM [COUNT [SEED]]
"""

import collections
import pathlib
import random
import shutil
import socket
import sys
import tempfile
import time

from senders.installation import Installation
from senders.protocols import HEADERS
from support.process_stats import resident_peak_bytes

CORPUS = pathlib.Path(__file__).resolve().parents[1] / "fuzz/corpus/collector"
# Requests on their way on a connection.
PIPELINED = 32
CONNECTIONS = 8
# Far above what the collector has when it starts, far below what the requests have together.
MEMORY_MIB_MAX = 256
JSON, PROTOBUF = "application/json", "application/x-protobuf"
# Listener, path, headers, and the file whose mutations are sent; its first two bytes choose a decoder of the fuzzer.
KINDS = [
    ("http", "/v1/events", {"Content-Type": JSON}, "events-json"),
    ("http", "/v1/events", {"Content-Type": "text/plain"}, "events-lines"),
    ("http", "/v1/events", {"Content-Type": PROTOBUF}, "otlp-logs-protobuf"),
    ("http", "/v1/events", {"Content-Type": JSON, "Content-Encoding": "gzip"}, "gzip"),
    ("http", "/v1/events", {"Content-Type": JSON, "Content-Encoding": "deflate"}, "deflate"),
    ("http", "/v1/events", {"Content-Type": JSON, "Content-Encoding": "zstd"}, "write-v1"),
    ("http", "/api/v1/write", {"Content-Type": PROTOBUF, "Content-Encoding": "snappy"}, "snappy"),
    ("http", "/_bulk", {"Content-Type": "application/x-ndjson"}, "bulk"),
    ("http", "/v1/batch", {"Content-Type": JSON}, "segment"),
    ("http", "/v1/track", {"Content-Type": JSON}, "segment"),
    ("http", "/batch/", {"Content-Type": JSON}, "posthog"),
    ("http", "/e/", {"Content-Type": "application/x-www-form-urlencoded"}, "posthog-form"),
    ("otlp_http", "/v1/logs", {"Content-Type": JSON}, "otlp-logs-json"),
    ("otlp_http", "/v1/logs", {"Content-Type": PROTOBUF}, "otlp-logs-protobuf"),
    ("otlp_http", "/v1/traces", {"Content-Type": JSON}, "otlp-traces-json"),
    ("otlp_http", "/v1/metrics", {"Content-Type": JSON}, "otlp-metrics-json"),
    ("otlp_http", "/v1/logs", {"Content-Type": "text/html"}, "otlp-logs-json"),
    ("http", "/nowhere", {"Content-Type": JSON}, "events-json"),
]


# Pieces of heads; a request has some of them, in any order.
LINES = [
    b"Host: collector\r\n", b"Host: other\r\n", b"X-API-Key: bk_0b77ffee\r\n", b"Content-Length: 2\r\n", b"Content-Length: 5\r\n",
    b"content-length: +2\r\n", b"Content-Length : 2\r\n", b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n",
    b"Content-Type: application/json\r\n", b"Content-Encoding: gzip\r\n", b"X: a\nContent-Length: 9\r\n", b"X: a\rb\r\n", b"X: \0\r\n",
    b" folded\r\n", b"no colon\r\n", b": no name\r\n", b"Expect: 100-continue\r\n", b"Connection: upgrade\r\n", b"\xff\xfe: x\r\n",
]
FIRST_LINES = [
    b"POST /v1/events HTTP/1.1\r\n", b"POST /v1/events HTTP/1.0\r\n", b"POST /v1/events HTTP/1.1\n", b"POST /v1/events HTTP/9.9\r\n",
    b"POST  /v1/events HTTP/1.1\r\n", b"P\0ST /v1/events HTTP/1.1\r\n", b"GET /%zz HTTP/1.1\r\n", b"GET /\xc3\xa4 HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"\r\n\r\nPOST /v1/events HTTP/1.1\r\n", b"\x16\x03\x01\x02\0\x01\0\r\n",
]
BODIES = [b"[]", b"2\r\n[]\r\n0\r\n\r\n", b"2\n[]\r\n0\r\n\r\n", b"zz\r\n", b"", b"[]GET / HTTP/1.1\r\n\r\n"]
HEADS_AT_ONCE = 64


def main():
    tickstream = pathlib.Path(sys.argv[1]).resolve()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    chance = random.Random(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="malformed-"))
    installation = Installation(tickstream, folder)
    installation.wait_until_ready()
    answers = collections.Counter()
    malformed, began = 0, time.monotonic()
    while malformed < count:
        kind = chance.choice([*KINDS, None])
        path, found = (kind[1], flood(installation, kind, chance)) if kind else ("head", heads(installation, chance))
        answers.update((path, status) for status in found)
        malformed += sum(status != "taken" for status in found)
    seconds = time.monotonic() - began
    peak_mib = resident_peak_bytes(installation.collector.pid) >> 20
    for (path, status), number in sorted(answers.items(), key=str):
        print(f"{path} {status}: {number}")
    print(f"{malformed} malformed of {answers.total()} requests in {seconds:.0f} s, peak {peak_mib} MiB, seed {seed}")
    assert peak_mib <= MEMORY_MIB_MAX, f"the collector had {peak_mib} MiB"
    assert "panicked" not in (folder / "collector.log").read_text(), f"see {folder}"
    installation.close()
    shutil.rmtree(folder)


def flood(installation, kind, chance):
    """Sends mutations over connections, and gives what each was told: a status, or "taken" where nothing was wrong."""
    listener, path, headers, name = kind
    seed = (CORPUS / name).read_bytes()[2:]
    lines = "".join(f"{key}: {value}\r\n" for key, value in {**HEADERS, **headers}.items())
    head = f"POST {path} HTTP/1.1\r\nHost: collector\r\n{lines}Content-Length: ".encode()
    streams = [socket.create_connection(("127.0.0.1", installation.ports[listener]), timeout=30) for _ in range(CONNECTIONS)]
    bodies = [[mutated(seed, chance) for _ in range(PIPELINED)] for _ in streams]
    for stream, requests in zip(streams, bodies):
        stream.sendall(b"".join(head + b"%d\r\n\r\n" % len(body) + body for body in requests))
    found = []
    for stream, requests in zip(streams, bodies):
        reader = stream.makefile("rb")
        found += [reported(reader, path, body) for body in requests]
        reader.close()
        stream.close()
    return found


def heads(installation, chance):
    """Sends heads made of odd lines, a connection each, and gives the status of the first answer to each."""
    streams = []
    for _ in range(HEADS_AT_ONCE):
        lines = [chance.choice(LINES) for _ in range(chance.randrange(6))]
        request = b"".join([chance.choice(FIRST_LINES), *lines, b"\r\n", chance.choice(BODIES)])
        stream = socket.create_connection(("127.0.0.1", installation.ports["http"]), timeout=30)
        stream.sendall(request)
        # Nothing else comes: a body that isn't whole needn't be waited for.
        stream.shutdown(socket.SHUT_WR)
        streams.append((stream, request))
    found = []
    for stream, request in streams:
        reader = stream.makefile("rb")
        line = reader.peek(1)
        # What is no request at all may be closed without a word: HTTP/2 without its preface.
        found.append("closed" if not line or line[:1] == b"\0" else reported(reader, "a head", request))
        reader.close()
        stream.close()
        assert found[-1] != "closed" or request.startswith(b"PRI"), f"no answer to {request!r}"
    return found


def mutated(seed, chance):
    body = bytearray(seed)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(5):
            case 0:
                del body[at:]
            case 1:
                body[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                body[at:at] = seed[chance.randrange(len(seed)) :]
            case 3:
                body[at:at] = b'[{"' * chance.randrange(1, 40)
            case _ if at < len(body):
                body[at] ^= 1 << chance.randrange(8)
    return bytes(body)


def reported(reader, path, body):
    """The answer to a request, in a word. A refusal has to say what is wrong."""
    status_line = reader.readline()
    while status_line.startswith(b"HTTP/1.1 100"):
        assert reader.readline() == b"\r\n"
        status_line = reader.readline()
    assert status_line.startswith(b"HTTP/1."), f"no answer to {body!r} at {path}: {status_line!r}"
    status, length = int(status_line.split()[1]), 0
    while (line := reader.readline().strip()) != b"":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    answer = reader.read(length)
    if status < 300:
        is_partly = any(word in answer for word in (b'"code":', b"partialSuccess", b'"errors":true'))
        return "partly" if is_partly else "taken"
    assert 400 <= status < 500 or status == 501, f"{status} for {body!r} at {path}: {answer!r}"
    assert len(answer) >= 20, f"{status} without a reason for {body!r} at {path}: {answer!r}"
    return status


main()
