"""Runs `tickstream top` on a terminal: python3 tests admin.top PROGRAM ADMIN CONNECTIONS. Exit code 0: all as it should be."""

import signal
import sys

from support.terminal import Terminal, plain

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def main():
    program, admin, connections = sys.argv[1:]
    command = [program, "top", "--admin", admin, "--interval", "250ms"]
    for end in ("q", "\x03", signal.SIGTERM):
        with Terminal(command, 120, 50) as terminal:
            terminal.wait_for("Every shard responds.")
            terminal.wait_for(f"Connections       {connections} ")
            terminal.wait_for("Slowest")
            terminal.wait_for("█")
            check("lines", len(terminal.frame()) <= 50, True)
            terminal.resize(60, 12)
            terminal.read(0.5)
            lines = plain(terminal.frame()).split("\n")
            check("lines when it is small", len(lines) <= 12, True)
            check("columns when it is small", max(map(len, lines)) <= 60, True)
            if isinstance(end, str):
                terminal.press("x" + end)
            else:
                terminal.process.send_signal(end)
            check("exit code", terminal.process.wait(timeout=20), 0)
            terminal.read(0.2)
            check("screens taken and given back", [terminal.output.count(one) for one in (ENTER, LEAVE)], [1, 1])
            check("the terminal is as before", terminal.is_as_before(), True)


def check(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"top: {error}")
