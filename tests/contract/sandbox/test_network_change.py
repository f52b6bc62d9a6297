"""The contract of a network that changes while its sandbox lives."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from patchkiln.domain.network import NetworkPolicy
from patchkiln.errors import SandboxUnavailable
from patchkiln.ports.execution import Stdin
from patchkiln.ports.sandbox import Capability, Sandbox, SandboxProvider
from tests.contract.sandbox.making import lacks, make, run, text
from tests.contract.sandbox.reaching import Names, reaching, rule
from tests.support.web import WebServer, web_server

pytestmark = pytest.mark.asyncio(loop_scope="package")

NOTHING = NetworkPolicy()
# In /proc/net/tcp and udp: the state of what listens, and of what is bound.
LISTENING = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A '; cat /proc/net/udp | wc -l"
# Asks for pages on one connection, one a line of its input, and tells when it breaks.
KEPT = """
import socket, sys
with socket.create_connection(('web.example', int(sys.argv[1]))) as s:
    print('open', flush=True)
    for line in sys.stdin:
        try:
            s.sendall(b'GET / HTTP/1.1\\r\\nHost: web.example\\r\\n\\r\\n')
            said = b''
            while b'reached /' not in said:
                block = s.recv(999)
                if not block: break
                said += block
            print('answered' if said else 'ended', flush=True)
        except OSError as error:
            print('broken', flush=True)
"""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Let names of the tests lead to loopback."""
    names = Names(monkeypatch)
    names.known = {"web.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    return names


@pytest_asyncio.fixture(loop_scope="package")
async def web() -> AsyncGenerator[WebServer]:
    """Serve pages."""
    async with web_server() as web:
        yield web


async def _lacks(provider: SandboxProvider, box: Sandbox) -> bool:
    return await lacks(provider, Capability.NETWORK_CHANGE, lambda: box.set_network(NOTHING))


async def test_without_rules_nothing_listens(provider: SandboxProvider, box: Sandbox) -> None:
    """No socket, no variable: the network is not there, rather than closed."""
    assert await text(box, f"{LISTENING}; env | grep -ci -e proxy -e bundle -e cert || true") == (
        "0\n1\n0"
    )


async def test_the_list_changes_in_both_directions(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """From nothing to a list, to another, and back to nothing, each at once and whole."""
    async with reaching(provider) as closed:
        if await _lacks(provider, closed.box):
            return
        url, other = (f"http://{name}.example:{web.port}/" for name in ("web", "other"))
        for _ in range(2):
            await closed.box.set_network(NetworkPolicy(rules=(rule("web.example", web.port),)))
            for options in ((), ("--noproxy", "*")):
                assert await closed.curl(url, *options) == "200 reached /"
                assert "200" not in await closed.curl(other, *options)
            policy = NetworkPolicy(rules=(rule("other.example", web.port), rule("x.example", 99)))
            await closed.box.set_network(policy)
            for options in ((), ("--noproxy", "*")):
                assert "200" not in await closed.curl(url, *options)
                assert await closed.curl(other, *options) == "200 reached /"
            await closed.box.set_network(NOTHING)
            assert "200" not in await closed.curl(other)
            assert await text(closed.box, LISTENING) == "0\n1"


async def test_what_the_new_list_does_not_admit_is_cut(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """In the middle of a connection; one that is admitted still goes on."""
    async with reaching(provider, rule("web.example", web.port)) as open_box:
        if await _lacks(provider, open_box.box):
            return
        await open_box.box.set_network(NetworkPolicy(rules=(rule("web.example", web.port),)))
        argv = ("python3", "-c", KEPT, str(web.port))
        kept = await open_box.box.exec(argv, stdin=Stdin.OPEN)
        said = aiter(kept)
        assert (await anext(said)).data == b"open\n"
        await kept.write(b"\n")
        assert (await anext(said)).data == b"answered\n"
        more = (rule("other.example", 99), rule("web.example", web.port))
        await open_box.box.set_network(NetworkPolicy(rules=more))
        await kept.write(b"\n")
        assert (await anext(said)).data == b"answered\n"
        await open_box.box.set_network(NetworkPolicy(rules=more[:1]))
        await kept.write(b"\n")
        assert (await anext(said)).data in {b"broken\n", b"ended\n"}
        await kept.kill()
    assert len(web.heads) == 2


async def test_a_fork_and_a_snapshot_keep_the_list(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """As it is at that moment, not as it was at the start."""
    async with reaching(provider) as first:
        if await _lacks(provider, first.box):
            return
        await first.box.set_network(NetworkPolicy(rules=(rule("web.example", web.port),)))
        if Capability.FORK not in provider.capabilities:
            return
        (fork,) = await first.box.fork()
        try:
            url = f"http://web.example:{web.port}/"
            for box in (first.box, fork):
                assert (await run(box, "curl", "-sS", url)).stdout == b"reached /"
        finally:
            await fork.destroy()


async def test_a_pause_forgets_nothing_of_the_list(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """What was allowed is so afterwards, and nothing else is."""
    async with reaching(provider, rule("web.example", web.port)) as first:
        if await lacks(provider, Capability.PAUSE, first.box.pause):
            return
        await first.box.pause()
        await first.box.resume()
        fetch = ("curl", "-sS", "-m", "10")
        allowed = await run(first.box, *fetch, f"http://web.example:{web.port}/")
        assert allowed.stdout == b"reached /"
        refused = await run(first.box, *fetch, f"http://other.example:{web.port}/")
        assert b"reached /" not in refused.stdout


async def test_a_program_that_holds_the_proxy_s_port_is_told_of(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """Nothing is allowed then; a port of the web that is held costs its capture alone."""
    serve = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    serve += "print('on', flush=True); time.sleep(1000)"
    policy = NetworkPolicy(rules=(rule("web.example", web.port),))
    box = await make(provider)
    try:
        if await _lacks(provider, box):
            return
        for port in (3128, 80):
            holder = await box.exec(("python3", "-c", serve, str(port)))
            assert (await anext(aiter(holder))).data == b"on\n"
            if port == 80:
                await box.set_network(policy)
            else:
                with pytest.raises(SandboxUnavailable, match="holds port 3128"):
                    await box.set_network(policy)
                assert await text(box, "env | grep -ci proxy || true") == "0"
            await holder.kill()
        url = f"http://web.example:{web.port}/"
        assert (await run(box, "curl", "-sS", url)).stdout == b"reached /"
    finally:
        await box.destroy()


async def test_changes_side_by_side_end_in_one_of_them(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """Whole: never a mixture, and never two listeners in one place."""
    async with reaching(provider) as open_box:
        if await _lacks(provider, open_box.box):
            return
        policy = NetworkPolicy(rules=(rule("web.example", web.port),))
        changes = [policy, NOTHING, policy, NOTHING, policy]
        await asyncio.gather(*(open_box.box.set_network(each) for each in changes))
        assert await open_box.curl(f"http://web.example:{web.port}/") == "200 reached /"
