"""Finds the answers to five questions as a newcomer would: from the start page, by clicks of the mouse in a headless Chromium.

  python3 tests insights.newcomer http://127.0.0.1:7480/ --pictures /tmp/pictures

Each answer is read from the page that the clicks lead to, and compared with SQL over HTTP where SQL knows it. None takes
more than five clicks. The server is one with the planted month, such as `tickstream-warehouse demo`. Exit code 0: all were found.
"""

import argparse
import json
import pathlib
import sys
import urllib.request

from support.browser import Browser

CLICKS_MAX = 5
ROWS = """[...document.querySelectorAll("main table:not(details table)")].slice(0, 1).map(table => [...table.querySelectorAll("tr")]
  .map(row => [...row.cells].map(cell => cell.textContent.trim())))[0] || []"""
SEEN = """(element => { element.scrollIntoView({ block: "center" }); const box = element.getBoundingClientRect();
  return [box.x + Math.min(box.width, 40) / 2, box.y + box.height / 2]; })"""


class Walk:
    """A newcomer at the start page."""

    def __init__(self, browser, url, pictures):
        self.page = browser.page(1440, 900)
        self.page.open(url)
        self.clicks, self.pictures = 0, pictures

    def click(self, element):
        """Clicks what an expression finds, and waits for the page that it leads to."""
        self.page.wait_for(f"!!({element})")
        self.at(*self.page.evaluate(f"{SEEN}({element})"))

    def at(self, x, y):
        self.page.follow(lambda: self.page.click_at(x, y))
        self.clicks += 1

    def link(self, text):
        self.click(f"[...document.querySelectorAll('main a')].find(link => link.textContent.trim().startsWith({json.dumps(text)}))")

    def peak(self, series):
        """Clicks the highest point of a line."""
        find = f"""(() => {{ const figure = document.querySelector("figure.lines"), svg = figure.querySelector("svg");
          svg.scrollIntoView({{ block: "center" }});
          const path = [...figure.querySelectorAll("path[data-values]")].find(path => path.dataset.name === {json.dumps(series)});
          const values = path.dataset.values.split(",").map(value => value === "" ? -1 : Number(value));
          const top = values.indexOf(Math.max(...values)), time = Number(figure.dataset.times.split(",")[top]);
          const box = svg.getBoundingClientRect(), from = Number(figure.dataset.from), to = Number(figure.dataset.to);
          const high = Number(figure.dataset.high), low = Number(figure.dataset.low);
          return [box.x + (time - from) / (to - from) * box.width, box.y + (high - values[top]) / (high - low) * box.height + 1]; }})()"""
        self.at(*self.page.evaluate(find))

    def rows(self):
        """The page's first table: rows by the names of columns."""
        head, *rows = self.page.evaluate(ROWS)
        return [dict(zip(head, row)) for row in rows]

    def text(self):
        return self.page.text("main")

    def picture(self, name):
        if self.pictures:
            self.pictures.mkdir(parents=True, exist_ok=True)
            self.page.picture(self.pictures / f"{name}.png")


def number(text):
    return float(text.replace(",", "").replace("−", "-"))


def best_channel(walk, sql):
    """Best channel: which one converts best?"""
    walk.link("Acquisition channels")
    best = max(walk.rows(), key=lambda row: number(row["conversion, %"]))
    [known] = sql("""SELECT channel FROM (SELECT coalesce(e.user_id, l.named, e.anonymous_id) AS person,
        max(CASE WHEN e.revenue > 0 THEN 1 END) AS paid, first_value(coalesce(e.channel, 'Unknown') ORDER BY e.timestamp_ns) AS channel
        FROM client_events e LEFT JOIN (SELECT anonymous_id AS device, first_value(user_id ORDER BY timestamp_ns) AS named FROM events
        WHERE event_type = 'identify' GROUP BY anonymous_id) l ON e.anonymous_id = l.device
        WHERE coalesce(e.user_id, l.named, e.anonymous_id) IS NOT NULL GROUP BY 1)
        GROUP BY channel ORDER BY 1.0 * count(paid) / count(*) DESC LIMIT 1""")
    assert best["channel"] == known["channel"], (best, known)
    return f"{best['channel']}: {best['conversion, %']} % of {best['persons']} persons"


