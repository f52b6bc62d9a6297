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
    return tuple(
        Fault(
            loc=tuple(_bounded(part) for part in item["loc"]),
            msg=_message(item, headers),
            type=str(item["type"]),
        )
        for item in found[:MAX_FAULTS]
    )


def _bounded(part: str | int) -> str | int:
    return part[:MAX_NAME_CHARS] if isinstance(part, str) else part


def _message(item: Mapping[str, Any], headers: Headers) -> str:
    if item["type"] == "extra_forbidden":
        return _unknown_field(item["loc"])
    if item["type"] == "json_invalid":
        return f"The body is no valid JSON: {item['ctx']['error']}."
    if tuple(item["loc"]) == ("body",) and "json" not in headers.get("content-type", ""):
        return "Send a JSON object with the header 'Content-Type: application/json'."
    return str(item["msg"])


def _unknown_field(loc: tuple[str | int, ...]) -> str:
    """Say so, with the nearest name that there is."""
    _, *parents, name = loc
    known = _NAMES.get(tuple(str(part) for part in parents), {})
    near = difflib.get_close_matches(str(name)[:MAX_NAME_CHARS].lower(), known, 1, MIN_LIKENESS)
    hint = f"Did you mean '{known[near[0]]}'?" if near else "Leave it out."
    return f"There is no such field. {hint}"


def _names(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, info in model.model_fields.items():
        yield name, name
        yield str(info.alias).lower(), str(info.alias)


_NAMES: Mapping[tuple[str, ...], Mapping[str, str]] = {
    (): dict(_names(CodeRequest)),
    ("limits",): dict(_names(LimitsRequest)),
    ("clone",): dict(_names(CloneOptions)),
}
