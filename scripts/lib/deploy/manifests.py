"""Kubernetes manifests and the compose file: schemas, and what no schema sees: names and times that must agree."""

import os
import re
import tempfile
import tomllib
from pathlib import Path

import yaml

from lib.deploy.context import Failure, relative, require

# Built as they are applied.
BUILT = ["base", "example", "seccomp"]
# Kinds of the Prometheus operator: their schemas come with it, not with Kubernetes.
CUSTOM = {"PodMonitor", "PrometheusRule"}
# Releases whose schemas are asked: the oldest with all that is used, and the newest that the package has.
OLDEST = "1.30"


def check(context):
    # A chart's templates are YAML only once they are rendered (chart.py).
    for path in sorted(set(context.deploy.rglob("*.y*ml")) - set(context.deploy.rglob("templates/*"))):
        list(yaml.safe_load_all(path.read_text()))
    context.say("every YAML file parses")
    compose(context)
    kubectl = context.tool("kubectl", "Kubernetes manifests (kubectl kustomize)")
    if kubectl is None:
        return
    built = {name: build(context, kubectl, name) for name in BUILT}
    for name, objects in built.items():
        schemas(context, name, objects)
    fits(context, by_kind(built["example"]), by_kind(built["seccomp"]))
    require("replicas" not in by_kind(built["example"])["Deployment"]["spec"], "autoscaling leaves replicas in")
    events(context, kubectl)


def build(context, kubectl, name, folder=None):
    text = context.run([kubectl, "kustomize", folder or context.deploy / "kubernetes" / name])
    objects = [found for found in yaml.safe_load_all(text) if found]
    context.say(f"kubectl kustomize {name}: {len(objects)} objects")
    return objects


def warehouse(context, kubectl, text):
    """The example with its lines for event collection and the warehouse: a second container beside each server."""
    with tempfile.TemporaryDirectory() as scratch:
        up = os.path.relpath(context.deploy / "kubernetes", Path(scratch).resolve())
        text = text.replace("# - ../events", "- ../events").replace("# - ../warehouse", "- ../warehouse")
        (Path(scratch) / "kustomization.yaml").write_text(text.replace("../", f"{up}/"))
        objects = build(context, kubectl, "example with the warehouse", scratch)
    schemas(context, "example with the warehouse", objects)
    pod = by_kind(objects)["StatefulSet"]["spec"]["template"]["spec"]
    server, warehouse = pod["containers"]
    require(warehouse["image"].startswith("registry.example/"), "the example doesn't name the warehouse's image")
    journals = next(one["value"] for one in server["env"] if one["name"] == "TICKSTREAM_JOURNAL")
    settings = tomllib.loads((context.deploy / "kubernetes/warehouse/warehouse.toml").read_text())
    require(settings["journal"] == journals, "the warehouse reads other journals than the server writes")
    volumes = {one["name"] for one in pod["volumes"]} | {"events"}
    require({one["name"] for one in warehouse["volumeMounts"]} <= volumes, "the warehouse mounts a volume that isn't there")


