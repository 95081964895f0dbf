#!/usr/bin/env python3
"""Looks at each page of the insights in a headless Chromium.

  tests/insights/pages.py http://127.0.0.1:8080/ --axe axe.min.js --pictures /tmp/pictures

Each page at 390, 768 and 1,440 pixels, light and dark: no complaint of the console, nothing wider than the window, each control
named, all reached by the keyboard. With --axe (the file of npm's axe-core) it also has none of its violations. The server
is one with data, such as `tickstream-warehouse demo`. Exit code 0: all as it should be.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "lib"))

from browser import Browser

SIZES = [(390, 844), (768, 1024), (1440, 900)]
TEAMS = ["marketing", "product", "engineering", "video", "operations", "security", "cost"]
EXPLORE = [
    "explore?kind=trend&event=purchased&by=channel",
    "explore?kind=funnel&step=product_viewed&step=added_to_cart&step=purchased",
    "explore?kind=retention", "explore?kind=paths&anchor=purchased&direction=to",
    "explore?kind=sql&sql=SELECT+event_name%2C+count(*)+AS+n+FROM+events+GROUP+BY+1+ORDER+BY+2+DESC",
]
# Elements that stick out of the window, but for what scrolls in a frame of its own.
WIDE = """[...document.querySelectorAll("body *")].filter(element => !element.closest(".scroll, pre, svg") &&
  element.getBoundingClientRect().right > innerWidth + 1 && !element.matches(".unseen, .skip")).map(element => element.outerHTML.slice(0, 120))"""
NAMELESS = """[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")].filter(element =>
  !(element.labels?.length || element.textContent.trim() || element.ariaLabel)).map(element => element.outerHTML.slice(0, 120))"""
UNREACHED = """[...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, summary, .scroll")]
  .filter(element => element.tabIndex < 0).map(element => element.outerHTML.slice(0, 120))"""
AXE = "axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes.slice(0, 2).map(node => node.html.slice(0, 160)).join(' | ')))"


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("url")
    given.add_argument("--axe", type=pathlib.Path, help="axe.min.js")
    given.add_argument("--pictures", type=pathlib.Path, help="folder for pictures of each page")
    given.add_argument("--only", help="pages whose address contains this")
    arguments = given.parse_args()
    axe = arguments.axe.read_text() if arguments.axe else None
    wrong = []
    with Browser() as browser:
        for path in pages(browser, arguments.url):
            if arguments.only and arguments.only not in path:
                continue
            for width, height in SIZES:
                for dark in (False, True):
                    look(browser, arguments, path, (width, height), dark, axe, wrong)
    for line in wrong:
        print(line)
    print("ok" if not wrong else f"{len(wrong)} things are wrong")
    sys.exit(bool(wrong))


def pages(browser, url):
    """Addresses of all pages, from the root on."""
    page = browser.page(1440, 900)
    page.open(url)
    links = page.evaluate("[...document.querySelectorAll('main a')].map(link => link.getAttribute('href'))")
    close(page)
    items = [link.lstrip("/") for link in links if link.count("/") == 2]
    return ["", *TEAMS, *items, *EXPLORE, *timelines(browser, url)]


def timelines(browser, url):
    """A session, a user and a trace with data."""
    sql = "SELECT+session_id%2C+user_id%2C+trace_id+FROM+events+WHERE+event_type%3D'trace_span'+AND+user_id+IS+NOT+NULL+LIMIT+1"
    page = browser.page(1440, 900)
    page.open(f"{url}explore?kind=sql&sql={sql}")
    links = page.evaluate("[...document.querySelectorAll('td a')].map(link => link.getAttribute('href'))")
    close(page)
    return [link.lstrip("/") for link in links]


def look(browser, arguments, path, size, dark, axe, wrong):
    page = browser.page(*size, dark=dark, phone=size[0] < 500)
    page.open(f"{arguments.url}{path}")
    name = path.split("?")[0] + ("-" + path.split("kind=")[1].split("&")[0] if "kind=" in path else "")
    where = f"/{name} at {size[0]} {'dark' if dark else 'light'}"

    def check(what, found):
        if found:
            wrong.append(f"{where}: {what}: {found}")

    check("wider than the window", page.evaluate(WIDE)[:3])
    check("without a name", page.evaluate(NAMELESS)[:3])
    check("not reached by the keyboard", page.evaluate(UNREACHED)[:3])
    check("no heading", page.evaluate("document.querySelectorAll('h1').length !== 1"))
    check("no answer", page.evaluate("document.querySelector('.problem')?.textContent"))
    if axe:
        page.evaluate(axe + ";0")
        check("axe", page.evaluate(AXE))
    check("console", page.complaints)
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        file = f"{name.replace('/', '_')[:60] or 'overview'}-{size[0]}-{'dark' if dark else 'light'}.png"
        page.picture(arguments.pictures / file)
    close(page)


def close(page):
    page.call("Page.close")


if __name__ == "__main__":
    main()
