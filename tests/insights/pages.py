"""Looks at each page of the insights in a headless Chromium.

  python3 tests insights.pages http://127.0.0.1:7480/ --axe target/axe/axe.min.js --pictures /tmp/pictures

Each page at 390, 768 and 1,440 pixels, light and dark: no complaint of the console, nothing wider than the window, each control
named, none of axe-core's violations (with --axe, the file of npm's axe-core). By the Tab key alone, all that can be used gets
the focus, and shows it; by arrows and Enter, a chart leads to the events behind it. The server is one with data, such as
`tickstream-warehouse demo`. Exit code 0: all as it should be.
"""

import argparse
import pathlib
import sys
import urllib.parse

from support import png
from support.browser import Browser

SIZES = [(390, 844), (768, 1024), (1440, 900)]
TEAMS = ["marketing", "product", "engineering", "video", "operations", "security", "cost"]
EXPLORE = [
    "explore?kind=trend&event=purchased&by=channel",
    "explore?kind=funnel&step=product_viewed&step=added_to_cart&step=purchased",
    "explore?kind=retention", "explore?kind=paths&anchor=purchased&direction=to",
    "explore?kind=sql&sql=SELECT+event_name%2C+count(*)+AS+n+FROM+events+GROUP+BY+1+ORDER+BY+2+DESC",
]
# Addresses without an answer: these pages, too, must be readable.
EMPTY = ["marketing?platform=nothing", "user/nobody"]
# Elements that stick out of the window, but for what scrolls in a frame of its own.
WIDE = """[...document.querySelectorAll("body *")].filter(element => !element.closest(".scroll, pre, svg") &&
  element.getBoundingClientRect().right > innerWidth + 1 && !element.matches(".unseen, .skip")).map(element => element.outerHTML.slice(0, 120))"""
NAMELESS = """[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")].filter(element =>
  !(element.labels?.length || element.textContent.trim() || element.ariaLabel)).map(element => element.outerHTML.slice(0, 120))"""
# What can be used, and is seen: the bands of flows are left out, whose table has the same links.
USABLE = """[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, .scroll, .plot")]
  .filter(element => element.checkVisibility() && !element.closest("svg"))"""
FOCUS = """(() => { const one = document.activeElement; if (!one || one === document.body) return null;
  const place = everything.indexOf(one), style = getComputedStyle(one);
  return [place, style.outlineStyle !== "none" || one.matches("main"), one.outerHTML.slice(0, 120)]; })()"""
AXE = "axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes.slice(0, 2).map(node => node.html.slice(0, 160)).join(' | ')))"


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("url")
    given.add_argument("--axe", type=pathlib.Path, help="axe.min.js")
    given.add_argument("--pictures", type=pathlib.Path, help="folder for pictures of each page")
    given.add_argument("--documentation", type=pathlib.Path, help="folder for the pictures of docs/insights.md, and nothing else")
    given.add_argument("--to", default="", help="end of the period of these pages, where the data has one [default: now]")
    given.add_argument("--only", help="pages whose address contains this")
    arguments = given.parse_args()
    look = Look(arguments)
    with Browser() as look.browser:
        if arguments.documentation:
            look.document(arguments.documentation, f"to={arguments.to}" if arguments.to else "")
            return
        paths = [path for path in look.paths() if (arguments.only or "") in path]
        for path in paths:
            for size in SIZES:
                look.at(path, size)
            look.by_keyboard(path)
    print(f"{len(paths)} pages: ok" if not look.wrong else f"{len(paths)} pages: {look.wrong} things are wrong")
    sys.exit(bool(look.wrong))


