"""Which addresses a server must not be talked into reaching."""

import ipaddress
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Reached by cloud machines for their own credentials, and not all of them private by the registry:
# Azure's wire server (168.63.129.16), Alibaba's (100.100.100.200) and Oracle's (192.0.0.192).
METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
    )
)
# Prefixes whose last 32 bits are an IPv4 address: NAT64 (RFC 6052), translated (RFC 2765),
# mapped and compatible (RFC 4291, 2.5.5).
_EMBEDDING = tuple(
    ipaddress.IPv6Network(prefix)
    for prefix in ("64:ff9b::/96", "::ffff:0:0:0/96", "::ffff:0:0/96", "::/96")
)
# No host of the public internet is there, and not every Python 3.11 says so (`is_global` follows
# the registry of its release): translators, NAT64 of a site (RFC 8215), site-local, segments of a
# site's routes (RFC 9602), examples (RFC 9637), protocols.
_PRIVATE = tuple(
    ipaddress.ip_network(prefix)
    for prefix in (
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b:1::/48",
        "fec0::/10",
        "5f00::/16",
        "3fff::/20",
        "192.0.0.0/24",
    )
)


def forbidden_address(address: IPAddress) -> str | None:
    """Return the rule that forbids an address, or None for a public one.

    Addresses that embed an IPv4 address (mapped, compatible, translated, NAT64, 6to4) are judged
    by the embedded one too.
    """
    candidates = (address, *embedded_addresses(address))
    if not METADATA_ADDRESSES.isdisjoint(candidates):
        return "metadata address"
    for candidate in candidates:
        rule = _rule(candidate)
        if rule is not None:
            return rule
    return None


def _rule(address: IPAddress) -> str | None:
    if address.is_loopback:
        return "loopback address"
    if address.is_link_local:
        return "link-local address"
    if address.is_multicast or address.is_unspecified:
        return "no host address"
    if not address.is_global or any(address in network for network in _PRIVATE):
        return "private address"
    return None


def embedded_addresses(address: IPAddress) -> tuple[IPAddress, ...]:
    """Return the IPv4 address that an IPv6 one carries, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if any(address in prefix for prefix in _EMBEDDING):
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return () if address.sixtofour is None else (address.sixtofour,)
