"""One connection that a sandbox has made, from its acceptance to its end."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from patchkiln.sandboxes.network.guard import Guard, Route, Target, Unreachable
from patchkiln.sandboxes.network.refusals import Refused
from patchkiln.sandboxes.network.requests import BadRequest
from patchkiln.sandboxes.network.streams import SocketStream

IDLE_S = 300.0


class Passage:
    """The sandbox's side of a connection, and what was dialled for it."""

    def __init__(self, guard: Guard, inside: socket.socket) -> None:
        """Take the judge, and the accepted connection."""
        self.guard = guard
        self.inside = SocketStream(inside, self._touch)
        self.local: tuple[str, int] = inside.getsockname()
        self._silence: asyncio.Timeout | None = None
        self._route: Route | None = None
        self._outside: list[SocketStream] = []

    @property
    def admitted(self) -> bool:
        """Tell whether the policy in force admits what the connection leads to."""
        return self._route is None or self.guard.still_admits(self._route)

    async def dial(self, target: Target) -> SocketStream:
        """Connect to a target, in place of the last. Raises `Refused` and `Unreachable`."""
        self._hang_up()
        outside, self._route = await self.guard.connect(target)
        stream = SocketStream(outside, self._touch)
        self._outside.append(stream)
        return stream

    def check_secrecy(self) -> None:
        """Raise `Refused` where a credential must not go to what was dialled without TLS."""
        if self._route is not None:
            self.guard.check_secrecy(self._route)

    async def run(self, serve: Callable[["Passage"], Awaitable[None]]) -> None:
        """Serve the connection until it ends, breaks, is refused, or falls silent."""
        try:
            async with asyncio.timeout(IDLE_S) as self._silence:
                await serve(self)
        except Refused as refused:
            self.guard.refusals.note(refused.refusal)
            self.inside.reset()
        except (OSError, TimeoutError, BadRequest, Unreachable):
            self.inside.reset()
        except asyncio.CancelledError:
            self.inside.reset()
            raise
        finally:
            self._hang_up()
            self.inside.close()

    def _hang_up(self) -> None:
        while self._outside:
            self._outside.pop().close()
        self._route = None

    def _touch(self) -> None:
        if self._silence is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + IDLE_S)
