"""What a whole run costs beside its checks: prints a table, judges nothing.

Starts a server of its own on a free port and a temporary data directory, makes the example a git
repository, and posts the same keyless run again and again. `python benchmarks/run.py [RUNS]`
"""

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "Add better error handling"
OUTSIDE = ("check.finished", "agent.command_finished")


def main(runs: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        repository = example_repository(Path(scratch) / "inventory")
        with server(Path(scratch) / "data", repository) as (process, port):
            wait_until_ready(port)
            at_rest_mib = memory_mib(process.pid)
            cold = one_run(port, repository)
            warm = [one_run(port, repository) for _ in range(runs)]
            after_mib = memory_mib(process.pid)
    rows = [
        ("POST /code to first frame, ms", [run["first_frame_ms"] for run in warm], 100),
        ("own time of a warm run, ms", [run["overhead_ms"] for run in warm], 300),
        ("whole warm run, ms", [run["total_ms"] for run in warm], None),
        ("own time of the cold run, ms", [cold["overhead_ms"]], None),
        ("memory at rest, MiB (PSS, all processes)", [at_rest_mib], 150),
        ("memory after the runs, MiB", [after_mib], None),
        ("`patchkiln --help`, ms", help_ms(runs), 500),
    ]
    print(f"{'what':44}{'p50':>9}{'p95':>9}{'target':>9}")
    for name, values, target in rows:
        p95 = sorted(values)[int(len(values) * 0.95)] if len(values) > 1 else values[0]
        print(f"{name:44}{statistics.median(values):9.1f}{p95:9.1f}{target or '':>9}")


def example_repository(target: Path) -> Path:
    """Copy the example and make it a git repository with one commit."""
    shutil.copytree(ROOT / "examples" / "inventory", target)
    who = ("-c", "user.name=Example", "-c", "user.email=example@localhost")
    for arguments in (("init", "-q", "-b", "main"), ("add", "."), (*who, "commit", "-qm", "First")):
        subprocess.run(["git", *arguments], cwd=target, check=True)
    return target


@contextmanager
def server(data_dir: Path, repository: Path) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """Run `patchkiln serve` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        **os.environ,
        "PATCHKILN_PORT": str(port),
        "PATCHKILN_DATA_DIR": str(data_dir),
        "PATCHKILN_GIT_ALLOW": f"file://{repository}",
        "LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "patchkiln", "serve"], env=environment)
    try:
        yield process, port
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_ready(port: int) -> None:
    """Return once the server answers that it can take runs."""
    for _ in range(300):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except ConnectionError:
            time.sleep(0.1)
        finally:
            connection.close()
    sys.exit("the server did not become ready")


def one_run(port: int, repository: Path) -> dict[str, float]:
    """Post a run, read its stream to the end, and return its times in milliseconds."""
    body = json.dumps({"repoUrl": f"file://{repository}", "prompt": PROMPT})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    started = time.perf_counter()
    connection.request("POST", "/code", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    first_ms = 0.0
    events: list[dict[str, Any]] = []
    for line in response:
        if line.startswith(b"data: "):
            first_ms = first_ms or (time.perf_counter() - started) * 1000
            events.append(json.loads(line[6:]))
    total_ms = (time.perf_counter() - started) * 1000
    summary = events[-1]["summary"]
    if summary["outcome"] != "changed":
        sys.exit(f"the run ended {summary['outcome']}")
    outside_ms = sum(event["data"]["duration_ms"] for event in events if event["event"] in OUTSIDE)
    return {
        "first_frame_ms": first_ms,
        "overhead_ms": summary["duration_ms"] - outside_ms,
        "total_ms": total_ms,
    }


def memory_mib(root: int) -> float:
    """Return the proportional set size of a process and all below it."""
    total_kib = 0
    for pid in [root, *descendants(root)]:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total_kib += next(int(line.split()[1]) for line in text.splitlines() if "Pss:" in line)
    return total_kib / 1024


def descendants(root: int) -> list[int]:
    """Return the processes below one, by their parents' ids."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found = [pid for pid, parent in parents.items() if parent == root]
    return found + [below for pid in found for below in descendants(pid)]


def help_ms(runs: int) -> Sequence[float]:
    """Return how long the command line takes to its help text."""
    times: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "patchkiln", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        times.append((time.perf_counter() - started) * 1000)
    return times


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
