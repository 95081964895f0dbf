"""A headless Chromium, driven by its DevTools protocol over a pipe, with the standard library alone.

    with Browser() as browser:
        page = browser.page(1440, 900, dark=True)
        page.open("http://127.0.0.1:9090/")
        page.wait_for("document.title.includes('tickstream')")
        page.picture("page.png")
        assert not page.complaints
"""

import base64
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

PROGRAMS = ["chromium", "chromium-browser", "google-chrome"]
# What Chromium reads commands from and writes answers to, with --remote-debugging-pipe.
COMMANDS_FD, ANSWERS_FD = 3, 4
# Keys of `Page.press`, and their numbers.
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
# True once a page is there, and what it asks for afterwards.
READY = "document.readyState === 'complete' && !document.querySelector('.pending')"
# Longer than anything takes that isn't broken, on a machine that is busy.
PATIENCE_S = 60


class BrowserError(Exception):
    """Chromium is missing, ended, or refused a command."""


def program():
    """Path of Chromium; `None` if it isn't there."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """A running Chromium with a profile of its own."""

    def __init__(self):
        self.pages = {}
        self.last = 0
        self.unread = b""

    def __enter__(self):
        path = program()
        if path is None:
            raise BrowserError("there is no Chromium: scripts/install-deps installs it")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self.commands = os.pipe()
        self.answers, theirs_out = os.pipe()

        def place():
            # First out of the way: each may have the other's number.
            source, sink = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(source, COMMANDS_FD)
            os.dup2(sink, ANSWERS_FD)
            # What was there already under its number isn't passed on otherwise.
            os.set_inheritable(COMMANDS_FD, True)
            os.set_inheritable(ANSWERS_FD, True)

        options = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}"]
        options += ["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]
        options += ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        if os.geteuid() == 0:
            # Chromium refuses to run as root with its sandbox. It is shown our own pages only.
            options.append("--no-sandbox")
        self.process = subprocess.Popen(
            [path, *options, "about:blank"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, close_fds=False, preexec_fn=place, start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(self, *_):
        for fd in (self.commands, self.answers):
            os.close(fd)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            # The session that it was started in: its helpers, too.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.profile.cleanup()

    def page(self, width, height, *, dark=False, phone=False):
        """A new page, that wide and high in CSS pixels; as high as its content for pictures."""
        # A window of its own: what is behind another one is hidden, and its page pauses.
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.size(width, height, phone=phone)
        page.scheme(dark=dark)
        return page

    def call(self, method, session=None, **parameters):
        """Does one command; answers with its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE_S
        while True:
            answer = self._read(until, method)
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]

    def _read(self, until, method):
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.answers], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise BrowserError(f"{method}: no answer within {PATIENCE_S} s")
            more = os.read(self.answers, 1 << 20)
            if not more:
                raise BrowserError(f"{method}: Chromium has ended")
            self.unread += more
        line, self.unread = self.unread.split(b"\0", 1)
        message = json.loads(line)
        if page := self.pages.get(message.get("sessionId")):
            page.hear(message)
        return message


class Page:
    """One tab."""

    def __init__(self, browser, session):
        self.browser = browser
        self.session = session
        # What the console was told at level error or warning, and uncaught exceptions.
        self.complaints = []

    def hear(self, message):
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(" ".join(str(one.get("value")) for one in parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                entry = parameters["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def size(self, width, height, *, phone=False, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)

    def scheme(self, *, dark):
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def run_before(self, script):
        """Runs a script in each document before its own."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url):
        if failure := self.call("Page.navigate", url=url).get("errorText"):
            raise BrowserError(f"{url}: {failure}")
        self.wait_for(READY)

    def evaluate(self, expression):
        """The value of an expression; waits for a promise."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise BrowserError(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return found["result"].get("value")

    def text(self, selector):
        """The text of the first element that a selector finds."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent.trim()")

    def wait_for(self, expression, within_s=PATIENCE_S):
        """Waits until an expression is true; answers with its value."""
        until = time.monotonic() + within_s
        while not (value := self.evaluate(expression)):
            if time.monotonic() > until:
                raise BrowserError(f"not within {within_s} s: {expression}")
            time.sleep(0.1)
        return value

    def follow(self, leave, within_s=PATIENCE_S):
        """Does what leads to another page, and waits until that one is there."""
        self.evaluate("window.isLeft = false")
        leave()
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            try:
                if self.evaluate(f"window.isLeft === undefined && {READY}"):
                    return
            except BrowserError:
                # Between two pages there is nothing to ask.
                pass
            time.sleep(0.1)
        raise BrowserError(f"no other page within {within_s} s")

    def point_at(self, x, y):
        """Moves the pointer, in CSS pixels."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click_at(self, x, y):
        """Presses and releases the left button, in CSS pixels."""
        self.point_at(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        """Presses and releases a key of the table `KEYS`."""
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key], **more)

    def picture(self, path, *, whole=True):
        """Writes a PNG of the page, down to its end or of what is seen."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))
