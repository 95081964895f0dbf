"""The vectors of proto/golden.json. `python3 tests protocol.golden --write` regenerates the file; test_golden.py verifies it."""

import json
import pathlib
import sys

from support.tickstream_client import (
    MESSAGE_NAMES,
    MsgType,
    encode_frame,
    encode_header,
    encode_message,
    encode_message_frame,
)

GOLDEN_PATH = pathlib.Path(__file__).resolve().parents[2] / "proto" / "golden.json"

DESCRIPTION = [
    "Test vectors of tickstream's wire protocol, version 1 (docs/protocol.md, proto/). hex is all bytes of",
    "one frame, or the first ones of a frame that is refused before it is whole.",
    "valid: encoding `fields` as `message` in a frame of `type` gives exactly `hex`, and decoding `hex` gives the",
    "fields. All fields are listed, those with their default value too, though they are absent from the bytes",
    "(proto3); only an optional field that is absent is not listed. Enums are names, bytes are hexadecimal digits, maps",
    "are in the order of their keys, integers are exact as doubles. Of an event's bodies only `custom` is used. message",
    "is null where the frame has no payload.",
    "invalid: what a reader whose limit of Length is `max_payload` does with `hex` after AUTH (the vector whose name",
    "begins with before_auth: before it). outcome 'error': it answers ERROR with the code `error` and closes; 'close':",
    "it closes without an answer; 'skip': it ignores the frame and reads on. judged_by says what finds it: 'header' or",
    "'crc' when the frame is read, 'type' or 'payload' when the session looks at a well-formed frame.",
]

TICK_MS = 1_700_000_000_000
MINUTE_MS = 60_000
MINUTE_SEQUENCE = 28_333_334
MAX_PAYLOAD = 65_536
MAX_PAYLOAD_BEFORE_AUTH = 4_096


def _ack(acked_type, next_sequence):
    return {
        "acked_type": acked_type,
        "heartbeat_interval_ms": 15_000,
        "heartbeat_timeout_ms": 20_000,
        "max_msg_size": MAX_PAYLOAD,
        "batch_window_ms": 5,
        "next_sequence": next_sequence,
        "server_time_ms": TICK_MS + 123,
        "publish_credits": 8,
        "max_publish_size": 524_288,
    }


def _batch(mode, first_sequence, epochs_ms):
    ticks = [{"mode": mode, "epoch_ms": epoch_ms} for epoch_ms in epochs_ms]
    return {"schema_version": 1, "ticks": ticks, "first_sequence": first_sequence}


PRODUCER = "0192f0c1a2b37c4d8e9fa0b1c2d3e4f5"
EVENT = {
    "event_id": "0192f0c1a2b37c4d8e9f000000000001",
    # Exact as a double, as many readers of JSON have it.
    "timestamp": TICK_MS * 1_000_000,
    "platform": "linux",
    "session_id": "",
    "user_id": "ada",
    "event_type": "EVENT_TYPE_CUSTOM",
    "event_name": "level_reached",
    "context": {},
    "properties": {"größe": "12 €", "level": "9"},
    "custom": {"schema": "game/1", "attributes": {}, "payload": "00ff"},
}
REJECTED = {"index": 7, "code": "FIELD_MISSING", "message": "platform: required", "retryable": False}


def _publish(**fields):
    return {"producer_id": PRODUCER, "sequence": 3, "events": [], "codec": "CODEC_NONE", "compressed": "", **fields}


def _publish_ack(**fields):
    return {
        "sequence": 3, "accepted": 0, "duplicates": 0, "rejected": [], "throttle_ms": 0, "producer_id": PRODUCER,
        **fields,
    }


def _lz4_of_literals(event):
    """A batch of one event as LZ4 of literals alone, which is no smaller, in hexadecimal digits."""
    batch = encode_message("Publish", {"events": [event]})
    assert 15 + 255 > len(batch) >= 15
    return (len(batch).to_bytes(4, "little") + bytes([0xF0, len(batch) - 15]) + batch).hex()


