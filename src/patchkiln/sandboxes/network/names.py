"""Names of hosts as programs inside a sandbox write them, brought to the one form of the rules."""

import ipaddress
import re

# A last label that is a number would be read as an address by some resolvers (RFC 3696, 2; the
# forms of inet_aton: decimal, octal, hexadecimal).
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NUMERIC_END = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
_MAX_NAME_CHARS = 253
_MAX_SHOWN_CHARS = 253
_MAX_PORT = 65535


def host_name(text: str) -> str | None:
    """Return a host's name or address in the form of the rules; None for what is neither.

    Lower case, without a last dot; an address as `ipaddress` writes it. Only ASCII: other scripts
    have their Punycode form (RFC 5891).
    """
    name = text.lower()
    address = _address(name)
    if address is not None:
        return address
    name = name.removesuffix(".")
    known = len(name) <= _MAX_NAME_CHARS and name.isascii() and _NAME.fullmatch(name)
    return name if known and not _NUMERIC_END.fullmatch(name) else None


def split_authority(text: str) -> tuple[str, int | None] | None:
    """Read `HOST`, `HOST:PORT` or `[IPv6]:PORT`; None for anything else, user names included."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:@/?#\s]+))(?::([0-9]{1,5}))?", text)
    if match is None:
        return None
    name = host_name(match[1] or match[2])
    port = None if match[3] is None else int(match[3])
    if name is None or (match[1] is not None) != (":" in name) or not _is_port(port):
        return None
    return name, port


def is_address(name: str) -> bool:
    """Tell whether a name in the form of the rules is an address."""
    return _address(name) is not None


def shown(text: str) -> str:
    """Return hostile text as an event may hold it: printable ASCII, bounded."""
    printable = "".join(char if " " < char < "\x7f" else "?" for char in text[:_MAX_SHOWN_CHARS])
    return printable or "?"


def _address(text: str) -> str | None:
    try:
        return None if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port <= _MAX_PORT
