"""What the local sandbox costs, beside a plain subprocess and, where installed, bubblewrap.

Every round measures each alternative once, in random order; the ratios are what to trust.
Usage: python benchmarks/sandbox.py [ROUNDS]
"""

import asyncio
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from patchkiln.domain.repository import Checkout
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox, SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes

COMMAND = ("/bin/sh", "-c", "echo hi")
FILES = 50_000
FILES_A_DIRECTORY = 100
PLAIN = "plain subprocess"
# The usual options of a careful caller.
BUBBLEWRAP = (
    *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
    *("--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc"),
    *("--dev", "/dev", "--tmpfs", "/var", "--tmpfs", "/workspace", "--chdir", "/workspace"),
)

Measure: TypeAlias = Callable[[], Awaitable[float]]


def main() -> None:
    """Measure and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(measure_all(Path(directory), rounds))
    plain = statistics.median(results[PLAIN])
    print(f"{'':46} median ms   p95 ms   x plain")
    for name, times in results.items():
        p95 = sorted(times)[int(len(times) * 0.95)]
        median = statistics.median(times)
        print(f"{name:46} {median:9.2f} {p95:8.2f} {median / plain:9.1f}")


async def measure_all(directory: Path, rounds: int) -> dict[str, list[float]]:
    """Return the times of each alternative in milliseconds."""
    provider = LocalSandboxes(directory / "data")
    begin = time.perf_counter()
    isolation = await provider.isolation()
    print(f"self-test: {(time.perf_counter() - begin) * 1000:.0f} ms, level {isolation.level}")
    large = await asyncio.to_thread(make_checkout, directory / "large")
    live = await provider.create(SandboxSpec(id=new_sandbox_id()))
    try:
        measures = alternatives(provider, live, large)
        return await interleave(measures, rounds)
    finally:
        await provider.close()


def alternatives(provider: LocalSandboxes, live: Sandbox, large: Checkout) -> dict[str, Measure]:
    """Return what is compared."""
    last: list[Sandbox] = []

    async def cold() -> None:
        last.append(await provider.create(SandboxSpec(id=new_sandbox_id())))
        await in_box(last[-1])

    async def on_large() -> None:
        last.append(await provider.create(SandboxSpec(id=new_sandbox_id(), base=large)))

    async def destroy() -> None:
        await last.pop().destroy()

    async def create() -> None:
        last.append(await provider.create(SandboxSpec(id=new_sandbox_id())))

    def leaving(action: Callable[[], Awaitable[None]]) -> Measure:
        return lambda: timed(action, after=destroy)

    measures: dict[str, Measure] = {
        PLAIN: lambda: timed(plainly),
        "asyncio subprocess": lambda: timed(through_asyncio),
        "exec in a live sandbox": lambda: timed(lambda: in_box(live)),
        "create": leaving(create),
        "create and first exec": leaving(cold),
        f"create over {FILES} files": leaving(on_large),
        "destroy": lambda: timed(destroy, before=create),
    }
    if shutil.which("bwrap"):
        measures["bubblewrap, a command"] = lambda: timed(wrapped)
    return measures


async def interleave(measures: dict[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Measure each alternative once a round, in random order."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name in random.sample(list(measures), len(measures)):
            times[name].append(await measures[name]())
    return times


async def timed(
    action: Callable[[], Awaitable[None]],
    *,
    before: Callable[[], Awaitable[None]] | None = None,
    after: Callable[[], Awaitable[None]] | None = None,
) -> float:
    """Return how many milliseconds an action takes, without what comes before and after."""
    if before is not None:
        await before()
    begin = time.perf_counter()
    await action()
    duration = (time.perf_counter() - begin) * 1000
    if after is not None:
        await after()
    return duration


async def plainly() -> None:
    """Run the command as a program without an event loop would."""
    subprocess.run(COMMAND, check=True, capture_output=True)  # noqa: ASYNC221 - what is measured


async def wrapped() -> None:
    """Run the command in bubblewrap."""
    arguments = [*BUBBLEWRAP, *COMMAND]
    subprocess.run(arguments, check=True, capture_output=True)  # noqa: ASYNC221 - as above


async def through_asyncio() -> None:
    """Run the command as a server would without a sandbox."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    await process.communicate()


async def in_box(box: Sandbox) -> None:
    """Run the command in a sandbox."""
    output = await capture(await box.exec(COMMAND))
    if output.stdout != b"hi\n":
        raise RuntimeError("the command did not run")


def make_checkout(directory: Path) -> Checkout:
    """Make a directory of many files."""
    for number in range(FILES):
        place = directory / str(number // FILES_A_DIRECTORY) / f"{number}.txt"
        if not number % FILES_A_DIRECTORY:
            place.parent.mkdir(parents=True)
        place.write_text(f"{number}\n")
    return Checkout(
        repository="large",
        commit="0" * 40,
        branch="main",
        path=directory,
        file_count=FILES,
        size_bytes=FILES * 6,
        cached=True,
    )


if __name__ == "__main__":
    main()
