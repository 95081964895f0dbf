"""A client of the server's admin endpoint."""

import http.client
import json
import re

TIMEOUT_S = 10.0
SERIES = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Admin:
    def __init__(self, host, port):
        self.host = host
        self.port = port

    def get(self, path):
        """The status and the body of an answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def json(self, path):
        status, body = self.get(path)
        if status != 200:
            raise AssertionError(f"{path}: {status} {body}")
        return json.loads(body)

    def connections(self):
        """Those that the server has, at most 1,000 of them."""
        return self.json("/connections?limit=1000")["connections"]

    def metrics(self):
        status, body = self.get("/metrics")
        if status != 200:
            raise AssertionError(f"/metrics: {status} {body}")
        return Metrics(body)


class Metrics:
    """One answer of /metrics."""

    def __init__(self, text):
        self._series = []
        for line in text.splitlines():
            if found := SERIES.fullmatch(line):
                labels = dict(LABEL.findall(found["labels"] or ""))
                self._series.append((found["name"], labels, float(found["value"])))

    def total(self, name, **labels):
        """The sum of all series of `name` that have these labels."""
        found = [value for series, given, value in self._series if series == name and labels.items() <= given.items()]
        if not found:
            raise AssertionError(f"there is no metric {name} with {labels}")
        return sum(found)

    def totals(self, name, label):
        """The sums of `name` by what its series have as `label`."""
        values = sorted({given[label] for series, given, _ in self._series if series == name})
        return {value: int(self.total(name, **{label: value})) for value in values}
