#!/usr/bin/env bash
# A program of the reader's that writes events.
for name in boot login; do
    echo "{\"platform\":\"linux\",\"event_type\":\"log\",\"event_name\":\"$name\",\"log\":{\"service\":\"payments\",\"level\":\"info\",\"message\":\"$name\"}}"
done
