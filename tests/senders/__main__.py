"""Real senders against a server and a collector: see README.md."""

import pathlib
import shutil
import sys
import tempfile
import time

from senders import infrastructure, senders
from senders.installation import Installation


def main():
    tickstream, *names = sys.argv[1:]
    tickstream = pathlib.Path(tickstream).resolve()
    everything = {**vars(senders), **vars(infrastructure)}
    tests = {name: test for name, test in everything.items() if name.startswith("test_")}
    chosen = [name for name in tests if not names or any(part in name for part in names)]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="senders-"))
    installation = Installation(tickstream, folder)
    installation.wait_until_ready()
    failed = []
    for name in chosen:
        started = time.monotonic()
        try:
            said = tests[name](installation)
            print(f"{name}: ok{', ' + said if said else ''} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception as error:  # noqa: BLE001: the others shall run
            failed.append(name)
            print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)
    installation.close()
    if failed:
        print((folder / "collector.log").read_text()[-2000:])
        sys.exit(f"failed: {', '.join(failed)}; see {folder}")
    shutil.rmtree(folder)


main()
