"""The values of options."""

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from patchkiln.cli import arguments


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("16777216", 16 << 20),
        ("64m", 64 << 20),
        ("64MiB", 64 << 20),
        ("65536K", 64 << 20),
        ("2G", 2 << 30),
        (" 1T ", 1 << 40),
    ],
)
def test_memory_takes_bytes_and_suffixes(text: str, count: int) -> None:
    """A size is a number of bytes, or of the unit of its suffix, each 1,024 of the one before."""
    assert arguments.memory_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("pypi.org", (("pypi.org", 443), ("pypi.org", 80))),
        ("pypi.org:8443", (("pypi.org", 8443),)),
        ("127.0.0.1:80, 127.0.0.1:80", (("127.0.0.1", 80),)),
        ("[::1]:8000", (("::1", 8000),)),
        ("a.b:1,c_d:2", (("a.b", 1), ("c_d", 2))),
    ],
)
def test_hosts_are_exact_names_with_a_port(text: str, pairs: tuple[tuple[str, int], ...]) -> None:
    """A host stands for its own name alone; without a port for 443 and 80. None is kept twice."""
    assert arguments.hosts(text) == pairs


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (arguments.hosts, "*.pypi.org", "not served yet"),
        (arguments.hosts, "https://pypi.org", "no host"),
        (arguments.hosts, "pypi.org:0", "1 to 65535"),
        (arguments.hosts, "pypi.org:70000", "1 to 65535"),
        (arguments.hosts, "", "no host"),
        (arguments.hosts, "a,,b", "no host"),
        (arguments.hosts, "-x.org", "no host"),
        (arguments.memory_bytes, "1.5G", "no size"),
        (arguments.memory_bytes, "-1", "no size"),
        (arguments.memory_bytes, "1M", "too little"),
        (arguments.seconds, "nan", "above 0"),
        (arguments.seconds, "inf", "above 0"),
        (arguments.seconds, "-1", "above 0"),
        (arguments.seconds, "soon", "above 0"),
        (arguments.page_size, "201", "1 to 200"),
        (arguments.page_size, "x", "1 to 200"),
        (arguments.sequence, "-1", "no number"),
        (arguments.prompt, "\t", "empty"),
    ],
)
def test_a_wrong_value_says_what_to_write(
    read: Callable[[str], object], text: str, says: str
) -> None:
    """Each refusal names the rule or shows the form."""
    with pytest.raises(ArgumentTypeError, match=says):
        read(text)


def test_seconds_may_be_a_fraction() -> None:
    """A time limit is a positive number, whole or not."""
    assert arguments.seconds("0.5") == 0.5
