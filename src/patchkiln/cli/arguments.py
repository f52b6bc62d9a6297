"""Reads the values of options; each function raises `ArgumentTypeError` with what to write."""

import math
import re
from argparse import ArgumentTypeError

from patchkiln.domain.network import NetworkRule, parse_network_rule
from patchkiln.errors import InvalidRequest

MAX_PAGE = 200
MIN_MEMORY_BYTES = 16 << 20
_SUFFIXES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)


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


def network_rules(value: str) -> tuple[NetworkRule, ...]:
    """Read a comma-separated list of hosts, each with an optional port."""
    try:
        return tuple(parse_network_rule(entry) for entry in value.split(",") if entry.strip())
    except InvalidRequest as error:
        raise ArgumentTypeError(error.message) from error


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
