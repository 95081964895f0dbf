"""Somebody who publishes events, and what the server's journals have of them."""

import json
import os
import subprocess
import time
import uuid

from support.tickstream_client import MsgType

COMMAND_TIMEOUT_S = 30


def event(name="tried", size=0):
    """A custom event with so many bytes of payload."""
    return {
        "event_id": uuid.uuid4().hex,
        "timestamp": time.time_ns(),
        "platform": "linux",
        "event_type": "EVENT_TYPE_CUSTOM",
        "event_name": name,
        "custom": {"schema": "test/1", "payload": "a5" * size},
    }


class Publisher:
    """A producer on a connection that is authenticated. `producer` and `sequence` outlive it."""

    def __init__(self, client, producer=None, sequence=0):
        self.client = client
        self.producer = producer or uuid.uuid4().hex
        self.sequence = sequence
        # Ids of events that were acknowledged as stored.
        self.stored = []

    def send(self, events, sequence=None):
        """Sends the next batch, or an old one again."""
        if sequence is None:
            self.sequence += 1
        self.client.send(
            MsgType.PUBLISH, producer_id=self.producer, sequence=sequence or self.sequence, events=events
        )

    def read(self, events):
        """The next PUBLISH_ACK, which is that of `events`."""
        ack = self.client.expect(MsgType.PUBLISH_ACK)
        refused = {verdict["index"] for verdict in ack["rejected"]}
        if not ack["duplicates"]:
            self.stored += [one["event_id"] for index, one in enumerate(events) if index not in refused]
        return ack

    def publish(self, events, sequence=None):
        self.send(events, sequence)
        return self.read(events)


def events_command(*arguments):
    """Runs `tickstream events`."""
    command = [os.environ["TICKSTREAM_BIN"], "events", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)


def exported(directory):
    """Ids of all events in the journals, in hexadecimal digits."""
    run = events_command("export", directory)
    if run.returncode != 0:
        raise AssertionError(f"events export: {run.stderr}")
    return [json.loads(line)["event_id"].replace("-", "") for line in run.stdout.splitlines()]
