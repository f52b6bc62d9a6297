"""The rules on addresses that a server must not be talked into reaching."""

import ipaddress

import pytest

from patchkiln.domain.addresses import forbidden_address


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("127.8.8.8", "loopback address"),
        ("::1", "loopback address"),
        ("169.254.1.1", "link-local address"),
        ("fe80::1", "link-local address"),
        ("0.0.0.0", "no host address"),  # noqa: S104 - judged, not bound
        ("::", "no host address"),
        ("224.0.0.1", "no host address"),
        ("10.0.0.1", "private address"),
        ("100.64.0.1", "private address"),
        ("192.0.0.9", "private address"),
        ("fd12::1", "private address"),
        ("fec0::1", "private address"),
        ("5f00::1", "private address"),
        ("3fff::1", "private address"),
        ("64:ff9b:1::808:808", "private address"),
        ("::8.8.8.8", "private address"),
        ("::ffff:0:8.8.8.8", "private address"),
        ("169.254.169.254", "metadata address"),
        ("168.63.129.16", "metadata address"),
        ("192.0.0.192", "metadata address"),
        ("fd00:ec2::254", "metadata address"),
    ],
)
def test_no_public_host(address: str, rule: str) -> None:
    """What is no host of the public internet is forbidden, by the rule that says why."""
    assert forbidden_address(ipaddress.ip_address(address)) == rule


@pytest.mark.parametrize(
    "spelling",
    [
        "::ffff:{}",  # mapped
        "::{}",  # compatible
        "::ffff:0:{}",  # translated
        "64:ff9b::{}",  # NAT64
    ],
)
@pytest.mark.parametrize(
    ("embedded", "rule"),
    [
        ("168.63.129.16", "metadata address"),
        ("169.254.169.254", "metadata address"),
        ("127.0.0.1", "loopback address"),
        ("10.0.0.1", "private address"),
    ],
)
def test_embedded_address_is_judged(spelling: str, embedded: str, rule: str) -> None:
    """An address of IPv6 that leads to one of IPv4 is forbidden with it."""
    address = ipaddress.ip_address(spelling.format(embedded))
    assert forbidden_address(address) in {rule, "private address"}
    if rule == "metadata address":
        assert forbidden_address(address) == rule


@pytest.mark.parametrize("embedded", ["168.63.129.16", "169.254.169.254"])
def test_metadata_behind_6to4(embedded: str) -> None:
    """A 6to4 address of a metadata service is the service."""
    address = ipaddress.IPv6Address((0x2002 << 112) | (int(ipaddress.IPv4Address(embedded)) << 80))
    assert forbidden_address(address) == "metadata address"


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"],
)
def test_public_host(address: str) -> None:
    """A host of the public internet is allowed, by way of a translator too."""
    assert forbidden_address(ipaddress.ip_address(address)) is None
