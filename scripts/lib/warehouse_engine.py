"""Another engine over the table of events, in a process of its own: warehouse_engine.py duckdb|chdb EVENTS THREADS.

Takes a question a line, as a JSON text, and answers a line with rows, seconds, CPU seconds and the most memory. Run by the
Python of target/readers.
"""

import csv
import io
import json
import os
import pathlib
import sys
import time


def duckdb(events, threads):
    import duckdb
    import duckdb_extension_delta
    extension = next(pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("*.duckdb_extension"))
    connection = duckdb.connect(config={"allow_unsigned_extensions": True, "threads": threads})
    connection.execute(f"LOAD '{extension}'")
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
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        began, used = time.monotonic(), time.process_time()
        try:
            answer = {"rows": ask(json.loads(line))}
        except Exception as error:
            answer = {"error": str(error)}
        answer |= {"wall_s": time.monotonic() - began, "cpu_s": time.process_time() - used, "peak_bytes": peak_bytes()}
        print(json.dumps(answer), flush=True)


def peak_bytes():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
