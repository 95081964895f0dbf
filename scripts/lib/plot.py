"""Line plots as SVG, with the standard library alone."""

import html
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 320, 70, 130, 34, 44
COLOURS = ["#1f6fb4", "#d1495b", "#2e8b57", "#8a5fbf"]


def plot(title, x_name, y_name, lines, *, logarithmic=False):
    """One plot; `lines` maps names to lists of (x, y), which may be empty."""
    lines = {name: line for name, line in lines.items() if line}
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    scale_y = math.log10 if logarithmic else float
    xs = axis([x for x, _ in points])
    ys = decades([y for _, y in points]) if logarithmic else axis([0.0, *(y for _, y in points)])
    place_x = placing(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    place_y = placing(scale_y(ys[0]), scale_y(ys[-1]), HEIGHT - BOTTOM, TOP)

    def place(point):
        return f"{place_x(point[0]):.1f},{place_y(scale_y(point[1])):.1f}"

    parts = [text(LEFT, 18, title, weight="bold"), text(LEFT, HEIGHT - 8, x_name), text(4, TOP - 6, y_name)]
    for x in xs:
        parts.append(text(place_x(x), HEIGHT - 26, f"{x:,.0f}", anchor="middle"))
    for y in ys:
        at = place_y(scale_y(y))
        parts.append(f'<path d="M{LEFT},{at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, at + 4, f"{y:,g}", anchor="end"))
    for colour, (name, line) in zip(COLOURS, lines.items()):
        path = " ".join(place(point) for point in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        last_x, last_y = place(line[-1]).split(",")
        parts.append(text(float(last_x) + 6, float(last_y) + 4, name, colour=colour))
    return f'<g font-family="sans-serif" font-size="12">{"".join(parts)}</g>'


def page(plots):
    """An SVG file with the plots below each other."""
    height = HEIGHT * len(plots)
    placed = "".join(f'<g transform="translate(0,{HEIGHT * at})">{one}</g>' for at, one in enumerate(plots))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}"><rect width="100%" height="100%" fill="#fff"/>{placed}</svg>\n'
    )


def text(x, y, what, *, anchor="start", weight="normal", colour="#222"):
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(what)}</text>'


def placing(low, high, start, end):
    """A function from values to places."""
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def axis(values):
    """Round numbers that enclose the values, about five of them."""
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [count * step for count in range(first, max(last, first + 1) + 1)]


def decades(values):
    """Powers of ten that enclose the values, which are above 0."""
    first = math.floor(math.log10(min(values)))
    last = math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]
