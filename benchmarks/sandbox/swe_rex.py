"""Runs under the Python that has swe-rex: a way a line comes in, its milliseconds go out."""

import asyncio
import sys
import time

from swerex.deployment.local import LocalDeployment  # type: ignore[import-not-found] # a peer's
from swerex.runtime.abstract import (  # type: ignore[import-not-found] # a peer's
    BashAction,
    Command,
    CreateBashSessionRequest,
)


async def main() -> None:
    """Answer until the input ends."""
    deployment = LocalDeployment()
    await deployment.start()
    runtime = deployment.runtime
    await runtime.create_session(CreateBashSessionRequest())
    while way := (await asyncio.to_thread(sys.stdin.readline)).strip():
        begin = time.perf_counter()
        if way == "session":
            await runtime.run_in_session(BashAction(command="echo hi"))
        else:
            await runtime.execute(Command(command=["/bin/sh", "-c", "echo hi"]))
        print((time.perf_counter() - begin) * 1000, flush=True)
    await deployment.stop()


if __name__ == "__main__":
    asyncio.run(main())
