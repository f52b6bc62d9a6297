"""Other ways of running one command apart, each in the strict form that its manual shows."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.sandbox.timing import Measure, timed

COMMAND = ("/bin/sh", "-c", "echo hi")
_LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
_BUBBLEWRAP = (
    *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
    *("--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"),
    *(word for name, to in _LINKS.items() for word in ("--symlink", to, f"/{name}")),
    *("--tmpfs", "/tmp", "--tmpfs", "/workspace", "--chdir", "/workspace"),  # noqa: S108 - inside
)
_NSJAIL = (
    *("nsjail", "-Mo", "-Q", "--user", "65533", "--group", "65533", "-R", "/usr"),
    *(word for name, to in _LINKS.items() for word in ("-s", f"{to}:/{name}")),
    *("-T", "/tmp", "-T", "/workspace", "--cwd", "/workspace", "--"),  # noqa: S108 - inside
)
_SRT_SETTINGS: dict[str, dict[str, list[str]]] = {
    "network": {"allowedDomains": [], "deniedDomains": []},
    "filesystem": {"denyRead": ["/root", "/home"], "allowWrite": ["."], "denyWrite": []},
}
# What Debian's Podman needs where control groups are hybrid and limits cannot be raised.
_PODMAN_FLAGS = (
    *("--runtime", "runc", "--ulimit", "nofile=1024:20000", "--ulimit", "nproc=1000:1000"),
    *("--network", "none", "--cap-drop", "all", "--read-only", "--volume", "/usr:/usr:ro"),
)
_SWE_REX = Path(__file__).parent / "swe_rex.py"


@asynccontextmanager
async def peers() -> AsyncGenerator[dict[str, Measure]]:
    """Lend a way of measuring each peer that is installed."""
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        measures: dict[str, Measure] = {}
        if shutil.which("bwrap"):
            measures["bubblewrap, a command"] = measuring(*_BUBBLEWRAP, *COMMAND)
        if shutil.which("nsjail"):
            measures["nsjail, a command"] = measuring(*_NSJAIL, *COMMAND)
        if shutil.which("srt"):
            settings = place / "srt.json"
            settings.write_text(json.dumps(_SRT_SETTINGS))
            words = ("srt", "--settings", str(settings), *COMMAND)
            measures["sandbox-runtime, a command"] = measuring(*words, cwd=place)
        if shutil.which("podman"):
            measures |= await stack.enter_async_context(_podman(place / "root"))
        if shutil.which("python-swerex"):
            measures |= await stack.enter_async_context(_swe_rex())
        yield measures


def measuring(*words: str, cwd: Path | None = None) -> Measure:
    """Return what measures a program from its start to its end."""

    async def run() -> None:
        done = subprocess.run(words, check=True, capture_output=True, cwd=cwd)  # noqa: ASYNC221 - what is measured
        if done.stdout != b"hi\n":
            raise RuntimeError(f"{words[0]} did not run the command")

    return lambda: timed(run)


@asynccontextmanager
async def _podman(root: Path) -> AsyncGenerator[dict[str, Measure]]:
    """Lend `podman run`, and `podman exec` in a container that waits."""
    for name in ("usr", "proc", "dev", "tmp", "run", "sys", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    run = ("podman", "run", *_PODMAN_FLAGS)
    waiting = (*run, "--detach", "--rootfs", str(root), "/bin/sleep", "infinity")
    started = await asyncio.to_thread(subprocess.run, waiting, capture_output=True, check=False)
    if started.returncode:
        print(f"podman does not run here: {started.stderr.decode(errors='replace').strip()[-200:]}")
        yield {}
        return
    container = started.stdout.decode().strip()
    try:
        yield {
            "podman run": measuring(*run, "--rm", "--rootfs", str(root), *COMMAND),
            "podman exec": measuring("podman", "exec", container, *COMMAND),
        }
    finally:
        await asyncio.to_thread(
            subprocess.run,
            ("podman", "rm", "--force", "--time", "0", container),
            capture_output=True,
            check=True,
        )


@asynccontextmanager
async def _swe_rex() -> AsyncGenerator[dict[str, Measure]]:
    """Lend a process with a SWE-ReX runtime of its own; it tells how long it took."""
    process = await asyncio.create_subprocess_exec(
        "python-swerex",
        str(_SWE_REX),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )

    async def ask(way: str) -> float:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        process.stdin.write(f"{way}\n".encode())
        return float(await process.stdout.readline())

    try:
        yield {
            "SWE-ReX, execute (no isolation)": lambda: ask("execute"),
            "SWE-ReX, in its session (no isolation)": lambda: ask("session"),
        }
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
