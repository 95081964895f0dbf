"""Every reader of the same table gives the same counts and sums.

    python3 tests warehouse.readers TABLES [--binary target/debug/tickstream-warehouse]

TABLES is a directory that `tickstream-warehouse load` has filled. Needs the packages that scripts/warehouse-readers
installs. Exit code 1 if one reader differs.
"""

import argparse
import csv
import io
import os
import pathlib
import subprocess
import sys

from support.engines import duckdb_with_delta

# Grouped by kind: rows, distinct ids, distinct users, sum of times, sum of values.
COLUMNS = ["event_type", "count", "ids", "users", "times", "value"]


def warehouse(binary, tables):
    sql = """SELECT event_type, count(*), count(DISTINCT event_id), count(DISTINCT user_id),
             sum(timestamp_ns / 1000000000), coalesce(sum(value), 0) FROM events GROUP BY 1 ORDER BY 1"""
    out = subprocess.run([binary, "query", "--tables", tables, sql, "--format", "csv"],
                         check=True, capture_output=True, text=True).stdout
    return [tuple(row) for row in csv.reader(io.StringIO(out))][1:]


def duckdb(events):
    return duckdb_with_delta().execute(
        f"""SELECT event_type, count(*), count(DISTINCT event_id), count(DISTINCT user_id),
            sum(timestamp_ns // 1000000000), coalesce(sum(value), 0) FROM delta_scan('{events}')
            WHERE event_type <> 'dead_letter' GROUP BY 1 ORDER BY 1""").fetchall()


def chdb(events):
    import chdb
    # It reads files below the working directory alone.
    os.chdir("/")
    sql = f"""SELECT event_type, count(), uniqExact(event_id), uniqExact(user_id),
              sum(intDiv(timestamp_ns, 1000000000)), coalesce(sum(value), 0) FROM deltaLakeLocal('{events}')
              WHERE event_type != 'dead_letter' GROUP BY 1 ORDER BY 1"""
    return [tuple(row) for row in csv.reader(io.StringIO(str(chdb.query(sql, "CSV"))))]


def polars(events):
    import polars
    columns = polars.col
    frame = polars.scan_delta(str(events)).filter(columns("event_type") != "dead_letter")
    grouped = frame.group_by("event_type").agg(
        polars.len(), columns("event_id").n_unique(), columns("user_id").drop_nulls().n_unique().alias("users"),
        (columns("timestamp_ns") // 1_000_000_000).sum(), columns("value").sum())
    return grouped.sort("event_type").collect().rows()


def deltalake(events):
    import deltalake
    table = deltalake.DeltaTable(str(events)).to_pyarrow_table(
        columns=["event_type", "event_id", "user_id", "timestamp_ns", "value"])
    rows = {}
    for row in table.to_pylist():
        if row["event_type"] == "dead_letter":
            continue
        kind = rows.setdefault(row["event_type"], [0, set(), set(), 0, 0.0])
        kind[0] += 1
        kind[1].add(row["event_id"])
        if row["user_id"] is not None:
            kind[2].add(row["user_id"])
        kind[3] += row["timestamp_ns"] // 1_000_000_000
        kind[4] += row["value"] or 0.0
    return [(name, row[0], len(row[1]), len(row[2]), row[3], row[4]) for name, row in sorted(rows.items())]


def plain(rows):
    """Rows with the same form whoever gave them."""
    return [(str(row[0]), *(int(number) for number in row[1:5]), round(float(row[5]), 6)) for row in rows]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tables")
    parser.add_argument("--binary", default="target/debug/tickstream-warehouse")
    arguments = parser.parse_args()
    events = pathlib.Path(arguments.tables).resolve() / "events"
    expected = plain(warehouse(arguments.binary, arguments.tables))
    print("\t".join(COLUMNS))
    for row in expected:
        print("\t".join(str(cell) for cell in row))
    failed = False
    for reader in (duckdb, chdb, polars, deltalake):
        found = plain(reader(events))
        is_same = found == expected
        failed |= not is_same
        print(f"{reader.__name__}: {'the same' if is_same else f'differs: {found}'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
