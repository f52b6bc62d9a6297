"""How times, sizes and text of another party are written for a person."""

import re

from patchkiln.domain.terminal import strip_ansi

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SECOND_MS = 1000
MINUTE_S = 60
AGES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
STEP = 1024


def plain(text: str) -> str:
    """Return text that cannot steer a terminal: no colour, no cursor, no turned direction."""
    lines = strip_ansi(text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", lines)


def one_line(text: str) -> str:
    """Return safe text on a single line."""
    return " ".join(plain(text).split())


def duration(milliseconds: int) -> str:
    """Return a length of time as a person says it: ``85 ms``, ``1.2 s``, ``2 min 5 s``."""
    if milliseconds < SECOND_MS:
        return f"{milliseconds} ms"
    seconds = milliseconds / SECOND_MS
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), MINUTE_S)
    return f"{minutes} min {rest} s"


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits: ``512 B``, ``1.5 MiB``."""
    value, power = float(count), 0
    while value >= STEP and power < len(UNITS) - 1:
        value, power = value / STEP, power + 1
    return f"{value:.1f} {UNITS[power]}" if power else f"{count} {UNITS[0]}"


def age(milliseconds: int) -> str:
    """Return how long ago something was, in its largest unit: ``5 s``, ``3 min``, ``2 d``."""
    seconds = max(0, milliseconds // SECOND_MS)
    unit, length = next(entry for entry in AGES if seconds >= entry[1] or entry[1] == 1)
    return f"{seconds // length} {unit}"
