"""Runs under the Python that has swe-rex: a way a line comes in, its milliseconds go out."""

import asyncio
import sys
import time
from importlib import import_module
from typing import Any

# By name: the type checkers know nothing of a package that is not ours.
LOCAL: Any = import_module("swerex.deployment.local")
ABSTRACT: Any = import_module("swerex.runtime.abstract")


async def main() -> None:
    """Answer until the input ends."""
    deployment = LOCAL.LocalDeployment()
    await deployment.start()
    runtime = deployment.runtime
    await runtime.create_session(ABSTRACT.CreateBashSessionRequest())
    while way := (await asyncio.to_thread(sys.stdin.readline)).strip():
        begin = time.perf_counter()
        if way == "session":
            await runtime.run_in_session(ABSTRACT.BashAction(command="echo hi"))
        else:
            await runtime.execute(ABSTRACT.Command(command=["/bin/sh", "-c", "echo hi"]))
        print((time.perf_counter() - begin) * 1000, flush=True)
    await deployment.stop()


if __name__ == "__main__":
    asyncio.run(main())
