"""Questions and answers of the domain name system (RFC 1035, 4): one question, one address."""

import struct
from typing import NamedTuple

MAX_QUERY_BYTES = 4096
TYPE_A = 1
_CLASS_IN = 1
_HEAD = struct.Struct(">6H")
_IS_RESPONSE = 0x8000
_OPERATION = 0x7800
_RECURSION_DESIRED = 0x0100
_RECURSION_AVAILABLE = 0x0080
_MAX_LABEL_BYTES = 63
_MAX_NAME_BYTES = 255
_TTL_S = 60
_POINTER_TO_NAME = 0xC000 | _HEAD.size

NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = range(6)


class Question(NamedTuple):
    """What is asked: ``name`` with dots, as written; ``section`` are its bytes, to be repeated."""

    number: int
    flags: int
    name: str
    kind: int
    section: bytes


class BadQuery(Exception):
    """The bytes are no query; ``answer`` says so to the asker, None where nobody is to be told."""

    def __init__(self, answer: bytes | None) -> None:
        """Take the answer."""
        super().__init__()
        self.answer = answer


def parse_query(data: bytes) -> Question:
    """Read a query with one question. Raises `BadQuery`."""
    if len(data) < _HEAD.size:
        raise BadQuery(None)
    number, flags, questions, *_ = _HEAD.unpack_from(data)
    if flags & _IS_RESPONSE:
        raise BadQuery(None)
    if flags & _OPERATION:
        raise BadQuery(_head(number, flags, NOT_IMPLEMENTED))
    try:
        labels, place = _labels(data)
        kind, network = struct.unpack_from(">2H", data, place)
    except (IndexError, struct.error) as error:
        raise BadQuery(_head(number, flags, FORMAT_ERROR)) from error
    if questions != 1 or network != _CLASS_IN:
        raise BadQuery(_head(number, flags, FORMAT_ERROR))
    name = ".".join(label.decode("ascii", "replace") for label in labels)
    return Question(number, flags, name, kind, data[_HEAD.size : place + 4])


def answer(question: Question, code: int, address: bytes | None = None) -> bytes:
    """Return the answer: a code, and an IPv4 address where there is one."""
    head = _head(question.number, question.flags, code, 1, 0 if address is None else 1)
    if address is None:
        return head + question.section
    record = struct.pack(">3HIH", _POINTER_TO_NAME, TYPE_A, _CLASS_IN, _TTL_S, len(address))
    return head + question.section + record + address


def _head(number: int, flags: int, code: int, questions: int = 0, answers: int = 0) -> bytes:
    kept = flags & (_OPERATION | _RECURSION_DESIRED)
    return _HEAD.pack(
        number, _IS_RESPONSE | kept | _RECURSION_AVAILABLE | code, questions, answers, 0, 0
    )


def _labels(data: bytes) -> tuple[list[bytes], int]:
    """Read the name behind the head; a question's has nothing to point to. Raises `IndexError`."""
    labels: list[bytes] = []
    place = _HEAD.size
    while size := data[place]:
        label = data[place + 1 : place + 1 + size]
        if size > _MAX_LABEL_BYTES or len(label) < size or b"." in label:
            raise IndexError
        labels.append(label)
        place += 1 + size
        if place - _HEAD.size > _MAX_NAME_BYTES:
            raise IndexError
    return labels, place + 1
