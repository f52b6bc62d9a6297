"""Reads the values of options; each function raises `ArgumentTypeError` with what to write."""

import math
import os
import re
from argparse import ArgumentTypeError

from patchkiln.domain.network import Credential, NetworkRule, parse_network_rule
from patchkiln.errors import InvalidRequest

MAX_PAGE = 200
MIN_MEMORY_BYTES = 16 << 20
_SUFFIXES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_HEADER = re.compile(r"[A-Za-z0-9-]+")
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
        return tuple(dict.fromkeys(parse_network_rule(entry) for entry in value.split(",")))
    except InvalidRequest as error:
        raise ArgumentTypeError(error.message) from error


def variable(value: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``."""
    name, equals, text = value.partition("=")
    if not name.isidentifier() or not name.isascii() or not equals:
        raise ArgumentTypeError(f"'{name}' is no variable with its value, such as LANG=C.UTF-8")
    return name, text


def credential(value: str) -> tuple[str, Credential]:
    """Read ``HOST=[HEADER:]VARIABLE`` as the host and what the named variable holds."""
    host, _, source = value.partition("=")
    header, colon, variable = source.rpartition(":")
    secret = os.environ.get(variable)
    if not host or not variable or (colon and not _HEADER.fullmatch(header)):
        raise ArgumentTypeError(
            f"'{value}' is no credential, such as api.example.com=API_TOKEN "
            "or api.example.com=X-Api-Key:API_TOKEN"
        )
    if not secret or not secret.isascii() or not secret.isprintable():
        raise ArgumentTypeError(f"the variable {variable} holds nothing that a header could carry")
    if colon:
        return host.lower(), Credential(header=header, value=secret)
    return host.lower(), Credential(header="Authorization", value=f"Bearer {secret}")


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
