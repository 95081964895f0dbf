"""Another engine over the table of events, in a process of its own: python3 -m lib.warehouse_engine duckdb|chdb EVENTS THREADS.

Takes a question a line, as a JSON text, and answers a line with rows, seconds, CPU seconds and the most memory. Run by the
Python of target/readers.
"""

import csv
import io
import json
import os
import sys
import time

from support.engines import duckdb_with_delta
from support.process_stats import clear_resident_peak, resident_peak_bytes


def duckdb(events, threads):
    connection = duckdb_with_delta(threads=threads)
    connection.execute(f"CREATE VIEW events AS SELECT * FROM delta_scan('{events}')")
    return lambda sql: connection.execute(sql).fetchall()


def chdb(events, threads):
    from chdb import session
    # It reads files below the working directory alone.
    os.chdir("/")
    engine = session.Session()
    engine.query("CREATE DATABASE IF NOT EXISTS bench")
    engine.query(f"CREATE VIEW bench.events AS SELECT * FROM deltaLakeLocal('{events}')")
    engine.query("USE bench")

    def ask(sql):
        answer = str(engine.query(f"{sql} SETTINGS max_threads = {threads}", "CSV"))
        return [tuple(row) for row in csv.reader(io.StringIO(answer))]
    return ask


def main():
    engine, events, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    ask = {"duckdb": duckdb, "chdb": chdb}[engine](events, threads)
    print("ready", flush=True)
    for line in sys.stdin:
        clear_resident_peak("self")
        began, used = time.monotonic(), time.process_time()
        try:
            answer = {"rows": ask(json.loads(line))}
        except Exception as error:
            answer = {"error": str(error)}
        answer |= {"wall_s": time.monotonic() - began, "cpu_s": time.process_time() - used, "peak_bytes": resident_peak_bytes("self")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
