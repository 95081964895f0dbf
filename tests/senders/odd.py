"""Fault 68: odd texts and numbers in each protocol are stored as they are, or refused by the record's index and the field's name.
See README.md.

    python3 tests senders.odd TICKSTREAM [PROTOCOL…]
"""

import json
import math
import pathlib
import shutil
import socket
import struct
import sys
import tempfile
import time

from senders.installation import Installation, wait_for
from senders.protocols import Otlp, snappy
from support.tickstream_client import encode_delimited as field, encode_varint as varint

# Whatever a text of the protocol may be made of.
TEXTS = {"nul": "a\0b", "pair": "\U0001F600", "mark": "\uFEFFx", "direction": "\u202Eabc", "escape": "\x1b[31m\r", "last": "\U0010FFFF"}
CUT = '"\\ud83d"'  # JSON's text of half a pair
U64_MAX = 18_446_744_073_709_551_615


class Case:
    """Records of one protocol, each with a mark: stored with a value somewhere, or refused with a word."""

    def __init__(self, installation, name):
        self.installation, self.name = installation, name
        self.stored = {}

    def keep(self, mark, value):
        self.stored[f"{self.name}-{mark}"] = value
        return f"{self.name}-{mark}"

    def post(self, listener, path, body, headers):
        status, answer = Otlp(self.name, self.installation, 0).post(listener, path, body, headers)
        return status, answer.decode(errors="replace")


def own(case):
    lines, refusals = [], []

    def event(mark, attributes="{}", measurement="1"):
        return (f'{{"platform":"odd","event_type":"custom","event_name":"{mark}",'
                f'"custom":{{"schema":"s","attributes":{attributes},"measurements":[{{"name":"m","value":{measurement}}}]}}}}')

    def refuse(line, word):
        refusals.append((len(lines), word))
        lines.append(line if isinstance(line, bytes) else line.encode())

    for mark, text in TEXTS.items():
        lines.append(event(case.keep(mark, text), json.dumps({"t": text})).encode())
    for mark, number in {"negative zero": "-0.0", "u64": str(U64_MAX), "tiny": "5e-324", "huge": "1.7976931348623157e308"}.items():
        lines.append(event(case.keep(mark, float(number)), measurement=number).encode())
    refuse(event("x", '{"t":' + CUT + "}"), "custom.attributes.t")
    refuse(event("x", measurement="1e309"), "custom.measurements[0].value")
    refuse(event("x", measurement="NaN"), "custom.measurements[0].value")
    refuse(event("x").encode().replace(b'"s"', b'"\xff"'), "INVALID_UTF8")
    refuse(event(""), "event_name")
    refuse(event("x", '{"":"t"}'), "custom.attributes")
    status, answer = case.post("http", "/v1/events", b"\n".join(lines), {"Content-Type": "application/x-ndjson"})
    found = json.loads(answer)
    assert status == 200, answer
    reported(found["rejected"], refusals)


def reported(rejected, refusals):
    assert [one["index"] for one in rejected] == [index for index, _ in refusals], rejected
    for one, (_, word) in zip(rejected, refusals):
        assert word in one["code"] + one["message"], (one, word)


def otlp_json(case):
    now = time.time_ns()
    records = [
        f'{{"timeUnixNano":"{now}","eventName":"{case.keep(mark, text)}","body":{{"stringValue":{json.dumps(text)}}}}}'
        for mark, text in TEXTS.items()
    ]
    for mark, value, number in [("i64", -(2**63), '{"intValue":"-9223372036854775808"}'), ("negative zero", -0.0, '{"doubleValue":-0.0}')]:
        records.append(f'{{"timeUnixNano":"{now}","eventName":"{case.keep(mark, value)}","body":{number}}}')
    words = {
        f'{{"body":{{"stringValue":{CUT}}}}}': "body", '{"body":{"doubleValue":1e309}}': "body",
        f'{{"body":{{"intValue":"{U64_MAX}"}}}}': "body", f'{{"timeUnixNano":"{U64_MAX + 1}"}}': "timeUnixNano",
        '{"attributes":[{"key":"a","value":{"intValue":"x"}}]}': "attributes[0].value",
    }
    body = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + ",".join([*records, *words]) + "]}]}]}"
    status, answer = case.post("otlp_http", "/v1/logs", body, {"Content-Type": "application/json"})
    partial = json.loads(answer)["partialSuccess"]
    assert status == 200 and partial["rejectedLogRecords"] == str(len(words)), answer
    for index, word in enumerate(words.values(), len(records)):
        assert f"record {index}: MALFORMED: {word}" in partial["errorMessage"], (index, word, partial)


