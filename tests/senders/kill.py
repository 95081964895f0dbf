"""Kills collector, server or both under load, again and again: see README.md.

Whatever was answered with success has to be stored, and has one event id.
"""

import pathlib
import random
import shutil
import sys
import tempfile
import time

from senders.installation import Installation, wait_for
from senders.protocols import SENDERS, markers_of


def main():
    tickstream = pathlib.Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    names = sys.argv[3:] or list(SENDERS)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kill-"))
    installation = Installation(tickstream, folder)
    senders = [SENDERS[name](name, installation, seed) for name in names]
    for sender in senders:
        sender.thread.start()
    for _ in range(rounds):
        time.sleep(chance.uniform(0.3, 1.2))
        killed = chance.choice([["collector"], ["server"], ["collector", "server"]])
        installation.kill(killed)
        time.sleep(chance.uniform(0, 0.3))
        for name in killed:
            getattr(installation, f"start_{name}")()
    time.sleep(2)
    # On a busy machine a round may have been too short for the start alone.
    wait_for(lambda: all(sender.answered for sender in senders), "some senders have no answer",
             lambda: [sender.name for sender in senders if not sender.answered])
    for sender in senders:
        sender.is_over = True
    for sender in senders:
        sender.thread.join(timeout=60)
    installation.wait_until_ready()
    installation.close()
    ids = {}
    for event in installation.events("--bare"):
        ids.setdefault(markers_of(event), set()).add(event["event_id"])
    failed = False
    for sender in senders:
        lost = [marker for marker in sender.answered if marker not in ids]
        double = [marker for marker in sender.answered if len(ids.get(marker, ())) > 1]
        print(f"{sender.name}: {len(sender.answered)} answered in {sender.attempts} attempts, {len(lost)} lost, {len(double)} under two ids")
        failed |= bool(lost or double) or not sender.answered
    print(f"{rounds} rounds, seed {seed}")
    if failed:
        sys.exit(f"failed: see {folder}")
    shutil.rmtree(folder)


main()
