"""Lets work go on side by side, or one at a time with nothing beside it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager


class Gate:
    """Many may be inside together, or one alone."""

    def __init__(self) -> None:
        """Begin open."""
        self._inside = 0
        self._alone = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()
        self._refusal: type[Exception] | None = None
        self._said = ""

    def shut(self, refusal: type[Exception], text: str) -> None:
        """Refuse everyone from now on, by an error."""
        self._refusal, self._said = refusal, text

    def open(self) -> None:
        """Refuse nobody. Idempotent."""
        self._refusal = None

    @asynccontextmanager
    async def together(self) -> AsyncGenerator[None]:
        """Enter beside others; waits while one is alone inside."""
        self._check()
        if self._alone.locked():
            async with self._alone:
                self._enter()
        else:
            self._enter()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self, evict: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
        """Let nobody else in, make those inside leave, wait until all have left, and be alone."""
        self._check()
        async with self._alone:
            self._check()
            await evict()
            await self._empty.wait()
            yield

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal(self._said)

    def _enter(self) -> None:
        self._check()
        self._inside += 1
        self._empty.clear()
