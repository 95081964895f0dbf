"""The container image, without a container engine: its Dockerfile is linted, its context is built, its file system is
put together as the Dockerfile says, and the server is run in it as an engine would."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from lib.deploy.context import EVENT, Failure, require, words

USER = 65532
STATE = "/var/lib/tickstream"
SHARDS = 1
START_S, STOP_S = 20, 20
# Of the runtimes' own profiles, what matters here: none lets io_uring or unshare through.
RUNTIME_DEFAULT_LACKS = ("io_uring_setup", "io_uring_enter", "io_uring_register", "unshare")


def build(context):
    dockerfile = context.deploy / "container/Dockerfile"
    if hadolint := context.tool("hadolint", "the Dockerfile's style"):
        context.run([hadolint, dockerfile])
        context.say("Dockerfile: hadolint is content")
    version = re.search(r'channel = "([\d.]+)"', (context.root / "rust-toolchain.toml").read_text()).group(1)
    require(f"ARG RUST_VERSION={version}\n" in dockerfile.read_text(), f"the Dockerfile doesn't take Rust {version}")
    with tempfile.TemporaryDirectory() as scratch:
        files = copy_context(context, Path(scratch))
        context.say(f".dockerignore lets {files} files through")
        # Resolves every package, target and version of the build that the Dockerfile runs.
        context.run(["cargo", "metadata", "--locked", "--format-version", "1"], cwd=scratch)
        target = {**os.environ, "CARGO_TARGET_DIR": str(context.root / "target")}
        command = ["cargo", "check", "--locked", "--package", "tickstream", "--bin", "tickstream"]
        context.run(command, cwd=scratch, env=target, timeout=1_800)
        context.say(f"{words(command)} works with these alone")


def copy_context(context, folder):
    """The tracked files that .dockerignore, which has nothing but allowed paths, lets through."""
    lines = (context.root / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    require(rules[0] == "*", ".dockerignore isn't an allow list")
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    names = context.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=context.root).split("\n")
    names = [name for name in names if any(name == path or name.startswith(f"{path}/") for path in allowed)]
    for path in allowed:
        require(any(name == path or name.startswith(f"{path}/") for name in names), f".dockerignore names no file {path}")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(context.root / name, folder / name)
    return len(names)


def sandbox(context):
    bwrap = context.tool("bwrap", "the server in the image's file system")
    if bwrap is None:
        return
    profile = context.deploy / "container/seccomp.json"
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image"
        libraries = assemble(context, image)
        size = sum(path.stat().st_size for path in image.rglob("*") if path.is_file())
        context.say(f"the image's file system: the binary, {libraries} libraries, {size / 1e6:.0f} MB (this build's)")
        serves(context, bwrap, image, profile, Path(scratch))
        refused = Path(scratch) / "default.json"
        refused.write_text(json.dumps(without(json.loads(profile.read_text()), RUNTIME_DEFAULT_LACKS)))
        refuses(context, bwrap, image, refused)
    confined(context, profile)


def assemble(context, image):
    """The Dockerfile's second RUN."""
    binary = context.server()
    listed = re.findall(r"(/\S+)", context.run(["ldd", binary]))
    for source, target in [(binary, "/usr/local/bin/tickstream"), *((path, path) for path in listed)]:
        place = image / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    # What an engine adds.
    (image / "etc").mkdir()
    (image / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for folder in ("proc", "sys", "run/secrets", "dev", "var/lib/tickstream"):
        (image / folder).mkdir(parents=True)
    return len(listed)


def serves(context, bwrap, image, profile, scratch):
    """Starts, sends ticks to a client that is confined alike, stores an event, and drains on SIGTERM."""
    arguments = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", SHARDS, "--drain-seconds", "1",
                 "--journal", f"{STATE}/events", "--journal-segment-mib", 4]
    volume = scratch / "volume"
    volume.mkdir()
    reported = scratch / "log"
    with reported.open("w") as log:
        command = confine(bwrap, image, profile, arguments, volume)
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            port, admin = port_of(server, reported, "address"), port_of(server, reported, "admin")
            for path in ("/readyz", "/metrics"):
                with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=10) as answer:
                    require(answer.status == 200, f"{path} answers {answer.status}")
            client = confine(bwrap, image, profile, ["watch", "--addr", f"localhost:{port}", "--count", 3, "--json"])
            lines = context.run(client, timeout=30).splitlines()
            ticks = [json.loads(line) for line in lines if "sequence" in line]
            require(len(ticks) == 3, f"the client got {lines}")
            (volume / "event.jsonl").write_bytes(EVENT)
            publish = ["publish", "--addr", f"localhost:{port}", f"{STATE}/event.jsonl"]
            context.run(confine(bwrap, image, profile, publish, volume), timeout=30)
        finally:
            # To the server itself: bwrap, whose only child it is, passes no signals on.
            if server.poll() is None:
                os.kill(child_of(server.pid), 15)
            try:
                code = server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                raise Failure(f"the server doesn't end on SIGTERM:\n{reported.read_text()}") from None
    stored = context.run(confine(bwrap, image, profile, ["events", "export", f"{STATE}/events"], volume)).splitlines()
    require(len(stored) == 1, f"the journal has {stored}")
    log = reported.read_text()
    require(code == 0, f"the server ends with {code}:\n{log}")
    # What the profile forbids, the server might do without, and only complain.
    require('"level":"WARN"' not in log and '"level":"ERROR"' not in log, f"the server complains:\n{log}")
    context.say("with this file system alone, read-only, as user 65532, without capabilities, with no-new-privileges and "
                "the seccomp profile: it serves, a client gets ticks, an "
                "event is stored in a volume, the admin endpoint answers, SIGTERM drains and ends it with 0")