def risen_errors(walk, sql):
    """Risen errors: why on that day?"""
    walk.link("Error groups")
    walk.peak("payments")
    assert "failed spans" in walk.text() and "payments" in walk.text(), walk.text()
    walk.click("[...document.querySelectorAll('td a')].find(link => link.textContent === 'trace')")
    found = walk.text()
    assert "the gateway timed out after" in found, found
    return "payments: the gateway timed out"


def one_user(walk, sql):
    """Events of this user: what did it do?"""
    walk.link("Conversion funnel")
    walk.click("[...document.querySelectorAll('.bars a')].find(link => link.textContent.includes('purchased'))")
    walk.click("[...document.querySelectorAll('td a')].find(link => link.textContent.startsWith('user'))")
    events = [row["Event"] for row in walk.rows()]
    assert "product_viewed" in events and "purchased" in events, events
    return ", then ".join(dict.fromkeys(events))


def named_user(walk, sql):
    """Events of a user whose identifier is known: which?"""
    [known] = sql("SELECT max(user_id) AS id FROM events WHERE event_name = 'purchased' AND event_type = 'user_interaction'")
    walk.page.evaluate(f"document.querySelector('input[name=id]').value = {json.dumps(known['id'])}")
    walk.click("document.querySelector('.card button')")
    assert "purchased" in walk.text(), walk.text()
    return f"{len(walk.rows())} events"


def converted_user(walk, sql):
    """Costs of a converted user: how much?"""
    walk.link("Return on cost")
    figure = walk.page.text(".figure strong")
    [known] = sql("""SELECT sum(coalesce(effective_cost, billed_cost)) AS cost FROM costs WHERE timestamp > now() - INTERVAL '30 days'""")
    [all_of_them] = [row for row in walk.rows() if row["feature"] == "(all)"]
    assert abs(number(figure) * number(all_of_them["converted"]) / float(known["cost"]) - 1) < 0.01, (figure, all_of_them, known)
    return f"{figure} {all_of_them['currency']}"


def full_disks(walk, sql):
    """Will the disks be full by March?"""
    walk.link("Capacity forecasts")
    full = {row["resource"]: row["full"] for row in walk.rows()}
    assert full["db-1"] < "2027-03-01" and full["web-1"] == "not in 180 days", full
    return f"db-1 on {full['db-1']}; the others {full['web-1']}"


QUESTIONS = [best_channel, risen_errors, one_user, named_user, converted_user, full_disks]


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("url")
    given.add_argument("--pictures", type=pathlib.Path, help="folder for pictures of each answer")
    arguments = given.parse_args()

    def sql(text):
        answer = urllib.request.urlopen(f"{arguments.url}v1/query", data=text.encode(), timeout=120).read().decode()
        return [json.loads(line) for line in answer.splitlines() if line]

    failed = 0
    with Browser() as browser:
        for question in QUESTIONS:
            walk = Walk(browser, arguments.url, arguments.pictures)
            try:
                answer = question(walk, sql)
                assert walk.clicks <= CLICKS_MAX, f"{walk.clicks} clicks"
                assert not walk.page.complaints, walk.page.complaints
                print(f"{question.__doc__} {answer} ({walk.clicks} {'click' if walk.clicks == 1 else 'clicks'})", flush=True)
            except Exception as error:
                failed += 1
                print(f"{question.__doc__} not found after {walk.clicks} clicks: {error}", flush=True)
            walk.picture(question.__name__)
            walk.page.call("Page.close")
    print(f"{len(QUESTIONS) - failed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