def otlp_protobuf(case):
    now = struct.pack("<Q", time.time_ns())
    value = lambda number, body: field(number, body)
    record = lambda mark, body: field(2, b"\x09" + now + field(12, mark.encode()) + field(5, body))
    records = b"".join(record(case.keep(mark, text), value(1, text.encode())) for mark, text in TEXTS.items())
    for mark, number in {"nan": math.nan, "infinite": -math.inf, "negative zero": -0.0}.items():
        records += record(case.keep(mark, number), b"\x21" + struct.pack("<d", number))
    records += record("x", value(1, b"\xff\xfe"))
    status, answer = case.post("otlp_http", "/v1/logs", field(1, field(2, records)), {"Content-Type": "application/x-protobuf"})
    assert status == 200 and f"record {len(case.stored)}: MALFORMED" in answer and "LogRecord.body" in answer, (status, answer)


def prometheus(case):
    label = lambda name, text: field(1, field(1, name.encode()) + field(2, text.encode()))
    now = varint(time.time_ns() // 1_000_000)

    def series(mark, number, **labels):
        sample = field(2, b"\x09" + struct.pack("<d", number) + b"\x10" + now)
        return field(1, label("__name__", mark) + b"".join(label(*pair) for pair in labels.items()) + sample)

    body = b"".join(series(case.keep(mark, text), 1, t=text) for mark, text in TEXTS.items())
    for mark, number in {"infinite": math.inf, "negative zero": -0.0, "nan": math.nan}.items():
        body += series(case.keep(mark, number), number)
    body += series("", 1) + series("odd", 1, **{"": "empty name"})
    status, answer = case.post("http", "/api/v1/write", snappy(body), {"Content-Type": "application/x-protobuf"})
    assert status == 400 and "__name__" in answer and f"record {len(case.stored) + 1}: " in answer, (status, answer)


def bulk(case):
    lines = [json.dumps({"index": {}}) + "\n" + json.dumps({"message": case.keep(mark, text), "t": text}) for mark, text in TEXTS.items()]
    lines += ['{"index":{}}\n{"t":' + CUT + "}", '{"index":{}}\n{"n":1e309}']
    status, answer = case.post("http", "/_bulk", "\n".join(lines) + "\n", {"Content-Type": "application/x-ndjson"})
    items = [item["index"] for item in json.loads(answer)["items"]]
    assert status == 200 and [item["status"] for item in items] == [201] * len(TEXTS) + [400, 400], answer
    assert "t: " in items[-2]["error"]["reason"] and "n: " in items[-1]["error"]["reason"], items


def analytics(case, path, event_of):
    events = [json.dumps(event_of(case.keep(mark, text), {"t": text})) for mark, text in TEXTS.items()]
    events.append(json.dumps(event_of("x", {"t": 7})).replace("7", CUT))
    events.append(json.dumps(event_of("x", {"t": 7})).replace("7", "1e309"))
    events.append(json.dumps(event_of("", {})))
    body = '{"api_key":"bk_0b77ffee","batch":[' + ",".join(events) + "]}"
    status, answer = case.post("http", path, body, {"Content-Type": "application/json"})
    assert status == 200, answer
    for index, word in enumerate(["properties.t: ", "properties.t: ", "event: "], len(TEXTS)):
        assert f"record {index}: MALFORMED: {word}" in answer, (index, word, answer)


def segment(case):
    analytics(case, "/v1/batch", lambda name, properties: {"type": "track", "userId": "u", "event": name, "properties": properties})


def posthog(case):
    analytics(case, "/batch/", lambda name, properties: {"event": name, "distinct_id": "u", "properties": properties})


def fluent(case):
    text = lambda raw: b"\xda" + struct.pack(">H", len(raw)) + raw
    record = lambda message, value: b"\x92\x00\x82" + text(b"message") + text(message.encode()) + text(b"t") + value
    records = [record(case.keep(mark, word), text(word.encode())) for mark, word in TEXTS.items()]
    records.append(record(case.keep("negative zero", -0.0), b"\xcb" + struct.pack(">d", -0.0)))
    records.append(record(case.keep("u64", float(U64_MAX)), b"\xcf" + struct.pack(">Q", U64_MAX)))
    body = b"\x93" + text(b"odd") + b"\xdc" + struct.pack(">H", len(records)) + b"".join(records) + b"\x81" + text(b"chunk") + text(b"c")
    with socket.create_connection(("127.0.0.1", case.installation.ports["fluent"]), timeout=15) as stream:
        stream.sendall(body)
        assert stream.recv(100) == b"\x81\xa3ack\xa1c"


def syslog(case):
    lines = [f'<13>1 - host app - - [odd t="{text}"] {case.keep(mark, text)}'.encode() for mark, text in TEXTS.items() if text != "escape"]
    with socket.create_connection(("127.0.0.1", case.installation.ports["syslog_tcp"]), timeout=15) as stream:
        stream.sendall(b"".join(b"%d %s" % (len(line), line) for line in lines))


def statsd(case):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for mark, number in {"negative zero": "-0.0", "huge": "1.7976931348623157e308"}.items():
        sender.sendto(f"{case.keep(mark, float(number))}:{number}|h".encode(), ("127.0.0.1", case.installation.ports["statsd"]))
    for line in (b"statsd-x:1e309|h", b"statsd-x:nan|h", b"\xff:1|c", b":1|c"):
        sender.sendto(line, ("127.0.0.1", case.installation.ports["statsd"]))
    # A datagram has no answer: what isn't taken is counted.
    counted = 'tickstream_collector_events_rejected_total{source="statsd"} 4'
    wait_for(lambda: counted in case.installation.get("/metrics"), "what isn't taken isn't counted")


PROTOCOLS = [own, otlp_json, otlp_protobuf, prometheus, bulk, segment, posthog, fluent, syslog, statsd]


def values(event):
    """Every value in an event, in lists and objects too."""
    if isinstance(event, dict):
        return [value for part in event.values() for value in values(part)]
    if isinstance(event, list):
        return [value for part in event for value in values(part)]
    return [event]


def is_same(found, expected):
    if isinstance(expected, float):
        if isinstance(found, str):
            # JSON has no numbers for these.
            return found in ("NaN", "Infinity", "-Infinity") and str(float(found)) == str(expected)
        return isinstance(found, (int, float)) and struct.pack(">d", found) == struct.pack(">d", expected)
    return type(found) is type(expected) and found == expected


def check_stored(case):
    def missing():
        events = case.installation.events("--bare")
        by_mark = {value: event for event in events for value in values(event) if isinstance(value, str) and value in case.stored}
        wrong = [mark for mark, expected in case.stored.items() if mark not in by_mark or not any(is_same(value, expected) for value in values(by_mark[mark]))]
        return [(mark, by_mark.get(mark)) for mark in wrong]

    wait_for(lambda: not missing(), f"{case.name}: not stored as it was sent", lambda: missing()[:3])


def main():
    tickstream, *names = sys.argv[1:]
    tickstream = pathlib.Path(tickstream).resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="odd-"))
    installation = Installation(tickstream, folder)
    installation.wait_until_ready()
    for protocol in [protocol for protocol in PROTOCOLS if not names or protocol.__name__ in names]:
        case = Case(installation, protocol.__name__)
        protocol(case)
        check_stored(case)
        print(f"{case.name}: {len(case.stored)} stored as they were sent", flush=True)
    installation.close()
    shutil.rmtree(folder)


main()
