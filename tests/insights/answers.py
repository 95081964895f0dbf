"""The example `answer` of the crate tickstream-insights, asked from Python."""
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def answers(cases):
    """The answers to these cases, in their order. TICKSTREAM_ANSWER names the example if it is built already."""
    built = os.environ.get("TICKSTREAM_ANSWER")
    command = [built] if built else ["cargo", "run", "--quiet", "-p", "tickstream-insights", "--example", "answer"]
    text = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(cases), f"{len(found)} answers to {len(cases)} cases"
    return found


def near(found, expected, tolerance, where):
    """Ends the program where a number isn't the expected one, relative to its size."""
    if abs(found - expected) > tolerance * max(1.0, abs(expected)):
        sys.exit(f"{where}: {found}, expected {expected}")
