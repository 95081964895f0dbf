"""Thirteen questions over one table, as the warehouse, DuckDB and ClickHouse (chDB) are asked them."""

import math

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
# Sessions end after half an hour without an event.
IDLE_NS = HOUR_NS // 2
PEOPLE = "event_type = 'user_interaction'"
# Midnight of the day with which the generated events begin.
BEGAN_NS = 1_792_886_400 * 10**9
# Approximate quantiles differ by their sketches' errors.
TOLERANCE = {"quantiles": 0.05}
SPANS = ("FROM events AS l JOIN events AS s ON l.trace_id = s.trace_id WHERE l.event_type = 'log' AND l.level = 'error' "
         "AND s.event_type = 'trace_span' AND s.duration_ms > 1000 GROUP BY 1 ORDER BY 1")


def questions(user, trace):
    """Name, and SQL of the warehouse, DuckDB and chDB; `None` where an engine has no function for it."""
    return [
        ("counts by hour", *each(f"SELECT timestamp_ns {{div}} {HOUR_NS} AS hour, count(*) FROM events GROUP BY 1 ORDER BY 1")),
        ("uniques by day", *each(f"SELECT timestamp_ns {{div}} {DAY_NS} AS day, count(DISTINCT user_id) FROM events WHERE {PEOPLE} GROUP BY 1 ORDER BY 1")),
        ("top 10 users", *each(f"SELECT user_id, count(*) AS events FROM events WHERE {PEOPLE} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10")),
        ("quantiles", *quantiles()),
        ("sessions", *sessions()),
        ("funnel of 3", *funnel(3)),
        ("funnel of 8", *funnel(8)),
        ("retention", *retention()),
        ("paths", *paths()),
        ("JSON path", *json_path()),
        ("logs and spans", *each(f"SELECT s.service, count(*) {SPANS}")),
        ("a user", *each(f"SELECT event_name, timestamp_ns FROM events WHERE user_id = '{user}' ORDER BY 2, 1 LIMIT 100")),
        ("a trace", *each(f"SELECT service, operation FROM events WHERE trace_id = '{trace}' AND event_type = 'trace_span' ORDER BY timestamp_ns")),
    ]


def each(sql):
    divisions = ["/", "//", "DIV"]
    return [sql.format(div=division) for division in divisions]


def quantiles():
    shares = [0.5, 0.95, 0.99]
    forms = ["approx_percentile_cont({}) WITHIN GROUP (ORDER BY duration_ms)", "approx_quantile(duration_ms, {})",
             "quantileTDigest({})(duration_ms)"]
    return [f"SELECT service, {', '.join(form.format(share) for share in shares)} FROM events "
            "WHERE event_type = 'trace_span' GROUP BY 1 ORDER BY 1" for form in forms]


def sessions():
    window = "(PARTITION BY user_id ORDER BY timestamp_ns{})"
    frame = " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    lags = ["lag(timestamp_ns) OVER " + window.format("")] * 2
    lags.append("lagInFrame(toNullable(timestamp_ns)) OVER " + window.format(frame))
    return [f"SELECT count(*) FROM (SELECT timestamp_ns - {lag} AS gap FROM events WHERE {PEOPLE}) AS t "
            f"WHERE gap IS NULL OR gap > {IDLE_NS}" for lag in lags]


def funnel(steps):
    conditions = ", ".join(f"event_name = 'step_{step}'" for step in range(1, steps + 1))
    around = (f"SELECT steps, count(*) FROM (SELECT user_id, {{}} AS steps FROM events WHERE {PEOPLE} GROUP BY user_id) AS t "
              "GROUP BY 1 ORDER BY 1")
    return [around.format(f"window_funnel({HOUR_NS}, timestamp_ns, {conditions})"), None,
            around.format(f"windowFunnel({HOUR_NS})(assumeNotNull(toUInt64(timestamp_ns)), {conditions.replace('event_name', 'assumeNotNull(event_name)')})")]


def retention():
    weeks = [BEGAN_NS + week * 7 * DAY_NS for week in range(5)]
    conditions = [f"timestamp_ns >= {start} AND timestamp_ns < {end}" for start, end in zip(weeks, weeks[1:])]
    around = f"SELECT {{}} FROM (SELECT {{}} FROM events WHERE {PEOPLE} GROUP BY user_id) AS t"
    items = range(1, len(conditions) + 1)
    listed = f"retention({', '.join(conditions)}) AS r"
    first = [f"bool_or({conditions[0]})"] + [f"bool_or({conditions[0]}) AND bool_or({one})" for one in conditions[1:]]
    return [
        around.format(", ".join(f"sum(CAST(r[{item}] AS INTEGER))" for item in items), listed),
        around.format(", ".join(f"sum(CAST(r{item} AS INTEGER))" for item in items),
                      ", ".join(f"{one} AS r{item}" for item, one in enumerate(first, 1))),
        around.format(", ".join(f"sum(r[{item}])" for item in items), listed),
    ]


def paths():
    window = "(PARTITION BY session_id ORDER BY timestamp_ns{})"
    frame = " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"
    leads = ["lead(event_name) OVER " + window.format("")] * 2
    leads.append("leadInFrame(toNullable(event_name)) OVER " + window.format(frame))
    return [f"SELECT event_name, after, count(*) AS times FROM (SELECT event_name, {lead} AS after FROM events WHERE {PEOPLE}) AS t "
            "WHERE after IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 20" for lead in leads]


def json_path():
    forms = [("json_text(properties, 'plan')", "json_number(properties, 'price')"),
             ("json_extract_string(properties, '$.plan')", "CAST(json_extract(properties, '$.price') AS DOUBLE)"),
             ("JSONExtractString(properties, 'plan')", "JSONExtractFloat(properties, 'price')")]
    return [f"SELECT count(*), avg({price}) FROM events WHERE {PEOPLE} AND {plan} = 'pro'" for plan, price in forms]


def same(name, one, other):
    """True if two engines answer alike: texts exactly, numbers but for rounding, approximations within their errors."""
    if len(one) != len(other):
        return False
    tolerance = TOLERANCE.get(name, 1e-9)
    return all(len(a) == len(b) and all(alike(x, y, tolerance) for x, y in zip(a, b)) for a, b in zip(one, other))


def alike(one, other, tolerance):
    if str(one) == str(other):
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=tolerance)
    except (TypeError, ValueError):
        return False
