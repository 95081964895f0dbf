"""Rules, alerts and the dashboard: do they parse, are they tested, and does each metric exist?"""

import json
import re
import tempfile
from pathlib import Path

import yaml

from lib.deploy.context import relative, require

# Made by Prometheus itself.
OF_PROMETHEUS = {"up", "ALERTS"}
METRIC = re.compile(r"\b[a-z_][a-z0-9_:]*(?=\{|\[|\s|$|\))")
# Names in docs/metrics.md: | `active_connections` | gauge | shard | … |
ROW = re.compile(r"^\| `([a-z_0-9]+)` \| (counter|gauge|histogram) \|", re.MULTILINE)
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$job": "tickstream", "$instance": "a|b"}


def rules(context):
    folder = context.deploy / "prometheus"
    path = folder / "tickstream.rules.yml"
    if promtool := context.tool("promtool", "Prometheus rules"):
        for command in (["check", "rules", path], ["check", "config", folder / "prometheus.yml"],
                        ["test", "rules", folder / "tickstream.rules.test.yml"]):
            context.run([promtool, *command])
            context.say(f"promtool {' '.join(command[:2])} {command[2].name}: content")
    groups = yaml.safe_load(path.read_text())["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    alerts = {rule["alert"]: rule for rule in found if "alert" in rule}
    tested = (folder / "tickstream.rules.test.yml").read_text()
    for name, rule in alerts.items():
        require(f'alertname="{name}"' in tested, f"{name} has no test")
        require(rule["labels"].get("severity") in ("critical", "warning", "info"), f"{name} has no severity")
        require(rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}"), f"{name}: its runbook is another's")
    page = (context.root / "docs/alerts.md").read_text()
    described = set(re.findall(r"^#+ (Tickstream\w+)$", page, re.MULTILINE))
    require(described == set(alerts), f"docs/alerts.md and the alerts differ: {described ^ set(alerts)}")
    context.say(f"{len(alerts)} alerts, each with a test and a place in docs/alerts.md")
    recorded = {rule["record"] for rule in found if "record" in rule}
    known(context, path, [rule["expr"] for rule in found], recorded)


def dashboard(context):
    path = context.deploy / "grafana/tickstream.json"
    board = json.loads(path.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    numbers = [panel["id"] for panel in board["panels"]]
    require(len(numbers) == len(set(numbers)), "two panels have the same number")
    taken = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        require(0 <= place["x"] and place["x"] + place["w"] <= 24, f"{panel['title']} is outside the grid")
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])):
            require(cell not in taken, f"{panel['title']} covers {taken.get(cell)}")
            taken[cell] = panel["title"]
    for panel in panels:
        require(panel["title"] and panel["targets"], f"a panel without a title or a query: {panel}")
        require(panel["datasource"]["uid"] == "${source}", f"{panel['title']} has a data source of its own")
    names = {variable["name"] for variable in board["templating"]["list"]}
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += [note["expr"] for note in board["annotations"]["list"]]
    for query in queries:
        used = set(re.findall(r"\$(?!__)\{?(\w+)", query))
        require(used <= names, f"no variable {used - names} in {query}")
    plain = [replaced(query) for query in queries]
    parsed(context, plain)
    known(context, path, plain, set())
    context.say(f"{relative(context, path)}: {len(panels)} panels, {len(queries)} queries")


def replaced(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def parsed(context, queries):
    """Prometheus' own parser takes each; as rules, since promtool can't be given one alone."""
    promtool = context.tool("promtool", "the dashboard's queries")
    if promtool is None:
        return
    made = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "queries.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}))
        context.run([promtool, "check", "rules", path])
    context.say(f"promtool parses {len(queries)} queries of the dashboard")


def known(context, path, queries, recorded):
    """Every metric is one that the server has, by its documentation, or that a rule records."""
    page = context.root / "docs/metrics.md"
    rows = ROW.findall(page.read_text()) if page.exists() else []
    if not rows:
        return context.cannot(f"the metrics of {path.name}: docs/metrics.md lists none")
    there = {name for name, _ in rows} | recorded | OF_PROMETHEUS
    for name, kind in rows:
        if kind == "histogram":
            there |= {f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
    used = set().union(*(metrics(query) for query in queries))
    require(used <= there, f"{path.name} uses what the server doesn't have: {sorted(used - there)}")
    context.say(f"{path.name}: each of its {len(used)} metrics is there")


def metrics(query):
    """Names of series in a query: what stands before a selector or alone, but no function, label or keyword."""
    query = re.sub(r'"[^"]*"', '""', query)
    query = re.sub(r"\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)", " ", query)
    query = re.sub(r"\{[^}]*\}", "{}", query)
    words = {match.group(0) for match in METRIC.finditer(query)}
    keywords = {"and", "or", "unless", "offset", "bool", "sum", "max", "min", "avg", "count", "by"}
    return {word for word in words - keywords if not re.fullmatch(r"\d+[smhd]", word)}
