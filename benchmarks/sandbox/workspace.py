"""From the request to a workspace, on a repository that was cloned before."""

import statistics
import time
from pathlib import Path

from patchkiln.ports.sandbox import SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.support.clones import fetch, git_source
from tests.support.git_server import GitServer

FILES = 5000
ROUNDS = 20


async def workspace(provider: LocalSandboxes, directory: Path) -> None:
    """Print what a first and every later workspace takes, the fetch included."""
    source = git_source(provider, directory / "data")
    times: list[float] = []
    (directory / "served").mkdir()
    with GitServer(directory / "served") as server:
        server.add("large", {f"{n // 100}/{n}.txt": f"{n}\n".encode() for n in range(FILES)})
        for _ in range(ROUNDS + 1):
            begin = time.perf_counter()
            checkout = await fetch(source, server.url("large"), prefix=server.prefix)
            box = await provider.create(SandboxSpec(id=new_sandbox_id(), base=checkout))
            times.append((time.perf_counter() - begin) * 1000)
            await box.destroy()
            await source.release(checkout)
    await source.close()
    first, *later = times
    print(f"{f'{FILES} files: first workspace, ms':46} {first:9.2f}")
    print(f"{'from the cache, fetch included, ms':46} {statistics.median(later):9.2f}")
