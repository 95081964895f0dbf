"""ClickHouse's engine (chDB) behind its HTTP interface, as far as the mirror needs it. For tests.

    python3 tests warehouse.clickhouse_front DIRECTORY PORT [--lose 3] [--fail 4]

--lose N: the answer of each Nth insert is lost after it was done. --fail N: each Nth insert fails before it is done.
"""

import argparse
import http.server
import pathlib
import tempfile
import urllib.parse

from chdb import session

# Settings of the URL that change what an insert does; the others are of transport alone.
SETTINGS = ["insert_deduplication_token", "insert_deduplicate", "max_partitions_per_insert_block", "max_insert_block_size",
            "min_insert_block_size_rows", "min_insert_block_size_bytes", "allow_experimental_json_type"]


class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine = None
    arguments = None
    inserts = 0

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        database = parameters.get("database", "default")
        try:
            self.engine.query(f"CREATE DATABASE IF NOT EXISTS {database}")
            self.engine.query(f"USE {database}")
            if "query" in parameters:
                Front.inserts += 1
                if self.arguments.fail and Front.inserts % self.arguments.fail == 0:
                    return self.answer(500, b"Code: 999. DB::Exception: injected")
                self.insert(parameters, body)
                if self.arguments.lose and Front.inserts % self.arguments.lose == 0:
                    self.close_connection = True
                    return self.connection.close()
                return self.answer(200, b"")
            text = str(self.engine.query(body.decode(), "TabSeparated"))
            self.answer(200, text.encode())
        except Exception as error:
            self.answer(500, str(error).encode())

    def insert(self, parameters, body):
        query = parameters["query"]
        into, form = query.rsplit(" FORMAT ", 1)
        settings = ", ".join(f"{key} = '{parameters[key]}'" for key in SETTINGS if key in parameters)
        columns = into[into.index("("):].strip("() ")
        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            file.write(body)
            file.flush()
            self.engine.query(f"{into} SELECT {columns} FROM file('{file.name}', {form}) SETTINGS {settings}")

    def answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--lose", type=int, default=0)
    parser.add_argument("--fail", type=int, default=0)
    Front.arguments = parser.parse_args()
    Front.engine = session.Session(str(Front.arguments.directory))
    # One at a time: chDB has one engine for each process.
    http.server.HTTPServer(("127.0.0.1", Front.arguments.port), Front).serve_forever()


if __name__ == "__main__":
    main()
