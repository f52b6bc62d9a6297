"""How long the command line takes to its help text, and the server to its first answer.

    python benchmarks/startup.py [ROUNDS]

Medians over rounds, the rows interleaved. The target: help in at most 0.5 s on a slow machine, the
server at rest in at most 150 MB.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from patchkiln.cli.server import Server, ServerUnreachable

ROUNDS = 10
START_TIMEOUT_S = 60.0
MB = 1_000_000


def main() -> None:
    """Measure and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    rows: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: _timed("-c", "pass"),
        "import patchkiln.cli": lambda: _timed("-c", "import patchkiln.cli"),
        "patchkiln --help": lambda: _timed("-m", "patchkiln", "--help"),
        "patchkiln run --help": lambda: _timed("-m", "patchkiln", "run", "--help"),
        "serve to first /health": _serve_ms,
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, measure in rows.items():
            times[name].append(measure())
    print(f"{'':28}{'median ms':>10}{'best':>8}{'worst':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:28}{median:10.0f}{min(values):8.0f}{max(values):8.0f}")
    print(f"{'server at rest':28}{_rest_mb():10.0f} MB in all processes")


def _timed(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def _serve_ms() -> float:
    began = time.perf_counter()
    with _Served():
        return (time.perf_counter() - began) * 1000


def _rest_mb() -> float:
    with _Served() as served:
        # After the server has warmed what the first run needs.
        time.sleep(3)
        return sum(map(_resident_bytes, served.processes())) / MB


def _resident_bytes(process: int) -> int:
    """Return a process's share of memory: pages that several share are divided among them."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


class _Served:
    """A server with a data directory of its own, from its start to its first answer."""

    def __enter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._data = tempfile.TemporaryDirectory()
        env = {
            **os.environ,
            "PATCHKILN_PORT": str(port),
            "PATCHKILN_DATA_DIR": self._data.name,
            "LOG_LEVEL": "ERROR",
        }
        self._process = subprocess.Popen([sys.executable, "-m", "patchkiln", "serve"], env=env)
        server = Server(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                server.bytes("/health")
            except ServerUnreachable:
                time.sleep(0.005)
            else:
                return self
        raise TimeoutError("The server did not start.")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._data.cleanup()

    def processes(self) -> list[int]:
        """Return the server's process and all below it."""
        found: list[int] = []
        left = [self._process.pid]
        while left:
            process = left.pop()
            found.append(process)
            children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
            left += map(int, children.split())
        return found


if __name__ == "__main__":
    main()
