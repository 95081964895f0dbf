"""Three loaders into one table in S3 (moto's server): each event once.

    python3 tests warehouse.s3 JOURNALS… --binary target/debug/tickstream-warehouse

JOURNALS are directories of journals, each of another host; the same events may be in several. Needs moto[server] of PyPI.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import boto3

from warehouse.services import moto

PORT = 5123


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("journals", nargs="+")
    parser.add_argument("--binary", default="target/debug/tickstream-warehouse")
    arguments = parser.parse_args()
    endpoint = f"http://127.0.0.1:{PORT}"
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "us-east-1", "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}
    os.environ.update(keys)
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    with moto(PORT, lambda: client.create_bucket(Bucket="events")):
        sys.exit(run(arguments))


def run(arguments):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="warehouse-s3-"))
    states = [folder / f"state-{number}" for number in range(len(arguments.journals))]
    tables = "s3://events/prod"
    states[0].mkdir()
    # One secret for all hosts.
    (states[0] / "identity.key").write_bytes(bytes(range(32)))
    for state in states[1:]:
        shutil.copytree(states[0], state)
    loaders = [subprocess.Popen([arguments.binary, "load", "--once", "--tables", tables, "--state", str(state), "--journal", journal],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for state, journal in zip(states, arguments.journals)]
    failed = False
    for loader in loaders:
        out, error = loader.communicate(timeout=900)
        print(out.strip(), error.strip())
        failed |= loader.returncode != 0
    sql = "SELECT count(*), count(DISTINCT event_id), count(DISTINCT journal) FROM events"
    counted = subprocess.run([arguments.binary, "query", "--tables", tables, "--state", str(states[0]), sql, "--format", "csv"],
                             capture_output=True, text=True, timeout=300)
    print(counted.stdout, counted.stderr)
    rows, distinct, journals = map(int, counted.stdout.splitlines()[1].split(","))
    failed |= rows != distinct
    for command in (["compact"], ["vacuum", "--removed-for", "0", "--orphaned-for", "0"]):
        done = subprocess.run([arguments.binary, *command, "--tables", tables, "--state", str(states[0])], capture_output=True, text=True, timeout=600)
        print(done.stdout.strip(), done.stderr.strip())
        failed |= done.returncode != 0
    for state, journal in zip(states, arguments.journals):
        verified = subprocess.run([arguments.binary, "verify", "--tables", tables, "--state", str(state), "--journal", journal],
                                  capture_output=True, text=True, timeout=600)
        print(verified.stdout.strip(), verified.stderr.strip())
        failed |= verified.returncode != 0
    shutil.rmtree(folder)
    print("FAILED" if failed else "pass")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
