"""Each protocol with answers, as plainly as it can be spoken: batches of marked records."""

import http.client
import json
import socket
import struct
import threading
import time

from support.tickstream_client import encode_delimited as field, encode_varint as varint

BATCH = 20
HEADERS = {"X-API-Key": "bk_0b77ffee"}


def snappy(body):
    """Snappy's block format, of literals alone."""
    out = varint(len(body))
    for at in range(0, len(body), 60):
        piece = body[at : at + 60]
        out += bytes([len(piece) - 1 << 2]) + piece
    return out


class Sender:
    """Sends batches of marked records, each again until it is answered with success."""

    def __init__(self, name, installation, seed):
        self.name, self.installation, self.seed = name, installation, seed
        self.answered, self.attempts, self.is_over = [], 0, False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        batch = 0
        while not self.is_over:
            markers = [f"{self.name}-{self.seed}-{batch}-{index}" for index in range(BATCH)]
            while True:
                self.attempts += 1
                try:
                    if self.send(markers):
                        self.answered += markers
                        break
                except (OSError, http.client.HTTPException):
                    pass
                if self.is_over:
                    break
                time.sleep(0.05)
            batch += 1

    def post(self, listener, path, body, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.installation.ports[listener], timeout=12)
        try:
            connection.request("POST", path, body, {**HEADERS, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Own(Sender):
    def send(self, markers):
        event = {"platform": "test", "event_type": "custom", "custom": {"schema": "s"}}
        body = json.dumps([{**event, "event_name": marker} for marker in markers])
        status, answer = self.post("http", "/v1/events", body)
        return status == 200 and json.loads(answer)["rejected"] == []


class Otlp(Sender):
    def send(self, markers):
        records = [{"timeUnixNano": str(time.time_ns()), "body": {"stringValue": marker}} for marker in markers]
        # The same body whenever it is sent again, as an exporter has it.
        self.bodies = getattr(self, "bodies", {})
        body = self.bodies.setdefault(markers[0], json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}))
        status, answer = self.post("otlp_http", "/v1/logs", body, {"Content-Type": "application/json"})
        return status == 200 and json.loads(answer) == {}


class RemoteWrite(Sender):
    def send(self, markers):
        self.times = getattr(self, "times", {})
        now = self.times.setdefault(markers[0], time.time_ns() // 1_000_000)
        label = lambda name, value: field(1, field(1, name.encode()) + field(2, value.encode()))
        sample = field(2, b"\x09" + struct.pack("<d", 1.5) + b"\x10" + varint(now))
        series = [field(1, label("__name__", "killed") + label("marker", marker) + sample) for marker in markers]
        status, _ = self.post("http", "/api/v1/write", snappy(b"".join(series)), {"Content-Type": "application/x-protobuf"})
        return status == 204


class Bulk(Sender):
    def send(self, markers):
        lines = [json.dumps({"index": {"_id": marker}}) + "\n" + json.dumps({"message": marker}) + "\n" for marker in markers]
        status, answer = self.post("http", "/logs/_bulk", "".join(lines), {"Content-Type": "application/x-ndjson"})
        return status == 200 and not json.loads(answer)["errors"]


class Segment(Sender):
    def send(self, markers):
        calls = [{"type": "track", "userId": "u", "event": marker, "messageId": marker} for marker in markers]
        status, _ = self.post("http", "/v1/batch", json.dumps({"batch": calls}))
        return status == 200


class PostHog(Sender):
    def send(self, markers):
        events = [{"event": marker, "distinct_id": "u", "uuid": marker} for marker in markers]
        status, _ = self.post("http", "/batch/", json.dumps({"api_key": "bk_0b77ffee", "batch": events}))
        return status == 200


class Stream(Sender):
    """Over a connection, which is a new one after each failure."""

    stream = None

    def send(self, markers):
        try:
            if self.stream is None:
                port = self.installation.ports[self.listener]
                self.stream = socket.create_connection(("127.0.0.1", port), timeout=12)
                self.reader = self.stream.makefile("rb")
                self.open()
            return self.exchange(markers)
        except OSError:
            if self.stream is not None:
                self.stream.close()
            self.stream = None
            raise

    def open(self):
        pass


class Relp(Stream):
    listener = "relp"

    def open(self):
        self.number = 1
        self.stream.sendall(b"1 open 30 relp_version=0\ncommands=syslog\n")
        self.answer()

    def answer(self):
        header = b""
        while not header.endswith(b" ") or header.count(b" ") < 3:
            byte = self.reader.read(1)
            if not byte:
                raise OSError("the session ended")
            header += byte
        _, _, length = header.split()
        return self.reader.read(int(length) + 1)

    def exchange(self, markers):
        frames = b""
        for marker in markers:
            self.number += 1
            text = f"<13>1 - host app - - - {marker}".encode()
            frames += b"%d syslog %d %s\n" % (self.number, len(text), text)
        self.stream.sendall(frames)
        return all([self.answer().startswith(b"200") for _ in markers])


class Fluent(Stream):
    listener = "fluent"

    def exchange(self, markers):
        text = lambda value: bytes([0xD9, len(value)]) + value.encode()
        chunk = markers[0]
        entries = b"".join(b"\x92\x00\x81" + text("message") + text(marker) for marker in markers)
        # A time of 0 is none: the collector's own.
        self.stream.sendall(b"\x93" + text("kill") + bytes([0xDC]) + struct.pack(">H", len(markers)) + entries + b"\x81" + text("chunk") + text(chunk))
        expected = b"\x81\xA3ack" + (bytes([0xA0 | len(chunk)]) if len(chunk) < 32 else bytes([0xD9, len(chunk)])) + chunk.encode()
        answer = self.reader.read(len(expected))
        if answer != expected:
            raise OSError(f"no answer: {answer}")
        return True


SENDERS = {
    "own": Own, "otlp": Otlp, "prometheus": RemoteWrite, "relp": Relp,
    "elasticsearch": Bulk, "segment": Segment, "posthog": PostHog, "fluent": Fluent,
}


def markers_of(event):
    """The marker of an event, wherever its protocol puts it."""
    log, series = event.get("log", {}), event.get("metric_series", {})
    return log.get("message") or series.get("labels", {}).get("marker") or event["event_name"]
