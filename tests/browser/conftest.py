"""A real Chromium: Debian's, which the system's own packages bring."""

import os
import shutil
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.support.stage import StagedServer, staged_server

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Root may not use Chromium's own sandbox; the rest keeps it from calling home.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> str:
    """Return the browser's path; in CI it must be there."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium; install it with: apt-get install chromium")
    assert path is not None, "CI runs the browser's tests: apt-get install chromium"
    return path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser(chromium: str) -> AsyncGenerator[Browser]:
    """Lend one browser to all tests of a module: to start one takes seconds."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncGenerator[Page]:
    """Lend an empty page of its own profile; an error in its scripts fails the test."""
    errors: list[str] = []
    context = await browser.new_context()
    page = await context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []


@pytest_asyncio.fixture(loop_scope="module")
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[StagedServer]:
    """Serve a stage with the usual settings: every origin may call."""
    async with staged_server(monkeypatch) as staged:
        yield staged