VALID = [
    ("auth", MsgType.AUTH, {"username": "stream", "password": "correct horse"}),
    ("auth_client", MsgType.AUTH, {"username": "stream", "password": "correct horse", "client": "example/1.0"}),
    ("auth_non_ascii", MsgType.AUTH, {"username": "Zoë", "password": "pässwörd €"}),
    ("subscribe_second", MsgType.SUBSCRIBE, {"mode": "SECOND"}),
    ("subscribe_minute", MsgType.SUBSCRIBE, {"mode": "MINUTE"}),
    ("subscribe_second_resume_after", MsgType.SUBSCRIBE, {"mode": "SECOND", "resume_after": TICK_MS // 1000}),
    ("subscribe_minute_resume_after", MsgType.SUBSCRIBE, {"mode": "MINUTE", "resume_after": MINUTE_SEQUENCE}),
    ("subscribe_second_resume_after_0", MsgType.SUBSCRIBE, {"mode": "SECOND", "resume_after": 0}),
    ("heartbeat", MsgType.HEARTBEAT, {}),
    ("data_batch_one_second", MsgType.DATA_BATCH, _batch("SECOND", TICK_MS // 1000, [TICK_MS])),
    (
        "data_batch_three_seconds",
        MsgType.DATA_BATCH,
        _batch("SECOND", TICK_MS // 1000, [TICK_MS, TICK_MS + 1000, TICK_MS + 2000]),
    ),
    (
        "data_batch_1000_a_second",
        MsgType.DATA_BATCH,
        _batch("SECOND", TICK_MS, [TICK_MS + offset for offset in range(6)]),
    ),
    (
        "data_batch_two_minutes",
        MsgType.DATA_BATCH,
        _batch("MINUTE", MINUTE_SEQUENCE, [MINUTE_SEQUENCE * MINUTE_MS, (MINUTE_SEQUENCE + 1) * MINUTE_MS]),
    ),
    ("error", MsgType.ERROR, {"code": "AUTH_FAILED", "message": "wrong user name or password", "retry_after_ms": 0}),
    (
        "error_retry_after",
        MsgType.ERROR,
        {"code": "RATE_LIMITED", "message": "too many attempts", "retry_after_ms": 1500},
    ),
    ("ack_auth", MsgType.ACK, _ack("AUTH", 0)),
    ("ack_subscribe", MsgType.ACK, _ack("SUBSCRIBE", TICK_MS // 1000 + 1)),
    ("goaway", MsgType.GOAWAY, {"reason": "the server ends", "retry_after_ms": 2750}),
    ("goaway_at_once", MsgType.GOAWAY, {"reason": "", "retry_after_ms": 0}),
    ("publish", MsgType.PUBLISH, _publish(events=[EVENT])),
    # An LZ4 block of literals alone, behind its length.
    ("publish_lz4", MsgType.PUBLISH, _publish(codec="CODEC_LZ4", compressed=_lz4_of_literals(EVENT))),
    ("publish_ack", MsgType.PUBLISH_ACK, _publish_ack(accepted=98, duplicates=1, rejected=[REJECTED])),
    ("publish_ack_throttled", MsgType.PUBLISH_ACK, _publish_ack(accepted=1, throttle_ms=250)),
]


def _with_wrong_crc(frame):
    return frame[:-1] + bytes([frame[-1] ^ 0x01])


def _with_wrong_payload(frame, offset):
    return frame[:offset] + bytes([frame[offset] ^ 0x01]) + frame[offset + 1:]


def _invalid():
    """(name, bytes, error code or None, outcome, judged by)"""
    subscribe = encode_message_frame(MsgType.SUBSCRIBE, mode="MINUTE")
    heartbeat = encode_frame(MsgType.HEARTBEAT)
    yield "bad_crc_of_subscribe", _with_wrong_crc(subscribe), "BAD_CRC", "error", "crc"
    yield "bad_crc_of_empty_payload", _with_wrong_crc(heartbeat), "BAD_CRC", "error", "crc"
    yield "bad_payload_under_a_good_crc", _with_wrong_payload(subscribe, 8), "BAD_CRC", "error", "crc"
    yield "wrong_magic", b"XS" + heartbeat[2:], None, "close", "header"
    yield "wrong_magic_first_byte_alone", b"X", None, "close", "header"
    yield "wrong_magic_second_byte_alone", b"TX", None, "close", "header"
    yield "wrong_version", b"TS\x02" + heartbeat[3:], "UNSUPPORTED_VERSION", "error", "header"
    yield "wrong_version_three_bytes_alone", b"TS\x02", "UNSUPPORTED_VERSION", "error", "header"
    oversize = encode_header(MsgType.SUBSCRIBE, MAX_PAYLOAD + 1)
    yield "oversize_length_header_alone", oversize, "MESSAGE_TOO_LARGE", "error", "header"
    largest = encode_header(MsgType.SUBSCRIBE, 2**32 - 1)
    yield "largest_length_header_alone", largest, "MESSAGE_TOO_LARGE", "error", "header"
    before_auth = encode_header(MsgType.AUTH, MAX_PAYLOAD_BEFORE_AUTH + 1)
    yield "before_auth_oversize_length_header_alone", before_auth, "MESSAGE_TOO_LARGE", "error", "header"
    yield "unknown_type_0x42", encode_frame(0x42), "UNSUPPORTED_TYPE", "error", "type"
    yield "skippable_type_0x80", encode_frame(0x80, b"from the future"), None, "skip", "type"
    yield "heartbeat_with_payload", encode_frame(MsgType.HEARTBEAT, b"\x00"), "BAD_FRAME", "error", "payload"
    yield "subscribe_mode_2", encode_frame(MsgType.SUBSCRIBE, b"\x08\x02"), "BAD_FRAME", "error", "payload"
    yield "subscribe_cut_off", encode_frame(MsgType.SUBSCRIBE, b"\x08"), "BAD_FRAME", "error", "payload"


def valid_vector(name, message_type, fields):
    return {
        "name": name,
        "type": int(message_type),
        "message": MESSAGE_NAMES[message_type],
        "fields": fields,
        "hex": encode_message_frame(message_type, **fields).hex(),
    }


def invalid_vector(name, data, error, outcome, validated_by):
    limit = MAX_PAYLOAD_BEFORE_AUTH if name.startswith("before_auth") else MAX_PAYLOAD
    return {
        "name": name,
        "hex": data.hex(),
        "max_payload": limit,
        "error": error,
        "outcome": outcome,
        "judged_by": validated_by,
    }


def golden_text():
    """The text of proto/golden.json."""
    golden = {
        "description": " ".join(DESCRIPTION),
        "valid": [valid_vector(*vector) for vector in VALID],
        "invalid": [invalid_vector(*vector) for vector in _invalid()],
    }
    return json.dumps(golden, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    GOLDEN_PATH.write_text(golden_text(), encoding="utf-8")
