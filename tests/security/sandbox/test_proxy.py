"""The list of hosts that a sandbox may reach, and what a program tries to get past it."""

import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from patchkiln.domain.network import NetworkPolicy, NetworkRule
from patchkiln.sandboxes.network.guard import Guard, Unreachable
from patchkiln.sandboxes.network.refusals import Refusals, Refused
from tests.security.machine import Box, Machine
from tests.security.sandbox.test_calls import resident_bytes

MIB = 1 << 20
KEY = "Bearer key-of-the-operator-41f2"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
# Talks to the proxy, or to a place that it is given, with bytes as they are.
RAW = """
def raw(data, address=('127.0.0.1', 3128), size=65536):
    answer = b''
    with socket.create_connection(address, timeout=10) as s:
        try:
            s.sendall(data)
            while len(answer) < size and (block := s.recv(65536)):
                answer += block
                if b'\\r\\n\\r\\nhello' in answer or b'Connection established' in answer:
                    break
        except OSError:
            pass
    return answer
"""


@dataclass(slots=True)
class Service:
    """A service of the host that keeps what it is sent, and answers each request."""

    port: int
    answer: bytes = ANSWER
    endless: bool = False
    heard: list[bytes] = field(default_factory=list[bytes])
    sent_bytes: int = 0

    @property
    def reached(self) -> bool:
        """Tell whether it was sent anything, and forget it."""
        heard, self.heard[:] = b"".join(self.heard), []
        return bool(heard)

    def serve(self, server: socket.socket) -> None:
        """Serve one connection after the other, until the socket is shut down."""
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                self.heard.append(data)
                connection.sendall(self.answer)
                while self.endless:
                    self.sent_bytes += connection.send(bytes(65536))


@pytest.fixture(scope="module")
def services() -> Generator[tuple[Service, Service]]:
    """Run two services on the host's loopback: one that is on the list, and one that is not."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        found = Service(one.getsockname()[1]), Service(two.getsockname()[1])
        for service, server in zip(found, (one, two), strict=True):
            threading.Thread(target=service.serve, args=(server,), daemon=True).start()
        yield found
        for server in (one, two):
            server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def listed(machine: Machine, services: tuple[Service, Service]) -> Generator[Box]:
    """Lend a box that may reach the first service by its name, with a credential."""
    credential = {"header": "Authorization", "value": KEY}
    rule = {
        "host": "localhost",
        "port": services[0].port,
        "trusted": True,
        "credential": credential,
    }
    box = machine.box(network=(rule,))
    yield box
    box.destroy()


@pytest.fixture(autouse=True)
def forgetting(services: tuple[Service, Service]) -> None:
    """Let each test begin with services that have heard nothing."""
    for service in services:
        service.heard.clear()


def ask(box: Box, *requests: str) -> str:
    """Send raw requests to the proxy; return the first line of each answer."""
    code = "".join(
        f"print(raw({request.encode()!r}).partition(b'\\r\\n')[0])\n" for request in requests
    )
    return box.python(RAW + code)


def get(host: str, port: int, header: str | None = None) -> str:
    """Return a request for a whole URL."""
    named = f"{host}:{port}" if header is None else header
    return f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: {named}\r\n\r\n"


@pytest.mark.probe(41)
def test_the_listed_host_answers(listed: Box, services: tuple[Service, Service]) -> None:
    """In any case, with a last dot, through the proxy, a tunnel and by capture."""
    port = services[0].port
    for name in ("localhost", "LOCALHOST", "localhost."):
        assert ask(listed, get(name, port)) == "b'HTTP/1.1 200 OK'"
    assert "200" in ask(
        listed, f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
    )
    request = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    code = f"print(raw({request!r}, ('localhost', {port})))"
    assert "hello" in listed.python(RAW + code)
    assert services[0].reached


NAMES = [
    "evil-localhost",
    "localhost.evil.example",
    "xlocalhost",
    "sub.localhost",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "0.0.0.0",  # noqa: S104 - asked for, never bound
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "localhost@127.0.0.1",
    "localhost%00.evil.example",
    "localhost\t",
    "loc\u0430lhost",
    "xn--loclhost-8fg",
    "ⓛocalhost",
    "169.254.169.254",
]


@pytest.mark.probe(41)
@pytest.mark.parametrize("host", NAMES)
def test_what_only_looks_like_a_listed_host_is_refused(
    listed: Box, services: tuple[Service, Service], host: str
) -> None:
    """Neither as a URL nor as a tunnel, and no byte reaches the service behind it."""
    port = services[0].port
    tunnel = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
    for line in ask(listed, get(host, port), tunnel).splitlines():
        assert line.startswith(("b'HTTP/1.1 403", "b'HTTP/1.1 400"))
    assert not services[0].reached


@pytest.mark.probe(41)
def test_other_ports_of_a_listed_host_are_refused(
    listed: Box, services: tuple[Service, Service]
) -> None:
    """Another service, the ports of mail and shells, none, and none that there is."""
    for port in (services[1].port, 22, 25, 80, 443, 0, 70000):
        tunnel = f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
        for line in ask(listed, get("localhost", port), tunnel).splitlines():
            assert line.startswith(("b'HTTP/1.1 403", "b'HTTP/1.1 400"))
    assert not services[1].reached


@pytest.mark.probe(41)
def test_another_host_in_the_header_or_in_tls_is_refused(
    listed: Box, services: tuple[Service, Service]
) -> None:
    """The Host header and the name in TLS must be the host that was asked for."""
    port = services[0].port
    inner = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    tunnel = f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
    assert "403" in ask(listed, get("localhost", port, "evil.example"))
    code = f"""
