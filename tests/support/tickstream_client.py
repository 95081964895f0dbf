"""A client of tickstream's wire protocol, version 1: frames, payloads, and a blocking connection.

Written from docs/protocol.md and proto/ alone, with Python's standard library. From the bottom up:

- `crc32c`, `encode_frame` and `FrameParser` know frames, not what is in them;
- `encode_message` and `decode_message` know the payloads, as dicts with the names of `proto/`;
- `Client` owns a socket. It judges the server strictly: whatever the protocol forbids is a `ProtocolError`.
"""

import dataclasses
import enum
import socket
import struct
import time

MAGIC = b"TS"
VERSION = 1
HEADER = struct.Struct(">2sBBI")
TRAILER = struct.Struct(">I")
MAX_PAYLOAD_DEFAULT = 65_536
SCHEMA_VERSION = 1
FIRST_SKIPPABLE_TYPE = 0x80
RECEIVE_SIZE = 65_536


class MsgType(enum.IntEnum):
    AUTH = 0x01
    SUBSCRIBE = 0x02
    HEARTBEAT = 0x03
    DATA_BATCH = 0x04
    ERROR = 0x05
    ACK = 0x06
    GOAWAY = 0x07
    PUBLISH = 0x10
    PUBLISH_ACK = 0x11


class Mode(enum.IntEnum):
    SECOND = 0
    MINUTE = 1


class Codec(enum.IntEnum):
    CODEC_NONE = 0
    CODEC_LZ4 = 1
    CODEC_ZSTD = 2


class EventType(enum.IntEnum):
    EVENT_TYPE_UNSPECIFIED = 0
    EVENT_TYPE_CUSTOM = 8


class FrameError(Exception):
    """Bytes that are no valid frame. `code` is what a server answers; None: it closes without a word."""

    def __init__(self, code, detail):
        super().__init__(f"{code or 'no magic'}: {detail}")
        self.code = code


class DecodeError(Exception):
    """A payload that is no valid protobuf message of its type."""


class ProtocolError(Exception):
    """The server did what docs/protocol.md doesn't allow."""


class ConnectionClosed(Exception):
    """The server closed between two frames: by FIN, or by RST (`was_reset`)."""

    def __init__(self, was_reset):
        super().__init__("the server reset the connection" if was_reset else "the server closed the connection")
        self.was_reset = was_reset


# ---- Frames -------------------------------------------------------------------------------------------------


def _crc32c_table():
    reflected_polynomial = 0x82F63B78
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (reflected_polynomial if value & 1 else 0)
        table.append(value)
    return table


CRC32C_TABLE = _crc32c_table()


