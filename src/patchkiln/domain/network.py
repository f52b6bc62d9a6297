"""Which addresses a server must not be talked into reaching."""

import ipaddress
from typing import TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Reached by cloud machines for their own credentials, and not all of them private by the registry:
# Azure's wire server (168.63.129.16) and Alibaba's metadata service (100.100.100.200).
METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
)
NAT64_PREFIX = ipaddress.IPv6Network("64:ff9b::/96")


def forbidden_address(address: IPAddress) -> str | None:
    """Return the rule that forbids an address, or None for a public one.

    Addresses that embed an IPv4 address (mapped, 6to4, NAT64) are judged by the embedded one too.
    """
    if address in METADATA_ADDRESSES:
        return "metadata address"
    for candidate in (address, *_embedded(address)):
        if candidate.is_loopback:
            return "loopback address"
        if candidate.is_link_local:
            return "link-local address"
        if candidate.is_multicast or candidate.is_unspecified:
            return "no host address"
        if not candidate.is_global:
            return "private address"
    return None


def _embedded(address: IPAddress) -> tuple[IPAddress, ...]:
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address in NAT64_PREFIX:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    embedded = address.ipv4_mapped or address.sixtofour
    return () if embedded is None else (embedded,)
