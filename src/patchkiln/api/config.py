"""What the HTTP edge has to know of the server's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from patchkiln.domain.usage import Limits

DEFAULT_HEARTBEAT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """Who may call, from where, and what a request may ask for.

    ``api_keys`` maps a caller's name to its key; empty: everyone is ``anonymous``. ``git_allow``
    are the URL prefixes allowed beyond the default policy. ``cors_origins`` ``("*",)`` admits
    every origin, without credentials. The first of ``sandboxes`` is the default one. ``limits``
    are the server's own, which a request can only lower. After ``heartbeat_s`` of silence a
    stream carries a comment, so that proxies keep it open.
    """

    default_agent: str
    agents: tuple[str, ...]
    sandboxes: tuple[str, ...]
    api_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    git_allow: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ("*",)
    limits: Limits = field(default_factory=Limits)
    heartbeat_s: float = DEFAULT_HEARTBEAT_S
