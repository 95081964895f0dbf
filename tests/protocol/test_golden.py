"""The client's codec against proto/golden.json and against vectors from elsewhere. Needs no server."""

import json
import unittest

from protocol import golden
from support.tickstream_client import (
    MESSAGE_NAMES,
    DecodeError,
    FrameError,
    FrameParser,
    MsgType,
    crc32c,
    decode_frame,
    decode_message,
    encode_frame,
    encode_message,
    encode_message_frame,
    ticks_of,
)

GOLDEN = json.loads(golden.GOLDEN_PATH.read_text(encoding="utf-8"))


def parse(data, max_payload=65_536):
    """The frame that `data` is, fed byte by byte: it must be whole with the last byte and not before."""
    parser = FrameParser(max_payload)
    for index in range(len(data)):
        parser.feed(data[index:index + 1])
        frame = parser.next_frame()
        if frame:
            assert index == len(data) - 1, f"whole after {index + 1} of {len(data)} bytes"
            return frame
    return None


class Checksum(unittest.TestCase):
    def test_vectors_of_rfc_3720(self):
        for data, expected in [
            (b"", 0x00000000),
            (b"123456789", 0xE3069283),
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
            (bytes(range(31, -1, -1)), 0x113FDB5C),
        ]:
            self.assertEqual(f"{crc32c(data):08x}", f"{expected:08x}", data)


class GoldenFile(unittest.TestCase):
    def test_file_is_what_the_script_writes(self):
        self.assertEqual(golden.GOLDEN_PATH.read_text(encoding="utf-8"), golden.golden_text())

    def test_names_are_unique_and_every_type_is_there(self):
        names = [vector["name"] for vector in GOLDEN["valid"] + GOLDEN["invalid"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual({vector["type"] for vector in GOLDEN["valid"]}, set(MsgType))

    def test_valid_vectors_decode_and_encode(self):
        for vector in GOLDEN["valid"]:
            with self.subTest(vector["name"]):
                data = bytes.fromhex(vector["hex"])
                message = decode_frame(parse(data))
                self.assertEqual(message.type, vector["type"])
                self.assertEqual(MESSAGE_NAMES[message.type], vector["message"])
                self.assertEqual(message.fields, vector["fields"])
                self.assertEqual(encode_message_frame(message.type, **vector["fields"]), data)

    def test_invalid_vectors_are_refused_when_the_frame_is_read(self):
        for vector in GOLDEN["invalid"]:
            if vector["judged_by"] not in ("header", "crc"):
                continue
            with self.subTest(vector["name"]):
                with self.assertRaises(FrameError) as refused:
                    parse(bytes.fromhex(vector["hex"]), vector["max_payload"])
                self.assertEqual(refused.exception.code, vector["error"])

    def test_invalid_vectors_of_the_session_are_well_formed_frames(self):
        for vector in GOLDEN["invalid"]:
            if vector["judged_by"] in ("type", "payload"):
                with self.subTest(vector["name"]):
                    self.assertIsNotNone(parse(bytes.fromhex(vector["hex"]), vector["max_payload"]))

    def test_bytes_written_by_hand(self):
        by_name = {vector["name"]: vector["hex"] for vector in GOLDEN["valid"]}
        for name, without_crc in [
            ("heartbeat", "5453 01 03 00000000"),
            ("subscribe_second", "5453 01 02 00000000"),
            ("subscribe_minute", "5453 01 02 00000002 0801"),
            ("subscribe_second_resume_after_0", "5453 01 02 00000002 1000"),
            ("auth", "5453 01 01 00000017 0a06 73747265616d 120d 636f727265637420686f727365"),
            ("goaway_at_once", "5453 01 07 00000000"),
            (
                "data_batch_two_minutes",
                "5453 01 04 0000001d 0801 1209 0801 10c08898ffbc31 1209 0801 10a0dd9bffbc31 1896aac10d",
            ),
        ]:
            self.assertEqual(by_name[name][:-8], without_crc.replace(" ", ""), name)


class Frames(unittest.TestCase):
    def test_coalesced_frames_are_cut_apart(self):
        parser = FrameParser()
        parser.feed(b"".join(encode_frame(0x80, bytes([index])) for index in range(3)))
        self.assertEqual([parser.next_frame().payload for _ in range(3)], [b"\0", b"\1", b"\2"])
        self.assertIsNone(parser.next_frame())
        self.assertEqual(parser.pending, 0)


class Payloads(unittest.TestCase):
    def test_unknown_fields_are_ignored(self):
        unknown = bytes.fromhex("7805" "7a03616263" "7d01020304" "790102030405060708")
        self.assertEqual(decode_message("Subscribe", unknown + b"\x08\x01"), {"mode": "MINUTE"})

    def test_a_later_value_replaces_an_earlier_one(self):
        fields = decode_message("Subscribe", bytes.fromhex("08011005" "0800"))
        self.assertEqual(fields, {"mode": "SECOND", "resume_after": 5})

    def test_an_unknown_enum_value_stays_a_number(self):
        self.assertEqual(decode_message("Subscribe", b"\x08\x07"), {"mode": 7})

    def test_the_largest_integer(self):
        fields = {"mode": "SECOND", "resume_after": 2**64 - 1}
        self.assertEqual(decode_message("Subscribe", encode_message("Subscribe", fields)), fields)

    def test_undecodable_payloads(self):
        for payload in ["08", "0aff", "0a0561", "0a01ff", "00", "0b", "08" + "ff" * 10 + "01", "0801"]:
            with self.subTest(payload), self.assertRaises(DecodeError):
                decode_message("Auth", bytes.fromhex(payload))

    def test_ticks_carry_consecutive_sequences(self):
        vector = next(vector for vector in GOLDEN["valid"] if vector["name"] == "data_batch_three_seconds")
        ticks = ticks_of(decode_frame(parse(bytes.fromhex(vector["hex"]))))
        self.assertEqual([tick.epoch_ms // 1000 for tick in ticks], [tick.sequence for tick in ticks])


if __name__ == "__main__":
    unittest.main()
