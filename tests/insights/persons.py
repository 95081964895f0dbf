"""Identities, sessions, retention, lifecycle, stickiness and paths against an implementation of their definitions with other
means (sets and scans instead of sorted searches): on random data, and on the data set of PyPI retentioneering, whose
`ecom.csv.gz` is the argument. Usage: python3 tests insights.persons [ECOM.CSV.GZ]"""
import collections
import random
import sys

from insights.answers import answers

DAY = 86_400


def by_scan_sessions(times, idle, length_max):
    found, begin = [], 0
    for n, time in enumerate(times):
        if n > begin and (time - times[n - 1] > idle or time - times[begin] > length_max):
            found.append([begin, n])
            begin = n
    return found + ([[begin, len(times)]] if times else [])


def by_sets_retention(c):
    """A table by sets of (person, period)."""
    length, bounds = c.get("length"), c.get("bounds")

    def period(time):
        if length:
            return time // length
        inside = [n for n in range(len(bounds) - 1) if bounds[n] <= time < bounds[n + 1]]
        return inside[0] if inside else None

    members = collections.defaultdict(list)
    for starts, returns in c["persons"]:
        seen = set()
        for start in starts:
            cohort = period(start)
            if cohort is not None and cohort not in seen:
                seen.add(cohort)
                members[cohort].append((start, returns))
            if not c["is_recurring"]:
                break
    rows = []
    for cohort in sorted(members):
        cells = []
        for n in range(1, c["count"] + 1):
            last = c["count"] if c["is_rolling"] else n
            if length:
                is_over = (cohort + last + 2) * length <= c["now"]
            else:
                is_over = cohort + last + 1 < len(bounds) and bounds[cohort + last + 1] <= c["now"]
            if not is_over:
                cells.append(None)
                continue
            total = 0
            for start, returns in members[cohort]:
                wanted = range(n, last + 1)
                counts = [sum(1 for r in returns if start <= r < c["now"]
                              and ((r - start) // length if length else (-1 if period(r) is None else period(r) - cohort)) == m)
                          for m in wanted]
                total += any(count >= c["times"] for count in counts)
            cells.append(total)
        rows.append([cohort * length if length else bounds[cohort], len(members[cohort]), cells])
    return rows


def by_sets_activity(c):
    rows, persons = [], [set(p) for p in c["persons"]]
    for n in range(c["count"]):
        row = [0, 0, 0, 0]
        for active in persons:
            before = {p for p in active if p < n}
            if n in active:
                row[0 if not before else 1 if n - 1 in active else 2] += 1
            elif n - 1 in active:
                row[3] += 1
        rows.append(row)
    days = [len([p for p in active if 0 <= p < c["count"]]) for active in persons]
    return {"lifecycle": rows, "stickiness": [days.count(n) for n in range(1, c["count"] + 1)]}


def by_words_paths(c):
    """Paths as lists between the marks of begin and end."""
    counts = collections.Counter()
    for session in c["sessions"]:
        events = [e for n, e in enumerate(session) if not (c["is_collapsed"] and n and session[n - 1] == e)]
        places = [n for n, e in enumerate(events) if c["anchor"] in (None, e)]
        if not places:
            continue
        place = places[-1] if c["direction"] == "to" else places[0]
        marked = [None] + events + [None]
        place += 1
        begin = place if c["direction"] == "from" else max(0, place - c["steps"])
        end = place if c["direction"] == "to" else min(len(marked) - 1, place + c["steps"])
        counts[tuple(marked[begin:end + 1])] += 1
    return counts


def by_replay_identity(c):
    """Links replayed in order; each person is a set of ids with the newest name."""
    name_of, users, refused = {}, set(), 0
    members = collections.defaultdict(set)

    def name(identity):
        return name_of.get(identity, identity)
    for _, source, target, is_alias in sorted(map(tuple, c["links"])):
        known = source in users and (target in users or not is_alias)
        users |= {source, target} if is_alias else {target}
        if name(source) == name(target):
            continue
        # Only the newest name of a person moves on, and never to one of its older names.
        if known or name(source) != source or name(target) == source:
            refused += 1
            continue
        new = name(target)
        moved = members.pop(source, set()) | {source}
        for identity in moved:
            name_of[identity] = new
        members[new] |= moved
    return {"persons": [name(i) for i in c["ids"]], "refused": refused}


def check(name, cases, expected):
    for c, found, wanted in zip(cases, answers(cases), map(expected, cases)):
        if found != wanted:
            sys.exit(f"{name}: {found}, expected {wanted}: {c}")
    print(f"{name}: {len(cases)} cases agree")


def check_paths(name, cases):
    for c, found in zip(cases, answers(cases)):
        wanted = by_words_paths(c)
        top = {tuple(events): count for events, count in found["top"]}
        rest = sum(wanted.values()) - sum(top.values())
        best = sorted(wanted.values(), reverse=True)[:c["top"]]
        if any(wanted[p] != n for p, n in top.items()) or found["other"] != rest or sorted(top.values(), reverse=True) != best:
            sys.exit(f"{name}: {found}, expected {wanted}: {c}")
    print(f"{name}: {len(cases)} cases agree")


def random_cases(rng, count):
    times = lambda n, span: sorted(rng.randrange(-20, span) for _ in range(rng.randint(0, n)))
    sessions = [{"analysis": "sessions", "times": times(30, 300), "idle": rng.randint(1, 20), "length_max": rng.randint(10, 80)}
                for _ in range(count)]
    retention = []
    for n in range(count):
        c = {"analysis": "retention", "persons": [[times(6, 120), times(12, 120)] for _ in range(rng.randint(0, 5))],
             "is_recurring": rng.random() < .5, "count": rng.randint(1, 6), "times": rng.randint(1, 3),
             "is_rolling": rng.random() < .3, "now": rng.randint(40, 140)}
        c["length" if n % 2 else "bounds"] = rng.randint(3, 20) if n % 2 else sorted(rng.sample(range(-10, 120), rng.randint(2, 9)))
        retention.append(c)
    activity = [{"analysis": "activity", "count": 8, "persons": [sorted(set(times(8, 10))) for _ in range(5)]} for _ in range(count)]
    paths = [{"analysis": "paths", "sessions": [[rng.randint(1, 4) for _ in range(rng.randint(0, 8))] for _ in range(9)],
              "anchor": rng.choice([None, 1, 2]), "direction": rng.choice(["from", "to", "around"]), "steps": rng.randint(1, 4),
              "is_collapsed": rng.random() < .5, "top": rng.randint(1, 20)} for _ in range(count)]
    ids = list("abcdef")
    links = lambda: [[n, rng.choice(ids), rng.choice(ids), rng.random() < .3] for n in range(rng.randint(0, 9))]
    identity = [{"analysis": "identity", "ids": ids, "links": rng.sample(found := links(), len(found))} for _ in range(count)]
    return sessions, retention, activity, paths, identity


def ecom_cases(path):
    import pandas
    data = pandas.read_csv(path, parse_dates=["timestamp"])
    data["time"] = (data.timestamp - pandas.Timestamp("2024-01-01")) // pandas.Timedelta(seconds=1)
    data = data.sort_values(["user_id", "time"], kind="stable")
    data["number"] = data.event.astype("category").cat.codes + 1
    users = [group for _, group in data.groupby("user_id")]
    sessions = [{"analysis": "sessions", "times": u.time.tolist(), "idle": 1_800, "length_max": DAY} for u in users]
    buys = data.event[data.event.str.contains("purchase|payment|order|confirm")].mode()[0]
    persons = [[u.time.tolist(), u.time[u.event == buys].tolist()] for u in users]
    now = int(data.time.max()) + 1
    base = {"analysis": "retention", "persons": persons, "count": 8, "times": 1, "is_rolling": False, "now": now}
    weeks = list(range(0, now + 7 * DAY, 7 * DAY))
    retention = [base | {"is_recurring": False, "bounds": weeks}, base | {"is_recurring": True, "bounds": weeks},
                 base | {"is_recurring": False, "length": 7 * DAY}]
    visits = data.groupby("session_id", sort=False).number.apply(list).tolist()
    anchor = int(data.number[data.event == buys].iloc[0])
    paths = [{"analysis": "paths", "sessions": visits, "anchor": a, "direction": d, "steps": 4, "is_collapsed": k, "top": 10}
             for a in (None, anchor) for d in ("from", "to", "around") for k in (False, True)]
    print(f"retentioneering: {len(users)} users, {len(data)} events, {len(visits)} sessions, return event {buys}")
    return sessions, retention, paths


def main():
    sessions, retention, activity, paths, identity = random_cases(random.Random(17), 2_000)
    check("sessions", sessions, lambda c: by_scan_sessions(c["times"], c["idle"], c["length_max"]))
    check("retention", retention, by_sets_retention)
    check("lifecycle and stickiness", activity, by_sets_activity)
    check("identities", identity, by_replay_identity)
    check_paths("paths", paths)
    if len(sys.argv) > 1:
        sessions, retention, paths = ecom_cases(sys.argv[1])
        check("sessions of the data set", sessions, lambda c: by_scan_sessions(c["times"], c["idle"], c["length_max"]))
        check("retention of the data set", retention, by_sets_retention)
        check_paths("paths of the data set", paths)


main()
