"""Clones for tests: a git source over real local sandboxes, and one fetch as a call."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from patchkiln.domain.repository import Checkout, parse_repository_url
from patchkiln.ports.repository import FetchProgress, RepositorySource
from patchkiln.ports.sandbox import SandboxProvider
from patchkiln.repositories import GitRepositories
from patchkiln.sandboxes.local.provider import LocalSandboxes


@asynccontextmanager
async def local_sandboxes(data_dir: Path) -> AsyncGenerator[LocalSandboxes]:
    """Lend a provider of local sandboxes."""
    provider = LocalSandboxes(data_dir)
    try:
        yield provider
    finally:
        await provider.close()


def git_source(provider: SandboxProvider, data_dir: Path, **limits: Any) -> GitRepositories:
    """Return a source with its cache below the data directory."""
    return GitRepositories(provider, data_dir / "repositories", **limits)


async def fetch_all(
    source: RepositorySource, url: str, *, prefix: str, ref: str | None = None, depth: int = 1
) -> tuple[list[FetchProgress], Checkout]:
    """Fetch a URL below an allowed prefix; return what was told and the checkout."""
    checked = parse_repository_url(url, allow=(prefix,))
    items = [item async for item in source.fetch(checked, ref=ref, depth=depth)]
    told = [item for item in items if isinstance(item, FetchProgress)]
    last = items[-1]
    if not isinstance(last, Checkout) or len(told) != len(items) - 1:
        raise TypeError(f"The checkout must be the one last item: {items}")
    return told, last


async def fetch(
    source: RepositorySource, url: str, *, prefix: str, ref: str | None = None, depth: int = 1
) -> Checkout:
    """Fetch a URL below an allowed prefix and return the checkout."""
    return (await fetch_all(source, url, prefix=prefix, ref=ref, depth=depth))[1]
