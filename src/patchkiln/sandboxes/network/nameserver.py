"""The name server inside a sandbox: it asks nobody.

Each name that a rule admits has an address of the sandbox's own loopback, where connections to it
are captured; any other name does not exist. So no name carries a word out.
"""

import asyncio
import ipaddress
import socket

from patchkiln.sandboxes.network import dns
from patchkiln.sandboxes.network.guard import Guard
from patchkiln.sandboxes.network.names import host_name
from patchkiln.sandboxes.network.passage import Passage
from patchkiln.sandboxes.network.places import LOOPBACK, NAME_PORT
from patchkiln.sandboxes.network.refusals import NOT_LISTED, Refused
from patchkiln.sandboxes.network.streams import Stream

MAX_NAMES = 4096
_FIRST_ADDRESS = int(ipaddress.IPv4Address("127.77.0.1"))
_LENGTH_BYTES = 2
# Programs inside may ask without end: at most this often in a row, and then others have their turn.
_ANSWERS_IN_A_ROW = 8
_PAUSE_S = 0.01


class Names:
    """The addresses that names have inside one sandbox, for as long as it lives."""

    def __init__(self, guard: Guard) -> None:
        """Take the judge of names."""
        self._guard = guard
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def address(self, name: str) -> str | None:
        """Return a name's address; None once there are too many."""
        if name not in self._addresses and len(self._addresses) < MAX_NAMES:
            address = str(ipaddress.IPv4Address(_FIRST_ADDRESS + len(self._addresses)))
            self._addresses[name], self._names[address] = address, name
        return self._addresses.get(name)

    def meant(self, address: str, port: int) -> str:
        """Return the host that a program meant which connected to an address inside."""
        policy = self._guard.policy
        if address == LOOPBACK and policy.rule_for(address, port) is None:
            return "localhost"
        return self._names.get(address, address)

    def answer(self, query: bytes) -> bytes | None:
        """Return the answer to a query, of whatever bytes; None where none is due."""
        try:
            question = dns.parse_query(query)
        except dns.BadQuery as bad:
            return bad.answer
        name = host_name(question.name)
        if name is None or not self._guard.knows(name):
            refused = Refused(question.name, NAME_PORT, NOT_LISTED)
            self._guard.refusals.note(refused.refusal)
            return dns.answer(question, dns.NO_SUCH_NAME)
        if question.kind != dns.TYPE_A:
            return dns.answer(question, dns.NO_ERROR)
        address = self.address(name)
        if address is None:
            return dns.answer(question, dns.SERVER_FAILURE)
        return dns.answer(question, dns.NO_ERROR, ipaddress.IPv4Address(address).packed)


async def serve_datagrams(names: Names, bound: socket.socket) -> None:
    """Answer queries until cancelled."""
    while True:
        for _ in range(_ANSWERS_IN_A_ROW):
            await _answer_datagram(names, bound)
        await asyncio.sleep(_PAUSE_S)


async def _answer_datagram(names: Names, bound: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        query, asker = await loop.sock_recvfrom(bound, dns.MAX_QUERY_BYTES)
        reply = names.answer(query)
        if reply is not None:
            await loop.sock_sendto(bound, reply, asker)
    except OSError:
        return  # an asker that left, or one that cannot be answered


async def serve_connection(names: Names, passage: Passage) -> None:
    """Answer the queries of a connection, each behind its length (RFC 1035, 4.2.2)."""
    data = b""
    while True:
        while len(data) < _LENGTH_BYTES or len(data) < _query_end(data):
            block = await passage.inside.receive()
            if not block:
                return
            data += block
        query, data = data[_LENGTH_BYTES : _query_end(data)], data[_query_end(data) :]
        await _send(passage.inside, names.answer(query))


def _query_end(data: bytes) -> int:
    return _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES])


async def _send(inside: Stream, reply: bytes | None) -> None:
    if reply is not None:
        await inside.send(len(reply).to_bytes(_LENGTH_BYTES) + reply)