def refuses(context, bwrap, image, profile):
    """Under a profile without io_uring it says what to do."""
    said = context.attempt(confine(bwrap, image, profile, ["serve", "--listen", "127.0.0.1:0", "--shards", 1]), timeout=30)
    require(said.returncode == 1 and "seccomp" in said.stderr, f"without io_uring it says: {said.stderr}")
    context.say("under a profile without io_uring it doesn't start, and names the seccomp profile")


def confined(context, profile):
    """System calls that the profile must not let through."""
    tries = {
        "a user namespace": "import os; os.unshare(os.CLONE_NEWUSER)" if sys.version_info >= (3, 12)
        else "import ctypes; assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0",
        "a mount": "import ctypes; assert ctypes.CDLL(None, use_errno=True).mount(b'x', b'/mnt', b'tmpfs', 0, None) == 0",
        "ptrace": "import ctypes; assert ctypes.CDLL(None, use_errno=True).ptrace(0, 0, None, None) == 0",
        "a socket of another family": "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
        "bpf": "import ctypes; assert ctypes.CDLL(None, use_errno=True).syscall(321, 0, None, 0) != -1",
    }
    for what, program in tries.items():
        said = context.attempt(under(profile, [sys.executable, "-c", program]))
        require(said.returncode != 0, f"the profile allows {what}")
    context.say(f"the profile forbids {', '.join(tries)}")


def confine(bwrap, image, profile, arguments, volume=None):
    """A command as a container engine starts it, with a volume for its state; the network is this machine's."""
    user = ["--unshare-user", "--uid", USER, "--gid", USER, "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    files = ["--ro-bind", image, "/", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]
    files += ["--bind", volume, STATE] if volume else []
    environment = ["--clearenv", "--setenv", "STREAM_USER", "ticks", "--setenv", "STREAM_PASS", "s3cret"]
    # Outside: bwrap needs more than the profile allows, and its own filter is loaded last of all.
    command = [bwrap, *user, *files, *environment, "--cap-drop", "ALL", "--die-with-parent", "--as-pid-1",
               "--seccomp", "3", "/usr/local/bin/tickstream", *arguments]
    return with_filter(profile, command)


def with_filter(profile, command):
    helper = Path(__file__).with_name("seccomp_exec.py")
    return [str(word) for word in [sys.executable, helper, "--descriptor", "3", profile, "--", *command]]


def under(profile, command):
    helper = Path(__file__).with_name("seccomp_exec.py")
    return [str(word) for word in [sys.executable, helper, profile, "--", *command]]


def without(profile, names):
    """The profile without these calls."""
    rules = [rule | {"names": [name for name in rule["names"] if name not in names]} for rule in profile["syscalls"]]
    return profile | {"syscalls": [rule for rule in rules if rule["names"]]}


def port_of(process, reported, name):
    """A port that the server took, as its log says under this name."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        lines = [json.loads(line) for line in reported.read_text().splitlines() if line.endswith("}")]
        for line in lines:
            if line["message"] == "serving":
                return int(line[name].rsplit(":", 1)[1])
        time.sleep(0.05)
    raise Failure(f"the server doesn't serve within {START_S} s:\n{reported.read_text()}")


def child_of(parent):
    for path in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{parent}\n" in path.read_text():
                return int(path.parent.name)
    raise Failure(f"process {parent} has no child")
