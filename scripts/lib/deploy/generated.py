"""Files in deploy/ that are made from others: written with --write, compared without."""

import json
import textwrap

from lib.deploy import dashboard
from lib.deploy.context import relative, require

MADE = "# Made by scripts/check-deploy --write from {}.\n"


def check(context):
    for path, text in files(context.root).items():
        found = path.read_text() if path.exists() else ""
        require(found == text, f"{relative(context, path)} isn't what its source makes: scripts/check-deploy --write")
        context.say(f"{relative(context, path)} is up to date")


def write(root):
    for path, text in files(root).items():
        path.write_text(text)
        print(path.relative_to(root))
    return 0


def files(root):
    deploy = root / "deploy"
    return {
        deploy / "grafana/tickstream.json": dashboard.text(),
        deploy / "kubernetes/monitoring/rules.yaml": prometheus_rule(deploy),
        deploy / "kubernetes/seccomp/profile.yaml": profile_map(deploy),
    }


def prometheus_rule(deploy):
    """The rules as an object of the Prometheus operator: the same text, indented."""
    source = "deploy/prometheus/tickstream.rules.yml"
    rules = (deploy / "prometheus/tickstream.rules.yml").read_text()
    groups = rules[rules.index("groups:"):]
    head = MADE.format(source) + textwrap.dedent("""\
        apiVersion: monitoring.coreos.com/v1
        kind: PrometheusRule
        metadata:
          name: tickstream
        spec:
        """)
    return head + textwrap.indent(groups, "  ")


def profile_map(deploy):
    """The seccomp profile as a ConfigMap."""
    profile = (deploy / "container/seccomp.json").read_text()
    json.loads(profile)
    head = MADE.format("deploy/container/seccomp.json") + textwrap.dedent("""\
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: seccomp-profile
        data:
          tickstream.json: |
        """)
    return head + textwrap.indent(profile, "    ")
