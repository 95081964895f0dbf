"""The SQL wires by real clients: psql, psycopg, psycopg2, SQLAlchemy, HTTP. Each gives the answer of the command.

    python3 tests warehouse.wires --http ADDR --postgres ADDR [--user NAME --password TEXT]

Needs psycopg, psycopg2-binary and SQLAlchemy of PyPI, and psql.
"""

import argparse
import json
import os
import subprocess
import sys
import urllib.request

COUNT = "SELECT event_type, count(*) AS n FROM events GROUP BY event_type ORDER BY event_type"
WRITES = [
    "DROP TABLE events", "DELETE FROM events", "CREATE TABLE x AS SELECT 1", "COPY events TO '/tmp/x.csv'",
    "COPY events FROM '/etc/passwd'", "COPY events TO PROGRAM 'id'", "INSERT INTO events SELECT * FROM events",
    "UPDATE events SET user_id = NULL", "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
    "SELECT * FROM '/etc/passwd'", "SELECT pg_read_file('/etc/passwd')", "SELECT 1; DROP TABLE events",
    "SELECT * INTO x FROM events", "GRANT ALL ON events TO x", "SET ROLE admin", "SELECT * FROM read_csv('/etc/passwd')",
]
# As Grafana's and Metabase's sources have them, shortened where they repeat.
CATALOG = [
    "SELECT quote_ident(table_name) AS \"table\" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN "
    "('information_schema', 'pg_catalog') ORDER BY CASE WHEN quote_ident(table_schema) = 'public' THEN 0 ELSE 1 END, 1",
    "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns "
    "WHERE quote_ident(table_name) = 'events'",
    "SELECT current_setting('server_version_num')::int/100 as version",
    "SELECT nspname FROM pg_namespace",
    "SELECT c.relname, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'v') AND n.nspname = 'public'",
    "SELECT t.typname, t.oid FROM pg_type t WHERE t.typname = 'hstore'",
    "select current_schema()",
    "show standard_conforming_strings",
    "SELECT version()",
]


class Checks:
    def __init__(self):
        self.failed = 0

    def check(self, what, found, expected):
        is_same = found == expected
        self.failed += not is_same
        print(f"{'ok      ' if is_same else 'FAILED  '}{what}" + ("" if is_same else f": {found!r} instead of {expected!r}"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", required=True)
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--user", default="me")
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()
    checks = Checks()
    expected = http(arguments, COUNT)
    print(expected)
    host, port = arguments.postgres.rsplit(":", 1)
    psql(arguments, host, port, checks, expected)
    psycopg3(arguments, host, port, checks, expected)
    psycopg_2(arguments, host, port, checks, expected)
    sqlalchemy(arguments, host, port, checks, expected)
    for sql in WRITES:
        try:
            answer = http(arguments, sql)
        except urllib.error.HTTPError as error:
            answer = error.code
        checks.check(f"HTTP refuses {sql}", answer in (400, 422), True)
    sys.exit(1 if checks.failed else 0)


def http(arguments, sql):
    request = urllib.request.Request(f"http://{arguments.http}/v1/query", data=sql.encode())
    if arguments.password:
        import base64
        login = base64.b64encode(f"{arguments.user}:{arguments.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [tuple(json.loads(line).values()) for line in answer.read().decode().splitlines()]


def psql(arguments, host, port, checks, expected):
    env = os.environ | {"PGPASSWORD": arguments.password}
    def run(*words):
        command = ["psql", "-h", host, "-p", port, "-U", arguments.user, "-d", "tickstream", "-X", *words]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    found = run("-At", "-F", ",", "-c", COUNT)
    rows = [(kind, int(count)) for kind, count in (line.split(",") for line in found.stdout.splitlines())]
    checks.check("psql -c", rows, expected)
    # All tables are views, so \\dt says that there are none.
    for command in ["\\dt", "\\d", "\\d events", "\\dn", "\\l", "\\dv"]:
        found = run("-c", command)
        checks.check(f"psql {command}", (found.returncode, "ERROR" in found.stderr), (0, False))
    for sql in WRITES:
        found = run("-v", "ON_ERROR_STOP=1", "-c", sql)
        checks.check(f"psql refuses {sql}", found.returncode != 0 and "ERROR" in found.stderr, True)


def psycopg3(arguments, host, port, checks, expected):
    import psycopg
    with psycopg.connect(host=host, port=port, user=arguments.user, password=arguments.password, dbname="tickstream") as connection:
        checks.check("psycopg", connection.execute(COUNT).fetchall(), expected)
        kind = expected[0][0]
        sql = "SELECT count(*) FROM events WHERE event_type = %s AND timestamp_ns > %s"
        checks.check("psycopg with parameters", connection.execute(sql, (kind, 0)).fetchone(), (expected[0][1],))
        with connection.cursor(binary=True) as cursor:
            row = cursor.execute("SELECT event_id, timestamp, timestamp_ns, shard, value FROM events ORDER BY timestamp_ns LIMIT 1").fetchone()
            checks.check("psycopg, binary types", [type(cell).__name__ for cell in row[:4]], ["str", "datetime", "int", "int"])
    for sql in CATALOG:
        with psycopg.connect(host=host, port=port, user=arguments.user, password=arguments.password, dbname="tickstream") as connection:
            try:
                rows = connection.execute(sql).fetchall()
                found = "an answer"
            except psycopg.Error as error:
                found = str(error)
            checks.check(f"catalog: {sql[:90]}", found, "an answer")


def psycopg_2(arguments, host, port, checks, expected):
    import psycopg2
    connection = psycopg2.connect(host=host, port=port, user=arguments.user, password=arguments.password, dbname="tickstream")
    cursor = connection.cursor()
    cursor.execute(COUNT)
    checks.check("psycopg2", cursor.fetchall(), expected)
    connection.rollback()
    connection.close()


def sqlalchemy(arguments, host, port, checks, expected):
    import sqlalchemy
    for driver in ["psycopg", "psycopg2"]:
        url = sqlalchemy.URL.create(f"postgresql+{driver}", arguments.user, arguments.password or None, host, int(port), "tickstream")
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(sqlalchemy.text(COUNT))]
            checks.check(f"SQLAlchemy, {driver}", rows, expected)
        try:
            inspector = sqlalchemy.inspect(engine)
            names = set(inspector.get_table_names()) | set(inspector.get_view_names())
            found = {"events", "logs"} <= names
        except Exception as error:
            found = str(error).splitlines()[0]
        checks.check(f"SQLAlchemy, {driver}: names of tables", found, True)


if __name__ == "__main__":
    main()
