"""Looks at the live page in a headless Chromium.

  python3 tests admin.page http://127.0.0.1:9090/ --connections 20

First the page of that running server, then the same page and its header in front of made-up figures: those of a large
server, of a hostile one, and of one that hangs, drains and falls silent. Exit code 0: all as it should be.
"""

import argparse
import http.server
import json
import sys
import threading
import time
import urllib.request

from support.browser import Browser, BrowserError

# What ran, or fetched something, if the page took text for markup.
MARKUP = "<img src=x onerror=\"window.harmed=1\"><script>window.harmed=1</script>"
# Counts what moves that hasn't moved by the reader's own doing: https://wicg.github.io/layout-instability/
SHIFTS = """window.shift = 0;
new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.shift += entry.value; }))
  .observe({type: "layout-shift", buffered: true});"""
# "Good" is below 0.1; numbers that grow by a digit count, too.
SHIFT_MAX = 0.03
PHONE = (360, 780)
DESKTOP = (1440, 900)


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("url")
    given.add_argument("--connections", type=int, required=True, help="that the server has")
    arguments = given.parse_args()
    with Browser() as browser:
        real_server(browser, arguments.url, arguments.connections)
        with MadeUp(arguments.url) as server:
            large_server(browser, server)
            collecting_server(browser, server)
            hostile_server(browser, server)
            troubled_server(browser, server)
    print("ok")