import ssl
def through(data):
    with socket.create_connection(('127.0.0.1', 3128), timeout=10) as s:
        s.sendall({tunnel.encode()!r})
        assert b'200' in s.recv(65536)
        s.sendall(data)
        try:
            return s.recv(65536)
        except OSError:
            return b''
def greeting(name):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
for data in ({inner.encode()!r}, greeting('evil.example'), greeting(None)):
    print(b'hello' in through(data))
"""
    said = listed.python(RAW + code)
    assert said.split() == ["False"] * 3, said
    assert not services[0].reached


SMUGGLED = {
    "length twice": "Content-Length: 5\r\nContent-Length: 6\r\n",
    "two lengths in one": "Content-Length: 5, 6\r\n",
    "length and chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunks in disguise": "Transfer-Encoding: xchunked\r\n",
    "chunks after all": "Transfer-Encoding: chunked, identity\r\n",
    "blank before colon": "Content-Length : 5\r\n",
    "folded line": "X: a\r\n b\r\n",
    "bare newline": "X: a\nHost: evil.example\r\n",
    "bare return": "X: a\rHost: evil.example\r\n",
    "two hosts": "Host: evil.example\r\n",
    "null": "X: a\0b\r\n",
    "signed length": "Content-Length: +5\r\n",
    "hexadecimal length": "Content-Length: 0x5\r\n",
}


@pytest.mark.probe(41)
@pytest.mark.parametrize("name", SMUGGLED)
def test_ambiguous_requests_are_refused(
    listed: Box, services: tuple[Service, Service], name: str
) -> None:
    """A request that two readers could read in two ways reaches nobody."""
    port = services[0].port
    head = f"POST http://localhost:{port}/ HTTP/1.1\r\nHost: localhost:{port}\r\n"
    hidden = get("localhost", services[1].port)
    assert ask(listed, f"{head}{SMUGGLED[name]}\r\n0\r\n\r\n{hidden}").startswith("b'HTTP/1.1 400")
    assert not services[0].reached
    assert not services[1].reached


@pytest.mark.probe(41)
def test_a_second_request_is_judged_like_the_first(
    listed: Box, services: tuple[Service, Service]
) -> None:
    """Behind an allowed request on one connection, a forbidden one goes nowhere."""
    requests = get("localhost", services[0].port) + get("localhost", services[1].port)
    code = f"answer = raw({requests.encode()!r}); print(answer.count(b'HTTP/1.1'))"
    listed.python(RAW.replace("b'\\r\\n\\r\\nhello' in answer or ", "") + code)
    assert services[0].reached
    assert not services[1].reached


@pytest.mark.probe(41)
def test_a_redirect_leads_no_further_than_the_list(
    listed: Box, services: tuple[Service, Service]
) -> None:
    """A listed host that sends its client to another service does not open that one."""
    listed_service, other = services
    target = f"http://127.0.0.1:{other.port}/"
    listed_service.answer = (
        f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    code = f"""
import urllib.request
os.environ.pop('no_proxy'), os.environ.pop('NO_PROXY')
handler = urllib.request.ProxyHandler({{'http': 'http://127.0.0.1:3128'}})
opener = urllib.request.build_opener(handler)
try:
    print(opener.open('http://localhost:{listed_service.port}/', timeout=10).read())
except OSError as error:
    print(error)
"""
    said = listed.python(code)
    listed_service.answer = ANSWER
    assert "403" in said
    assert listed_service.reached
    assert not other.reached


@pytest.mark.probe(39, 41)
def test_names_carry_nothing_out(listed: Box) -> None:
    """Whatever name is asked for, the answer comes from the list: nobody outside is asked."""
    code = """
for name in ('secret.localhost', 'secret.example.com', 'x' * 63 + '.example.com', 'LOCALHOST.'):
    try:
        print(socket.getaddrinfo(name, 80, socket.AF_INET)[0][4][0].split('.')[0])
    except OSError as error:
        print(type(error).__name__)
"""
    assert listed.python(code).split()[1:3] == ["gaierror"] * 2
    assert listed.python(code).split()[3] == "127"


@pytest.mark.probe(41)
def test_slow_and_many_connections_hinder_no_other_box(
    machine: Machine, listed: Box, services: tuple[Service, Service]
) -> None:
    """A box that holds all the connections it may, half asked, takes none from the next."""
    hog = machine.box(network=({"host": "localhost", "port": services[0].port, "trusted": True},))
    code = """
import time
held = []
try:
    while len(held) < 400:
        held.append(socket.create_connection(('127.0.0.1', 3128), timeout=3))
        held[-1].sendall(b'GET http://localhost/ HTTP/1.1\\r\\nX-')
