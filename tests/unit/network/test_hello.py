"""Reading a TLS client's greeting: real ones, cut up, forged and random."""

import contextlib
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchkiln.sandboxes.network.hello import (
    MAX_HELLO_BYTES,
    Hello,
    NotTls,
    looks_like_tls,
    read_hello,
)


def greeting(name: str | None, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """Return what a real client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def message(hello: bytes) -> bytes:
    """Return the handshake message of a greeting in one record."""
    return hello[5:]


def records(data: bytes, size: int) -> bytes:
    """Return a message in records of a size."""
    blocks = [data[place : place + size] for place in range(0, len(data), size)]
    return b"".join(b"\x16\x03\x01" + len(block).to_bytes(2) + block for block in blocks)


def with_extension(hello: bytes, kind: int, body: bytes) -> bytes:
    """Return a greeting with one more extension, its lengths put right."""
    data = bytearray(message(hello))
    place = 4 + 34
    place += 1 + data[place]
    place += 2 + int.from_bytes(data[place : place + 2])
    place += 1 + data[place]
    size = int.from_bytes(data[place : place + 2])
    more = kind.to_bytes(2) + len(body).to_bytes(2) + body
    data[place : place + 2] = (size + len(more)).to_bytes(2)
    data += more
    data[1:4] = (len(data) - 4).to_bytes(3)
    return records(bytes(data), 1 << 14)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_greeting_names_its_host(newest: ssl.TLSVersion) -> None:
    """Whatever the version; without a name there is none."""
    hello = greeting("www.example.org", newest=newest)
    assert looks_like_tls(hello)
    assert read_hello(hello) == Hello("www.example.org", hidden=False)
    assert read_hello(greeting(None, newest=newest)) == Hello(None, hidden=False)


def test_no_prefix_of_a_greeting_is_one() -> None:
    """More is waited for until the last byte, and what follows the greeting does not matter."""
    hello = greeting("www.example.org")
    assert all(read_hello(hello[:end]) is None for end in range(len(hello)))
    assert read_hello(hello + b"anything") == read_hello(hello)


@given(st.integers(min_value=20, max_value=600))
def test_a_greeting_in_many_records_is_put_together(size: int) -> None:
    """Fragments do not hide the name."""
    hello = greeting("www.example.org")
    assert read_hello(records(message(hello), size)) == Hello("www.example.org", hidden=False)


def test_a_hidden_name_is_told() -> None:
    """Encrypted Client Hello is seen, though the name beside it is an innocent one."""
    hello = with_extension(greeting("innocent.example"), 0xFE0D, b"\x00" * 40)
    assert read_hello(hello) == Hello("innocent.example", hidden=True)


def two_names(hello: bytes) -> bytes:
    """Send a second list of names."""
    return with_extension(hello, 0, b"\x00\x0b\x00\x00\x08evil.org")


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "two lists": two_names,
    "other record": lambda hello: b"\x17" + hello[1:],
    "other version": lambda hello: hello[:1] + b"\x02" + hello[2:],
    "other message": lambda hello: hello[:5] + b"\x02" + hello[6:],
    "empty records": lambda hello: b"\x16\x03\x01\x00\x00" + hello,
    "tiny records": lambda hello: records(message(hello), 1),
    "huge message": lambda hello: hello[:6] + b"\xff\xff\xff" + hello[9:],
    "short lists": lambda hello: hello[:43] + b"\xff" + hello[44:],
    "no ASCII": lambda hello: hello.replace(b"www.example", b"www.ex\xc3\xa4ple"),
    "NUL list": lambda hello: hello.replace(
        b"\x00\x12\x00\x00\x0fwww.example.org", b"\x00\x12\x00\x00\x0ewww.example.org"
    ),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_greeting_is_none(forge: Callable[[bytes], bytes]) -> None:
    """What two readers could take for different things is refused."""
    forged = forge(greeting("www.example.org"))
    with pytest.raises(NotTls):
        read_hello(forged)


def test_a_greeting_without_end_is_given_up() -> None:
    """Before it takes more than a little memory."""
    filler = records(b"\x01\x00\x70\x00" + b"x" * MAX_HELLO_BYTES, 1 << 14)
    with pytest.raises(NotTls):
        read_hello(filler)


@given(st.binary(max_size=400))
def test_random_bytes_do_no_harm(data: bytes) -> None:
    """They are a greeting, the beginning of one, or none."""
    for candidate in (data, b"\x16\x03\x01\x00\x80\x01\x00\x00\x7c" + data):
        with contextlib.suppress(NotTls):
            read_hello(candidate)


@given(st.integers(min_value=0, max_value=250), st.binary(min_size=1, max_size=4))
def test_a_changed_greeting_does_no_harm(place: int, patch: bytes) -> None:
    """The same for real ones with a few bytes changed."""
    hello = greeting("www.example.org")
    with contextlib.suppress(NotTls):
        read_hello(hello[:place] + patch + hello[place + len(patch) :])
