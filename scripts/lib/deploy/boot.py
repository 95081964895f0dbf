"""The units under a real systemd: a Debian is put into a folder and booted by systemd-nspawn; there the server is
installed as docs/deployment.md says, started, looked at, reloaded and stopped. Takes root and, the first time, minutes and
the network."""

import os
import resource
import shutil
import subprocess
import textwrap

from lib.deploy.context import EVENT, require

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
BOOT_S = 180

# Prints one line "PASS …" or "FAIL …" for each thing; the last line is "END".
PROBE = """\
#!/bin/bash
export STREAM_USER=ticks STREAM_PASS=s3cret
check() { if eval "$2" > /tmp/said 2>&1; then echo "PASS $1"; else echo "FAIL $1"; cat /tmp/said; fi; }
status() { systemctl show --property "$2" --value "$1"; }

check "the user is made by sysusers" 'getent passwd tickstream'
check "systemctl start returns when it serves (Type=notify)" \
    'systemctl start tickstream && tickstream watch --addr 127.0.0.1:7400 --count 1'
PID=$(status tickstream MainPID)
check "its status says where it listens" '[[ $(status tickstream StatusText) == *listening* ]]'
check "it runs as tickstream, with no capability and no-new-privileges, filtered" \
    '[[ $(stat -c %U /proc/$PID) == tickstream ]] && grep -q "^CapBnd:.*0000000000000000" /proc/$PID/status &&
     grep -q "^NoNewPrivs:.1" /proc/$PID/status && grep -q "^Seccomp:.2" /proc/$PID/status'
check "its password is a credential that it alone can read" \
    '[[ $(tr "\\0" "\\n" < /proc/$PID/environ | grep ^TICKSTREAM_STREAM_PASS_FILE=) == */credentials/* ]] &&
     ! tr "\\0" "\\n" < /proc/$PID/environ | grep -q s3cret'
# In the home of the guest's root, which ProtectHome hides.
IN_HOME=~root/of-the-guest
echo private > "$IN_HOME"
check "it sees no home and can't write to /etc" \
    'cat "$IN_HOME" /proc/$PID/root/etc/os-release && ! cat "/proc/$PID/root$IN_HOME" &&
     ! touch /proc/$PID/root/etc/tickstream/written'
check "doctor finds its limits by --pid" 'tickstream doctor --pid $PID --connections 10000'
check "the admin endpoint answers, and its unix socket is for the server's user and root" \
    'exec 3<> /dev/tcp/127.0.0.1/9090 && printf "GET /readyz HTTP/1.0\\r\\n\\r\\n" >&3 && grep -q "200 OK" <&3 &&
     [[ $(stat -c "%U %a" /run/tickstream/admin.sock) == "tickstream "[67]?0 ]]'
check "nothing that the sandbox forbids is missed" '! journalctl -b -u tickstream -o cat | grep -E "WARN|ERROR"'
# More than WatchdogSec, which is made short below.
check "the watchdog is fed" 'sleep 8; [[ $(status tickstream MainPID) == "$PID" && $(status tickstream NRestarts) == 0 ]]'
check "a client gets ticks meanwhile" 'tickstream watch --addr 127.0.0.1:7400 --count 2'
check "systemctl reload reads settings again, in the same process" \
    'sed -i s/^drain_seconds.*/drain_seconds\\ =\\ 7/ /etc/tickstream/tickstream.toml && systemctl reload tickstream && sleep 1 &&
     [[ $(status tickstream MainPID) == "$PID" ]] && journalctl -b -u tickstream -o cat | grep -q "told to reload" &&
     tickstream watch --addr 127.0.0.1:7400 --count 1'
check "SIGUSR2 upgrades: systemd follows to the new process, the service stays active, a client sees no gap" \
    'tickstream watch --addr 127.0.0.1:7400 --count 8 > /tmp/ticks & systemctl kill --signal=USR2 --kill-who=main tickstream
     for i in {1..40}; do sleep 0.25; [[ $(status tickstream MainPID) != "$PID" ]] && break; done
     [[ $(status tickstream MainPID) != "$PID" && $(status tickstream NRestarts) == 0 ]] && systemctl is-active tickstream &&
     wait $! && tail -1 /tmp/ticks && grep -q "8 ticks, 0 missed" /tmp/ticks && ! [[ -e /proc/$PID ]]'
PID=$(status tickstream MainPID)
check "a process that is stopped (SIGSTOP) is noticed by the watchdog and started anew" \
    'kill -STOP $PID; for i in {1..60}; do sleep 0.5; [[ $(status tickstream NRestarts) == 1 ]] && break; done
     [[ $(status tickstream NRestarts) == 1 ]] && sleep 2 && tickstream watch --addr 127.0.0.1:7400 --count 1'
check "systemctl stop drains, and the result is success" \
    'systemctl stop tickstream; [[ $(status tickstream Result) == success ]] && journalctl --sync &&
     journalctl -b -u tickstream | grep -q "told to end"'
check "a wrong password file makes the start fail, and the log says why" \
    'mv /etc/tickstream/stream_pass{,.away}; ! systemctl start tickstream; mv /etc/tickstream/stream_pass{.away,}
     journalctl -b -u tickstream | grep -q "Failed to set up credentials"; said=$?; systemctl stop tickstream; (exit $said)'
check "one instance for a NUMA node starts from the template" \
    'systemctl start tickstream@0 && tickstream watch --addr 127.0.0.1:7400 --count 1 && systemctl stop tickstream@0'
check "the first client starts the service through tickstream.socket, and one that comes in a restart waits" \
    'systemctl start tickstream.socket && ! systemctl is-active tickstream && tickstream watch --addr 127.0.0.1:7400 --count 1 &&
     systemctl is-active tickstream && { systemctl restart tickstream & } &&
     for i in {1..20}; do timeout 5 bash -c "exec 3<> /dev/tcp/127.0.0.1/7400" || exit 1; sleep 0.05; done && wait &&
     tickstream watch --addr 127.0.0.1:7400 --count 1 && systemctl stop tickstream.socket tickstream'
collect() {
    mkdir -p /etc/systemd/system/$1.d && printf "[Service]\\nEnvironment=TICKSTREAM_JOURNAL=%s TICKSTREAM_JOURNAL_SEGMENT_MIB=4\\n" "$2" \\
        > /etc/systemd/system/$1.d/events.conf && systemctl daemon-reload
}
check "events are collected below StateDirectory=, which the server alone can read and a restart leaves" \\
    'collect tickstream.service %S/tickstream/events && systemctl start tickstream && tickstream publish /event.jsonl &&
     [[ $(stat -c "%U %a" /var/lib/tickstream) == "tickstream 700" ]] && systemctl restart tickstream &&
     tickstream publish /event.jsonl && systemctl stop tickstream && tickstream events verify /var/lib/tickstream/events &&
     [[ $(tickstream events export /var/lib/tickstream/events | wc -l) == 2 ]]'
check "an instance of the template has a directory of its own" \\
    'collect tickstream@.service %S/tickstream-%i/events && systemctl start tickstream@0 && tickstream publish /event.jsonl &&
     systemctl stop tickstream@0 && [[ $(tickstream events export /var/lib/tickstream-0/events | wc -l) == 1 ]]'
journalctl -b -u tickstream -u tickstream@0 --no-pager -o cat > /journal
echo END
"""

