"""The server's side of a line: what a box that lies can and cannot do."""

import asyncio
import json
import os
import resource
import socket
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from patchkiln.errors import SandboxLost, SandboxUnavailable
from patchkiln.sandboxes.local.channel import Channel, Reply, parse_reply


def lost() -> SandboxLost:
    """Return the error of a lost line."""
    return SandboxLost("gone")


@pytest_asyncio.fixture
async def line() -> AsyncGenerator[tuple[Channel, socket.socket]]:
    """Lend a line, and the socket of the other side."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours, lost)
    with theirs:
        yield channel, theirs
        channel.close()


def answer(theirs: socket.socket, **fields: object) -> None:
    """Send a reply as a box would."""
    theirs.send(json.dumps(fields).encode())


async def test_a_reply_reaches_its_request(line: tuple[Channel, socket.socket]) -> None:
    """Replies are told apart by their numbers, in any order; strangers are not heard."""
    channel, theirs = line
    requests = [asyncio.create_task(channel.request({"op": "x"})) for _ in range(2)]
    await asyncio.sleep(0)
    answer(theirs, id=99, event="done")
    answer(theirs, id=2, event="failed", errno=2)
    answer(theirs, id=1, event="done")
    assert [(await task).event for task in requests] == ["done", "failed"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"{",
        b"[]",
        b"null",
        b"[" * 30_000,
        b'{"event": "unheard of", "id": 1}',
        b'{"event": "done", "id": "1"}',
        b'{"event": "done", "id": true}',
        b'{"event": "done", "id": -1}',
        b'{"event": "done", "id": 1e9}',
        b'{"event": "done", "id": 1, "errno": 1000000000000000000000}',
        b'{"event": "failed", "id": 1, "errno": 1000000000000}',
        b'{"event": "done", "id": 1, "more": 1}',
        b'{"event": "failed", "id": 1, "step": "' + b"x" * 200 + b'"}',
        b'{"event": "done"} ' + b" " * 70_000,
    ],
)
async def test_a_forged_reply_loses_the_line(
    line: tuple[Channel, socket.socket], body: bytes
) -> None:
    """What has not the shape and size of a reply ends the line, and nothing else."""
    channel, theirs = line
    request = asyncio.create_task(channel.request({"op": "x"}))
    await asyncio.sleep(0)
    theirs.send(body)
    with pytest.raises(SandboxLost):
        await request
    with pytest.raises(SandboxLost):
        await channel.request({"op": "x"})


async def test_descriptors_that_nobody_asked_for_are_dropped(
    line: tuple[Channel, socket.socket],
) -> None:
    """A box cannot fill the server's table of open files."""
    channel, theirs = line
    request = asyncio.create_task(channel.request({"op": "x"}))
    await asyncio.sleep(0)
    socket.send_fds(theirs, [b'{"id": 1, "event": "done"}'], [theirs.fileno()] * 50)
    assert (await request).event == "done"
    theirs.shutdown(socket.SHUT_RDWR)


async def test_descriptors_come_with_the_reply_that_was_asked_for(
    line: tuple[Channel, socket.socket],
) -> None:
    """They reach their request, once; what comes with another reply is closed at once."""
    channel, theirs = line
    request = asyncio.create_task(channel.request_descriptors({"op": "x"}, 1))
    await asyncio.sleep(0)
    probe, foreign = os.pipe2(os.O_NONBLOCK)
    socket.send_fds(theirs, [b'{"id": 7, "event": "done"}'], [foreign] * 60)
    socket.send_fds(theirs, [b'{"id": 1, "event": "done"}'], [theirs.fileno()])
    socket.send_fds(theirs, [b'{"id": 1, "event": "done"}'], [foreign])
    os.close(foreign)
    reply, (descriptor,) = await request
    assert reply.event == "done"
    assert os.fstat(descriptor).st_ino == os.fstat(theirs.fileno()).st_ino
    os.close(descriptor)
    later = asyncio.create_task(channel.request({"op": "y"}))
    answer(theirs, id=2, event="done")
    await later
    # The end of the pipe: nobody holds a writing end any more.
    assert os.read(probe, 1) == b""
    os.close(probe)


@pytest.mark.parametrize("count", [0, 1, 3, 60])
async def test_a_wrong_number_of_descriptors_loses_the_line(
    line: tuple[Channel, socket.socket], count: int
) -> None:
    """Too few or too many are a malformed reply, and all of them are closed."""
    channel, theirs = line
    request = asyncio.create_task(channel.request_descriptors({"op": "x"}, 2))
    await asyncio.sleep(0)
    probe, foreign = os.pipe2(os.O_NONBLOCK)
    socket.send_fds(theirs, [b'{"id": 1, "event": "done"}'], [foreign] * count)
    os.close(foreign)
    with pytest.raises(SandboxLost):
        await request
    assert os.read(probe, 1) == b""
    os.close(probe)


async def test_a_request_for_descriptors_that_is_given_up_keeps_none(
    line: tuple[Channel, socket.socket],
) -> None:
    """Descriptors that arrive at the moment of giving up, or later, are closed."""
    channel, theirs = line
    probe, foreign = os.pipe2(os.O_NONBLOCK)
    for number in (1, 2):
        request = asyncio.create_task(channel.request_descriptors({"op": "x"}, 1))
        await asyncio.sleep(0)
        socket.send_fds(theirs, [b'{"id": %d, "event": "done"}' % number], [foreign])
        if number == 1:
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    os.close(foreign)
    later = asyncio.create_task(channel.request({"op": "y"}))
    answer(theirs, id=3, event="done")
    await later
    assert os.read(probe, 1) == b""
    os.close(probe)


async def test_the_end_of_the_line_is_told_to_all_who_wait(
    line: tuple[Channel, socket.socket],
) -> None:
    """Requests under way fail, and so does one that waits for room to be sent."""
    channel, theirs = line
    waiting = asyncio.create_task(channel.request({"op": "x"}))
    big = [asyncio.create_task(channel.request({"op": "y" * 60_000})) for _ in range(20)]
    await asyncio.sleep(0.01)
    theirs.close()
    for task in (waiting, *big):
        with pytest.raises(SandboxLost):
            await task


async def test_a_slow_reader_gets_every_message(line: tuple[Channel, socket.socket]) -> None:
    """Messages wait for room, in order; posted ones too."""
    channel, theirs = line
    for number in range(50):
        channel.post({"number": number, "filler": "x" * 50_000})
    seen = [await asyncio.to_thread(theirs.recv, 1 << 16) for _ in range(50)]
    assert [json.loads(body)["number"] for body in seen] == list(range(50))


def test_a_reply_is_parsed_with_its_defaults() -> None:
    """Fields that are not sent are nothing."""
    assert parse_reply(b'{"event": "ended", "id": 3, "code": 1}') == Reply(
        event="ended", id=3, code=1
    )


async def test_a_shortage_of_descriptors_costs_a_request_and_not_the_line(
    line: tuple[Channel, socket.socket],
) -> None:
    """What cannot be sent now is refused with a remedy; the next request is heard."""
    channel, theirs = line
    large = {"op": "x", "text": "x" * (1 << 17)}  # travels in a file of its own
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(SandboxUnavailable, match="Too many open files") as caught:
            await channel.send(large)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "limit of open files" in caught.value.remedy
    await channel.send({"op": "y"})
    assert json.loads(theirs.recv(100)) == {"op": "y"}
