"""Makes PNGs of screens small: at most 256 colours, none far from what it stands for, with the standard library alone."""

import collections
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS_MAX = 256


def shrink(png):
    """The same picture with a palette. Takes 8 bits a channel, not interlaced, as Chromium writes them."""
    width, height, channels, data = parts_of(png)
    rows = unfiltered(zlib.decompress(data), width * channels, height, channels)
    pixels = [row[at:at + 3] for row in rows for at in range(0, len(row), channels)]
    by_frequency = [colour for colour, _ in collections.Counter(pixels).most_common()]
    palette = palette_of(by_frequency)
    index = {colour: min(range(len(palette)), key=lambda at: distance(palette[at], colour)) for colour in by_frequency}
    lines = b"".join(
        b"\0" + bytes(index[pixel] for pixel in pixels[start:start + width]) for start in range(0, width * height, width)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"PLTE", b"".join(palette)) + \
        chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def palette_of(by_frequency):
    """Colours so that each of all is close to one of them: as close as their number allows."""
    close = 4
    while True:
        palette = []
        for colour in by_frequency:
            if all(distance(one, colour) > close for one in palette):
                palette.append(colour)
                if len(palette) > COLOURS_MAX:
                    break
        else:
            return palette
        close *= 1.5


def distance(one, other):
    return sum((a - b) ** 2 for a, b in zip(one, other))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def parts_of(png):
    """Width, height, channels, and the compressed data."""
    at, data, header = len(SIGNATURE), b"", None
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        content = png[at + 8:at + 8 + length]
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", content)
        elif kind == b"IDAT":
            data += content
        at += length + 12
    width, height, bits, kind, _, _, interlaced = header
    if bits != 8 or kind not in (2, 6) or interlaced:
        raise ValueError(f"not a picture that Chromium writes: {header}")
    return width, height, {2: 3, 6: 4}[kind], data


def unfiltered(data, length, height, channels):
    """The rows without their filters: PNG, section 9.2."""
    rows, above = [], bytearray(length)
    for number in range(height):
        start = number * (length + 1)
        kind, row = data[start], bytearray(data[start + 1:start + 1 + length])
        for at in range(length if kind else 0):
            left = row[at - channels] if at >= channels else 0
            up = above[at]
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            else:
                corner = above[at - channels] if at >= channels else 0
                guess = paeth(left, up, corner)
            row[at] = (row[at] + guess) & 255
        rows.append(bytes(row))
        above = row
    return rows


def paeth(left, up, corner):
    estimate = left + up - corner
    to_left, to_up, to_corner = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner
