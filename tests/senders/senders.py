"""Each test runs one sender, and compares what is stored with what was sent."""

import http.server
import json
import logging
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

from senders.installation import Installation
from support import browser


def named(name):
    return lambda event: event["event_name"] == name


def test_curl_json_lines_and_gzip(installation):
    if not shutil.which("curl"):
        return "skipped: no curl"
    event = {"platform": "web", "event_type": "custom", "event_name": "curl", "custom": {"schema": "s/1"}}
    url = installation.url("http", "/v1/events?key=wk_5c1f9a00")
    body = "\n".join(json.dumps({**event, "event_id": str(uuid.uuid4())}) for _ in range(3))
    packed = subprocess.run(["gzip", "-c"], input=body.encode(), capture_output=True, check=True).stdout
    send = ["curl", "-sS", "--fail-with-body", url, "-H", "content-encoding: gzip", "--data-binary", "@-"]
    answers = [json.loads(subprocess.run(send, input=packed, capture_output=True, check=True).stdout) for _ in range(2)]
    assert answers[0] == {"accepted": 3, "duplicates": 0, "rejected": []}, answers
    assert answers[1] == {"accepted": 0, "duplicates": 3, "rejected": []}, answers
    stored = installation.wait_for_events(named("curl"), 3)
    assert len(stored) == 3 and stored[0]["custom"] == {"schema": "s/1"}, stored


def otel_providers(log_exporter, span_exporter, metric_exporter):
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "shop", "service.version": "1.2"})
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(span_exporter))
    metrics = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(metric_exporter)])
    return logs, traces, metrics, LoggingHandler


def otel(installation, name, exporters):
    logs, traces, metrics, handler = otel_providers(*exporters)
    logger = logging.getLogger(name)
    logger.addHandler(handler(logger_provider=logs))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    tracer = traces.get_tracer("tests", "0.1")
    with tracer.start_as_current_span(f"{name} parent", attributes={"http.request.method": "GET", "n": 5}) as span:
        span.add_event("cache miss", {"key": "k"})
        logger.error("declined %s", name, extra={"order": 17})
        with tracer.start_as_current_span(f"{name} child"):
            pass
    meter = metrics.get_meter("tests")
    meter.create_counter(f"{name}_hits", unit="1").add(3, {"code": 200})
    meter.create_histogram(f"{name}_latency", unit="ms").record(12.5, {"route": "/"})
    for provider in (logs, traces, metrics):
        provider.force_flush()
        provider.shutdown()

    found = installation.wait_for_events(lambda event: name in json.dumps(event), 5)
    by_kind = lambda kind: [event[kind] for event in found if event["event_type"] == kind]
    (log,) = by_kind("log")
    assert log["message"] == f"declined {name}" and log["level"] == "error", log
    assert log["service"] == "shop" and log["metadata"]["order"] == 17, log
    child, parent = sorted(by_kind("trace_span"), key=lambda span: span["operation"])
    assert child["parent_span_id"] == parent["span_id"] and child["trace_id"] == parent["trace_id"], (child, parent)
    assert log["context"]["trace_id"] == parent["trace_id"] and log["context"]["span_id"] == parent["span_id"], log
    assert parent["attributes"]["http_method"] == "GET" and parent["attributes"]["other"]["n"] == 5, parent
    assert parent["events"][0]["name"] == "cache miss", parent
    series = {each["name"]: each for each in by_kind("metric_series")}
    hits, latency = series[f"{name}_hits"], series[f"{name}_latency"]
    assert hits["type"] == "sum" and hits["is_monotonic"] and hits["labels"]["code"] == 200, hits
    assert hits["points"][0]["integer"] == 3, hits
    assert latency["points"][0]["histogram"]["count"] == 1 and latency["unit"] == "ms", latency
    event = next(event for event in found if event["event_type"] == "log")
    assert event["resource"]["attributes"]["service.version"] == "1.2", event
    assert event["sender"]["key_id"] == "backend" and event["sender"]["source"] == "otlp", event
    exported = [line for line in installation.events("--otlp") if name in json.dumps(line)]
    assert len(exported) == len(found), exported
    return f"{len(found)} records"


