//! SQL that no wire may run.

/// Statements that write, read files, or take rights.
pub const REFUSED: [&str; 34] = [
    "DROP TABLE events",
    "DELETE FROM events",
    "TRUNCATE events",
    "INSERT INTO events SELECT * FROM events",
    "UPDATE events SET user_id = NULL",
    "MERGE INTO events USING logs ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE x AS SELECT * FROM events",
    "CREATE VIEW x AS SELECT 1",
    "CREATE SCHEMA x",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "ALTER TABLE events DROP COLUMN user_id",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
    "COPY events TO '/tmp/tickstream-attack'",
    "COPY events TO STDOUT",
    "COPY events TO PROGRAM 'id'",
    "COPY events FROM '/etc/passwd'",
    "COPY (SELECT 1) TO '/tmp/tickstream-attack.csv' STORED AS CSV",
    "EXPLAIN ANALYZE INSERT INTO events SELECT * FROM events",
    "EXPLAIN COPY events TO '/tmp/tickstream-attack'",
    "WITH a AS (DELETE FROM events RETURNING *) SELECT * FROM a",
    "SELECT * FROM (DELETE FROM events RETURNING *) AS a",
    "SELECT * FROM (INSERT INTO events SELECT * FROM events) AS a",
    "SELECT (UPDATE events SET user_id = NULL)",
    "SELECT * INTO x FROM events",
    "SELECT 1; DROP TABLE events",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM \"file:///etc/passwd\"",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT range(1, 100000000000)",
    "GRANT ALL ON events TO x",
    "PREPARE x AS DELETE FROM events",
];

/// Short queries that stand for plans or texts beyond any memory: each part of a chain names the one before it twice.
pub fn unfolding() -> Vec<String> {
    let chain = |first: &str, next: &dyn Fn(&str) -> String, last: &str| {
        let mut sql = format!("WITH c0 AS ({first})");
        for level in 1..=60 {
            sql.push_str(&format!(", c{level} AS ({})", next(&format!("c{}", level - 1))));
        }
        sql + " " + &last.replace("LAST", "c60")
    };
    let count = "SELECT count(*) FROM LAST";
    let text = format!("SELECT '{}' AS x", "a".repeat(100_000));
    vec![
        chain("SELECT 1 AS x", &|c| format!("SELECT * FROM {c} UNION ALL SELECT * FROM {c}"), count),
        chain("SELECT 1 AS x", &|c| format!("SELECT a.x FROM {c} a JOIN {c} b ON a.x = b.x"), count),
        chain(
            "SELECT 1 AS x",
            &|c| format!("SELECT (SELECT max(x) FROM {c}) + (SELECT min(x) FROM {c}) AS x"),
            count,
        ),
        chain("SELECT 1 AS x", &|c| format!("SELECT x FROM {c} WHERE x IN (SELECT x FROM {c})"), count),
        chain(
            "SELECT value AS x FROM generate_series(1, 3)",
            &|c| format!("SELECT x + x AS x FROM {c}"),
            "SELECT * FROM LAST WHERE x > 5",
        ),
        chain(
            "SELECT event_name AS x FROM events",
            &|c| format!("SELECT x || x AS x FROM {c}"),
            "SELECT max(length(x)) FROM LAST",
        ),
        chain(
            "SELECT event_name AS x FROM events",
            &|c| format!("SELECT concat(x, x) AS x FROM {c}"),
            "SELECT max(x) FROM LAST",
        ),
        chain(
            "SELECT [1] AS x",
            &|c| format!("SELECT array_concat(x, x) AS x FROM {c}"),
            "SELECT x FROM LAST",
        ),
        format!("SELECT length(replace(x, 'a', x)) FROM ({text})"),
        format!("SELECT length(regexp_replace(x, 'a', '{}', 'g')) FROM ({text})", "b".repeat(100_000)),
        format!("SELECT length(concat_ws('{}'{}))", "b".repeat(100_000), ", 'x'".repeat(3_000)),
        format!("SELECT length(x{}) FROM ({text})", " || x".repeat(400)),
        format!(
            "SELECT length(x{}) FROM (SELECT string_agg(raw_data, ',') AS x FROM events)",
            " || x".repeat(100)
        ),
    ]
}
