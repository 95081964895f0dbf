"""Events for measurements, as JSON lines: a shop with sessions of ten steps, spans of its services, and their logs.

Run by the Python of target/readers, since DuckDB makes them: python3 -m lib.warehouse_data FILE EVENTS. The same number gives the same
events: ids, users and times come from hashes of row numbers.
"""

import os
import sys

import duckdb

# Of a hundred events: interactions, spans, logs. A session has ten interactions, a trace five spans.
SHARES = {"user_interaction": 70, "trace_span": 15, "log": 15}
STEPS = 8
DAYS = 29
BEGAN = "TIMESTAMP '2026-10-25 00:00:00'"
# A number from 0 on, below `below`, by a hash.
PICK = "CREATE MACRO pick(what, n, below) AS CAST(hash(what || ':' || n) % CAST(below AS UBIGINT) AS BIGINT)"
ID = "CREATE MACRO id_of(what, n) AS CAST(CAST(md5(what || ':' || n) AS UUID) AS VARCHAR)"
SHOWN = "CREATE MACRO shown(moment) AS strftime(moment, '%Y-%m-%dT%H:%M:%S.%f') || 'Z'"

INTERACTIONS = """
    WITH sessions AS (
        SELECT s, CAST(floor(pow(pick('user', s, 1000000) / 1e6, 2) * {users}) AS BIGINT) AS u,
               {began} + to_microseconds(pick('start', s, {days} * 86400000000)) AS start,
               least({steps}, CAST(floor(-2.2 * ln((1 + pick('depth', s, 999999)) / 1e6)) AS BIGINT)) AS depth
        FROM range({sessions}) AS r(s)),
    events AS (
        SELECT s, k, u, depth, start + to_microseconds(k * 40000000 + pick('gap', s * 10 + k, 30000000)) AS moment
        FROM sessions, range(10) AS r(k))
    SELECT id_of('i', s * 10 + k) AS event_id, shown(moment) AS "timestamp",
           ['web', 'ios', 'android', 'tv'][1 + u % 4] AS platform,
           'session-' || s AS session_id, 'user-' || u AS user_id, 'user_interaction' AS event_type,
           CASE WHEN k < depth THEN 'step_' || (k + 1) ELSE ['product_viewed', 'searched', 'scrolled', 'help_opened'][1 + pick('name', s * 10 + k, 4)] END AS event_name,
           {{'experiment': ['a', 'b'][1 + u % 2]}} AS context,
           {{'plan': ['free', 'basic', 'pro', 'team'][1 + u % 4], 'price': CAST(pick('price', s * 10 + k, 10000) AS DOUBLE) / 100,
             'item': 'item-' || pick('item', s * 10 + k, 5000)}} AS properties,
           {{'properties': {{'screen_name': ['home', 'list', 'product', 'cart', 'account'][1 + pick('screen', s * 10 + k, 5)],
                            'element_id': 'button-' || (k % 9), 'element_type': 'button', 'action': 'click'}},
             'context': {{'app_version': '8.' || (u % 14) || '.2', 'network_type': ['wifi', '5g'][1 + s % 2], 'locale': 'de-AT', 'timezone': 'Europe/Vienna'}}}} AS user_interaction
    FROM events"""
SPANS = """
    WITH spans AS (
        SELECT t, k, {began} + to_microseconds(pick('trace', t, {days} * 86400000000)) + to_microseconds(k * 3000) AS moment,
               1 + pick('duration', t * 5 + k, 400) * pick('slow', t * 5 + k, 10) AS ms
        FROM range({traces}) AS r(t), range(5) AS q(k))
    SELECT id_of('s', t * 5 + k) AS event_id, shown(moment) AS "timestamp", 'linux' AS platform, 'trace_span' AS event_type, 'span' AS event_name,
           {{'trace_id': md5('t:' || t), 'span_id': substr(md5('p:' || (t * 5 + k)), 1, 16), 'service': 'service-' || ((t + k) % 20),
             'operation': ['GET /items', 'POST /orders', 'SELECT', 'charge', 'render'][1 + k], 'start_time': shown(moment),
             'end_time': shown(moment + to_microseconds(ms * 1000)), 'duration_ms': CAST(ms AS DOUBLE),
             'status': CASE WHEN pick('status', t * 5 + k, 50) = 0 THEN 'error' ELSE 'success' END}} AS trace_span
    FROM spans"""
LOGS = """
    SELECT id_of('l', l) AS event_id,
           shown({began} + to_microseconds(pick('trace', l % {traces}, {days} * 86400000000)) + to_microseconds(9000)) AS "timestamp",
           'linux' AS platform, 'log' AS event_type, 'line' AS event_name,
           {{'service': 'service-' || (l % 20), 'level': ['debug', 'info', 'info', 'info', 'warn', 'error'][1 + pick('level', l, 6)],
             'message': 'request ' || pick('message', l, 1000000) || ' answered after ' || pick('after', l, 900) || ' ms',
             'logger_name': 'http.access', 'context': {{'request_id': 'r-' || l, 'trace_id': md5('t:' || (l % {traces}))}}}} AS log
    FROM range({logs}) AS r(l)"""


def main():
    path, events = sys.argv[1], int(sys.argv[2])
    counts = {kind: events * share // 100 for kind, share in SHARES.items()}
    values = {"users": max(1, events // 100), "began": BEGAN, "days": DAYS, "steps": STEPS,
              "sessions": counts["user_interaction"] // 10, "traces": max(1, counts["trace_span"] // 5), "logs": counts["log"]}
    connection = duckdb.connect()
    for macro in (PICK, ID, SHOWN):
        connection.execute(macro)
    with open(path, "wb") as whole:
        for query in (INTERACTIONS, SPANS, LOGS):
            part = path + ".part"
            connection.execute(f"COPY ({query.format(**values)}) TO '{part}' (FORMAT json)")
            with open(part, "rb") as lines:
                while chunk := lines.read(1 << 24):
                    whole.write(chunk)
    os.remove(part)


if __name__ == "__main__":
    main()