def test_otel_python_grpc(installation):
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    options = {
        "endpoint": f"http://127.0.0.1:{installation.ports['otlp_grpc']}",
        "insecure": True,
        "headers": (("x-api-key", "bk_0b77ffee"),),
    }
    exporters = OTLPLogExporter(**options), OTLPSpanExporter(**options), OTLPMetricExporter(**options)
    return otel(installation, "otelgrpc", exporters)


def test_otel_python_http(installation):
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    def options(path):
        headers = {"x-api-key": "bk_0b77ffee"}
        return {"endpoint": installation.url("otlp_http", path), "headers": headers, "compression": Compression.Gzip}

    exporters = (
        OTLPLogExporter(**options("/v1/logs")),
        OTLPSpanExporter(**options("/v1/traces")),
        OTLPMetricExporter(**options("/v1/metrics")),
    )
    return otel(installation, "otelhttp", exporters)


def test_otel_python_sends_again_by_itself(installation):
    """Without a server both protocols are told when to come again, and do so: each record is stored once."""
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    headers = {"x-api-key": "bk_0b77ffee"}
    grpc = Grpc(endpoint=f"http://127.0.0.1:{installation.ports['otlp_grpc']}", insecure=True, headers=tuple(headers.items()))
    providers = []
    installation.kill(["server"])
    for name, exporter in [("again_grpc", grpc), ("again_http", Http(endpoint=installation.url("otlp_http", "/v1/logs"), headers=headers))]:
        provider = LoggerProvider()
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=100))
        logger = logging.getLogger(name)
        logger.addHandler(LoggingHandler(logger_provider=provider))
        logger.propagate = False
        for index in range(20):
            logger.warning("%s %d", name, index)
        providers.append(provider)
    time.sleep(4)
    installation.start_server()
    found = installation.wait_for_events(lambda event: " " in event.get("log", {}).get("message", "") and "again_" in event["log"]["message"], 40)
    for provider in providers:
        provider.shutdown()
    messages = sorted(event["log"]["message"] for event in found)
    assert messages == sorted(f"again_{kind} {index}" for kind in ("grpc", "http") for index in range(20)), messages


def test_segment_python(installation):
    from segment.analytics.client import Client

    client = Client("wk_5c1f9a00", host=installation.url("http"), gzip=True, max_retries=0)
    errors = []
    client.on_error = lambda error, batch: errors.append(error)
    client.identify("user-1", {"plan": "pro"})
    for index in range(20):
        client.track("user-1", "segment_order", {"total": index, "currency": "EUR", "revenue": 1.5 * index})
    client.page("user-1", "docs", "segment_page", {"url": "https://shop.example/docs"})
    client.flush()
    client.join()
    assert not errors, errors
    orders = installation.wait_for_events(named("segment_order"), 20)
    assert sorted(order["properties"]["total"] for order in orders) == list(range(20)), orders
    assert orders[0]["user_id"] == "user-1" and orders[0]["revenue"]["currency"] == "EUR", orders[0]
    (page,) = [event for event in installation.events("--bare") if event["event_name"] == "page"]
    assert page["page"]["url"] == "https://shop.example/docs", page
    identify = installation.wait_for_events(named("identify"), 1)[0]
    assert identify["identify"]["traits"] == {"plan": "pro"}, identify


def test_posthog_python(installation):
    from posthog import Posthog

    client = Posthog("wk_5c1f9a00", host=installation.url("http"), gzip=True, sync_mode=False)
    for index in range(10):
        client.capture("posthog_clicked", distinct_id="user-2", properties={"index": index})
    client.flush()
    client.shutdown()
    clicks = installation.wait_for_events(named("posthog_clicked"), 10)
    assert sorted(click["properties"]["index"] for click in clicks) == list(range(10)), clicks
    assert clicks[0]["user_id"] == "user-2" and clicks[0]["sender"]["source"] == "posthog", clicks[0]


def test_elasticsearch_python(installation):
    from elasticsearch import Elasticsearch, helpers

    client = Elasticsearch(installation.url("http"), api_key="bk_0b77ffee")
    documents = [{"message": f"elastic {index}", "log.level": "warn", "service": {"name": "es"}} for index in range(50)]
    actions = [{"_index": "logs", "_id": f"e{index}", "_source": source} for index, source in enumerate(documents)]
    for _ in range(2):
        stored, errors = helpers.bulk(client, actions)
        assert (stored, errors) == (50, []), errors
    is_ours = lambda event: event.get("log", {}).get("service") == "es"
    logs = installation.wait_for_events(is_ours, 50)
    assert len(logs) == 50, "documents with the same id count once"
    assert {log["log"]["message"] for log in logs} == {source["message"] for source in documents}
    assert {log["log"]["level"] for log in logs} == {"warn"}


