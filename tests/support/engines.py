"""DuckDB as a reader of Delta tables. Needs the Python of target/readers."""

import pathlib


def duckdb_with_delta(**settings):
    """A connection that has `delta_scan`, by the extension of PyPI's package."""
    import duckdb
    import duckdb_extension_delta

    extension = next(pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("*.duckdb_extension"))
    connection = duckdb.connect(config={"allow_unsigned_extensions": True, **settings})
    connection.execute(f"LOAD '{extension}'")
    return connection
