"""Reads the values of options; each function raises `ArgumentTypeError` with what to write."""

import math
import re
from argparse import ArgumentTypeError

DEFAULT_PORTS = (443, 80)
MAX_PORT = 65535
MAX_PAGE = 200
MIN_MEMORY_BYTES = 16 << 20
_SUFFIXES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_TARGET = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d+))?")


def seconds(value: str) -> float:
    """Read a positive number of seconds."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"'{value}' is no number of seconds above 0, such as 30 or 0.5")
    return number


def memory_bytes(value: str) -> int:
    """Read a number of bytes with an optional suffix: ``268435456``, ``256M``, ``2G``."""
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ArgumentTypeError(f"'{value}' is no size, such as 268435456, 256M or 2G")
    count = int(match[1]) << _SUFFIXES[match[2].lower()]
    if count < MIN_MEMORY_BYTES:
        raise ArgumentTypeError(f"'{value}' is too little for any command; give at least 16M")
    return count


def hosts(value: str) -> tuple[tuple[str, int], ...]:
    """Read ``HOST[:PORT][,HOST...]`` as pairs; a host without a port gets 443 and 80."""
    pairs = [pair for entry in value.split(",") for pair in _host(entry.strip())]
    return tuple(dict.fromkeys(pairs))


def _host(entry: str) -> list[tuple[str, int]]:
    if "*" in entry:
        raise ArgumentTypeError(f"'{entry}': patterns are not served yet; name each host exactly")
    match = _TARGET.fullmatch(entry)
    name = match and (match["v6"] or match["name"])
    if match is None or not name or not (match["v6"] or _NAME.fullmatch(name)):
        raise ArgumentTypeError(f"'{entry}' is no host, such as pypi.org or 127.0.0.1:8080")
    if match["port"] is None:
        return [(name, port) for port in DEFAULT_PORTS]
    port = int(match["port"])
    if not 0 < port <= MAX_PORT:
        raise ArgumentTypeError(f"'{entry}': a port is a number from 1 to {MAX_PORT}")
    return [(name, port)]


def page_size(value: str) -> int:
    """Read a number of rows, 1 to 200."""
    if not value.isdecimal() or not 1 <= int(value) <= MAX_PAGE:
        raise ArgumentTypeError(f"'{value}' is no number from 1 to {MAX_PAGE}")
    return int(value)


def sequence(value: str) -> int:
    """Read the number of an event, 0 or more."""
    if not value.isdecimal():
        raise ArgumentTypeError(f"'{value}' is no number of an event")
    return int(value)


def prompt(value: str) -> str:
    """Read a prompt, which must say something."""
    if not value.strip():
        raise ArgumentTypeError("the prompt is empty; say what should be changed")
    return value