def test_schemathesis_passes_the_api(installation):
    """Requests that the document of the own API allows and forbids, made up by a fuzzer."""
    program = pathlib.Path(sys.executable).parent / "schemathesis"
    if not program.exists():
        return "skipped: no schemathesis"
    document = installation.url("http", "/openapi.json")
    folder = folder_of(installation, "schemathesis")
    command = [program, "run", document, "--header", "X-API-Key: bk_0b77ffee", "--checks", "all", "--max-examples", "200", "--seed", "7"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    return run.stdout.strip().splitlines()[-1].strip(" =")


def test_fluent_logger(installation):
    from fluent.sender import FluentSender

    sender = FluentSender("fluent.app", host="127.0.0.1", port=installation.ports["fluent"], nanosecond_precision=True)
    for index in range(30):
        assert sender.emit("orders", {"message": f"fluent {index}", "index": index}), sender.last_error
    sender.close()
    logs = installation.wait_for_events(lambda event: event["platform"] == "fluent", 30)
    assert [log["log"]["metadata"]["index"] for log in logs] == list(range(30)), logs
    assert logs[0]["log"]["service"] == "fluent.app.orders", logs[0]


def test_dogstatsd(installation):
    from datadog.dogstatsd.base import DogStatsd

    client = DogStatsd(host="127.0.0.1", port=installation.ports["statsd"], constant_tags=["env:test"], disable_telemetry=True)
    for index in range(20):
        client.increment("dogstatsd.hits", value=index, tags=["service:web"])
    client.gauge("dogstatsd.load", 1.5)
    client.event("deployed", "version 7", alert_type="warning")
    client.flush()
    is_ours = lambda event: event["platform"] == "statsd"
    found = installation.wait_for_events(is_ours, 22)
    hits = [event["application_metric"] for event in found if event["event_name"] == "dogstatsd.hits"]
    assert sorted(hit["value"] for hit in hits) == [float(index) for index in range(20)], hits
    assert hits[0]["service"] == "web" and hits[0]["environment"] == "test", hits[0]
    (deployed,) = [event["log"] for event in found if event["event_name"] == "deployed"]
    assert deployed["message"] == "version 7" and deployed["level"] == "warn", deployed


DEBIAN = pathlib.Path(__file__).resolve().parents[2] / "target/senders/debian"
NODE = pathlib.Path(__file__).resolve().parents[2] / "target/senders/node"


def debian(program):
    """A program of Debian's: unpacked by scripts/senders, or installed."""
    found = [*DEBIAN.glob(f"usr/sbin/{program}"), *DEBIAN.glob(f"usr/bin/{program}")]
    return str(found[0]) if found else shutil.which(program) or shutil.which(program, path="/usr/sbin")


def environment():
    libraries = ":".join(str(DEBIAN / path) for path in ("usr/lib/x86_64-linux-gnu", "usr/lib/syslog-ng", "lib/x86_64-linux-gnu"))
    return {**os.environ, "LD_LIBRARY_PATH": libraries}


def node(installation, name):
    """Runs a sender of JavaScript's to its end."""
    script = pathlib.Path(__file__).with_name("senders.cjs")
    command = ["node", script, name, json.dumps(installation.ports)]
    done = subprocess.run(command, env={**os.environ, "NODE_PATH": NODE / "node_modules"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def otel_js(installation, kind, count):
    mark = f"oteljs{kind}"
    node(installation, f"otel{kind}")
    found = installation.wait_for_events(lambda event: mark in json.dumps(event), count)
    by_kind = lambda kind: [event[kind] for event in found if event["event_type"] == kind]
    (log,) = by_kind("log")
    assert (log["message"], log["level"], log["severity_number"]) == (f"declined {mark}", "error", 17), log
    assert log["metadata"]["order"] == 17 and log["metadata"]["nested"] == {"a": [1, 2]}, log
    child, parent = sorted(by_kind("trace_span"), key=lambda span: span["operation"])
    assert child["parent_span_id"] == parent["span_id"] and child["trace_id"] == parent["trace_id"], (child, parent)
    assert child["status"] == "error" and child["status_message"] == "boom", child
    assert child["events"][0]["name"] == "cache miss" and child["events"][0]["attributes"] == {"key": "k"}, child
    other = parent["attributes"]["other"]
    assert (other["n"], other["ratio"], other["list"], other["ok"]) == (5, 0.5, ["a", "b"], True), parent
    if count > 3:
        series = {each["name"]: each for each in by_kind("metric_series")}
        hits, latency = series[f"{mark}_hits"], series[f"{mark}_latency"]
        assert hits["is_monotonic"] and hits["labels"]["code"] == 200, hits
        assert latency["points"][0]["histogram"]["sum"] == 12.5 and latency["unit"] == "ms", latency
    assert {event["resource"]["attributes"]["service.version"] for event in found} == {"1.2"}, found
    return f"{len(found)} records"


def test_otel_js_grpc(installation):
    return otel_js(installation, "grpc", 3)


def test_otel_js_protobuf(installation):
    return otel_js(installation, "protobuf", 5)


def test_otel_js_json(installation):
    return otel_js(installation, "json", 5)


def test_segment_node(installation):
    node(installation, "segment")
    tracks = installation.wait_for_events(named("segment_node"), 10)
    assert sorted(track["properties"]["index"] for track in tracks) == list(range(10)), tracks
    assert all(track["properties"]["nested"] == {"a": [track["properties"]["index"]]} for track in tracks), tracks
    (group,) = [event for event in installation.events("--bare") if event["event_type"] == "group"]
    assert group["group"]["group_id"] == "acme" and group["group"]["traits"] == {"plan": "pro"}, group


def page_in_browser(html, files, then):
    """Opens a page in Chromium, with files beside it, and gives the page to `then`; None without Chromium."""
    if not browser.program():
        return None
    answers = {"/": ("text/html", html.encode())} | {f"/{path.name}": ("text/javascript", path.read_bytes()) for path in files}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = answers.get(self.path, ("text/plain", b""))
            self.send_response(200 if body else 404)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, browser.Browser() as chromium:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = chromium.page(800, 600)
        page.open(f"http://127.0.0.1:{server.server_port}/")
        found = then(page)
        server.shutdown()
        return found


def test_posthog_js_in_a_page(installation):
    script = NODE / "node_modules/posthog-js/dist/array.full.no-external.js"
    if not script.exists():
        return "skipped: no posthog-js"
    html = f"""<!doctype html><title>shop</title><script src="{script.name}"></script><button id="buy">Buy</button>
        <script>posthog.init("wk_5c1f9a00", {{api_host: "{installation.url("http")}", persistence: "memory", opt_out_useragent_filter: true}}); posthog.capture("js_opened", {{n: 5}})</script>"""

    def click(page):
        page.wait_for("posthog.autocapture.isEnabled")
        page.evaluate("document.querySelector('#buy').click()")
        return installation.wait_for_events(named("$autocapture"), 1)

    clicks = page_in_browser(html, [script], click)
    if clicks is None:
        return "skipped: no Chromium"
    assert clicks[0]["properties"]["$event_type"] == "click" and clicks[0]["platform"] == "web", clicks
    (opened,) = installation.wait_for_events(named("js_opened"), 1)
    assert opened["properties"]["n"] == 5 and opened["anonymous_id"], opened
    (view,) = installation.wait_for_events(named("$pageview"), 1)
    assert view["page"]["title"] == "shop", view


def test_page_shows_who_sends_what_and_what_is_refused(installation):
    if not browser.program():
        return "skipped: no Chromium"

    def post(key, name):
        event = {"platform": "web", "event_type": "custom", "event_name": name, "custom": {"schema": "s/1"}}
        request = urllib.request.Request(installation.url("http", f"/v1/events?key={key}"), json.dumps(event).encode())
        return urllib.request.urlopen(request, timeout=10)

    assert post("bk_0b77ffee", "<b onclick=alert(1)>bold</b>").status == 200
    try:
        post("wrong", "x")
    except urllib.error.HTTPError as refused:
        assert refused.code == 401
    with browser.Browser() as chromium:
        page = chromium.page(360, 780, phone=True)
        page.open(installation.url("admin"))
        page.wait_for("document.querySelector('#senders').textContent.includes('<b onclick=alert(1)>bold</b>')")
        assert page.text("#state") == "collecting", page.text("#state")
        assert "backend" in page.text("#senders") and "events" in page.text("#sources"), page.text("#sources")
        assert "unauthorized" in page.text("#refusals"), page.text("#refusals")
        assert not page.evaluate("document.querySelector('#senders b')")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is wider than a phone"


def test_hot_shots(installation):
    node(installation, "hotshots")
    is_ours = lambda event: event["platform"] == "statsd" and "hot" in event["event_name"]
    found = installation.wait_for_events(is_ours, 16)
    values = {}
    for event in found:
        if "application_metric" in event:
            values.setdefault(event["event_name"], []).append(event["application_metric"]["value"])
    assert sorted(values["hot.hits"]) == [float(index) for index in range(10)], values
    assert (values["hot.load"], values["hot.latency"], values["hot.sizes"]) == ([1.5], [320.0], [7.0]), values
    (users,) = [event for event in found if event["event_name"] == "hot.users"]
    assert users["custom"]["attributes"]["value"] == "u1", users
    (deployed,) = [event["log"] for event in found if "deployed" in event["event_name"]]
    assert (deployed["message"], deployed["level"]) == ("version 8", "warn"), deployed
    (check,) = [event["log"] for event in found if event["event_name"].endswith("db")]
    assert (check["message"], check["level"]) == ("down", "error"), check


def test_fluent_js(installation):
    node(installation, "fluent")
    is_ours = lambda event: event.get("log", {}).get("message", "").startswith("fluentjs")
    logs = installation.wait_for_events(is_ours, 20)
    assert sorted(log["log"]["metadata"]["index"] for log in logs) == list(range(20)), logs
    assert logs[0]["log"]["metadata"]["nested"]["a"] == [True, None], logs[0]


def test_fluent_js_with_a_shared_key(installation):
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--fluent-auth", "shared-key")
        own = Installation(installation.tickstream, pathlib.Path(folder), collector_flags=flags, listeners=["fluent"])
        own.wait_until_ready()
        node(own, "fluentauth")
        logs = own.wait_for_events(lambda event: event["event_type"] == "log", 20)
        own.close()
    assert [log["log"]["message"] for log in logs] == [f"fluentauth {index}" for index in range(20)], logs
    assert {log["sender"]["key_id"] for log in logs} == {"backend"}, logs[0]


class Daemon:
    """A process that is ended with the test."""

    def __init__(self, folder, *command):
        self.log = (folder / "stderr").open("w")
        self.process = subprocess.Popen([str(word) for word in command], env=environment(), stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)


def folder_of(installation, name):
    folder = installation.folder / name
    folder.mkdir()
    return folder


def send_to(path, name, messages):
    """Logs as an application does."""
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.1)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(str(path))
    for message in messages:
        sender.send(f"<29>{name}[7]: {message}".encode())


def check_syslog(installation, name, messages):
    found = installation.wait_for_events(lambda event: event.get("log", {}).get("service") == name, len(messages))
    assert sorted(event["log"]["message"] for event in found) == sorted(messages), found
    metadata = found[0]["log"]["metadata"]
    assert (metadata["facility"], metadata["process"]) == ("daemon", "7"), found[0]
    return f"{len(found)} messages"


def rsyslog(installation, name, action, messages, check=check_syslog):
    """Runs rsyslogd, which reads a socket and sends on."""
    program = debian("rsyslogd")
    if not program:
        return "skipped: no rsyslog"
    folder = folder_of(installation, name)
    config = folder / "rsyslog.conf"
    config.write_text(
        f'global(workDirectory="{folder}")\nmodule(load="imuxsock" SysSock.Use="off")\n'
        f'input(type="imuxsock" Socket="{folder}/log")\n{action}\n'
    )
    modules = DEBIAN / "usr/lib/x86_64-linux-gnu/rsyslog"
    where = ["-M", modules] if modules.exists() else []
    with Daemon(folder, program, "-n", *where, "-f", config, "-i", folder / "pid"):
        send_to(folder / "log", name, messages)
        return check(installation, name, messages)


FORMAT = 'template="RSYSLOG_SyslogProtocol23Format"'


def test_rsyslog_tcp(installation):
    port = installation.ports["syslog_tcp"]
    action = f'action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" TCP_Framing="octet-counted" {FORMAT})'
    return rsyslog(installation, "rsyslogtcp", action, [f"line {index}: déclined" for index in range(200)])


def test_rsyslog_relp(installation):
    port = installation.ports["relp"]
    action = f'module(load="omrelp")\naction(type="omrelp" target="127.0.0.1" port="{port}" {FORMAT})'
    return rsyslog(installation, "rsyslogrelp", action, [f"relp {index}" for index in range(200)])


def test_rsyslog_elasticsearch(installation):
    port = installation.ports["http"]
    action = (
        'module(load="omelasticsearch")\ntemplate(name="ecs" type="list" option.jsonf="on") {\n'
        ' property(outname="@timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")\n'
        ' property(outname="message" name="msg" format="jsonf")\n'
        ' property(outname="severity" name="syslogseverity-text" format="jsonf")\n'
        ' property(outname="programname" name="programname" format="jsonf")\n}\n'
        f'action(type="omelasticsearch" server="127.0.0.1" serverport="{port}" searchType="" template="ecs" searchIndex="logs" '
        'bulkmode="on" uid="rsyslog" pwd="bk_0b77ffee" action.resumeRetryCount="-1")'
    )

    def check(installation, name, messages):
        found = installation.wait_for_events(lambda event: event.get("log", {}).get("service") == name, len(messages))
        assert sorted(event["log"]["message"].strip() for event in found) == sorted(messages), found
        assert found[0]["log"]["severity_text"] == "notice" and found[0]["context"]["index"] == "logs", found[0]
        return f"{len(found)} documents"

    return rsyslog(installation, "rsyslogelastic", action, [f"document {index}" for index in range(100)], check)


def test_syslog_ng(installation):
    program = debian("syslog-ng")
    if not program:
        return "skipped: no syslog-ng"
    folder = folder_of(installation, "syslog-ng")
    port = installation.ports["syslog_tcp"]
    (folder / "syslog-ng.conf").write_text(
        f"""@version: 3.38
source s_local {{ unix-dgram("{folder}/log"); }};
destination d_new {{ syslog("127.0.0.1" port({port}) transport("tcp") persist-name("new")); }};
destination d_old {{ network("127.0.0.1" port({port}) transport("tcp") persist-name("old")); }};
filter f_new {{ program("syslogngnew"); }};
filter f_old {{ program("syslogngold"); }};
log {{ source(s_local); filter(f_new); destination(d_new); }};
log {{ source(s_local); filter(f_old); destination(d_old); }};
"""
    )
    modules = DEBIAN / "usr/lib/syslog-ng"
    where = [f"--module-path={modules}/3.38"] if modules.exists() else []
    files = ["-f", folder / "syslog-ng.conf", "-R", folder / "persist", "-p", folder / "pid", "-c", folder / "control"]
    with Daemon(folder, program, "-F", "--no-caps", *where, *files):
        for name in ("syslogngnew", "syslogngold"):
            messages = [f"{name} {index}" for index in range(50)]
            send_to(folder / "log", name, messages)
            check_syslog(installation, name, messages)


def test_prometheus_remote_write(installation):
    if not shutil.which("prometheus"):
        return "skipped: no prometheus"
    folder = installation.folder / "prometheus"
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text(
        f"""
global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: collector
    static_configs: [{{ targets: ["127.0.0.1:{installation.ports['admin']}"] }}]
remote_write:
  - url: {installation.url("http", "/api/v1/write")}
    authorization: {{ credentials: bk_0b77ffee }}
"""
    )
    address = installation.folder / "unused"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={address}", "--web.listen-address=127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=(folder / "stderr").open("w"))
    try:
        is_up = lambda event: event["event_name"] == "up" and event["platform"] == "prometheus"
        ups = installation.wait_for_events(is_up, 3)
    finally:
        process.terminate()
        process.wait(timeout=30)
    series = ups[0]["metric_series"]
    assert series["service"] == "collector" and series["labels"]["job"] == "collector", series
    assert all(point["value"] == 1.0 for up in ups[1:3] for point in up["metric_series"]["points"]), ups
    times = [point["time"] for up in ups for point in up["metric_series"]["points"]]
    assert times == sorted(set(times)), "each sample once, in order"
    return f"{len(ups)} requests' series"
