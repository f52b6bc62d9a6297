"""The contract of credentials: they go out with requests, and never come in."""

import logging
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.domain.network import AllowedAddress, Credential, NetworkPolicy
from patchkiln.ports.sandbox import Capability, SandboxProvider
from tests.contract.sandbox.making import lacks, make, run, text
from tests.contract.sandbox.reaching import Names, reaching, rule
from tests.support.web import WebServer, make_certificate, web_server

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]

SECRET = "Bearer correct-horse-battery-staple"
TOKEN = Credential(header="Authorization", value=SECRET)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Let names of the tests lead to loopback."""
    names = Names(monkeypatch)
    names.known = {"api.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    return names


@pytest_asyncio.fixture(loop_scope="package")
async def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[WebServer]:
    """Serve over TLS, with a certificate that this machine trusts, for one name."""
    authority, context = make_certificate(tmp_path, "api.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with web_server(ssl=context) as web:
        yield web


async def _lacks(provider: SandboxProvider) -> bool:
    policy = NetworkPolicy(rules=(rule("api.example", 80, credential=TOKEN),))
    return await lacks(provider, Capability.CREDENTIALS, lambda: make(provider, network=policy))


@pytest.mark.every_provider
async def test_a_plain_request_carries_the_credential(
    provider: SandboxProvider, names: Names
) -> None:
    """To its host alone, through the proxy or captured, in place of what the program sent."""
    if await _lacks(provider):
        return
    async with web_server() as web, web_server() as other:
        rules = (rule("api.example", web.port, credential=TOKEN), rule("other.example", other.port))
        async with reaching(provider, *rules) as open_box:
            url = f"http://api.example:{web.port}"
            for options in ((), ("--noproxy", "*"), ("-H", "authorization: forged")):
                assert await open_box.curl(f"{url}/", *options) == "200 reached /"
                assert web.headers()["authorization"] == SECRET
                assert web.heads[-1].lower().count("authorization") == 1
            stripped = ("-H", "Connection: close, Authorization")
            assert await open_box.curl(f"{url}/", *stripped) == "200 reached /"
            assert web.headers()["authorization"] == SECRET
            assert "400" in await open_box.curl(f"{url}/", "-X", "TRACE")
            onward = f"{url}/to?http://other.example:{other.port}/"
            assert await open_box.curl(onward, "-L") == "200 reached /"
            assert "authorization" not in other.headers()


async def test_a_credential_is_not_to_be_read_on_its_way(
    provider: SandboxProvider, names: Names, secured: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program inside cannot have it sent in the clear, but where the way is the operator's."""
    if await _lacks(provider):
        return
    # As if loopback were the internet.
    monkeypatch.setattr("patchkiln.domain.network.forbidden_address", dict[object, str]().get)
    monkeypatch.setattr("patchkiln.sandboxes.network.guard.own_addresses", frozenset)
    async with web_server() as web:
        ports = (web.port, secured.port)
        rules = [rule("api.example", port, trusted=False, credential=TOKEN) for port in ports]
        async with reaching(provider, *rules) as open_box:
            for port in ports:
                for options in ((), ("--noproxy", "*"), ("--proxytunnel",)):
                    answer = await open_box.curl(f"http://api.example:{port}/", *options)
                    assert "its credential goes over TLS only. " in answer, options
            assert await open_box.curl(f"https://api.example:{secured.port}/") == "200 reached /"
            assert secured.headers()["authorization"] == SECRET
            assert open_box.rules == ["its credential goes over TLS only"] * 2
            addresses = (AllowedAddress(address=ip_address("127.0.0.1")),)
            policy = NetworkPolicy(rules=tuple(rules), addresses=addresses)
            if Capability.NETWORK_CHANGE in provider.capabilities:
                assert web.heads == []
                await open_box.box.set_network(policy)
                assert await open_box.curl(f"http://api.example:{web.port}/") == "200 reached /"
                assert web.headers()["authorization"] == SECRET


