"""Metrics of CloudWatch (moto's server) become rows, each point once, however often the file is imported.

    python3 tests warehouse.cloudwatch [--binary target/debug/tickstream-warehouse]

Needs moto[server] and boto3 of PyPI, which scripts/warehouse-readers installs.
"""

import argparse
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile

import boto3

from warehouse.services import moto

PORT = 5124
REGION = "eu-central-1"
# A page of CloudWatch's has at most 500 statistics: more than one of these is needed.
INSTANCES = 300
METRICS = f"""
endpoint = "http://127.0.0.1:{PORT}"
region = "{REGION}"
days = 1

[[metrics]]
namespace = "Shop"
statistics = ["Average", "Maximum"]
period = "5 minutes"
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/debug/tickstream-warehouse")
    arguments = parser.parse_args()
    os.environ.update({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"})
    client = boto3.client("cloudwatch", endpoint_url=f"http://127.0.0.1:{PORT}", region_name=REGION)
    with moto(PORT, client.list_metrics):
        run(arguments.binary, client)
    print("each point is a row, once")


def run(binary, client):
    period = datetime.timedelta(minutes=5)
    now = datetime.datetime.now(datetime.timezone.utc)
    last = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0)
    put(client, [(f"i-{number}", last - 6 * period, value) for number in range(INSTANCES) for value in (10.0, 30.0)])
    # The present period isn't over, so its points still change.
    put(client, [("i-0", now, 99.0)])
    with tempfile.TemporaryDirectory() as folder:
        file, tables = pathlib.Path(folder) / "metrics.toml", pathlib.Path(folder) / "tables"
        file.write_text(METRICS)
        imported(binary, tables, file, f"{2 * INSTANCES:,} events imported")
        imported(binary, tables, file, "0 events imported")
        put(client, [("i-0", last - 4 * period, 7.0)])
        imported(binary, tables, file, "2 events imported")
        sql = """SELECT json_text(labels, 'cloudwatch.statistic'), count(*), sum(value), min(service), count(DISTINCT json_text(labels, 'Instance'))
                 FROM metrics GROUP BY 1 ORDER BY 1"""
        found = subprocess.run([binary, "query", "--tables", tables, sql, "--format", "csv"], check=True, capture_output=True, text=True)
        rows = found.stdout.splitlines()[1:]
        expected = [f"Average,{INSTANCES + 1},{INSTANCES * 20.0 + 7.0},Shop,{INSTANCES}", f"Maximum,{INSTANCES + 1},{INSTANCES * 30.0 + 7.0},Shop,{INSTANCES}"]
        if rows != expected:
            sys.exit(f"{rows} instead of {expected}")


def put(client, points):
    for start in range(0, len(points), 100):
        data = [{"MetricName": "QueueDepth", "Dimensions": [{"Name": "Instance", "Value": instance}], "Timestamp": time, "Value": value}
                for instance, time, value in points[start:start + 100]]
        client.put_metric_data(Namespace="Shop", MetricData=data)


def imported(binary, tables, file, expected):
    done = subprocess.run([binary, "import", "--tables", tables, "--format", "cloudwatch", file], capture_output=True, text=True)
    if done.returncode != 0 or expected not in done.stdout:
        sys.exit(f"{done.stdout}{done.stderr}\nexpected: {expected}")


if __name__ == "__main__":
    main()
