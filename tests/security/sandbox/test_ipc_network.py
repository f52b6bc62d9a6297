"""What the local sandbox promises about networks."""

import socket
import threading
from collections.abc import Generator
from contextlib import suppress

import pytest

from tests.security.machine import Box, Machine


@pytest.fixture
def service() -> Generator[int]:
    """Serve on the host's loopback, saying hello, and return the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_greet, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def _greet(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello")


def connect(host: str, port: int) -> str:
    """Return a program that prints what a host answers, or why it does not."""
    return f"""
def talk():
    with socket.create_connection(({host!r}, {port}), timeout=10) as s: print(s.recv(100))
print(attempt(talk))
"""


@pytest.mark.probe(37, 38)
def test_there_is_no_way_out(box: Box, service: int) -> None:
    """No interface but the box's own loopback, no route, no service of the host."""
    assert box.sh("grep -c : /proc/net/dev; wc -l </proc/net/route") == "1\n1"
    assert box.python(connect("127.0.0.1", service)) == "ECONNREFUSED"
    for host in ("169.254.169.254", "10.0.0.1", "192.0.2.1", "8.8.8.8"):
        assert box.python(connect(host, 80)) == "ENETUNREACH"
    assert box.python(connect("2606:4700:4700::1111", 80)) in {"ENETUNREACH", "EADDRNOTAVAIL"}


@pytest.mark.probe(39)
def test_there_are_no_names(box: Box) -> None:
    """No resolver answers, by any protocol."""
    code = """
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    print(attempt(lambda: s.sendto(b'x', ('8.8.8.8', 53))))
"""
    assert box.python(code) == "ENETUNREACH"
    assert box.sh("getent hosts example.org") == ""
    assert box.sh("cat /etc/resolv.conf") == "nameserver 127.0.0.1"
    assert box.python(connect("127.0.0.1", 53)) == "ECONNREFUSED"


def test_only_the_named_port_of_the_named_host_is_there(machine: Machine, service: int) -> None:
    """An allowed target does not open its neighbours."""
    target = {"host": "127.0.0.1", "port": service, "trusted": True}
    box = machine.box(network=(target,))
    assert box.python(connect("127.0.0.1", service)).startswith("b'hello'")
    assert box.python(connect("127.0.0.1", service + 1)) == "ECONNREFUSED"
    assert box.python(connect("127.0.0.2", service)) == "ECONNRESET"
    box.destroy()


def test_the_names_of_hosts_cannot_be_written(machine: Machine) -> None:
    """Where a box reaches hosts, what it is told of their addresses stays."""
    box = machine.box(network=({"host": "localhost", "port": 1, "trusted": True},))
    assert "localhost" in box.sh("cat /etc/hosts")
    for name in ("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"):
        before = box.sh(f"cat {name}")
        assert "cannot create" in box.sh(f"echo '1.2.3.4 localhost' >>{name}")
        assert "Read-only file system" in box.sh(f"chmod 666 {name}")
        assert box.sh(f"cat {name}") == before
    box.destroy()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "169.254.169.254", "100.100.100.200", "10.0.0.1"]
)
@pytest.mark.probe(38)
def test_untrusted_private_addresses_are_never_dialled(
    machine: Machine, service: int, host: str
) -> None:
    """A name or address that leads into the server's own networks is cut off."""
    box = machine.box(network=({"host": host, "port": service},))
    assert "hello" not in box.python(connect(host, service))
    box.destroy()