TOOLS = {
    "curl": "curl -sS {url}",
    "captured": "curl -sS --noproxy '*' {url}",
    "python": "p=/usr/bin/python3; $p -c 'import ssl' || p=python3; "
    "$p -c 'import urllib.request as r; print(r.urlopen(\"{url}\").read().decode())'",
}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
async def test_a_request_over_tls_carries_the_credential(
    provider: SandboxProvider, names: Names, secured: WebServer, tool: str
) -> None:
    """Tools inside believe the proxy, and the proxy believes the host: each checks the other."""
    if await _lacks(provider):
        return
    async with reaching(provider, rule("api.example", secured.port, credential=TOKEN)) as open_box:
        url = f"https://api.example:{secured.port}/tls"
        assert await text(open_box.box, tool.format(url=url)) == "reached /tls"
    assert secured.headers()["authorization"] == SECRET
    assert secured.headers()["host"] == f"api.example:{secured.port}"


@pytest.mark.every_provider
async def test_a_connection_over_tls_is_checked_on_both_sides(
    provider: SandboxProvider, names: Names, secured: WebServer, tmp_path: Path
) -> None:
    """Each request's Host again; and a host that this machine does not trust gets no credential."""
    if await _lacks(provider):
        return
    (tmp_path / "foreign").mkdir()
    _, context = make_certificate(tmp_path / "foreign", "other.example")
    async with web_server(ssl=context) as foreign:
        rules = (
            rule("api.example", secured.port, credential=TOKEN),
            rule("other.example", secured.port, credential=TOKEN),
            rule("other.example", foreign.port, credential=TOKEN),
        )
        async with reaching(provider, *rules) as open_box:
            url = f"https://api.example:{secured.port}"
            twice = await open_box.curl(f"{url}/1", f"{url}/2", "-o", "-")
            assert "reached /1" in twice
            assert "reached /2" in twice
            answer = await open_box.curl(f"{url}/", "-H", "Host: other.example")
            assert "the Host header differs from the host" in answer
            for port in (secured.port, foreign.port):
                answer = await open_box.curl(f"https://other.example:{port}/")
                assert "reached" not in answer
    assert {head.split(" ")[1] for head in secured.heads} == {"/1", "/2"}
    assert foreign.heads == []


async def test_hosts_without_a_credential_are_not_read(
    provider: SandboxProvider, names: Names, tmp_path: Path
) -> None:
    """Their certificate is their own, which the program inside has to trust by itself."""
    if await _lacks(provider):
        return
    _, context = make_certificate(tmp_path, "other.example")
    async with web_server(ssl=context) as web:
        rules = (rule("api.example", 443, credential=TOKEN), rule("other.example", web.port))
        async with reaching(provider, *rules) as open_box:
            url = f"https://other.example:{web.port}/"
            assert "certificate" in await open_box.curl(url)
            shown = await run(open_box.box, "curl", "-sSkvo", "/dev/null", url)
    assert b"issuer: CN=test authority" in shown.stderr


@pytest.mark.every_provider
async def test_the_value_is_nowhere_inside(
    provider: SandboxProvider,
    names: Names,
    secured: WebServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in the environment, a file, an answer, a refusal or the log; nor is the proxy's key."""
    if await _lacks(provider):
        return
    caplog.set_level(logging.DEBUG)
    own = rule("api.example", secured.port, credential=TOKEN)
    assert "horse" not in repr(own)
    async with reaching(provider, own) as open_box:
        seen = await open_box.curl(f"https://api.example:{secured.port}/", "-v")
        seen += await open_box.curl("https://evil.example/", "-v")
        script = "env; cat /proc/*/environ $SSL_CERT_FILE; grep -rs horse /tmp ~ /workspace /run"
        inside = (await run(open_box.box, "sh", "-c", script)).stdout.decode(errors="replace")
        assert "CERTIFICATE" in inside
        assert not re.search("horse|PRIVATE KEY", seen + inside + repr(open_box.refused))
    broken = replace(TOKEN, value=f"{SECRET}\r\nX-Smuggled: x")
    async with reaching(provider, rule("api.example", secured.port, credential=broken)) as open_box:
        answer = await open_box.curl(f"https://api.example:{secured.port}/")
        assert "horse" not in answer
        assert "reached" not in answer
    assert "horse" not in caplog.text
    assert len(secured.heads) == 1
