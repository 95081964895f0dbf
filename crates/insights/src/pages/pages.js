// Values under the pointer, the events behind them by a click or Enter, zoom by dragging, and live pages. Pages work without it.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000, HEIGHT = 240, LIVE_MS = 30000, ASK_MS = 1000, ASK_MS_MAX = 5000;

function format(value) {
  return Number(value).toLocaleString("en", { maximumSignificantDigits: 5 });
}

function drawn(svg, name) {
  const element = svg.appendChild(document.createElementNS(SVG, name === "zoom" ? "rect" : "path"));
  element.setAttribute("class", name);
  return element;
}

function chart(figure) {
  const svg = figure.querySelector("svg"), output = figure.querySelector("output"), plot = figure.querySelector(".plot");
  const times = figure.dataset.times.split(",").map(Number);
  const from = Number(figure.dataset.from), to = Number(figure.dataset.to), step = Number(figure.dataset.step);
  const lines = [...figure.querySelectorAll("path[data-values]")].map(path => ({
    path, name: path.dataset.name, values: path.dataset.values.split(",").map(value => value === "" ? null : Number(value)),
  }));
  const cursor = drawn(svg, "cursor"), zoom = drawn(svg, "zoom");
  zoom.setAttribute("height", HEIGHT);
  let start = null, place = times.length - 1, line = 0;

  const shareAt = event => {
    const box = svg.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map(share => Math.min(1, Math.max(0, share)));
  };
  const timeAt = event => from + shareAt(event)[0] * (to - from);
  const x = time => (time - from) / (to - from) * WIDTH;
  const textOf = time => new Date(time).toISOString().slice(0, 16).replace("T", " ");

  function nearestLine(event) {
    const known = lines.map((one, number) => ({ number, value: one.values[place] })).filter(one => one.value !== null);
    if (!known.length) return line;
    const box = svg.getBoundingClientRect(), high = Number(figure.dataset.high), low = Number(figure.dataset.low);
    const distance = value => Math.abs(box.top + (high - value) / (high - low) * box.height - event.clientY);
    return known.reduce((best, one) => distance(one.value) < distance(best.value) ? one : best).number;
  }

  function address() {
    if (!figure.dataset.behind || !lines[line]) return null;
    const found = new URL(figure.dataset.behind, location.href);
    found.searchParams.set("is.series", lines[line].name);
    found.searchParams.set("from", new Date(times[place]).toISOString());
    found.searchParams.set("to", new Date(times[place] + step).toISOString());
    return found;
  }

  function show() {
    cursor.setAttribute("d", `M${x(times[place])} 0V${HEIGHT}`);
    const values = lines.filter(one => one.values[place] !== null).map(one => `${one.name} ${format(one.values[place])}`);
    output.textContent = `${textOf(times[place])} · ${values.join(" · ") || "no value"}`;
    const behind = address();
    if (behind) {
      const link = document.createElement("a");
      link.href = behind;
      link.textContent = `events behind ${lines[line].name}`;
      output.append(" · ", link);
    }
    const value = lines[line] && lines[line].values[place];
    plot.setAttribute("aria-valuenow", place);
    plot.setAttribute("aria-valuetext", `${textOf(times[place])}, ${lines[line].name}: ${value === null ? "no value" : format(value)}`);
    lines.forEach((one, number) => one.path.classList.toggle("chosen", number === line && lines.length > 1));
  }

  function pointTo(event) {
    const time = timeAt(event);
    times.forEach((other, number) => { if (Math.abs(other - time) < Math.abs(times[place] - time)) place = number; });
    line = nearestLine(event);
    show();
    return time;
  }

  function clear() {
    start = null;
    zoom.setAttribute("width", 0);
    cursor.setAttribute("d", "");
    output.textContent = "";
    lines.forEach(one => one.path.classList.remove("chosen"));
  }

  svg.addEventListener("pointermove", event => {
    const time = pointTo(event);
    if (start !== null) {
      zoom.setAttribute("x", Math.min(x(start), x(time)));
      zoom.setAttribute("width", Math.abs(x(time) - x(start)));
    }
  });
  svg.addEventListener("pointerdown", event => {
    pointTo(event);
    if (event.pointerType === "mouse") start = timeAt(event);
  });
  // A point that a finger chose stays, with its link.
  svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") clear(); });
  svg.addEventListener("pointerup", event => {
    if (start === null) return;
    const [low, high] = [start, timeAt(event)].sort((a, b) => a - b);
    start = null;
    zoom.setAttribute("width", 0);
    if (high - low < (to - from) / 100) {
      const behind = address();
      if (behind) location.assign(behind);
      return;
    }
    const wanted = new URL(location.href);
    wanted.searchParams.set("from", new Date(low).toISOString());
    wanted.searchParams.set("to", new Date(high).toISOString());
    wanted.searchParams.delete("days");
    location.assign(wanted);
  });

  plot.tabIndex = 0;
  const roles = { role: "slider", "aria-label": `${plot.dataset.title}: left and right choose a time, up and down a line, Enter its events`,
    "aria-valuemin": 0, "aria-valuemax": times.length - 1, "aria-valuenow": place };
  Object.entries(roles).forEach(([name, value]) => plot.setAttribute(name, value));
  plot.addEventListener("focus", show);
  plot.addEventListener("blur", event => { if (!output.contains(event.relatedTarget)) clear(); });
  plot.addEventListener("keydown", event => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-times.length, 0], End: [times.length, 0] };
    if (event.key === "Enter" && address()) location.assign(address());
    if (event.key === "Escape") clear();
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    place = Math.min(times.length - 1, Math.max(0, place + move[0]));
    line = (line + move[1] + lines.length) % lines.length;
    show();
  });
}

document.querySelectorAll("figure.lines").forEach(chart);

// Answers that weren't ready come into their places, one after the other, without another look at the rest. Pauses
// grow while nothing comes.
async function fill(pause) {
  const waiting = [...document.querySelectorAll(".pending")];
  if (!waiting.length) return;
  await new Promise(done => setTimeout(done, pause));
  const answer = await fetch(location.href).catch(() => null);
  const page = answer && new DOMParser().parseFromString(await answer.text(), "text/html");
  let next = Math.min(2 * pause, ASK_MS_MAX);
  for (const place of waiting) {
    const ready = page && page.getElementById(place.id);
    if (!ready || ready.matches(".pending")) continue;
    place.replaceWith(document.adoptNode(ready));
    ready.querySelectorAll("figure.lines").forEach(chart);
    next = ASK_MS;
  }
  fill(next);
}
fill(ASK_MS);

const live = document.querySelector("input[name=live]");
if (live) {
  live.addEventListener("change", () => live.form.requestSubmit());
  if (live.checked) setTimeout(() => { if (!document.hidden) location.reload(); }, LIVE_MS);
}
