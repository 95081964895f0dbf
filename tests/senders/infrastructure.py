"""Programs between applications and the collector: forwarders, load balancers, exporters. One test for each, as in senders.py."""

import pathlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

from senders.installation import Installation, wait_for, wait_for_port
from senders.senders import DEBIAN, FORMAT, Daemon, debian, environment, folder_of, otel, send_to
from support.processes import free_ports


def beside(installation, name, listeners, config="", collector_flags=()):
    """An installation of its own, for what needs other settings."""
    folder = folder_of(installation, name)
    own = Installation(installation.tickstream, folder, listeners=listeners, config=config.format(folder=folder), collector_flags=collector_flags)
    own.wait_until_ready()
    return own


def test_rotel_forwards(installation):
    """Of Python's SDK, over HTTP, through an agent that forwards over gRPC."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    found = [pathlib.Path(folder) / "rotel/rotel-agent" for folder in sys.path if (pathlib.Path(folder) / "rotel/rotel-agent").exists()]
    if not found:
        return "skipped: no rotel"
    http, grpc = free_ports(2)
    folder = folder_of(installation, "rotel")
    command = [
        found[0], "start", "--exporter", "otlp", "--pid-file", folder / "pid", "--batch-timeout", "200ms",
        "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
        "--otlp-exporter-endpoint", installation.url("otlp_grpc"), "--otlp-exporter-protocol", "grpc",
        "--otlp-exporter-custom-headers", "x-api-key=bk_0b77ffee",
    ]
    with Daemon(folder, *command):
        wait_for_port(http)
        address = lambda path: f"http://127.0.0.1:{http}{path}"
        exporters = OTLPLogExporter(address("/v1/logs")), OTLPSpanExporter(address("/v1/traces")), OTLPMetricExporter(address("/v1/metrics"))
        return otel(installation, "otelrotel", exporters)


def test_rsyslog_tls(installation):
    program, openssl = debian("rsyslogd"), shutil.which("openssl")
    if not program or not openssl:
        return "skipped: no rsyslog, or no openssl"
    certificate, key = installation.folder / "tls.pem", installation.folder / "tls.key"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([openssl, *request], check=True, capture_output=True)
    own = beside(installation, "rsyslogtls", ["syslog_tcp"], collector_flags=("--listen-cert", certificate, "--listen-key", key))
    folder, messages = own.folder, [f"secret line {index}" for index in range(100)]
    (folder / "rsyslog.conf").write_text(
        f'global(workDirectory="{folder}" DefaultNetstreamDriverCAFile="{certificate}")\n'
        f'module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="{folder}/log")\n'
        f'action(type="omfwd" target="127.0.0.1" port="{own.ports["syslog_tcp"]}" protocol="tcp" TCP_Framing="octet-counted" {FORMAT} '
        'StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name" StreamDriverPermittedPeers="localhost" gnutlsPriorityString="NORMAL:-VERS-ALL:+VERS-TLS1.3")\n'
    )
    modules = DEBIAN / "usr/lib/x86_64-linux-gnu/rsyslog"
    where = ["-M", modules] if modules.exists() else []
    with Daemon(folder, program, "-n", *where, "-f", folder / "rsyslog.conf", "-i", folder / "pid"):
        send_to(folder / "log", "secure", messages)
        stored = own.wait_for_events(lambda event: event.get("log", {}).get("service") == "secure", len(messages))
    own.close()
    assert sorted(event["log"]["message"] for event in stored) == sorted(messages), stored
    return f"{len(stored)} messages"


def visit(port, paths):
    for path in paths:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).read()
        except urllib.error.HTTPError:
            pass


def access_log(own, port, paths):
    """The requests of an access log that is followed."""
    visit(port, paths)
    stored = own.wait_for_events(lambda event: event["event_type"] == "log", len(paths))
    own.close()
    assert [event["log"]["metadata"]["url.original"] for event in stored] == paths, stored
    assert {event["log"]["metadata"]["http.request.method"] for event in stored} == {"GET"}, stored
    return stored


def test_nginx_access_log(installation):
    program = debian("nginx")
    if not program:
        return "skipped: no nginx"
    own = beside(installation, "nginx", ["http"], 'state_dir = "{folder}/state"\n[[source.file]]\npaths = ["{folder}/access.log"]\nformat = "nginx"\n')
    folder, (port,) = own.folder, free_ports(1)
    (folder / "www").mkdir()
    (folder / "www/index.html").write_text("hello")
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; daemon off; user root;\nevents {{}}\nhttp {{\n"
        f"access_log {folder}/access.log combined;\n"
        + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f"server {{ listen 127.0.0.1:{port}; root {folder}/www; }}\n}}\n"
    )
    with Daemon(folder, program, "-e", folder / "error.log", "-c", folder / "nginx.conf"):
        wait_for_port(port)
        stored = access_log(own, port, ["/", "/missing", "/index.html"])
    statuses = [event["log"]["metadata"]["http.response.status_code"] for event in stored]
    assert statuses == [200, 404, 200], stored
    return f"{len(stored)} requests"


def test_haproxy_log(installation):
    program = debian("haproxy")
    if not program:
        return "skipped: no haproxy"
    own = beside(installation, "haproxy", ["http"], 'state_dir = "{folder}/state"\n[[source.file]]\npaths = ["{folder}/haproxy.log"]\nformat = "haproxy"\n')
    folder, (port,) = own.folder, free_ports(1)
    (folder / "haproxy.cfg").write_text(
        "global\n  log stdout format raw local0\ndefaults\n  mode http\n  log global\n  option httplog\n"
        "  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend web\n  bind 127.0.0.1:{port}\n  default_backend app\n"
        f"backend app\n  server s1 127.0.0.1:{own.ports['admin']}\n"
    )
    log = (folder / "haproxy.log").open("w")
    process = subprocess.Popen([program, "-f", folder / "haproxy.cfg"], stdout=log, stderr=(folder / "stderr").open("w"), env=environment())
    try:
        wait_until_answered(port)
        log_lines = lambda: [line for line in (folder / "haproxy.log").read_text().splitlines() if "web app/s1" in line]
        visit(port, ["/healthz?haproxy"])
        wait_for(lambda: any("haproxy" in line for line in log_lines()), "HAProxy logs nothing")
        wanted = lambda event: "/healthz" in str(event.get("log", {}).get("metadata", {}))
        stored = own.wait_for_events(wanted, 1)
    finally:
        process.terminate()
        process.wait(timeout=30)
    own.close()
    metadata = stored[0]["log"]["metadata"]
    assert metadata["http.response.status_code"] == 200 and metadata["http.request.method"] == "GET", metadata
    return f"{len(stored)} requests"


def wait_until_answered(port):
    def is_answered():
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).read()
            return True
        except OSError:
            return False

    wait_for(is_answered, "HAProxy answers nothing")


def test_node_exporter_is_scraped(installation):
    program = debian("prometheus-node-exporter")
    if not program:
        return "skipped: no node exporter"
    (port,) = free_ports(1)
    job = f'[[source.scrape]]\njob_name = "node"\nscrape_interval = "500ms"\n[[source.scrape.static_configs]]\ntargets = ["127.0.0.1:{port}"]\n'
    folder = folder_of(installation, "node-exporter")
    with Daemon(folder, program, f"--web.listen-address=127.0.0.1:{port}"):
        wait_for_port(port)
        own = beside(installation, "scrape", ["http"], job)
        named = lambda name: lambda event: event.get("metric_series", {}).get("name") == name
        memory = own.wait_for_events(named("node_memory_MemTotal_bytes"), 2)
        exposed = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        own.close()
    series = {event["metric_series"]["name"] for event in own.events("--bare") if "metric_series" in event}
    names = {line.split("{")[0].split(" ")[0] for line in exposed.splitlines() if line and not line.startswith("#")}
    total = next(line.split()[1] for line in exposed.splitlines() if line.startswith("node_memory_MemTotal_bytes "))
    assert memory[0]["metric_series"]["points"][0]["value"] == float(total), (memory[0], total)
    bases = {name for name in names if not name.endswith(("_bucket", "_sum", "_count"))}
    assert bases - series == set(), bases - series
    return f"{len(series)} metrics"
