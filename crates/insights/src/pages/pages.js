// Values under the pointer, zoom by dragging, and live pages. Pages work without it.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000, HEIGHT = 240, LIVE_MS = 30000;

function format(value) {
  return Number(value).toLocaleString("en", { maximumSignificantDigits: 5 });
}

function chart(figure) {
  const svg = figure.querySelector("svg"), output = figure.querySelector("output");
  const times = figure.dataset.times.split(",").map(Number);
  const from = Number(figure.dataset.from), to = Number(figure.dataset.to);
  const lines = [...figure.querySelectorAll("path[data-values]")].map(path => ({ name: path.dataset.name, values: path.dataset.values.split(",") }));
  const cursor = svg.appendChild(document.createElementNS(SVG, "path"));
  cursor.setAttribute("class", "cursor");
  const zoom = svg.appendChild(document.createElementNS(SVG, "rect"));
  zoom.setAttribute("class", "zoom");
  zoom.setAttribute("height", HEIGHT);
  let start = null;

  const timeAt = event => {
    const box = svg.getBoundingClientRect();
    return from + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (to - from);
  };
  const x = time => (time - from) / (to - from) * WIDTH;

  function show(place) {
    cursor.setAttribute("d", `M${x(times[place])} 0V${HEIGHT}`);
    const values = lines.filter(line => line.values[place] !== "").map(line => `${line.name} ${format(line.values[place])}`);
    const text = new Date(times[place]).toISOString().slice(0, 16).replace("T", " ");
    output.textContent = `${text} · ${values.join(" · ")}`;
  }
  svg.addEventListener("pointermove", event => {
    const time = timeAt(event);
    let nearest = 0;
    times.forEach((other, place) => { if (Math.abs(other - time) < Math.abs(times[nearest] - time)) nearest = place; });
    show(nearest);
    if (start !== null) {
      zoom.setAttribute("x", Math.min(x(start), x(time)));
      zoom.setAttribute("width", Math.abs(x(time) - x(start)));
    }
  });
  svg.addEventListener("pointerdown", event => { if (event.pointerType === "mouse") start = timeAt(event); });
  svg.addEventListener("pointerleave", () => { start = null; zoom.setAttribute("width", 0); cursor.setAttribute("d", ""); output.textContent = ""; });
  svg.addEventListener("pointerup", event => {
    if (start === null) return;
    const [low, high] = [start, timeAt(event)].sort((a, b) => a - b);
    start = null;
    zoom.setAttribute("width", 0);
    if (high - low < (to - from) / 100) return;
    const address = new URL(location.href);
    address.searchParams.set("from", new Date(low).toISOString());
    address.searchParams.set("to", new Date(high).toISOString());
    address.searchParams.delete("days");
    location.assign(address);
  });
}

document.querySelectorAll("figure.lines").forEach(chart);

const live = document.querySelector("input[name=live]");
if (live) {
  live.addEventListener("change", () => live.form.requestSubmit());
  if (live.checked) setTimeout(() => { if (!document.hidden) location.reload(); }, LIVE_MS);
}