def crc32c(data):
    """CRC-32C (Castagnoli, RFC 3720) of `data`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Frame:
    type: int
    payload: bytes
    # When the read that completed the frame returned: Unix time, and the clock for durations, in seconds.
    received_at: float = 0.0
    received_monotonic: float = 0.0


def encode_header(frame_type, length, version=VERSION, magic=MAGIC):
    return HEADER.pack(magic, version, frame_type, length)


def encode_frame(frame_type, payload=b""):
    return encode_header(frame_type, len(payload)) + payload + TRAILER.pack(crc32c(payload))


class FrameParser:
    """Cuts a byte stream into frames, however it is split or coalesced."""

    def __init__(self, max_payload=MAX_PAYLOAD_DEFAULT):
        self.max_payload = max_payload
        self._buffer = bytearray()

    @property
    def pending(self):
        """Number of bytes of an unfinished frame."""
        return len(self._buffer)

    def feed(self, data):
        self._buffer += data

    def next_frame(self, received_at=0.0, received_monotonic=0.0):
        """The next whole frame, or None; a FrameError as soon as a wrong byte is there."""
        frame_type, length = self._validate_header()
        if length is None or len(self._buffer) < HEADER.size + length + TRAILER.size:
            return None
        end = HEADER.size + length
        payload = bytes(self._buffer[HEADER.size:end])
        (crc,) = TRAILER.unpack_from(self._buffer, end)
        if crc != crc32c(payload):
            raise FrameError("BAD_CRC", f"{crc:08x} instead of {crc32c(payload):08x}")
        del self._buffer[:end + TRAILER.size]
        return Frame(frame_type, payload, received_at, received_monotonic)

    def _validate_header(self):
        start = bytes(self._buffer[:HEADER.size])
        if start[:2] != MAGIC[:len(start)]:
            raise FrameError(None, f"starts with {start[:2].hex()}")
        if len(start) > 2 and start[2] != VERSION:
            raise FrameError("UNSUPPORTED_VERSION", f"version {start[2]}")
        if len(start) < HEADER.size:
            return None, None
        _, _, frame_type, length = HEADER.unpack(start)
        if length > self.max_payload:
            raise FrameError("MESSAGE_TOO_LARGE", f"{length} bytes, the limit is {self.max_payload}")
        return frame_type, length


# ---- Payloads -----------------------------------------------------------------------------------------------

WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32 = 0, 1, 2, 5
# The largest value of each kind that is a varint on the wire.
VARINT_MASKS = {"uint32": 2**32 - 1, "uint64": 2**64 - 1, "enum": 2**32 - 1, "bool": 2**64 - 1}


@dataclasses.dataclass(frozen=True)
class Field:
    number: int
    name: str
    # "uint32", "uint64", "fixed64", "bool", "string", "bytes" (as hexadecimal digits), "enum", "message", "messages"
    # (repeated) or "map" (text to text)
    kind: str
    of: object = None  # the enum class, or the name of the message
    optional: bool = False  # absent differs from the default value

    @property
    def wire_type(self):
        if self.kind == "fixed64":
            return WIRE_FIXED64
        return WIRE_VARINT if self.kind in VARINT_MASKS else WIRE_BYTES


SCHEMAS = {
    "Auth": (Field(1, "username", "string"), Field(2, "password", "string"), Field(3, "client", "string", optional=True)),
    "Subscribe": (Field(1, "mode", "enum", Mode), Field(2, "resume_after", "uint64", optional=True)),
    "Tick": (Field(1, "mode", "enum", Mode), Field(2, "epoch_ms", "uint64")),
    "DataBatch": (
        Field(1, "schema_version", "uint32"),
        Field(2, "ticks", "messages", "Tick"),
        Field(3, "first_sequence", "uint64"),
    ),
    "ErrorMsg": (Field(1, "code", "string"), Field(2, "message", "string"), Field(3, "retry_after_ms", "uint32")),
    "Ack": (
        Field(1, "acked_type", "enum", MsgType),
        Field(2, "heartbeat_interval_ms", "uint32"),
        Field(3, "heartbeat_timeout_ms", "uint32"),
        Field(4, "max_msg_size", "uint32"),
        Field(5, "batch_window_ms", "uint32"),
        Field(6, "next_sequence", "uint64"),
        Field(7, "server_time_ms", "uint64"),
        Field(8, "publish_credits", "uint32"),
        Field(9, "max_publish_size", "uint32"),
    ),
    "GoAway": (Field(1, "reason", "string"), Field(2, "retry_after_ms", "uint32")),
    # Of the bodies of an event only the custom one.
    "Event": (
        Field(1, "event_id", "bytes"),
        Field(2, "timestamp", "fixed64"),
        Field(3, "platform", "string"),
        Field(4, "session_id", "string"),
        Field(5, "user_id", "string", optional=True),
        Field(6, "event_type", "enum", EventType),
        Field(7, "event_name", "string"),
        Field(8, "context", "map"),
        Field(9, "properties", "map"),
        Field(17, "custom", "message", "CustomEvent", optional=True),
    ),
    "CustomEvent": (Field(1, "schema", "string"), Field(2, "attributes", "map"), Field(4, "payload", "bytes")),
    "MapEntry": (Field(1, "key", "string", optional=True), Field(2, "value", "string", optional=True)),
    "Publish": (
        Field(1, "producer_id", "bytes"),
        Field(2, "sequence", "uint64"),
        Field(3, "events", "messages", "Event"),
        Field(4, "codec", "enum", Codec),
        Field(5, "compressed", "bytes"),
    ),
    "PublishAck": (
        Field(1, "sequence", "uint64"),
        Field(2, "accepted", "uint32"),
        Field(3, "duplicates", "uint32"),
        Field(4, "rejected", "messages", "Rejected"),
        Field(5, "throttle_ms", "uint32"),
        Field(6, "producer_id", "bytes"),
    ),
    "Rejected": (
        Field(1, "index", "uint32"),
        Field(2, "code", "string"),
        Field(3, "message", "string"),
        Field(4, "retryable", "bool"),
    ),
}

# The message in a frame of each type; HEARTBEAT has no payload.
MESSAGE_NAMES = {
    MsgType.AUTH: "Auth",
    MsgType.SUBSCRIBE: "Subscribe",
    MsgType.HEARTBEAT: None,
    MsgType.DATA_BATCH: "DataBatch",
    MsgType.ERROR: "ErrorMsg",
    MsgType.ACK: "Ack",
    MsgType.GOAWAY: "GoAway",
    MsgType.PUBLISH: "Publish",
    MsgType.PUBLISH_ACK: "PublishAck",
}


def encode_varint(value):
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_message(name, fields):
    """The payload of message `name`: fields by number, default values absent (proto3's canonical form)."""
    unknown = set(fields) - {field.name for field in SCHEMAS[name]}
    if unknown:
        raise ValueError(f"{name} has no {sorted(unknown)}")
    return b"".join(_encode_field(field, fields[field.name]) for field in SCHEMAS[name] if field.name in fields)


def _encode_field(field, value):
    tag = encode_varint(field.number << 3 | field.wire_type)
    if field.kind == "messages":
        return b"".join(tag + _with_length(encode_message(field.of, item)) for item in value)
    if field.kind == "message":
        return tag + _with_length(encode_message(field.of, value))
    if field.kind == "map":
        entries = ({"key": key, "value": value[key]} for key in sorted(value))
        return b"".join(tag + _with_length(encode_message("MapEntry", entry)) for entry in entries)
    if field.kind == "enum":
        value = field.of[value] if isinstance(value, str) else value
    if not value and not field.optional:
        return b""
    if field.kind == "string":
        return tag + _with_length(value.encode())
    if field.kind == "bytes":
        return tag + _with_length(bytes.fromhex(value))
    if field.kind == "fixed64":
        return tag + value.to_bytes(8, "little")
    return tag + encode_varint(value)


def encode_delimited(number, data):
    """A field whose value is bytes, text or a message."""
    return encode_varint(number << 3 | 2) + _with_length(data)


def _with_length(data):
    return encode_varint(len(data)) + data


def decode_message(name, payload):
    """The fields of message `name`: absent ones with their default, an optional one only if it is there.

    Enums are names; a number without a name stays a number. Unknown fields are ignored.
    """
    by_number = {field.number: field for field in SCHEMAS[name]}
    fields = {field.name: _default(field) for field in SCHEMAS[name] if not field.optional}
    for number, wire_type, raw in _raw_fields(payload):
        field = by_number.get(number)
        if field is None:
            continue
        if wire_type != field.wire_type:
            raise DecodeError(f"{name}.{field.name} has wire type {wire_type}")
        if field.kind == "messages":
            fields[field.name].append(decode_message(field.of, raw))
        elif field.kind == "message":
            fields[field.name] = decode_message(field.of, raw)
        elif field.kind == "map":
            entry = decode_message("MapEntry", raw)
            fields[field.name][entry.get("key", "")] = entry.get("value", "")
        else:
            fields[field.name] = _decode_value(field, raw)
    return fields


def _default(field):
    if field.kind == "messages":
        return []
    if field.kind == "map":
        return {}
    return "" if field.kind in ("string", "bytes") else _decode_value(field, 0)


def _decode_value(field, raw):
    if field.kind == "string":
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"{field.name}: {error}") from error
    if field.kind == "bytes":
        return raw.hex()
    if field.kind == "fixed64":
        return raw if isinstance(raw, int) else int.from_bytes(raw, "little")
    if field.kind == "bool":
        return raw != 0
    value = raw & VARINT_MASKS[field.kind]
    if field.kind == "enum":
        return field.of(value).name if value in field.of._value2member_map_ else value
    return value


