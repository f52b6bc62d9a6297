"""One command, and what it takes to have a sandbox for it."""

import asyncio
import subprocess
from pathlib import Path

from benchmarks.sandbox.checkouts import make_checkout
from benchmarks.sandbox.peers import COMMAND, measuring, peers
from benchmarks.sandbox.timing import Action, Measure, interleave, print_table, timed
from patchkiln.domain.repository import Checkout
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox, SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes
from patchkiln.sandboxes.local.zygote.blanks import POOL_SIZE

FILES = 50_000
PLAIN = "plain subprocess"
# Long enough for the pool to be full again before the next measurement.
REFILL_S = 0.02


async def commands(provider: LocalSandboxes, directory: Path, rounds: int) -> None:
    """Print the table of commands."""
    large = await asyncio.to_thread(make_checkout, directory / "large", FILES)
    live = await provider.create(SandboxSpec(id=new_sandbox_id()))
    async with peers() as theirs:
        measures = {PLAIN: measuring(*COMMAND), **ours(provider, live, large), **theirs}
        print_table(await interleave(measures, rounds), plain=PLAIN)
    await live.destroy()


def ours(provider: LocalSandboxes, live: Sandbox, large: Checkout) -> dict[str, Measure]:
    """Return what is measured of the local sandbox."""
    last: list[Sandbox] = []

    async def create(base: Checkout | None = None) -> None:
        last.append(await provider.create(SandboxSpec(id=new_sandbox_id(), base=base)))

    async def create_and_run() -> None:
        await create()
        await in_box(last[-1])

    async def destroy() -> None:
        await last.pop().destroy()

    def pooled(action: Action) -> Measure:
        return lambda: timed(action, before=lambda: asyncio.sleep(REFILL_S), after=destroy)

    async def empty_pool() -> None:
        for _ in range(POOL_SIZE):
            await create()

    async def destroy_all() -> None:
        while last:
            await destroy()

    def cold(action: Action) -> Measure:
        return lambda: timed(action, before=empty_pool, after=destroy_all)

    return {
        "asyncio subprocess": lambda: timed(through_asyncio),
        "exec in a live sandbox": lambda: timed(lambda: in_box(live)),
        "create, cold": cold(create),
        "create, from the pool": pooled(create),
        "create and first exec, from the pool": pooled(create_and_run),
        f"create over {FILES} files, cold": cold(lambda: create(large)),
        f"create over {FILES} files, from the pool": pooled(lambda: create(large)),
        "destroy": lambda: timed(destroy, before=create),
    }


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
