"""Finding an engine and understanding what it says, without one."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from patchkiln.errors import SandboxUnavailable
from patchkiln.ports.sandbox import IsolationLevel
from patchkiln.sandboxes.container.diagnosis import check_version, explain, without_paths
from patchkiln.sandboxes.container.engine import Engine, EngineError
from patchkiln.sandboxes.container.provider import ContainerSandboxes


@contextmanager
def answering(place: Path, answer: bytes) -> Generator[None]:
    """Listen at a socket and give every request the same answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    if read_request(connection):
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def read_request(connection: socket.socket) -> bool:
    """Read a whole request, which may come in pieces; tell whether there was one."""
    length = 0
    with connection.makefile("rb") as file:
        for line in iter(file.readline, b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
            if line == b"\r\n":
                file.read(length)
                return True
    return False


def http(status: str, body: bytes) -> bytes:
    """Return an answer of an engine."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def test_no_engine_is_told_with_the_fix(tmp_path: Path) -> None:
    """The level is none, the reason names the setting, the remedy the commands."""
    provider = ContainerSandboxes(tmp_path, socket=str(tmp_path / "no.sock"))
    isolation = await provider.isolation()
    assert isolation.level is IsolationLevel.NONE
    assert "PATCHKILN_CONTAINER_SOCKET" in isolation.reason
    assert "systemctl --user enable --now podman.socket" in isolation.remedy
    assert str(tmp_path) not in f"{isolation.reason} {isolation.remedy}"
    await provider.close()


async def test_a_file_is_no_engine(tmp_path: Path) -> None:
    """What is no socket is passed over as if it were not there."""
    (tmp_path / "file").write_bytes(b"")
    isolation = await ContainerSandboxes(tmp_path, socket=str(tmp_path / "file")).isolation()
    assert isolation.level is IsolationLevel.NONE
    assert "No container engine listens" in isolation.reason


@pytest.mark.parametrize("spoken", ['{"ApiVersion": "1.40"}', '{"ApiVersion": "?"}', "[]", "x"])
async def test_an_old_engine_is_refused(tmp_path: Path, spoken: str) -> None:
    """An engine that lacks what containers need, or says nothing sensible, is not used."""
    place = tmp_path / "engine.sock"
    with answering(place, http("200 OK", spoken.encode())):
        isolation = await ContainerSandboxes(
            tmp_path / "data", socket=f"unix://{place}"
        ).isolation()
    assert isolation.level is IsolationLevel.NONE
    assert "too old" in isolation.reason
    assert "Podman 4.0" in isolation.remedy


async def test_nonsense_is_no_answer(tmp_path: Path) -> None:
    """What does not speak HTTP is an engine that does not answer."""
    place = tmp_path / "engine.sock"
    with answering(place, b"\0" * 100), pytest.raises(EngineError) as caught:
        await Engine(str(place)).get("/version")
    assert caught.value.status == 0
    assert "does not answer" in explain(caught.value, None).message


async def test_a_refusal_is_bounded_and_names_no_place(tmp_path: Path) -> None:
    """An engine's words reach a person, its paths and its length do not."""
    place = tmp_path / "engine.sock"
    body = b'{"message": "statfs /srv/secret/place: no such file' + b" or" * 1000 + b'"}'
    answer = http("500 Internal Server Error", body)
    with answering(place, answer), pytest.raises(EngineError) as caught:
        await Engine(str(place)).post("/containers/create", {})
    message = explain(caught.value, None).message
    assert "statfs [path]: no such file" in message
    assert len(message) < 500


def test_only_paths_are_taken_out() -> None:
    """Names with a slash in them stay."""
    said = "open '/var/lib/x y': runc/crun failed (/a/b)."
    assert without_paths(said) == "open '[path] y': runc/crun failed ([path]"


def test_newer_engines_are_taken() -> None:
    """Versions are compared as numbers."""
    check_version({"ApiVersion": "1.41"})
    check_version({"ApiVersion": "1.101"})
    with pytest.raises(SandboxUnavailable):
        check_version({"ApiVersion": "1.5"})
