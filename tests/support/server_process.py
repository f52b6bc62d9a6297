"""The server as its users start it: a process of its own, killed and started again."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the test's environment without its own settings, with the given ones."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PATCHKILN_") and not name.endswith("_API_KEY")
    }
    return {
        **inherited,
        "PATCHKILN_DATA_DIR": str(data_dir),
        "PATCHKILN_PORT": str(port),
        **settings,
    }


class ServerProcess:
    """A running ``run_server.py``, or another command that serves."""

    def __init__(
        self, data_dir: Path, settings: Mapping[str, str], command: Sequence[str] | None = None
    ) -> None:
        """Start it; `wait_until_ready` returns once it answers."""
        self.port = free_port()
        self.log = data_dir.parent / f"server-{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command or [sys.executable, "run_server.py"],
                cwd=ROOT,
                env=environment(data_dir, self.port, settings),
                stderr=log,
                stdout=log,
            )

    def wait_until_ready(self) -> None:
        """Return once ``/ready`` answers 200."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/ready")[0] == http.HTTPStatus.OK:
                    return
            except ConnectionError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """GET a path; return status and body."""
        return self._call("GET", path, None, headers)

    def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """POST JSON; return status and body, for a stream once it has ended."""
        return self._call("POST", path, json.dumps(body), headers)

    def _call(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            sent = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def server_process(
    data_dir: Path, *, command: Sequence[str] | None = None, **settings: str
) -> Generator[ServerProcess]:
    """Lend a ready server and stop it at the end."""
    server = ServerProcess(data_dir, settings, command)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def living_processes() -> dict[int, tuple[int, str]]:
    """Return each living process as (id, start time), which together name it for good."""
    return {pid: (pid, stat[19]) for pid, stat in _stats().items() if stat[0] not in "ZX"}


def process_tree(root: int) -> frozenset[tuple[int, str]]:
    """Return a process and all below it, as `living_processes` names them."""
    parents = {pid: int(stat[1]) for pid, stat in _stats().items()}
    tree = {root}
    while below := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= below
    living = living_processes()
    return frozenset(living[pid] for pid in tree if pid in living)


def _stats() -> dict[int, list[str]]:
    """Return the fields of each /proc/PID/stat after the command's name."""
    found: dict[int, list[str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found[int(entry.name)] = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
    return found


def frames(stream: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, as the first clients read it: by its ``data:`` lines."""
    lines = stream.decode().split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
