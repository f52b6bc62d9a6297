"""Names of hosts as programs write them."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchkiln.domain.network import NetworkPolicy, parse_network_rule
from patchkiln.sandboxes.network.names import host_name, shown, split_authority


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::FFFF:127.0.0.1", str(ip_address("::ffff:127.0.0.1"))),
        ("0:0:0:0:0:0:0:1", "::1"),
        *((text, None) for text in ("", ".", "example..org", "example.org..", "-a.org", "a-.org")),
        *((text, None) for text in ("bücher.example", "a b", "a\0b", "a/b", "a@b", "fe80::1%eth0")),
        # Every other way to write 127.0.0.1 that a resolver might understand.
        *(
            (text, None)
            for text in ("2130706433", "0177.0.0.1", "0x7f.0.0.1", "127.1", "0x7f000001")
        ),
        *((text, None) for text in ("127.0.0.1.", "127.0.0.01", "1.2.3", "a.0x1", "a.9")),
        ("a" * 64 + ".org", None),
        (".".join(["a" * 60] * 5), None),
    ],
)
def test_a_name_has_one_form(text: str, name: str | None) -> None:
    """Lower case, no last dot, addresses as they are; all else is no name."""
    assert host_name(text) == name


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("example.org", ("example.org", None)),
        ("Example.org.:8080", ("example.org", 8080)),
        ("[::1]:80", ("::1", 80)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        *(
            (text, None)
            for text in ("::1", "[127.0.0.1]", "[::1", "a:b", "a:0", "a:65536", "a:", ":80")
        ),
        *(
            (text, None)
            for text in ("user@a", "user:pass@a:80", "a:80:90", "a/b", "a?b", "a#b", "a b")
        ),
    ],
)
def test_an_authority_is_a_host_and_a_port(text: str, authority: object) -> None:
    """And never a user's name."""
    assert split_authority(text) == authority


@given(st.text(max_size=400))
def test_hostile_names_are_shown_harmlessly(text: str) -> None:
    """Printable, short, and never empty."""
    seen = shown(text)
    assert 0 < len(seen) <= 253
    assert all("!" <= char <= "~" for char in seen)


@given(st.text("abc.*-0x:[]@ /", max_size=30))
def test_what_is_taken_for_a_name_fits_a_rule(text: str) -> None:
    """Every name could be written in a list, and that rule then admits it."""
    name = host_name(text)
    if name is not None:
        policy = NetworkPolicy(rules=(parse_network_rule(f"[{name}]" if ":" in name else name),))
        assert policy.rule_for(name, 443) is not None
