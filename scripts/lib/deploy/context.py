"""Common parts of the steps of scripts/check-deploy: paths, running commands, and checks that couldn't be made."""

import pathlib
import shutil
import subprocess

# Servers and system tools are in sbin on Debian, which isn't on everybody's PATH.
SEARCH = ":/usr/local/sbin:/usr/sbin:/sbin"
# A line for tickstream publish, which gives it an id and a time.
EVENT = b'{"platform":"linux","event_type":"log","event_name":"up","log":{"service":"deploy","level":"info","message":"up"}}\n'


class Failure(Exception):
    """Something in deploy/ is wrong."""


class Context:
    def __init__(self, root, cache, binary):
        self.root = root
        self.deploy = root / "deploy"
        self.cache = cache
        self.binary = binary
        self.unchecked = []

    def say(self, text):
        print(f"    {text}", flush=True)

    def cannot(self, what):
        """Something that can't be checked here; told again at the end."""
        self.unchecked.append(what)
        self.say(f"not checked: {what}")

    def tool(self, name, what):
        """The path of a program; where it is missing, `what` goes unchecked and the answer is None."""
        # The environment's own programs (hadolint) are beside its Python.
        own = self.cache / "deploy-venv/bin" / name
        path = str(own) if own.exists() else shutil.which(name) or shutil.which(name, path=SEARCH)
        if path is None:
            self.cannot(f"{what}: there is no {name} (scripts/install-deps deploy)")
        return path

    def server(self):
        """The server's binary."""
        require(self.binary.exists(), f"there is no {self.binary}: cargo build, or --binary")
        return self.binary

    def run(self, command, **options):
        """Runs to the end; a Failure with its output unless it succeeds. Answers with its output."""
        result = self.attempt(command, **options)
        if result.returncode != 0:
            raise Failure(f"{words(command)} ends with {result.returncode}:\n{result.stdout}{result.stderr}")
        return result.stdout

    def attempt(self, command, timeout=120, **options):
        command = [str(word) for word in command]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)


def require(condition, what):
    if not condition:
        raise Failure(what)


def words(command):
    return " ".join(str(word) for word in command)


def relative(context, path):
    return pathlib.Path(path).relative_to(context.root)
