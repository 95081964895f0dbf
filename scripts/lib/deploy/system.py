"""Units of systemd, files for /etc, the script for interrupts, and the settings that go with them."""

import os
import re
import tempfile
from pathlib import Path

from lib.deploy.context import Failure, relative, require

# systemd-analyze security: 0 is the best, 10 the worst. The network, AF_UNIX and /proc/sys are needed.
EXPOSURE_MAX = 1.6
# What tickstream@.service may have for its own.
OWN_LINES = ("Description=", "ExecStart=", "RuntimeDirectory=", "StateDirectory=")


def units(context):
    analyze = context.tool("systemd-analyze", "systemd units")
    folder = context.deploy / "systemd"
    single, template = folder / "tickstream.service", folder / "tickstream@.service"
    others = [folder / "tickstream.socket", context.deploy / "irq/tickstream-irq@.service"]
    same_but(context, single, template)
    if analyze is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        names = [copied(context, unit, Path(scratch)) for unit in (single, template, *others)]
        for name in names:
            said = context.attempt([analyze, "verify", "--man=no", name])
            text = said.stdout + said.stderr
            require(said.returncode == 0 and not text.strip(), f"systemd-analyze verify {name.name}:\n{text}")
            context.say(f"{name.name}: systemd-analyze verify is content")
    for unit in (single, template):
        text = context.run([analyze, "security", "--offline=true", "--no-pager", unit])
        exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", text).group(1))
        context.say(f"{unit.name}: exposure {exposure} of 10 (systemd-analyze security)")
        require(exposure <= EXPOSURE_MAX, f"{unit.name} is more open than {EXPOSURE_MAX}")


def same_but(context, single, template):
    """Both units are the same but for the lines that have to differ."""
    def lines(path):
        text = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        return [line for line in text if not line.startswith(OWN_LINES)]
    differing = set(lines(single)) ^ set(lines(template))
    require(not differing, f"{single.name} and {template.name} differ: {sorted(differing)}")
    context.say(f"{template.name} is {single.name} but for {', '.join(OWN_LINES)}")


def copied(context, unit, folder):
    """A copy whose programs exist here; of a template, an instance."""
    text = unit.read_text().replace("/usr/local/bin/tickstream", str(context.server()))
    text = text.replace("/usr/local/sbin/tickstream-irq", str(context.deploy / "irq/tickstream-irq"))
    path = folder / unit.name
    path.write_text(text)
    return path


def interrupts(context):
    script = context.deploy / "irq/tickstream-irq"
    if shellcheck := context.tool("shellcheck", "the interrupt script's shell"):
        context.run([shellcheck, script])
        context.say(f"{relative(context, script)}: shellcheck is content")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        files = machine()
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        environment = os.environ | {"TICKSTREAM_IRQ_ROOT": scratch}
        said = context.run([script, "--cpus", "1,33", "eth0"], env=environment)
        require(said.splitlines() == PLANNED, f"{script.name} plans this:\n{said}")
        require(all((root / path).read_text() == text for path, text in files.items()), f"{script.name} writes unasked")
        context.run([script, "--cpus", "1,33", "--apply", "eth0"], env=environment)
        found = {path: (root / path).read_text().strip() for path in CHANGED}
        require(found == CHANGED, f"{script.name} --apply leaves {found}")
        require(not context.run([script, "--cpus", "1,33", "--apply", "eth0"], env=environment), "it isn't idempotent")
    context.say(f"{script.name} plans, applies and finds nothing left to do on a made-up machine")


def machine():
    """A card with two queues whose interrupts are all on CPU 0, one of which a driver keeps for its own news."""
    rows = ["           CPU0 CPU1", " 40: 1 0 PCI-MSIX 0-edge eth0-config", " 41: 9 0 PCI-MSIX 1-edge eth0-TxRx-0",
            " 42: 9 0 PCI-MSIX 2-edge eth0-TxRx-1", " 43: 9 0 PCI-MSIX 3-edge eth0-tx-2", " 4: 9 0 other eth9-TxRx-0"]
    card = "sys/class/net/eth0"
    files = {"proc/interrupts": "\n".join(rows) + "\n"}
    files |= {f"{card}/device/msi_irqs/{irq}": "msix\n" for irq in (40, 41, 42, 43)}
    files |= {f"proc/irq/{irq}/smp_affinity_list": "0\n" for irq in (4, 40, 41, 42, 43)}
    files |= {f"{card}/queues/rx-0/rps_cpus": "0\n"}
    files |= {f"{card}/queues/tx-{queue}/xps_cpus": "0\n" for queue in (0, 1)}
    return files


PLANNED = [
    "echo 1 > /proc/irq/41/smp_affinity_list",
    "echo 33 > /proc/irq/42/smp_affinity_list",
    "echo 2,00000002 > /sys/class/net/eth0/queues/rx-0/rps_cpus",
    "echo 2 > /sys/class/net/eth0/queues/tx-0/xps_cpus",
    "echo 2,00000000 > /sys/class/net/eth0/queues/tx-1/xps_cpus",
]
CHANGED = {
    "proc/irq/40/smp_affinity_list": "0",
    "proc/irq/41/smp_affinity_list": "1",
    "proc/irq/42/smp_affinity_list": "33",
    "proc/irq/43/smp_affinity_list": "0",
    "sys/class/net/eth0/queues/rx-0/rps_cpus": "2,00000002",
    "sys/class/net/eth0/queues/tx-1/xps_cpus": "2,00000000",
}


def settings(context):
    """Each file of settings in deploy/ is taken by the server, with what its surroundings add."""
    binary = context.server()
    with tempfile.TemporaryDirectory() as scratch:
        secret = Path(scratch) / "secret"
        secret.write_text("s3cret-s3cret-s3cret-s3cret\n")
        secret.chmod(0o600)
        for path in sorted(context.deploy.rglob("*.toml")):
            # Secrets are where the deployment puts them; here they are in a file of our own.
            text = re.sub(r'"/run/secrets/[^"]*"', f'"{secret}"', path.read_text())
            copy = Path(scratch) / path.name
            copy.write_text(text)
            environment = {"PATH": os.environ["PATH"], "STREAM_USER": "ticks"}
            if "stream_pass_file" not in text:
                environment["TICKSTREAM_STREAM_PASS_FILE"] = str(secret)
            context.run([binary, "serve", "--config", copy, "--print-config"], env=environment)
            context.say(f"{relative(context, path)} is taken by serve --print-config")
    sysctl(context)


def sysctl(context):
    """Every name in sysctl.conf exists here, but for those that may be missing (-)."""
    for line in (context.deploy / "sysctl.conf").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name = line.split("=")[0].strip()
        path = Path("/proc/sys") / name.removeprefix("-").replace(".", "/")
        if not path.exists() and not name.startswith("-"):
            raise Failure(f"sysctl.conf: there is no {name}")
    context.say("sysctl.conf: every name exists on this kernel")
