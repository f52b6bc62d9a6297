"""The values of options."""

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from patchkiln.cli import arguments
from patchkiln.domain.network import Credential


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
    ("text", "rules"),
    [
        ("pypi.org", ["pypi.org"]),
        ("PyPI.org:8443,*.pypi.org", ["pypi.org:8443", "*.pypi.org"]),
        ("127.0.0.1:80, 127.0.0.1:80", ["127.0.0.1:80"]),
        ("[::1]:8000", ["[::1]:8000"]),
    ],
)
def test_hosts_are_a_list_without_doubles(text: str, rules: list[str]) -> None:
    """Each stands for the rule that is written so."""
    assert [str(rule) for rule in arguments.network_rules(text)] == rules


@pytest.mark.parametrize(
    ("text", "header", "value"),
    [
        ("A.example=TOKEN", "Authorization", "Bearer s3cret"),
        ("a.example=X-Api-Key:TOKEN", "X-Api-Key", "s3cret"),
    ],
)
def test_a_credential_comes_from_a_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, header: str, value: str
) -> None:
    """The command line names the variable, so that the value shows in no list of processes."""
    monkeypatch.setenv("TOKEN", "s3cret")
    assert arguments.credential(text) == ("a.example", Credential(header=header, value=value))


def test_a_credential_that_no_header_could_carry_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line end in it would write headers of its own; the refusal does not show the value."""
    monkeypatch.setenv("TOKEN", "s3cret\r\nX-Other: 1")
    with pytest.raises(ArgumentTypeError, match="variable TOKEN") as refusal:
        arguments.credential("a.example=TOKEN")
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (arguments.network_rules, "https://pypi.org", "no host"),
        (arguments.network_rules, "pypi.org:70000", "no host"),
        (arguments.network_rules, "", "no host"),
        (arguments.network_rules, "a,,b", "no host"),
        (arguments.credential, "a.example", "no credential"),
        (arguments.credential, "=TOKEN", "no credential"),
        (arguments.credential, "a.example=X Y:TOKEN", "no credential"),
        (arguments.credential, "a.example=NOT_SET", "NOT_SET holds nothing"),
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
