"""The Helm chart: rendered by Helm's own engine, against Kubernetes' schemas, and against what kustomize makes."""

import difflib
import re

import yaml

from lib.deploy import manifests
from lib.deploy.context import require

NAME = "tickstream"
ALL = {"autoscaling": {"enabled": True}, "monitoring": {"enabled": True}}
EVENTS = {**ALL, "events": {"enabled": True}}
# Of lint: remarks, such as on a missing icon.
INFO = 1
# Keys that one has and the other doesn't: who manages an object, and how a change of settings rolls pods.
OWN = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart",
       "checksum/config", "imagePullPolicy", "image"}


def check(context):
    try:
        import helm_python as helm
    except ImportError:
        return context.cannot("the Helm chart: helm-python-sdk is missing (scripts/install-deps deploy)")
    folder = context.deploy / "helm/tickstream"
    findings = helm.lint(str(folder))
    wrong = [finding for finding in findings["messages"] if finding["severity"] > INFO]
    require(not wrong and not findings["errors"], f"lint: {findings}")
    context.say(f"Helm {helm.helm_sdk_version()}: lint is content")
    with helm.Chart.load(str(folder)) as chart:
        rendered = {name: render(chart, values) for name, values in
                    {"chart": {}, "chart with everything": ALL, "chart with events": EVENTS}.items()}
        for wrong in ({"replicas": "many"}, {"replica": 3}, {"resources": {"cpu": "1500m", "memory": "2Gi"}}):
            require(refuses(helm, chart, wrong), f"the chart takes {wrong}")
    context.say("wrong values and unknown ones are refused by the schema")
    for name, objects in rendered.items():
        manifests.schemas(context, name, objects)
    kubectl = context.tool("kubectl", "the chart against what kustomize makes")
    if kubectl is None:
        return
    same(context, "base", rendered["chart"], manifests.build(context, kubectl, "base"))
    example = manifests.build(context, kubectl, "example")
    same(context, "example", rendered["chart with everything"], example)
    manifests.fits(context, manifests.by_kind(rendered["chart with everything"]),
                   manifests.by_kind(manifests.build(context, kubectl, "seccomp")))
    same(context, "example with events", rendered["chart with events"], manifests.events(context, kubectl))


def render(chart, values):
    texts = chart.render(values, name=NAME, namespace=NAME)
    found = [one for path, text in sorted(texts.items()) if path.endswith(".yaml") for one in yaml.safe_load_all(text)]
    return [one for one in found if one]


def refuses(helm, chart, values):
    try:
        chart.validate_schema(values)
    except helm.HelmError:
        return True
    return False


def same(context, name, chart, kustomize):
    """Object by object, but for their labels, names with hashes and the keys of OWN."""
    of_chart, of_kustomize = ({key(found): unlabelled(found) for found in objects if found["kind"] != "Namespace"}
                              for objects in (chart, kustomize))
    require(of_chart.keys() == of_kustomize.keys(), f"{name}: {sorted(of_chart)} and {sorted(of_kustomize)}")
    for which, found in of_chart.items():
        texts = [yaml.dump(one).splitlines() for one in (found, of_kustomize[which])]
        require(found == of_kustomize[which],
                f"{name}: {which}:\n" + "\n".join(difflib.unified_diff(*texts, "the chart", "kustomize", lineterm="")))
    context.say(f"the chart's {len(of_chart)} objects are those of kustomize's {name}")


def key(found):
    return found["kind"], unhashed(found["metadata"]["name"])


def unhashed(text):
    return re.sub(r"^tickstream-[a-z0-9]{10}$", NAME, text)


def unlabelled(found):
    """An object without its own labels; those by which others find it are its pods'."""
    metadata = {name: value for name, value in found["metadata"].items() if name != "labels"}
    return plain({**found, "metadata": metadata})


def plain(value):
    """Without what only one of them has."""
    if isinstance(value, dict):
        kept = {key: plain(inner) for key, inner in value.items() if key not in OWN}
        return {key: inner for key, inner in kept.items() if inner != {} or value[key] == {}}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return unhashed(value).rstrip() if isinstance(value, str) else value
