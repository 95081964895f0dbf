"""Funnels against ClickHouse's windowFunnel (PyPI chdb-core), on random cases of each mode; strict ties against a search over
all chains. Usage: python3 tests insights.funnel [CASES A MODE]"""
import json
import random
import sys

import chdb

from insights.answers import answers

MODES = [[], ["strict_deduplication"], ["strict_order"], ["strict_increase"],
         ["strict_order", "strict_increase"], ["strict_deduplication", "strict_increase"]]


def case(rng, modes):
    steps = rng.randint(1, 5)
    span = rng.choice([6, 20, 100])
    times = sorted(rng.randint(0, span) for _ in range(rng.randint(0, 14)))
    # Most events fulfil one step, some two, some none.
    def bits():
        kind = rng.random()
        if kind < 0.15:
            return 0
        mask = 1 << rng.randrange(steps)
        return mask | 1 << rng.randrange(steps) if kind > 0.9 else mask
    return {"analysis": "funnel", "steps": steps, "window": rng.choice([1, 2, 4, 10, 50]), "modes": modes,
            "events": [[time, bits()] for time in times]}


def by_clickhouse(cases, modes, steps):
    """Levels of cases that have this number of steps; the window is a constant there, so cases are grouped by it."""
    levels = {}
    for window in sorted({c["window"] for _, c in cases}):
        rows = [(n, time, bits) for n, c in cases if c["window"] == window for time, bits in c["events"]]
        if not rows:
            continue
        arguments = ", ".join([str(window)] + [f"'{mode}'" for mode in modes])
        conditions = ", ".join(f"bitTest(bits, {step})" for step in range(steps))
        values = ",".join(str(row) for row in rows)
        sql = (f"SELECT n, windowFunnel({arguments})(time, {conditions}) FROM "
               f"values('n UInt32, time UInt64, bits UInt32', {values}) GROUP BY n FORMAT JSONCompactEachRow")
        for line in str(chdb.query(sql)).splitlines():
            n, level = json.loads(line)
            levels[n] = level
    return levels


def by_search(c):
    """The highest level over all chains with rising times."""
    best = 0
    for begin, first in c["events"]:
        if not first & 1:
            continue
        time, level = begin, 1
        for step in range(1, c["steps"]):
            later = [t for t, bits in c["events"] if time < t <= begin + c["window"] and bits >> step & 1]
            if not later:
                break
            time, level = later[0], level + 1
        best = max(best, level)
    return best


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for modes in MODES:
        rng = random.Random(17)
        cases = [case(rng, modes) for _ in range(count)]
        expected = {}
        for steps in range(1, 6):
            expected |= by_clickhouse([(n, c) for n, c in enumerate(cases) if c["steps"] == steps], modes, steps)
        levels = [0] * 6
        for n, (c, found) in enumerate(zip(cases, answers(cases))):
            level = expected.get(n, 0)
            levels[level] += 1
            if found["level"] != level or (not modes and found["general"] != level):
                sys.exit(f"{modes}: {found}, ClickHouse {level}: {c}")
            if not modes and found["strict_ties"] != by_search(c):
                sys.exit(f"strict ties: {found}, search {by_search(c)}: {c}")
        print(f"{'+'.join(modes) or 'default'}: {count} cases agree; by level {levels}", flush=True)


main()
