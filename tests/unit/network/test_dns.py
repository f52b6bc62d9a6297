"""Reading queries of the domain name system, and answering them."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchkiln.sandboxes.network import dns

LABEL = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_", min_size=1, max_size=20)


def query(name: str, kind: int = dns.TYPE_A, *, number: int = 7, flags: int = 0x0100) -> bytes:
    """Return a query as resolvers send it."""
    labels = [label.encode() for label in name.split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", number, flags, 1, 0, 0, 0) + encoded + struct.pack(">2H", kind, 1)


@given(st.lists(LABEL, min_size=1, max_size=6), st.integers(0, 65535), st.integers(0, 65535))
def test_a_query_is_read_as_it_was_written(labels: list[str], number: int, kind: int) -> None:
    """Name, number and kind; what an EDNS option adds behind does not matter."""
    data = query(".".join(labels), kind, number=number)
    question = dns.parse_query(data + b"\0\0\x29\x10\0\0\0\0\0\0\0")
    assert (question.name, question.number, question.kind) == (".".join(labels), number, kind)


def test_an_answer_repeats_its_question() -> None:
    """And carries the address, as RFC 1035 lays it out."""
    data = query("Www.Example.org")
    reply = dns.answer(dns.parse_query(data), dns.NO_ERROR, b"\x7f\x4d\0\x01")
    assert reply[:12] == struct.pack(">6H", 7, 0x8180, 1, 1, 0, 0)
    assert reply[12 : len(data)] == data[12:]
    assert reply[len(data) :] == b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\x4d\0\x01"
    refused = dns.answer(dns.parse_query(data), dns.NO_SUCH_NAME)
    assert refused == struct.pack(">6H", 7, 0x8183, 1, 0, 0, 0) + data[12:]


BAD = {
    "compressed": query("a")[:12] + b"\xc0\x0c\0\x01\0\x01",
    "dot in a label": query("a")[:12] + b"\x03a.b\0\0\x01\0\x01",
    "cut in a label": query("a")[:12] + b"\x05ab",
    "cut behind the name": query("abc")[:-2],
    "two questions": query("a")[:4] + b"\0\x02" + query("a")[6:],
    "no question": query("a")[:4] + b"\0\0" + query("a")[6:],
    "other class": query("a")[:-2] + b"\0\x03",
    "too long a name": query(".".join(["a" * 60] * 5)),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_malformed_query_is_told_so(data: bytes) -> None:
    """With its own number, and nothing else of it."""
    with pytest.raises(dns.BadQuery) as caught:
        dns.parse_query(data)
    assert caught.value.answer == struct.pack(">6H", 7, 0x8181, 0, 0, 0, 0)


def test_other_operations_and_answers_are_no_queries() -> None:
    """An update is not implemented; an answer is never answered."""
    with pytest.raises(dns.BadQuery) as caught:
        dns.parse_query(query("a", flags=0x2800))
    assert caught.value.answer == struct.pack(">6H", 7, 0xA884, 0, 0, 0, 0)
    for data in (query("a", flags=0x8180), b"short"):
        with pytest.raises(dns.BadQuery) as caught:
            dns.parse_query(data)
        assert caught.value.answer is None


@given(st.binary(max_size=300))
def test_random_bytes_do_no_harm(data: bytes) -> None:
    """They are a query or none."""
    for candidate in (data, query("a")[:12] + data):
        with contextlib.suppress(dns.BadQuery):
            dns.answer(dns.parse_query(candidate), dns.REFUSED)