except OSError:
    pass
print(len(held), flush=True)
if os.fork() == 0:
    os.close(1), os.close(2), time.sleep(60)
"""
    assert int(hog.python(code)) > 100
    assert ask(listed, get("localhost", services[0].port)) == "b'HTTP/1.1 200 OK'"
    hog.destroy()


@pytest.mark.probe(41)
def test_an_endless_answer_waits_for_its_reader(
    listed: Box, services: tuple[Service, Service]
) -> None:
    """Of a body without end that nobody reads, the server holds little."""
    service = services[0]
    service.answer = b"HTTP/1.1 200 OK\r\n\r\n"
    service.endless = True
    before = resident_bytes(listed.machine)
    code = f"""
import time
s = socket.create_connection(('127.0.0.1', 3128))
s.sendall({get("localhost", service.port).encode()!r})
print(s.recv(10), flush=True)
time.sleep(1)
"""
    assert "HTTP" in listed.python(code)
    service.answer, service.endless = ANSWER, False
    assert service.sent_bytes < 32 * MIB
    assert resident_bytes(listed.machine) - before < 16 * MIB
    assert service.reached


@pytest.mark.probe(43)
def test_a_credential_reaches_its_host_and_nobody_inside(
    listed: Box, services: tuple[Service, Service]
) -> None:
    """The host gets the key, whatever the program set in its place; nothing inside shows it."""
    port = services[0].port
    for extra in ("", "Connection: close, Authorization\r\n"):
        services[0].heard.clear()
        own = f"authorization: mine\r\n{extra}\r\n"
        assert "200" in ask(listed, get("localhost", port).removesuffix("\r\n") + own)
        heard = b"".join(services[0].heard)
        assert heard.count(KEY.encode()) == 1
        assert b"mine" not in heard
    assert "400" in ask(listed, get("localhost", port).replace("GET", "TRACE"))
    code = """
import glob
seen = repr(dict(os.environ))
for place in ('/proc/[0-9]*/environ', '/proc/[0-9]*/cmdline', '/etc/*', '/run/*', '/tmp/*',
              os.path.expanduser('~/.config/*/*'), os.path.expanduser('~/*')):
    for name in glob.glob(place):
        try:
            seen += open(name, 'rb').read(1 << 20).decode('latin-1')
        except OSError:
            pass
words = ('-'.join(('key', 'of', 'the')), ' '.join(('PRIVATE', 'KEY')), 'BEGIN CERTIFICATE')
print(*(word in seen for word in words))
"""
    assert listed.python(code) == "False False True"


@pytest.mark.probe(38, 41)
def test_a_list_of_everything_opens_nothing_private(
    machine: Machine, services: tuple[Service, Service]
) -> None:
    """Under a rule for every host, loopback, metadata and the machine's own addresses stay shut."""
    port = services[0].port
    box = machine.box(network=({"host": "*", "port": port}, {"host": "*"}))
    hosts = ("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", socket.gethostname())
    for host in hosts:
        assert "200" not in ask(box, get(host, port))
    for host in ("169.254.169.254", "100.100.100.200", "[fd00:ec2::254]", "10.0.0.1", "100.64.0.1"):
        assert "403" in ask(box, get(host, 80))
    box.destroy()
    assert not services[0].reached


def resolving(*answers: Sequence[str]) -> Any:
    """Return what stands in for the machine's resolver: one answer after the other."""
    left = list(answers)

    def getaddrinfo(_name: str, *_: object, **_options: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, 0)) for address in left.pop(0)]

    return getaddrinfo


PRIVATE = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]


@pytest.mark.probe(41)
@pytest.mark.parametrize("address", PRIVATE)
async def test_an_allowed_name_that_leads_inwards_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """What a listed name resolves to is judged, not the name."""
    monkeypatch.setattr(socket, "getaddrinfo", resolving([address]))
    guard = Guard(Refusals(None))
    guard.policy = NetworkPolicy(rules=(NetworkRule(host="allowed.example"),))
    with pytest.raises(Refused):
        await guard.connect(guard.admit("allowed.example", 80))
    await guard.close()


@pytest.mark.probe(41)
async def test_a_name_that_moves_is_judged_anew(
    monkeypatch: pytest.MonkeyPatch, services: tuple[Service, Service]
) -> None:
    """A name whose second answer leads inwards is judged by what is dialled, each time."""
    # TEST-NET-1, which nobody answers for; then the loopback.
    monkeypatch.setattr(socket, "getaddrinfo", resolving(["192.0.2.1"], ["127.0.0.1"]))
    monkeypatch.setattr("patchkiln.sandboxes.network.guard.CONNECT_S", 0.1)
    guard = Guard(Refusals(None))
    rule = NetworkRule(host="allowed.example", port=services[0].port)
    guard.policy = NetworkPolicy(rules=(rule,))
    target = guard.admit("allowed.example", services[0].port)
    with pytest.raises((Unreachable, Refused)):
        await guard.connect(target)
    with pytest.raises(Refused):
        await guard.connect(target)
    await guard.close()
    assert not services[0].reached