def check(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


def opened(browser, url, size=DESKTOP, **options):
    page = browser.page(*size, phone=size == PHONE, **options)
    page.run_before(SHIFTS)
    page.open(url)
    page.wait_for("document.querySelector('#connections').textContent !== '–'")
    return page


def is_calm(page):
    """No complaint, nothing that moved, nothing that is too wide."""
    check("complaints", page.complaints, [])
    shift = page.evaluate("window.shift")
    if shift > SHIFT_MAX:
        raise AssertionError(f"things move: {shift:.3f}")
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    check("width", width <= room, True)


def requests(page, path):
    return page.evaluate(f"performance.getEntriesByType('resource').filter((one) => one.name.includes({json.dumps(path)})).length")


def real_server(browser, url, connections):
    for size, dark in ((DESKTOP, False), (PHONE, True)):
        page = opened(browser, url, size, dark=dark)
        page.wait_for(f"document.querySelector('#connections').textContent === '{connections:,}'")
        page.wait_for("document.querySelector('#ticks').textContent !== '–'")
        page.wait_for("document.querySelectorAll('#slow tr th')[0].textContent !== ''")
        check("state", page.text("#state"), "serving")
        check("no word of events that aren't collected", page.evaluate("document.querySelector('#collected').offsetHeight"), 0)
        by_shard = page.evaluate("[...document.querySelectorAll('#shards td .gauge span:first-child')].map((one) => one.textContent)")
        check("connections by shard", sum(int(text.replace(",", "")) for text in by_shard[::2]), connections)
        labels = page.evaluate("[...document.querySelectorAll('canvas')].map((one) => [one.getAttribute('role'), one.getAttribute('aria-label')])")
        for role, label in labels:
            check("a canvas' role", role, "img")
            check(f"a canvas is told in words: {label}", "last 2 minutes" in label, True)
        page.wait_for("document.querySelectorAll('#addresses tr th')[0].textContent === '127.0.0.1'")
        check("nobody's hint", page.evaluate("document.querySelector('#nobody').offsetHeight"), 0)
        check("regions without a name", page.evaluate("document.querySelectorAll('section:not([aria-labelledby])').length"), 0)
        is_calm(page)
        # What opens moves the rest, as it should.
        page.evaluate("document.querySelector('summary').click()")
        page.wait_for("document.querySelectorAll('#latency-rows tr').length === 12")
        page.wait_for("document.querySelector('#latency-rows td:last-child').textContent !== '–'")
        check("complaints", page.complaints, [])
    lists(page, connections)
    pauses(page)


def lists(page, connections):
    """Searched, sorted, and closed with a token alone."""
    rows = "[...document.querySelectorAll('#slow tr th')].map((one) => one.textContent).filter(Boolean)"
    page.evaluate("(() => { const one = document.querySelector('#sort'); one.value = 'id'; one.dispatchEvent(new Event('change')); })()")
    page.wait_for(f"{rows}.length === {connections}")
    first = page.evaluate(f"{rows}[0]")
    search = "(() => { const one = document.querySelector('#search'); one.value = %s; one.dispatchEvent(new Event('input')); })()"
    page.evaluate(search % "'nobody at all'")
    page.wait_for("document.querySelector('#slow-note').textContent.startsWith('none that has this')")
    page.evaluate(search % "''")
    page.wait_for(f"{rows}.length === {connections}")
    buttons = "[...document.querySelectorAll('#slow button')].filter((one) => !one.hidden).length"
    check("buttons without a token", page.evaluate(buttons), 0)
    token = "(() => { const one = document.querySelector('#token'); one.value = 'wrong'; one.dispatchEvent(new Event('input')); })()"
    page.evaluate(token)
    check("buttons with one", page.evaluate(buttons), connections)
    page.evaluate("window.confirm = () => { window.asked = true; return true; }; document.querySelector('#slow button').click()")
    page.wait_for("document.querySelector('#said').textContent.includes('token')")
    check("asked first", page.evaluate("window.asked"), True)
    page.wait_for(f"{rows}[0] === {json.dumps(first)}")


def pauses(page):
    """Neither a page that was paused nor a hidden one asks anything."""
    page.evaluate("document.querySelector('#pause').click()")
    check("paused", page.text("#state"), "paused")
    page.evaluate("new Promise((done) => setTimeout(done, 500))")
    before = requests(page, "snapshot")
    time.sleep(2.5)
    check("requests while paused", requests(page, "snapshot"), before)
    page.evaluate("document.querySelector('#pause').click()")
    page.wait_for(f"performance.getEntriesByType('resource').filter((one) => one.name.includes('snapshot')).length > {before + 1}")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true")
    page.evaluate("new Promise((done) => setTimeout(done, 500))")
    before = requests(page, "snapshot")
    time.sleep(2.5)
    check("requests while hidden", requests(page, "snapshot"), before)
    page.evaluate(hide % "false")
    page.wait_for(f"performance.getEntriesByType('resource').filter((one) => one.name.includes('snapshot')).length > {before}")


def large_server(browser, server):
    server.figures = figures(shards=64, connections=100_000)
    for size in (DESKTOP, PHONE):
        page = opened(browser, server.url, size, dark=size == DESKTOP)
        page.wait_for("document.querySelector('#ticks').textContent !== '–'")
        check("connections", page.text("#connections"), "100,000")
        check("shards", page.evaluate("document.querySelectorAll('#shards tr').length"), 64)
        cut = "[...document.querySelectorAll('.tile .value')].filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
        check("figures that don't fit", page.evaluate(cut), [])
        is_calm(page)


def collecting_server(browser, server):
    server.figures = figures(shards=64, connections=100_000)
    server.figures.collects = True
    for size in (DESKTOP, PHONE):
        page = opened(browser, server.url, size, dark=size == DESKTOP)
        page.wait_for("document.querySelector('#stored').textContent !== '–'")
        # Of 64 shards, 1,000 each a second, whenever it was asked.
        stored = int(page.text("#stored").replace(",", ""))
        check(f"events stored a second: {stored}", 60_000 < stored < 68_000, True)
        check("rejected", page.text("#rejected-note").endswith("most TOO_OLD"), True)
        check("batches", page.text("#waiting"), "192")
        check("journal", (page.text("#journal"), page.text("#journal-unit"), page.text("#journal-note")), ("25.8", "GB", "192 segments"))
        cut = "[...document.querySelectorAll('.tile .value')].filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
        check("figures that don't fit", page.evaluate(cut), [])
        check("complaints", page.complaints, [])
        width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        check("width", width <= room, True)
    server.figures.changes = {"full": 3}
    page.wait_for("document.querySelector('#state').textContent === 'disk full'")
    check("said", page.text("#status").startswith("Shard 3: the disk is full. Events are refused"), True)


def hostile_server(browser, server):
    server.figures = figures(shards=2, connections=10, text=MARKUP)
    page = opened(browser, server.url)
    page.wait_for("document.querySelectorAll('#slow tr th')[0].textContent !== ''")
    for selector in ("#address", "#version", "#events td:last-child", "#events tr td:nth-child(3)", "#closes th", "#slow th"):
        check(f"text of {selector}", page.text(selector), MARKUP)
    check("harm", page.evaluate("[window.harmed, document.images.length, document.scripts.length]"), [None, 0, 1])
    # The policy holds the page to it, should anybody change that.
    refused = page.evaluate("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (error) { return error.name; } })()")
    check("markup from a string", refused, "TypeError")
    ran = page.evaluate("(() => { const one = document.createElement('script'); try { one.text = 'window.harmed = 1'; document.body.append(one); } catch {} return window.harmed; })()")
    check("a script that was put in", ran, None)


def troubled_server(browser, server):
    server.figures = figures(shards=3, connections=1_000)
    page = opened(browser, server.url)
    page.wait_for("document.querySelector('#ticks').textContent !== '–'")

    def becomes(word, said, **changes):
        server.figures.changes = changes
        page.wait_for(f"document.querySelector('#state').textContent === {json.dumps(word)}")
        page.wait_for(f"document.querySelector('#status').textContent.includes({json.dumps(said)})")

    becomes("unhealthy", "Shard 1: the loop doesn't turn", hung=1)
    becomes("serving", "Shard 2: no answer in time", silent=2)
    becomes("draining", "no new connections", state="draining")
    check("title", page.evaluate("document.title").startswith("draining: 1,000"), True)
    is_calm(page)
    server.status = 503
    page.wait_for("document.querySelector('#state').textContent === 'no answer'")
    check("said", "status 503" in page.text("#status") and "It was draining" in page.text("#status"), True)
    server.status = 200
    becomes("serving", "Every shard", pid=2)
    # Another process: its counters begin anew, and aren't compared with those before.
    page.wait_for("document.querySelector('#ticks').textContent !== '–'")
    check("no rate is negative", "-" in page.text("#ticks"), False)
    server.end()
    page.wait_for("document.querySelector('#state').textContent === 'no answer'")
    check("said", "can't be reached" in page.text("#status"), True)


class figures:
    """A server's figures as they are at each moment."""

    def __init__(self, shards, connections, text=None):
        self.shards, self.connections, self.text = shards, connections, text
        self.began = time.time() - 100_000
        self.changes = {}
        self.collects = False

    def snapshot(self):
        age = time.time() - self.began
        share, ticks = self.connections // self.shards, int(self.connections // self.shards * age)
        bounds = [10 ** (step / 13) / 100 for step in range(79)]
        frames = [int(ticks / (1 + (bucket - 28) ** 2)) for bucket in range(80)]
        word = self.text or "slow_consumer"
        stream = {"subscribers": share, "lagging": 3, "oldest_unsent_ms": 4_900, "frames_published": 1, "ticks_published": 1,
                  "frames_delivered": ticks, "ticks_delivered": ticks, "frames_replayed": 7, "ticks_late": 0, "ticks_skipped": 0}
        odd = self.connections - share * self.shards
        shards = [{
            "shard": shard, "cpu": shard, "answered": shard != self.changes.get("silent"), "retired": False,
            "hung_ms": 900 if shard == self.changes.get("hung") else 0, "open_fds": share, "busy_ms": int(age * 437),
            "delayed_ms": 0, "passes": 1, "connections": share + (odd if shard == 0 else 0), "lagging": 3, "unauthenticated": 2,
            "accepted": ticks, "refused": 0, "bytes_sent": ticks * 31, "closed": {word: ticks // 60, "peer_closed": ticks // 90},
            "limits_fired": {word: ticks // 120}, "streams": {"SECOND": stream, "MINUTE": stream},
            "latency": {"sum_ms": 1.0, "buckets": frames},
        } for shard in range(self.shards)]
        if self.collects:
            for shard in shards:
                shard["events"] = self.collection(shard["shard"], int(age * 1_000))
        peer = self.text or "[2001:db8:85a3:1234:5678:8a2e:370:7334]:55778"
        event = {"unix_ms": int(time.time() * 1e3), "id": self.text or "63-1017420", "peer": peer, "reason": word,
                 "detail": self.text or "its oldest unsent byte is past the write deadline", "mode": word, "open_ms": 3_600_000,
                 "unsent_ms": 5_000}
        return {
            "version": self.text or "0.1.0", "pid": self.changes.get("pid", 1), "address": self.text or "0.0.0.0:7400",
            "state": self.changes.get("state", "serving"), "healthy": "hung" not in self.changes,
            "started_unix_ms": int(self.began * 1e3), "now_unix_ms": int(time.time() * 1e3),
            "process": {"resident_bytes": 421_000_000, "cpu_ms": int(age * 437 * self.shards), "threads": 70, "open_fds": 90,
                        "log_lines_lost": 0, "collections": 1},
            "latency_bounds_ms": bounds, "shards": shards, "events": [event] * 64,
        }

    def collection(self, shard, stored):
        journal = {"disk_bytes": 3 << 27, "segments": 3, "waiting_bytes": 4 << 20, "waiting_bytes_max": 8 << 20,
                   "full_since_unix_ms": 1 if shard == self.changes.get("full") else None}
        return {"accepted": stored, "duplicates": stored // 100, "rejected": {"TOO_OLD": stored // 50, "MALFORMED": 7},
                "in_flight": 3, "journal": journal}

    def slowest(self):
        one = {"id": self.text or "63-1017420", "shard": 63, "peer": self.text or "[2001:db8:85a3:1234:5678:8a2e:370:7334]:55778",
               "state": "authenticated", "mode": "SECOND", "open_ms": 7_200_000, "lagging": True, "unsent_ms": 4_900,
               "ticks_behind": 4_900, "bytes_sent": 123_456_789}
        if self.text:
            one |= {"user": self.text, "client": self.text}
        return {"total": self.connections, "offset": 0, "limit": 50, "missing_shards": [], "connections": [one] * 50, "next": "n0.0.50"}

    def addresses(self):
        one = {"address": self.text or "2001:db8:85a3:1234::/64", "connections": self.connections // 20, "lagging": 1,
               "unauthenticated": 0, "bytes_sent": 123_456_789}
        return {"total": 4_711, "missing_shards": [], "addresses": [one] * 20}

    def history(self):
        """Half an hour of the same."""
        snapshot, share = self.snapshot(), self.connections // self.shards

        def sample(unix_ms):
            age = unix_ms / 1e3 - self.began
            ticks = int(share * age)
            frames = [self.shards * int(ticks / (1 + (bucket - 28) ** 2)) for bucket in range(80)]
            taken = {"now_unix_ms": unix_ms, "connections": self.connections, "lagging": 0, "unsent_ms": 0,
                     "accepted": self.shards * ticks, "bytes_sent": self.shards * ticks * 31,
                     "ticks": {"SECOND": self.shards * ticks, "MINUTE": self.shards * ticks},
                     "cpu_ms": int(age * 437 * self.shards), "busy_ms": [int(age * 437)] * self.shards, "shard_ticks": [2 * ticks] * self.shards, "latency": frames,
                     "closed": {"slow_consumer": self.shards * (ticks // 60), "peer_closed": self.shards * (ticks // 90)}}
            if self.collects:
                stored = self.shards * int(age * 1_000)
                taken["events"] = {"stored": stored, "duplicates": stored // 100, "rejected": stored // 50, "waiting": 3,
                                   "disk_bytes": 3 << 27}
            return taken

        now = snapshot["now_unix_ms"]
        return {"pid": snapshot["pid"], "started_unix_ms": snapshot["started_unix_ms"], "interval_ms": 10_000,
                "samples": [sample(now - 10_000 * ago) for ago in range(180, 0, -1)]}


class MadeUp:
    """The page and its header, as the server at `url` serves them, in front of figures that are made up."""

    def __init__(self, url):
        with urllib.request.urlopen(url, timeout=20) as answer:
            self.page, self.headers = answer.read(), dict(answer.headers)
        self.figures, self.status = None, 200

    def __enter__(self):
        made_up = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                made_up.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def answer(self, request):
        path = request.path.split("?")[0]
        policy = None
        match path:
            case "/":
                status, kind, body = 200, "text/html; charset=utf-8", self.page
                policy = next(value for name, value in self.headers.items() if name.lower() == "content-security-policy")
            case "/snapshot" | "/connections" | "/addresses" | "/history":
                status, kind = self.status, "application/json"
                of = {"/snapshot": self.figures.snapshot, "/connections": self.figures.slowest, "/addresses": self.figures.addresses,
                      "/history": self.figures.history}
                body = json.dumps(of[path]()).encode()
            case _:
                status, kind, body = 404, "text/plain", b"nothing\n"
        request.send_response(status)
        request.send_header("content-type", kind)
        request.send_header("content-length", str(len(body)))
        # So that the server can end while the page is open.
        request.send_header("connection", "close")
        if policy:
            request.send_header("content-security-policy", policy)
        request.end_headers()
        request.wfile.write(body)


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, BrowserError) as error:
        sys.exit(f"the page: {error}")
