"""What is wrong with a request, in FastAPI's form: ``loc``, ``msg`` and ``type``, nothing else.

FastAPI would also echo the input, and with it a whole prompt, or a credential in a URL.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.datastructures import Headers

from patchkiln.api.requests import CloneOptions, CodeRequest, LimitsRequest
from patchkiln.domain.event import JsonObject
from patchkiln.errors import InvalidRequest

MAX_FAULTS = 20
MAX_NAME_CHARS = 100
MIN_LIKENESS = 0.6
QUERY_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong, and where."""

    loc: tuple[str | int, ...]
    msg: str
    type: str

    @classmethod
    def of(cls, error: InvalidRequest, method: str) -> "Fault":
        """Return the fault that one of our own errors names."""
        where = "query" if method in QUERY_METHODS else "body"
        names = () if error.field == "body" else tuple(error.field.split("."))
        return cls(loc=(where, *names), msg=f"{error.message} {error.remedy}", type=error.code)

    @classmethod
    def unreadable(cls) -> "Fault":
        """Return the fault of a body that can not even be decoded."""
        return cls(loc=("body",), msg="The body is no JSON text in UTF-8.", type="json_invalid")

    def as_json(self) -> JsonObject:
        """Return the object of the answer's ``detail`` list."""
        return {"loc": list(self.loc), "msg": self.msg, "type": self.type}

    def sentence(self) -> str:
        """Return the fault for a person."""
        name = ".".join(str(part) for part in self.loc[1:])
        return f"{name}: {self.msg}" if name else self.msg


def faults_of(error: RequestValidationError, headers: Headers) -> tuple[Fault, ...]:
    """Return the first faults that FastAPI found."""
    found: list[Mapping[str, Any]] = list(error.errors())
    told = [item for item in found if not _is_other_half(item)]
    return tuple(
        Fault(
            loc=tuple(_bounded(part) for part in _place(item["loc"])),
            msg=_message(item, headers),
            type=str(item["type"]),
        )
        for item in told[:MAX_FAULTS]
    )


def _is_other_half(item: Mapping[str, Any]) -> bool:
    """Tell of a choice that takes a word or a list that this is the word's half of its fault."""
    return item["loc"][:2] in _CHOICES and item["type"] == "literal_error"


def _place(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Leave out the type's name, which pydantic puts behind a choice."""
    return loc[:2] + loc[3:] if loc[:2] in _CHOICES else loc


def _bounded(part: str | int) -> str | int:
    return part[:MAX_NAME_CHARS] if isinstance(part, str) else part


def _message(item: Mapping[str, Any], headers: Headers) -> str:
    loc = tuple(item["loc"])
    if item["type"] == "extra_forbidden":
        return _unknown_field(loc)
    if item["type"] == "json_invalid":
        return f"The body is no valid JSON: {item['ctx']['error']}."
    if loc == ("body",) and "json" not in headers.get("content-type", ""):
        return "Send a JSON object with the header 'Content-Type: application/json'."
    if item["type"] == "list_type" and loc[:2] in _CHOICES:
        return _CHOICES[loc[:2]]
    if item["type"] == "string_pattern_mismatch" and loc in _FORMS:
        return _FORMS[loc]
    return str(item["msg"]).removeprefix("Value error, ")


def _unknown_field(loc: tuple[str | int, ...]) -> str:
    """Say so, with the nearest name that there is."""
    _, *parents, name = loc
    known = _NAMES.get(tuple(str(part) for part in parents), {})
    if name in known.values():
        return "The field is given twice, in two spellings. Leave one out."
    near = difflib.get_close_matches(str(name)[:MAX_NAME_CHARS].lower(), known, 1, MIN_LIKENESS)
    hint = f"Did you mean '{known[near[0]]}'?" if near else "Leave it out."
    return f"There is no such field. {hint}"


def _names(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, info in model.model_fields.items():
        yield name, name
        yield str(info.alias).lower(), str(info.alias)


_CHOICES: Mapping[tuple[str | int, ...], str] = {
    ("body", "checks"): "Write 'auto', 'off' or a list of commands.",
    ("body", "network"): "Write 'off' or a list of hosts, such as [\"pypi.org\"].",
}
_FORMS: Mapping[tuple[str | int, ...], str] = {
    ("body", "model"): "Write it as provider:name, for example anthropic:claude-sonnet-4-5.",
    ("header", "Idempotency-Key"): "Use printable ASCII characters alone.",
}
_NAMES: Mapping[tuple[str, ...], Mapping[str, str]] = {
    (): dict(_names(CodeRequest)),
    ("limits",): dict(_names(LimitsRequest)),
    ("clone",): dict(_names(CloneOptions)),
}
