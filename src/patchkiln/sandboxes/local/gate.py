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

    def together(self) -> "_Together":
        """Enter beside others; waits while one is alone inside."""
        return _Together(self)

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

    async def enter(self) -> None:
        """Enter beside others, who leave by `leave`."""
        self._check()
        if self._alone.locked():
            async with self._alone:
                self._enter()
        else:
            self._enter()

    def leave(self) -> None:
        """Leave those inside."""
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    def _enter(self) -> None:
        self._check()
        self._inside += 1
        self._empty.clear()


class _Together:
    """Makes a block of what lies between `Gate.enter` and `Gate.leave`.

    By hand: a generator takes ten times as long, and every command passes here.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __aenter__(self) -> None:
        await self._gate.enter()

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()
