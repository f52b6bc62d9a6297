"""Forks of a sandbox with many changed files, beside copies of them."""

import asyncio
import shutil
import statistics
import time
from pathlib import Path

from benchmarks.sandbox.checkouts import FILES_A_DIRECTORY, make_checkout
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox, SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes

CHANGED = 20_000
CHILDREN = 16
ROUNDS = 10
_CHANGE = f"""
import pathlib
for number in range({CHANGED}):
    place = pathlib.Path("new", str(number // {FILES_A_DIRECTORY}), f"{{number}}.txt")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("changed")
"""


async def forks(provider: LocalSandboxes, directory: Path) -> None:
    """Print what forks of 1 and of 16 children take."""
    base = await asyncio.to_thread(make_checkout, directory / "forked", 1000)
    one: list[float] = []
    many: list[float] = []
    copies: list[float] = []
    for _ in range(ROUNDS):
        box = await provider.create(SandboxSpec(id=new_sandbox_id(), base=base))
        output = await capture(await box.exec(["python3", "-c", _CHANGE]))
        if output.status.exit_code:
            raise RuntimeError(output.stderr.decode(errors="replace"))
        one.append(await _fork(box, 1))
        many.append(await _fork(box, CHILDREN))
        copies.append(await asyncio.to_thread(_copy, directory))
        await box.destroy()
    print(f"fork with {CHANGED} changed files, median of {ROUNDS}")
    print(f"{'one child, ms':46} {statistics.median(one):9.2f}")
    print(f"{f'{CHILDREN} children, ms':46} {statistics.median(many):9.2f}")
    print(f"{f'{CHILDREN} children, ms a child':46} {statistics.median(many) / CHILDREN:9.2f}")
    print(f"{'a copy of as many files on disk, ms':46} {statistics.median(copies):9.2f}")


async def _fork(box: Sandbox, count: int) -> float:
    begin = time.perf_counter()
    children = await box.fork(count)
    duration = (time.perf_counter() - begin) * 1000
    for child in children:
        listed = await capture(await child.exec(["cat", f"new/0/{FILES_A_DIRECTORY - 1}.txt"]))
        if listed.stdout != b"changed":
            raise RuntimeError("a fork lacks what was changed")
        await child.destroy()
    return duration


def _copy(directory: Path) -> float:
    source = directory / "copied"
    if not source.exists():
        make_checkout(source, CHANGED)
    begin = time.perf_counter()
    shutil.copytree(source, directory / "copy")
    duration = (time.perf_counter() - begin) * 1000
    shutil.rmtree(directory / "copy")
    return duration
