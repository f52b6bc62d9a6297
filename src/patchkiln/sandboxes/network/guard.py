"""Judges where one sandbox may connect to, and connects: to an address that was checked, no other.

A name is resolved once, each of its addresses is judged, and what is dialled is the address that
passed. Nothing between the judgement and the connection looks at the name again.
"""

import asyncio
import socket
from typing import NamedTuple

from patchkiln.domain.addresses import IPAddress, embedded_addresses
from patchkiln.domain.network import NetworkPolicy, NetworkRule
from patchkiln.sandboxes.network.interfaces import own_addresses
from patchkiln.sandboxes.network.refusals import (
    IN_THE_CLEAR,
    NOT_LISTED,
    OWN_ADDRESS,
    Refusals,
    Refused,
)
from patchkiln.sandboxes.network.resolving import NotFound, Resolver

CONNECT_S = 10.0
_MAX_TRIED = 4


class Unreachable(Exception):
    """An allowed host that does not answer; ``reason`` is a sentence for the program inside."""

    def __init__(self, reason: str) -> None:
        """Take the sentence."""
        super().__init__(reason)
        self.reason = reason


class Target(NamedTuple):
    """A host and port that a rule admits; ``name`` in the form of the rules."""

    name: str
    port: int
    rule: NetworkRule


class Route(NamedTuple):
    """A target and the address that was dialled for it."""

    target: Target
    address: IPAddress


class Guard:
    """Holds the policy in force."""

    def __init__(self, refusals: Refusals) -> None:
        """Begin with nothing allowed."""
        self.policy = NetworkPolicy()
        self.refusals = refusals
        self._resolver = Resolver()

    def admit(self, name: str, port: int) -> Target:
        """Return the target of a name that a rule admits. Raises `Refused`."""
        rule = self.policy.rule_for(name, port)
        if rule is None:
            raise Refused(name, port, NOT_LISTED)
        return Target(name, port, rule)

    def knows(self, name: str) -> bool:
        """Tell whether any rule admits a name, on whatever port."""
        return any(rule.admits(name, port) for rule in self.policy.rules for port in rule.ports)

    def still_admits(self, route: Route) -> bool:
        """Tell whether the policy in force would make the same connection again."""
        target = route.target
        rule = self.policy.rule_for(target.name, target.port)
        return rule == target.rule and self._forbids(route.address, target) is None

    async def connect(self, target: Target) -> tuple[socket.socket, Route]:
        """Connect to a target. Raises `Refused` and `Unreachable`."""
        try:
            addresses = await self._resolver.addresses(target.name)
        except NotFound as error:
            raise Unreachable(f"The name {target.name} was not found.") from error
        for address in self._allowed(addresses, target)[:_MAX_TRIED]:
            outside = await _dial(address, target.port)
            if outside is not None:
                return self._checked(outside, Route(target, address))
        self._resolver.forget(target.name)
        raise Unreachable(f"{target.name} does not answer on port {target.port}.")

    def check_secrecy(self, route: Route) -> None:
        """Hold a plain request back whose credential others could read on its way.

        The way to an address that the operator opened is the operator's. Raises `Refused`.
        """
        target = route.target
        shown = target.rule.credential is not None
        if shown and not self.policy.trusts(route.address, target.port, target.rule):
            raise Refused(target.name, target.port, IN_THE_CLEAR)

    async def close(self) -> None:
        """Stop waiting for names. Idempotent."""
        await self._resolver.close()

    def _allowed(self, addresses: tuple[IPAddress, ...], target: Target) -> list[IPAddress]:
        rules = {address: self._forbids(address, target) for address in addresses}
        allowed = [address for address, rule in rules.items() if rule is None]
        if not allowed:
            raise Refused(target.name, target.port, next(iter(rules.values())) or NOT_LISTED)
        return allowed

    def _forbids(self, address: IPAddress, target: Target) -> str | None:
        rule = self.policy.forbids(address, target.port, target.rule)
        if rule is not None or self.policy.trusts(address, target.port, target.rule):
            return rule
        own = own_addresses().intersection((address, *embedded_addresses(address)))
        return OWN_ADDRESS if own else None

    def _checked(self, outside: socket.socket, route: Route) -> tuple[socket.socket, Route]:
        """Judge again: the policy may have changed while the connection was made."""
        if self.still_admits(route):
            return outside, route
        outside.close()
        raise Refused(route.target.name, route.target.port, NOT_LISTED)


def ports(policy: NetworkPolicy) -> set[int]:
    """Return every port that a policy's rules name."""
    return {port for rule in policy.rules for port in rule.ports}


async def _dial(address: IPAddress, port: int) -> socket.socket | None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    outside = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(outside, (str(address), port))
    except (OSError, TimeoutError):
        outside.close()
        return None
    except asyncio.CancelledError:
        outside.close()
        raise
    outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return outside
