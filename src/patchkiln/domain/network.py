"""What a sandbox may reach: a list of hosts, and nothing else."""

import ipaddress
import re
from dataclasses import dataclass, field

from patchkiln.domain.addresses import IPAddress, forbidden_address
from patchkiln.errors import InvalidRequest

ANY_HOST = "*"
WEB_PORTS = frozenset({80, 443})
_MAX_PORT = 65535
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_MAX_NAME_CHARS = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A request header that the proxy adds on the way out; the sandbox never sees its value."""

    header: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRule:
    """A host that may be reached.

    ``host`` is a name in lower case, `*.example.com` for every name below that one and not itself,
    `*` for every host, or an IP address. ``port`` None stands for 80 and 443. ``trusted`` admits a
    private address, because the operator named this very host.
    """

    host: str
    port: int | None = None
    trusted: bool = False
    credential: Credential | None = None

    @property
    def ports(self) -> frozenset[int]:
        """Return the ports that are meant."""
        return WEB_PORTS if self.port is None else frozenset({self.port})

    def admits(self, host: str, port: int) -> bool:
        """Tell whether a host, in lower case and without a last dot, and a port are meant."""
        return port in self.ports and _matches(self.host, host)

    def __str__(self) -> str:
        """Return it as a person writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedAddress:
    """A private address that the operator opened, for one port or (None) for all."""

    address: IPAddress
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    """The whole of what a sandbox may reach; without rules, nothing.

    ``addresses`` are private ones that the operator opened: what a rule's name resolves to may be
    one of them. Every other private address is refused whatever the rules say.
    """

    rules: tuple[NetworkRule, ...] = ()
    addresses: tuple[AllowedAddress, ...] = ()

    def rule_for(self, host: str, port: int) -> NetworkRule | None:
        """Return the narrowest rule that admits a host and port, the first of several, or None.

        So a rule for a host keeps its trust and its credential, whatever wider ones stand beside.
        """
        name = host.lower().rstrip(".")
        admitting = (rule for rule in self.rules if rule.admits(name, port))
        return min(admitting, key=lambda rule: _width(rule.host), default=None)

    def trusts(self, address: IPAddress, port: int, rule: NetworkRule) -> bool:
        """Tell whether the operator opened this very address, or the host that leads to it."""
        return rule.trusted or any(
            allowed.address == address and allowed.port in {None, port}
            for allowed in self.addresses
        )

    def forbids(self, address: IPAddress, port: int, rule: NetworkRule) -> str | None:
        """Return why a resolved address may not be reached under a rule, or None."""
        if self.trusts(address, port, rule):
            return None
        return forbidden_address(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRefusal:
    """A connection that was not made: to where, and the rule that refused it."""

    host: str
    port: int
    rule: str


def parse_network_rule(text: str) -> NetworkRule:
    """Read `HOST`, `HOST:PORT`, `*.DOMAIN`, `*`, an IPv4 address or `[IPv6]:PORT`.

    Raises `InvalidRequest`.
    """
    host, port = _split_port(text.strip())
    name = host.lower().rstrip(".")
    if _is_address(name):
        name = str(ipaddress.ip_address(name))
    elif not _is_pattern(name):
        raise _no_rule(text)
    return NetworkRule(host=name, port=port)


def parse_allowed_address(text: str) -> AllowedAddress:
    """Read `ADDRESS` or `ADDRESS:PORT`, an IPv6 address in brackets. Raises `InvalidRequest`."""
    host, port = _split_port(text.strip())
    if not _is_address(host):
        raise InvalidRequest(
            f"'{text}' is no IP address.", field="network", remedy="Write it as 10.1.2.3:5000."
        )
    return AllowedAddress(address=ipaddress.ip_address(host), port=port)


def _matches(pattern: str, host: str) -> bool:
    if pattern == ANY_HOST:
        return True
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _width(pattern: str) -> int:
    """Return a number that is the smaller, the fewer hosts a pattern means."""
    if pattern == ANY_HOST:
        return _MAX_NAME_CHARS + 1
    return _MAX_NAME_CHARS - len(pattern) if pattern.startswith("*.") else -1


def _split_port(text: str) -> tuple[str, int | None]:
    if _is_address(text):
        return text, None
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    if colon and not text.endswith("]") and not _is_port(port):
        raise _no_rule(text)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port) if port else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= _MAX_PORT


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_pattern(name: str) -> bool:
    if name == ANY_HOST:
        return True
    labels = name.removeprefix("*.").split(".")
    # A last label of digits alone would be read as an address by some resolvers (RFC 3696, 2).
    return (
        len(name) <= _MAX_NAME_CHARS
        and all(_LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdecimal()
    )


def _no_rule(text: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{text}' is no host that a sandbox could be allowed to reach.",
        field="network",
        remedy="Write a name, '*.domain' or an IP address, with ':PORT' behind it where needed.",
    )
