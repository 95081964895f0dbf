"""A program on a terminal of its own (a pty), what it draws there, and keys for it.

It understands what `tickstream top` draws: whole frames, each from the first line on. It is no terminal emulator.
"""

import codecs
import fcntl
import html
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

FRAME = re.compile("\x1b\\[\\?2026h\x1b\\[H(.*?)\x1b\\[\\?2026l", re.DOTALL)
CLEAR_LINE, CLEAR_BELOW = "\x1b[K", "\x1b[J"
STYLE = re.compile(r"\x1b\[([0-9;]*)m")
COLOURS = {"31": "#f47f76", "32": "#4cbf8a", "33": "#dfab45", "36": "#62a8ee"}


class Terminal:
    """A running program, and its terminal."""

    def __init__(self, command, columns, rows, env=None):
        self.ours, theirs = pty.openpty()
        self.resize(columns, rows)
        self.modes = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.output, self.decoder = "", codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=theirs, stdout=theirs, stderr=theirs, env=env,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)

    def resize(self, columns, rows):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys):
        os.write(self.ours, keys.encode())

    def read(self, seconds):
        """Reads what it draws, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self.ours], [], [], left)[0]:
                self.output += self.decoder.decode(os.read(self.ours, 1 << 16))

    def frame(self):
        """The lines of the last whole frame, with their colours; none if there is none."""
        frames = FRAME.findall(self.output)
        lines = [line.rstrip("\r") for line in frames[-1].split("\n")] if frames else []
        return [line.removeprefix(CLEAR_LINE) for line in lines if line != CLEAR_BELOW]

    def wait_for(self, text, within_s=20):
        """Waits until a frame has this text."""
        until = time.monotonic() + within_s
        while text not in plain(self.frame()):
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"{text!r} isn't drawn:\n{plain(self.frame()) or self.output}")
            self.read(0.1)

    def is_as_before(self):
        """True if its modes are those that it had before the program."""
        return termios.tcgetattr(self.theirs) == self.modes


def plain(lines):
    """Lines without colours."""
    return STYLE.sub("", "\n".join(lines))


def page(lines):
    """Lines as an HTML page."""
    parts = []
    for line in lines:
        style = ""
        # Text and styles in turn.
        for at, part in enumerate(STYLE.split(line)):
            if at % 2 == 0:
                parts.append(f'<span style="{style}">{html.escape(part)}</span>' if style else html.escape(part))
            else:
                style = css(style, part)
        parts.append("\n")
    return (
        '<!doctype html><meta charset="utf-8"><title>tickstream top</title><style>body{margin:0;background:#0e1217}'
        "pre{display:inline-block;margin:0;padding:14px 18px;color:#e3e8ef;"
        f'font:14px/17px "DejaVu Sans Mono",monospace}}</style><pre>{"".join(parts)}</pre>'
    )


def css(style, codes):
    for code in codes.split(";"):
        if code in ("", "0"):
            style = ""
        elif code == "1":
            style += "font-weight:bold;"
        elif code == "2":
            style += "color:#97a3b3;"
        else:
            style += f"color:{COLOURS[code]};"
    return style
