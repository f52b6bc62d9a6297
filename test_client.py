"""A client in Python: starts a run and prints what the server tells, live.

    pip install aiohttp
    python test_client.py [REPO] [PROMPT] [--url http://localhost:8000]

Where the server wants an API key, set PATCHKILN_KEY. The exit code is 0 where the run ended with a
change, or with none to make, and 1 where it did not.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

DEFAULT_URL = "http://localhost:8000"
DEFAULT_REPO = "https://github.com/octocat/Hello-World.git"
DEFAULT_PROMPT = "Add better error handling"
GOOD_OUTCOMES = ("changed", "no_change")
SIGNS = {"success": "+", "warning": "!", "error": "x", "summary": "="}
# The server breaks every silence after 15 s; a longer one is a dead connection.
SILENCE_S = 60
PAUSE_S = 1
TRIES = 5


class Run:
    """One run, from its start to its summary, over as many connections as it takes."""

    def __init__(self, session: aiohttp.ClientSession, url: str, repo: str, prompt: str) -> None:
        """Take what to do; nothing is sent before `frames` is read."""
        self._session = session
        self._url = url
        self._body = {"repoUrl": repo, "prompt": prompt}
        self._last_seq = 0
        self.id = ""

    async def frames(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield every frame once. Where a connection breaks, go on after the last one."""
        tries, ended = TRIES, False
        while tries and not ended:
            try:
                async for frame in self._connection():
                    tries, ended = TRIES, frame["type"] == "summary"
                    yield frame
            except (aiohttp.ClientError, TimeoutError):
                if not self.id:
                    raise
            if not self.id:
                return  # The server refused the request, and has said why.
            if not ended:
                tries -= 1
                await asyncio.sleep(PAUSE_S)

    async def _connection(self) -> AsyncGenerator[dict[str, Any]]:
        async with self._request() as response:
            self.id = self.id or response.headers.get("X-Run-Id", "")
            async for frame in parse(response.content):
                self._last_seq = frame.get("seq", self._last_seq)
                yield frame

    def _request(self) -> Any:
        if not self.id:
            return self._session.post(f"{self._url}/code", json=self._body)
        resume = {"Last-Event-ID": str(self._last_seq)}
        return self._session.get(f"{self._url}/runs/{self.id}/events", headers=resume)


async def parse(content: aiohttp.StreamReader) -> AsyncGenerator[dict[str, Any]]:
    """Yield the JSON object of each frame.

    What is read may end in the middle of a line: the rest is kept until the next read.
    """
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def show(frame: dict[str, Any]) -> None:
    """Print one frame as a line. What a repository says must not steer the terminal."""
    message = "".join(char if char.isprintable() else " " for char in frame["message"])
    sign = SIGNS.get(frame["type"], " ")
    print(f"[{frame['progress']:3d}%] {frame['step']:<14} {sign} {message}", flush=True)
    if remedy := frame.get("data", {}).get("remedy"):
        print(f"{'':24}{remedy}", flush=True)


def show_summary(summary: dict[str, Any], patch_url: str) -> None:
    """Print how the run ended."""
    for name in ("repository", "outcome", "verdict", "files_modified", "duration_ms"):
        print(f"  {name:<15}{summary.get(name)}")
    if summary["files_modified"]:
        print(f"  {'patch':<15}{patch_url}", flush=True)


async def follow(options: argparse.Namespace) -> int:
    """Start a run, print it to its end, and return the exit code."""
    headers = {"Accept": "text/event-stream"}
    if key := os.environ.get("PATCHKILN_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    exit_code = 1
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        run = Run(session, options.url, options.repo, options.prompt)
        async for frame in run.frames():
            show(frame)
            if frame["type"] == "summary":
                show_summary(frame["summary"], f"{options.url}/runs/{run.id}/patch")
                exit_code = 0 if frame["summary"]["outcome"] in GOOD_OUTCOMES else 1
    return exit_code


def main() -> int:
    """Read the command line and follow one run."""
    parser = argparse.ArgumentParser(description="Start a run and print it live.")
    parser.add_argument("repo", nargs="?", default=DEFAULT_REPO)
    parser.add_argument("prompt", nargs="?", default=DEFAULT_PROMPT)
    parser.add_argument("--url", default=os.environ.get("PATCHKILN_SERVER", DEFAULT_URL))
    options = parser.parse_args()
    options.url = options.url.rstrip("/")
    try:
        return asyncio.run(follow(options))
    except (aiohttp.ClientError, TimeoutError) as error:
        print(f"No server at {options.url} ({error}). Start one: python run_server.py")
    except KeyboardInterrupt:
        print("The run goes on without you.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
