"""What the durable engine costs a run, and how soon a run goes on after kill -9.

    python -m benchmarks.engine.resuming [RUNS]

The first table is seven empty steps in memory and with DBOS, interleaved; the target is at most
50 ms a run. The second kills a server in the middle of a check; the target is 3 s from the kill to
the run's next event.
"""

import asyncio
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from patchkiln.engines.dbos import DbosEngine
from patchkiln.engines.memory import MemoryEngine
from patchkiln.ports.engine import Engine, Journal

RUNS = 30
STEPS = 7
# A third one would end the run: it counts as a third failed attempt.
KILLS = 2
WAIT_S = 60.0


class Work:
    """Seven steps that find little."""

    def __init__(self) -> None:
        """Begin."""
        self.done = asyncio.Event()

    async def workflow(self, run_id: str, journal: Journal) -> None:
        """Do the steps."""

        async def work() -> str:
            return json.dumps({"run": run_id})

        for number in range(STEPS):
            await journal.step(f"step {number}", work)
        self.done.set()


async def one_run(engine: Engine, work: Work, run_id: str) -> float:
    """Return the milliseconds from a run's start to the record of its last step."""
    work.done.clear()
    began = time.perf_counter()
    await engine.start(run_id)
    await work.done.wait()
    return (time.perf_counter() - began) * 1000


async def overhead(runs: int, scratch: Path) -> None:
    """Print what seven empty steps cost."""
    engines: dict[str, Engine] = {
        "memory": MemoryEngine(),
        "DBOS on SQLite": DbosEngine(scratch / "engine.db", version="wf1"),
    }
    times: dict[str, list[float]] = {name: [] for name in engines}
    work = Work()
    for engine in engines.values():
        await engine.open(work.workflow)
    for number in range(runs):
        for name, engine in engines.items():
            times[name].append(await one_run(engine, work, f"run_{number}"))
    for engine in engines.values():
        await engine.close()
    print(f"{'seven empty steps':28}{'median ms':>10}{'best':>8}{'worst':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:28}{median:10.1f}{min(values):8.1f}{max(values):8.1f}")


class Server:
    """A server of its own; `ask` waits for it."""

    def __init__(self, scratch: Path, repository: Path) -> None:
        """Start it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        settings = {
            "PATCHKILN_DATA_DIR": str(scratch / "data"),
            "PATCHKILN_GIT_ALLOW": f"file://{repository}",
            "PATCHKILN_PORT": str(self.port),
            "LOG_LEVEL": "CRITICAL",
        }
        command = [sys.executable, "-m", "patchkiln", "serve"]
        self.process = subprocess.Popen(command, env={**os.environ, **settings})

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of an answer."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            text = None if body is None else json.dumps(body)
            try:
                connection.request(method, path, text, headers)
                return json.loads(connection.getresponse().read())
            except ConnectionError:
                time.sleep(0.01)
            finally:
                connection.close()
        raise TimeoutError("The server does not answer.")

    def until(self, run_id: str, event: str, after: int) -> int:
        """Wait for an event of a run and return its ``seq``."""
        while True:
            for found in self.ask("GET", f"/runs/{run_id}/events?after={after}")["events"]:
                if found["event"] == event:
                    return int(found["seq"])
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def resuming(scratch: Path) -> None:
    """Print how long it takes from kill -9 to the next event."""
    repository = scratch / "app"
    repository.mkdir()
    (repository / "app.py").write_text("x = 1\n", encoding="utf-8")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "First")):
        who = ("-c", "user.name=b", "-c", "user.email=b@example.org")
        subprocess.run(["git", *who, *command], cwd=repository, check=True)
    server = Server(scratch, repository)
    body = {"repoUrl": f"file://{repository}", "prompt": "Add better error handling"}
    run_id = server.ask("POST", "/runs", {**body, "checks": ["sleep 300"]})["id"]
    seq = server.until(run_id, "check.started", 0)
    times: list[float] = []
    for _ in range(KILLS):
        killed = time.perf_counter()
        server.kill()
        server = Server(scratch, repository)
        seq = server.until(run_id, "step.restarted", seq)
        times.append((time.perf_counter() - killed) * 1000)
        seq = server.until(run_id, "check.started", seq)
    server.kill()
    median = statistics.median(times)
    print(f"{'kill -9 to the next event':28}{median:10.0f}{min(times):8.0f}{max(times):8.0f}")


def main() -> None:
    """Measure and print both."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(overhead(runs, Path(scratch)))
        resuming(Path(scratch))


if __name__ == "__main__":
    main()