UNIT = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=file:/probe.out
StandardError=inherit
ExecStart=/probe.sh
ExecStopPost=systemctl poweroff --force
"""


def check(context):
    tools = {name: context.tool(name, "the units under a real systemd") for name in ("debootstrap", "systemd-nspawn")}
    if None in tools.values():
        return
    if os.geteuid() != 0:
        return context.cannot("the units under a real systemd: that takes root")
    machine = context.cache / f"machine-{SUITE}"
    if not (machine / "usr/lib/systemd/systemd").exists():
        shutil.rmtree(machine, ignore_errors=True)
        context.say(f"debootstrap {SUITE} into {machine}")
        machine.parent.mkdir(parents=True, exist_ok=True)
        options = ["--variant=minbase", "--include=systemd,systemd-sysv,libgcc-s1,procps"]
        context.run([tools["debootstrap"], *options, SUITE, machine, MIRROR], timeout=1_800)
    install(context, machine)
    command = [tools["systemd-nspawn"], "--quiet", f"--directory={machine}", "--register=no", "--keep-unit", "--boot", "--private-network",
               "--console=passive", "systemd.unit=probe.service"]
    with (machine.parent / "boot.log").open("w") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=BOOT_S, check=False)
    out = machine / "probe.out"
    require(out.exists(), f"the machine didn't get to the probe: {machine.parent / 'boot.log'}")
    text = out.read_text()
    for line in text.splitlines():
        if line.startswith("PASS "):
            context.say(line.removeprefix("PASS "))
    require("FAIL " not in text and text.endswith("END\n"), f"under systemd:\n{text}\n{journal(machine)}")


def install(context, machine):
    """As docs/deployment.md has it."""
    deploy = context.deploy
    for source, target, mode in [
        (context.server(), "usr/local/bin/tickstream", 0o755),
        (deploy / "systemd/tickstream.service", "etc/systemd/system/tickstream.service", 0o644),
        (deploy / "systemd/tickstream@.service", "etc/systemd/system/tickstream@.service", 0o644),
        (deploy / "systemd/tickstream.socket", "etc/systemd/system/tickstream.socket", 0o644),
        (deploy / "systemd/sysusers.conf", "usr/lib/sysusers.d/tickstream.conf", 0o644),
        (deploy / "systemd/tickstream.toml", "etc/tickstream/tickstream.toml", 0o644),
    ]:
        put(machine / target, source.read_bytes(), mode)
    put(machine / "etc/tickstream/stream_pass", b"s3cret", 0o600)
    put(machine / "event.jsonl", EVENT, 0o644)
    put(machine / "probe.sh", PROBE.encode(), 0o755)
    put(machine / "etc/systemd/system/probe.service", UNIT.encode(), 0o644)
    here = drop_in(context).encode()
    for unit in ("tickstream.service", "tickstream@.service"):
        put(machine / f"etc/systemd/system/{unit}.d/here.conf", here, 0o644)
    (machine / "probe.out").unlink(missing_ok=True)
    # What an earlier run left: its events, and the settings under which it collected them.
    for unit, folder in (("tickstream.service", "tickstream"), ("tickstream@.service", "tickstream-0")):
        (machine / f"etc/systemd/system/{unit}.d/events.conf").unlink(missing_ok=True)
        shutil.rmtree(machine / "var/lib" / folder, ignore_errors=True)
    context.run(["systemd-sysusers", f"--root={machine}"])


def drop_in(context):
    """Differences of the machine that checks: one that may not raise limits keeps its own, and time is short."""
    lines = ["[Service]", "WatchdogSec=5", "Environment=TICKSTREAM_SHARDS=1"]
    for name, number in (("LimitNOFILE", resource.RLIMIT_NOFILE), ("LimitMEMLOCK", resource.RLIMIT_MEMLOCK)):
        soft, hard = resource.getrlimit(number)
        try:
            resource.setrlimit(number, (soft, hard + 1 if hard != resource.RLIM_INFINITY else hard))
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError):
            lines.append(f"{name}={hard}")
            context.cannot(f"{name} of the units: this machine may not raise it above {hard}")
    return "\n".join(lines) + "\n"


def put(path, data, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def journal(machine):
    path = machine / "journal"
    return textwrap.indent(path.read_text()[-4_000:], "    ") if path.exists() else ""
