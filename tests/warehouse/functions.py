"""window_funnel, retention, sequence_match and sequence_count have ClickHouse's meaning: both answer on random data.

    python3 tests warehouse.functions TABLES [--binary target/debug/tickstream-warehouse] [--rounds 40]

TABLES is any directory of tables: the data stand in the queries. Needs chdb-core.
"""

import argparse
import random
import subprocess
import sys

import chdb

PATTERNS = ["(?1)(?2)", "(?1).*(?2)", "(?1).(?3)", "(?1)(?t<=3)(?2)", "(?1).*(?t>2)(?3)", "(?2)(?t==1)(?3)", "(?1).*(?2).*(?3)"]
MODES = ["", "strict_deduplication", "strict_order", "strict_increase"]


def rows(generator):
    return [(user, generator.randrange(12), generator.choice("abcd")) for user in range(20) for _ in range(generator.randrange(1, 9))]


def ours(binary, tables, data, expression):
    values = ", ".join(f"({user}, {time}, '{name}')" for user, time, name in data)
    sql = f"SELECT u, {expression} FROM (VALUES {values}) AS t(u, at, name) GROUP BY u ORDER BY u"
    out = subprocess.run([binary, "query", "--tables", tables, sql, "--format", "json"], check=True, capture_output=True, text=True)
    import json
    lines = [json.loads(line) for line in out.stdout.splitlines()]
    return [list(line.values())[1] for line in lines]


def theirs(data, expression):
    import json
    values = ", ".join(f"({user}, {time}, '{name}')" for user, time, name in data)
    sql = f"SELECT u, {expression} AS r FROM values('u UInt32, at UInt64, name String', {values}) GROUP BY u ORDER BY u"
    return [json.loads(line)["r"] for line in str(chdb.query(sql, "JSONEachRow")).splitlines()]


def cases():
    conditions = "name = 'a', name = 'b', name = 'c'"
    for mode in MODES:
        ours_mode = f"'{mode}', " if mode else ""
        theirs_mode = f", '{mode}'" if mode else ""
        yield f"window_funnel(5, {ours_mode}at, {conditions})", f"windowFunnel(5{theirs_mode})(at, {conditions})", int
    yield f"retention({conditions})", f"retention({conditions})", list
    for pattern in PATTERNS:
        yield f"sequence_match('{pattern}', at, {conditions})", f"sequenceMatch('{pattern}')(at, {conditions})", bool
        yield f"sequence_count('{pattern}', at, {conditions})", f"sequenceCount('{pattern}')(at, {conditions})", int


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tables")
    parser.add_argument("--binary", default="target/debug/tickstream-warehouse")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    compared = 0
    for _ in range(arguments.rounds):
        all_data = rows(generator)
        # The order of a user's events at the same time is undefined for sequences, says ClickHouse's manual.
        one_at_a_time = list({(user, time): (user, time, name) for user, time, name in all_data}.values())
        for our_call, their_call, form in cases():
            data = one_at_a_time if our_call.startswith("sequence") else all_data
            one = [form(value) for value in ours(arguments.binary, arguments.tables, data, our_call)]
            other = [form(int(value) if isinstance(value, str) else value) for value in theirs(data, their_call)]
            if one != other:
                sys.exit(f"{our_call}: {one}\n{their_call}: {other}\n{data}")
            compared += len(one)
    print(f"{compared} results are the same")


if __name__ == "__main__":
    main()