def _raw_fields(payload):
    """(field number, wire type, integer or bytes) of each field."""
    offset = 0
    while offset < len(payload):
        tag, offset = _decode_varint(payload, offset)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise DecodeError("field number 0")
        if wire_type == WIRE_VARINT:
            raw, offset = _decode_varint(payload, offset)
        elif wire_type in (WIRE_BYTES, WIRE_FIXED64, WIRE_FIXED32):
            length = {WIRE_FIXED64: 8, WIRE_FIXED32: 4}.get(wire_type)
            if length is None:
                length, offset = _decode_varint(payload, offset)
            raw, offset = payload[offset:offset + length], offset + length
        else:
            raise DecodeError(f"wire type {wire_type}")
        if offset > len(payload):
            raise DecodeError("a field is longer than the payload")
        yield number, wire_type, raw


def _decode_varint(payload, offset):
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(payload):
            raise DecodeError("a varint is cut off")
        byte = payload[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 2**64 - 1, offset
    raise DecodeError("a varint of more than 10 bytes")


# ---- Messages in frames -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Message:
    type: MsgType
    fields: dict
    frame: Frame

    def __getitem__(self, field_name):
        return self.fields[field_name]


@dataclasses.dataclass(frozen=True)
class Tick:
    mode: str
    sequence: int
    epoch_ms: int
    received_at: float

    @property
    def lateness_s(self):
        return self.received_at - self.epoch_ms / 1000


def encode_message_frame(message_type, **fields):
    """A frame of `message_type` whose payload has `fields`."""
    name = MESSAGE_NAMES[message_type]
    return encode_frame(message_type, encode_message(name, fields) if name else b"")


def decode_frame(frame):
    """The message in `frame`, or None for a frame of a type that a reader skips."""
    if frame.type >= FIRST_SKIPPABLE_TYPE:
        return None
    try:
        message_type = MsgType(frame.type)
        name = MESSAGE_NAMES[message_type]
        if name is None and frame.payload:
            raise ProtocolError(f"{message_type.name} with a payload")
        return Message(message_type, decode_message(name, frame.payload) if name else {}, frame)
    except (ValueError, DecodeError) as error:
        raise ProtocolError(f"frame of type {frame.type:#04x}: {error}") from error


def ticks_of(batch):
    """The ticks of a DATA_BATCH, each with its own sequence."""
    if batch["schema_version"] != SCHEMA_VERSION:
        raise ProtocolError(f"schema_version {batch['schema_version']}")
    if not batch["ticks"]:
        raise ProtocolError("a DATA_BATCH without ticks")
    return [
        Tick(tick["mode"], batch["first_sequence"] + index, tick["epoch_ms"], batch.frame.received_at)
        for index, tick in enumerate(batch["ticks"])
    ]


# ---- The connection -----------------------------------------------------------------------------------------


class Client:
    """A blocking connection. Every wait has a limit: `timeout_s`, unless the call has its own."""

    def __init__(self, host, port, timeout_s=5.0, source_host=None, receive_buffer=None):
        self.timeout_s = timeout_s
        self.connect_started = time.monotonic()
        self._parser = FrameParser()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source_host:
                self._socket.bind((source_host, 0))
            self._socket.settimeout(timeout_s)
            self._socket.connect((host, port))
        except BaseException:
            self._socket.close()
            raise
        self._received_at = self._received_monotonic = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def reset(self):
        """Closes by RST, as a crashed peer does."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send_raw(self, data):
        self._socket.settimeout(self.timeout_s)
        self._socket.sendall(data)

    def send_frame(self, frame_type, payload=b""):
        self.send_raw(encode_frame(frame_type, payload))

    def send(self, message_type, **fields):
        self.send_raw(encode_message_frame(message_type, **fields))

    def read_frame(self, timeout_s=None):
        """The next frame; a TimeoutError if it isn't whole in time, ConnectionClosed if there is none."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            try:
                frame = self._parser.next_frame(self._received_at, self._received_monotonic)
            except FrameError as error:
                raise ProtocolError(f"the server sent no valid frame: {error}") from error
            if frame:
                return frame
            self._receive(deadline)

    def read(self, timeout_s=None):
        """The next message; frames of types that a reader skips are skipped."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            message = decode_frame(self.read_frame(deadline - time.monotonic()))
            if message:
                return message

    def expect(self, message_type, timeout_s=None, skip=()):
        """The next message, which must be of `message_type`; messages of the types in `skip` may precede it."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            message = self.read(deadline - time.monotonic())
            if message.type == message_type:
                return message
            if message.type not in skip:
                raise ProtocolError(f"{message_type.name} expected, got {message.type.name} {message.fields}")

    def expect_closed(self, timeout_s=None, may_reset=False):
        """Waits for the server's close, before which nothing may come. FIN, or RST only if `may_reset`."""
        try:
            frame = self.read_frame(timeout_s)
        except ConnectionClosed as closed:
            if closed.was_reset and not may_reset:
                raise ProtocolError("RST instead of FIN") from closed
            return
        raise ProtocolError(f"the close expected, got {frame}")

    def collect(self, seconds):
        """All messages of the next `seconds`, or up to ERROR, the server's last."""
        deadline = time.monotonic() + seconds
        messages = []
        while not messages or messages[-1].type != MsgType.ERROR:
            try:
                messages.append(self.read(deadline - time.monotonic()))
            except TimeoutError:
                break
        return messages

    def authenticate(self, username, password):
        """Sends AUTH; returns its ACK. From there on, the ACK's max_msg_size bounds what the server may send."""
        self.send(MsgType.AUTH, username=username, password=password)
        return self.read_auth_ack()

    def read_auth_ack(self):
        ack = self._expect_ack(MsgType.AUTH)
        self._parser.max_payload = ack["max_msg_size"]
        return ack

    def subscribe(self, mode, resume_after=None):
        """Sends SUBSCRIBE; returns its ACK. Batches of an older subscription that precede it are dropped."""
        self.send_subscribe(mode, resume_after)
        return self.read_subscribe_ack()

    def send_subscribe(self, mode, resume_after=None):
        fields = {"mode": mode} if resume_after is None else {"mode": mode, "resume_after": resume_after}
        self.send(MsgType.SUBSCRIBE, **fields)

    def read_subscribe_ack(self):
        return self._expect_ack(MsgType.SUBSCRIBE, skip=(MsgType.DATA_BATCH,))

    def _expect_ack(self, acked_type, skip=()):
        ack = self.expect(MsgType.ACK, skip=skip)
        if ack["acked_type"] != acked_type.name:
            raise ProtocolError(f"ACK of {ack['acked_type']} instead of {acked_type.name}")
        return ack

    def heartbeat(self):
        self.send(MsgType.HEARTBEAT)

    def read_ticks(self, count, timeout_s=None):
        """At least `count` ticks: whole batches, with nothing but HEARTBEATs in between."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        ticks = []
        while len(ticks) < count:
            remaining_s = deadline - time.monotonic()
            ticks += ticks_of(self.expect(MsgType.DATA_BATCH, remaining_s, skip=(MsgType.HEARTBEAT,)))
        return ticks

    def _receive(self, deadline):
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError(f"nothing more from the server; {self._parser.pending} bytes of a frame are there")
        self._socket.settimeout(remaining_s)
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except ConnectionResetError:
            raise ConnectionClosed(was_reset=True) from None
        self._received_at, self._received_monotonic = time.time(), time.monotonic()
        if data:
            self._parser.feed(data)
        elif self._parser.pending:
            raise ProtocolError(f"closed within a frame, after {self._parser.pending} bytes of it")
        else:
            raise ConnectionClosed(was_reset=False)