def events(context, kubectl):
    """The example with its line for event collection: a volume for each pod, in which the journals are."""
    source = context.deploy / "kubernetes/example"
    text = (source / "kustomization.yaml").read_text()
    require("  # - ../events\n" in text, "the example has no line for event collection")
    require("  # - ../warehouse\n" in text, "the example has no line for the warehouse")
    # Not beside the others: what is checked stays as it is.
    with tempfile.TemporaryDirectory() as scratch:
        up = os.path.relpath(source.parent, Path(scratch).resolve())
        (Path(scratch) / "kustomization.yaml").write_text(text.replace("# - ../events", "- ../events").replace("../", f"{up}/"))
        objects = build(context, kubectl, "example with events", scratch)
    schemas(context, "example with events", objects)
    warehouse(context, kubectl, text)
    require("Deployment" not in by_kind(objects), "events/ leaves the Deployment")
    pods = by_kind(objects)["StatefulSet"]["spec"]
    labels = pods["template"]["metadata"]["labels"]
    service = next(found for found in objects if found["metadata"]["name"] == pods["serviceName"])
    require(service["spec"]["selector"].items() <= labels.items(), "the pods' Service selects others")
    require(by_kind(objects)["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["kind"] == "StatefulSet",
            "the autoscaler scales something else")
    container, = pods["template"]["spec"]["containers"]
    claim, = pods["volumeClaimTemplates"]
    mount, = (mount for mount in container["volumeMounts"] if mount["name"] == claim["metadata"]["name"])
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    require(values["TICKSTREAM_JOURNAL"].startswith(f"{mount['mountPath']}/"), "the journals aren't in the volume")
    size = re.fullmatch(r"(\d+)Gi", claim["spec"]["resources"]["requests"]["storage"]).group(1)
    require(int(values["TICKSTREAM_JOURNAL_MAX_MIB"]) <= 0.9 * 1024 * int(size), "the journals may fill the volume")
    context.say("with events, a StatefulSet whose pods have a volume for their journals, a tenth larger than these may be")
    return objects


def schemas(context, name, objects):
    try:
        import kubernetes_validate
    except ImportError:
        return context.cannot("manifests against Kubernetes' schemas: kubernetes-validate is missing")
    newest = kubernetes_validate.latest_version()
    plain = [found for found in objects if found["kind"] not in CUSTOM]
    for release in (OLDEST, newest):
        for found in plain:
            try:
                kubernetes_validate.validate(found, release, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                raise Failure(f"{name}: {found['kind']} against {release}: {error}") from error
    context.say(f"{name}: {len(plain)} objects fit the schemas of Kubernetes {OLDEST} and {newest}, nothing unknown")
    if others := [found["kind"] for found in objects if found["kind"] in CUSTOM]:
        context.cannot(f"{name}: {', '.join(others)} against the Prometheus operator's schemas (names are compared)")


def by_kind(objects):
    return {found["kind"]: found for found in objects}


def fits(context, kinds, nodes):
    """References from one object to another."""
    template = kinds["Deployment"]["spec"]["template"]
    pod, labels = template["spec"], template["metadata"]["labels"]
    container, = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    settings = next(text for text in kinds["ConfigMap"]["data"].values())

    for kind, selector in {
        "Deployment": kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        "Service": kinds["Service"]["spec"]["selector"],
        "PodDisruptionBudget": kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        "PodMonitor": kinds["PodMonitor"]["spec"]["selector"]["matchLabels"],
    }.items():
        require(selector.items() <= labels.items(), f"{kind} selects {selector}, pods have {labels}")
    context.say("every selector finds the pods")

    named = [probe["httpGet"]["port"] for key, probe in container.items() if key.endswith("Probe")]
    named += [port["targetPort"] for port in kinds["Service"]["spec"]["ports"]]
    named += [port["port"] for rule in kinds["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    named += [endpoint["port"] for endpoint in kinds["PodMonitor"]["spec"]["podMetricsEndpoints"]]
    require(set(named) <= set(ports), f"ports {set(named) - set(ports)} aren't the container's")
    for name, key in (("stream", "listen"), ("admin", "admin")):
        require(re.search(rf'^{key} = "[^"]*:{ports[name]}"', settings, re.MULTILINE),
                f"port {name} is {ports[name]}, the settings say otherwise")
    context.say("every port that is named is the container's, and the settings'")

    drain = int(re.search(r"^drain_seconds = (\d+)", settings, re.MULTILINE).group(1))
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod["terminationGracePeriodSeconds"]
    require(grace >= sleep + drain + 10, f"a grace period of {grace} s is too short for {sleep} + {drain} + 10")
    context.say(f"grace period {grace} s: {sleep} s of preStop, {drain} s of drain, and room")

    resources = container["resources"]
    require(resources["requests"] == resources["limits"], "requests and limits differ: not Guaranteed")
    require(re.fullmatch(r"\d+", str(resources["limits"]["cpu"])), "the static CPU manager gives whole CPUs only")
    context.say("class Guaranteed, whole CPUs")

    paths = {mount["mountPath"] for mount in container["volumeMounts"]}
    for path in re.findall(r'"(/[^"]+)"', settings):
        require(any(path.startswith(f"{mount}/") for mount in paths), f"{path} of the settings isn't mounted")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    require(volumes["config"]["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"], "another ConfigMap")
    scaled = kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    require(scaled["name"] == kinds["Deployment"]["metadata"]["name"], "the autoscaler scales something else")

    profile = pod["securityContext"]["seccompProfile"]["localhostProfile"]
    copy, = nodes["DaemonSet"]["spec"]["template"]["spec"]["initContainers"]
    require(copy["command"][-1] == f"/seccomp/{profile}", f"the nodes get {copy['command'][-1]}, pods want {profile}")
    require("tickstream.json" in nodes["ConfigMap"]["data"], "the profile isn't in its ConfigMap")
    context.say(f"the nodes get the profile that pods ask for, {profile}")

    rules = kinds["PrometheusRule"]["spec"]["groups"]
    source = yaml.safe_load((context.deploy / "prometheus/tickstream.rules.yml").read_text())["groups"]
    require(rules == source, "the PrometheusRule isn't the rules file")


def compose(context):
    path = context.deploy / "container/compose.yaml"
    services = yaml.safe_load(path.read_text())["services"]
    server = services["tickstream"]
    require(server["read_only"] and server["cap_drop"] == ["ALL"], "compose: the server isn't confined")
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                require((path.parent / source).exists(), f"compose: there is no {source}")
    profile = next(option for option in server["security_opt"] if option.startswith("seccomp")).split("seccomp=")[1]
    require((path.parent / profile).resolve() == context.deploy / "container/seccomp.json", "compose: another profile")
    context.say(f"{relative(context, path)}: files that it names are there")
    # Its lines for event collection, as if they were no comments.
    lines = r"^( *)# (TICKSTREAM_JOURNAL: |TICKSTREAM_JOURNAL_MAX_MIB: |volumes: \[|journals:$)"
    collecting = yaml.safe_load(re.sub(lines, r"\1\2", path.read_text(), flags=re.MULTILINE))
    server = collecting["services"]["tickstream"]
    volume, folder = server["volumes"][0].split(":")
    require(volume in collecting["volumes"], f"compose: there is no volume {volume}")
    require(server["environment"]["TICKSTREAM_JOURNAL"].startswith(f"{folder}/"), "compose: the journals aren't in the volume")
    require(f" {folder}\n" in (path.parent / "Dockerfile").read_text(), f"the image has no {folder} of its user's")
    context.say("with its lines for event collection, the journals are in a volume")
