"""What routes are given: the engine, the settings of the edge, the caller's name."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends, Header, Request
from fastapi.security import HTTPBearer

from patchkiln.api.config import ApiConfig
from patchkiln.engine import RunEngine

MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one application serves; it lives in the application's state."""

    engine: RunEngine
    config: ApiConfig


def _served(request: Request) -> Served:
    served: Served = request.app.state.served
    return served


def _caller(request: Request) -> str:
    name: str = request.state.caller
    return name


ServedDep: TypeAlias = Annotated[Served, Depends(_served)]
Caller: TypeAlias = Annotated[str, Depends(_caller)]
IdempotencyHeader: TypeAlias = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_CHARS,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key and body re-attaches to the same run.",
    ),
]
# For the documentation alone: `ApiKeys` has judged the request before any route sees it.
bearer = HTTPBearer(
    auto_error=False,
    description="A key of PATCHKILN_API_KEYS. Without keys the server is open on loopback.",
)
