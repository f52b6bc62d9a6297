"""Where repositories come from."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from patchkiln.domain.event import JsonObject
from patchkiln.domain.repository import Checkout, RepositoryUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProgress:
    """Something worth telling while a repository comes in."""

    message: str
    data: JsonObject


class RepositorySource(Protocol):
    """Brings a repository at a ref into the cache and lends its checkout."""

    def fetch(
        self, url: RepositoryUrl, *, ref: str | None, depth: int
    ) -> AsyncGenerator[FetchProgress | Checkout]:
        """Yield progress, and the `Checkout` as the last item.

        ``ref`` None is the remote's HEAD; ``depth`` 0 the whole history. The checkout is in use
        until `release`. Raises `CloneError` and its kin; `CloneTimeout` and `RemoteUnreachable`
        are retryable.
        """
        ...

    async def release(self, checkout: Checkout) -> None:
        """Give a checkout back, so that the cache may drop it. Idempotent."""
        ...
