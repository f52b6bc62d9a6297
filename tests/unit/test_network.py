"""The list of hosts that a sandbox may reach."""

import ipaddress

import pytest

from patchkiln.domain.network import (
    AllowedAddress,
    Credential,
    NetworkPolicy,
    NetworkRule,
    parse_allowed_address,
    parse_network_rule,
)
from patchkiln.errors import InvalidRequest


def policy(*texts: str) -> NetworkPolicy:
    """Return the policy of some rules as a person writes them."""
    return NetworkPolicy(rules=tuple(parse_network_rule(text) for text in texts))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("PyPI.org.", "pypi.org", None),
        (" pypi.org:8443 ", "pypi.org", 8443),
        ("*.Example.com", "*.example.com", None),
        ("*", "*", None),
        ("*:22", "*", 22),
        ("10.1.2.3:5000", "10.1.2.3", 5000),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
        ("2001:db8::1", "2001:db8::1", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
    ],
)
def test_a_rule_is_read_and_written_back(text: str, host: str, port: int | None) -> None:
    """What a person writes becomes one spelling, which reads as the same rule again."""
    rule = parse_network_rule(text)
    assert (rule.host, rule.port) == (host, port)
    assert parse_network_rule(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":443",
        "a:0",
        "a:65536",
        "a:x",
        "a:",
        "http://a.example",
        "a.example/path",
        "user@a.example",
        "*example.com",
        "a.*.example",
        "*.*.example",
        "-a.example",
        "a..example",
        "a b",
        "b\u00fccher.example",
        "1.2.3",
        "a.1",
        "127.1",
        "2130706433",
        "fe80::1%eth0",
        f"{'a' * 64}.example",
        f"{'a.' * 127}example",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    """Neither a URL nor a pattern in the middle nor half an address is taken for a host."""
    with pytest.raises(InvalidRequest):
        parse_network_rule(text)


@pytest.mark.parametrize(
    ("host", "port", "admitted"),
    [
        ("example.com", 443, True),
        ("EXAMPLE.com.", 80, True),
        ("example.com", 8080, False),
        ("evil-example.com", 443, False),
        ("example.com.evil.org", 443, False),
        ("a.example.com", 443, False),
        ("a.b.wild.org", 443, True),
        ("wild.org", 443, False),
        ("evilwild.org", 443, False),
        (".wild.org", 443, False),
        ("git.example", 9418, True),
        ("git.example", 443, False),
    ],
)
def test_rules_admit_what_they_name_and_no_more(host: str, port: int, *, admitted: bool) -> None:
    """A name is itself, `*.domain` everything below it; without a port, the web's two."""
    rules = policy("example.com", "*.wild.org", "git.example:9418")
    assert (rules.rule_for(host, port) is not None) is admitted


def test_the_narrowest_rule_counts() -> None:
    """Whatever stands before it: it is the one with the trust and the credential for that host."""
    rules = policy("*", "*.wild.org", "*.deep.wild.org", "a.deep.wild.org", "127.0.0.1")
    hosts = ("a.deep.wild.org", "b.deep.wild.org", "deep.wild.org", "wild.org", "127.0.0.1")
    found = [rules.rule_for(host, 443) for host in hosts]
    assert list(map(str, found)) == [hosts[0], "*.deep.wild.org", "*.wild.org", "*", hosts[4]]


def test_without_rules_nothing_is_admitted() -> None:
    """The network is closed unless a list opens it."""
    assert NetworkPolicy().rule_for("example.com", 443) is None


@pytest.mark.parametrize(
    ("address", "port", "forbidden"),
    [
        ("93.184.216.34", 443, False),
        ("10.1.2.3", 5000, False),
        ("10.1.2.3", 443, True),
        ("10.1.2.4", 5000, True),
        ("192.168.0.9", 443, False),
        ("169.254.169.254", 443, True),
        ("127.0.0.1", 443, True),
        ("::ffff:127.0.0.1", 443, True),
    ],
)
def test_private_addresses_stay_closed_unless_the_operator_opened_them(
    address: str, port: int, *, forbidden: bool
) -> None:
    """The list does not open what its names resolve to; an exact address of the operator's does."""
    rules = NetworkPolicy(
        rules=(NetworkRule(host="*"),),
        addresses=(parse_allowed_address("10.1.2.3:5000"), parse_allowed_address("192.168.0.9")),
    )
    told = rules.forbids(ipaddress.ip_address(address), port, rules.rules[0])
    assert (told is not None) is forbidden


def test_a_trusted_rule_opens_private_addresses() -> None:
    """What the operator named by himself may be private."""
    rule = NetworkRule(host="localhost", port=80, trusted=True)
    assert NetworkPolicy(rules=(rule,)).forbids(ipaddress.ip_address("127.0.0.1"), 80, rule) is None


@pytest.mark.parametrize("text", ["example.com", "10.0.0.0/8", "10.1.2.3:0", "", "fe80::1%lo"])
def test_an_allowed_address_is_an_address(text: str) -> None:
    """Neither a name, whose owner decides where it leads, nor a whole network is taken."""
    with pytest.raises(InvalidRequest):
        parse_allowed_address(text)


def test_an_allowed_address_may_be_ipv6() -> None:
    """In brackets where a port follows."""
    address = ipaddress.ip_address("fd00::1")
    assert parse_allowed_address("[fd00::1]:80") == AllowedAddress(address=address, port=80)
    assert parse_allowed_address("fd00::1") == AllowedAddress(address=address)


def test_a_credential_is_not_shown() -> None:
    """Its value does not appear where a rule is printed or logged."""
    rule = NetworkRule(host="a.example", credential=Credential(header="X-Key", value="hunter2"))
    assert "hunter2" not in repr(rule) + str(rule)