class Look:
    """Pages, and what is wrong with them."""

    def __init__(self, arguments):
        self.url, self.pictures = arguments.url, arguments.pictures
        self.axe = arguments.axe.read_text() if arguments.axe else None
        self.browser, self.wrong = None, 0

    def paths(self):
        """Addresses of all pages, from the root on."""
        items = [link.lstrip("/") for link in self.links("", "main a") if link.count("/") == 2]
        sql = "SELECT+session_id%2C+user_id%2C+trace_id+FROM+events+WHERE+event_type%3D'trace_span'+AND+user_id+IS+NOT+NULL+LIMIT+1"
        # A session, a user and a trace with data; events behind a row and behind a value of a line; all around one of them.
        lines = self.links(f"explore?kind=sql&sql={sql}", "td a")
        behind = [self.links("marketing/channels", selector)[0] for selector in (".bars a", "details td a")]
        lines += [*behind, *self.links(behind[0].lstrip("/"), "td a")[:1]]
        return ["", *TEAMS, *items, "services", *EXPLORE, *[link.lstrip("/") for link in lines], *EMPTY]

    def links(self, path, selector):
        page = self.open(path, SIZES[-1])
        found = page.evaluate(f"[...document.querySelectorAll('{selector}')].map(link => link.getAttribute('href'))")
        page.call("Page.close")
        return found

    def open(self, path, size):
        page = self.browser.page(*size, phone=size[0] < 500)
        page.open(f"{self.url}{path}")
        return page

    def document(self, folder, to):
        """Pictures of the pages of docs/insights.md: small, with a palette."""
        folder.mkdir(parents=True, exist_ok=True)
        [reached] = self.links("marketing/funnel", ".bars a")[2:3]
        [user] = [link for link in self.links(reached.lstrip("/"), "td a") if link.startswith("/user/")][:1]
        pages = {"overview": "", **{team: f"{team}?{to}" for team in TEAMS}, "services": f"services?days=30&{to}", "explore": f"{EXPLORE[0]}&{to}",
                 "behind": reached.lstrip("/"), "user": user.lstrip("/")}
        for name, path in pages.items():
            page = self.open(path, (1100, 700))
            file = folder / f"insights-{name}.png"
            page.picture(file)
            page.call("Page.close")
            file.write_bytes(png.shrink(file.read_bytes()))
            print(f"{file}: {file.stat().st_size // 1000} kB", flush=True)

    def check(self, where, what, found):
        if found:
            self.wrong += 1
            print(f"{where}: {what}: {found}", flush=True)

    def at(self, path, size):
        page = self.open(path, size)
        where = f"/{short(path)} at {size[0]}"
        self.check(where, "wider than the window", page.evaluate(WIDE)[:3])
        self.check(where, "without a name", page.evaluate(NAMELESS)[:3])
        self.check(where, "no heading", page.evaluate("document.querySelectorAll('h1').length !== 1"))
        self.check(where, "no answer", page.evaluate("document.querySelector('.problem')?.textContent"))
        if self.axe:
            page.evaluate(self.axe + ";0")
        for scheme in ("light", "dark"):
            page.scheme(dark=scheme == "dark")
            if self.axe:
                self.check(f"{where} {scheme}", "axe", page.evaluate(AXE))
            if self.pictures:
                self.pictures.mkdir(parents=True, exist_ok=True)
                file = f"{short(path).replace('/', '_') or 'overview'}-{size[0]}-{scheme}.png"
                page.picture(self.pictures / file)
        self.check(where, "console", page.complaints)
        page.call("Page.close")

    def by_keyboard(self, path):
        page = self.open(path, SIZES[-1])
        where = f"/{short(path)} by keyboard"
        count = page.evaluate(f"window.everything = {USABLE}, everything.length")
        reached = set()
        # From the skip link on, once around; the browser's own controls have no element.
        for _ in range(2 * count + 5):
            page.press("Tab")
            focus = page.evaluate(FOCUS)
            # A chart that has the focus shows a link of its own, which wasn't there before.
            if focus is not None and focus[0] < 0:
                continue
            if focus is None or focus[0] in reached:
                break
            reached.add(focus[0])
            self.check(where, "focus isn't shown", [] if focus[1] else focus[2])
        missed = [number for number in range(count) if number not in reached]
        self.check(where, "not reached", [page.evaluate(f"everything[{number}].outerHTML.slice(0, 120)") for number in missed[:3]])
        if page.evaluate("document.querySelector('[data-behind] .plot')?.focus(), !!document.querySelector('[data-behind]')"):
            page.press("ArrowLeft")
            self.check(where, "a chart says nothing", not page.evaluate("document.activeElement.ariaValueText"))
            page.follow(lambda: page.press("Enter"))
            self.check(where, "a chart leads elsewhere", page.evaluate("!location.pathname.endsWith('/behind') && location.pathname"))
        page.call("Page.close")


def short(path):
    """A path without the values of its query."""
    path, _, query = path.partition("?")
    kind = dict(urllib.parse.parse_qsl(query)).get("kind") or ("empty" if "nothing" in query else "line" if "line=" in query else "")
    parts = [part if len(part) < 32 else part[:8] for part in path.split("/")]
    return "/".join(parts) + (f"-{kind}" if kind else "")


if __name__ == "__main__":
    main()
