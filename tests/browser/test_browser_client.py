"""The browser's client, opened from the disk in a real Chromium."""

from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, expect

from patchkiln.domain.event import EventType, StatusUpdate
from patchkiln.domain.run import Outcome
from patchkiln.errors import ModelError
from tests.support.stage import End, StagedServer, note, staged_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENT = Path(__file__).parents[2] / "examples/clients/browser.html"
REPO = "https://github.com/owner/name"


async def open_client(page: Page, server: StagedServer, *, repo: str = REPO) -> None:
    """Open the page with its form filled in."""
    await page.goto(f"{CLIENT.as_uri()}?{urlencode({'repo': repo, 'server': server.url})}")


async def started_run(page: Page, server: StagedServer) -> str:
    """Press the button and return the id of the run that it started."""
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#messages")).to_contain_text("Step implementation")
    (run,) = (await server.stage.store.list_runs()).runs
    return run.id


async def messages(page: Page) -> list[str]:
    """Return the texts that the page shows, in their order."""
    return await page.locator("#messages .text").all_inner_texts()


async def test_the_page_shows_a_run_while_it_happens(page: Page, server: StagedServer) -> None:
    """Messages, progress and step come live; the summary and the patch at the end."""
    await open_client(page, server)
    run_id = await started_run(page, server)
    server.stage.cue(run_id, note("Halfway there", progress=60))
    await expect(page.locator("#messages")).to_contain_text("Halfway there")
    await expect(page.locator("#progress")).to_have_js_property("value", 60)
    await expect(page.locator("#steps .now")).to_have_text("implementation")
    await expect(page.locator("#result")).to_be_hidden()
    server.stage.cue(run_id, End())
    await expect(page.locator("#summary")).to_contain_text("changed")
    await expect(page.locator("#progress")).to_have_js_property("value", 100)
    await expect(page.locator("#steps .done")).to_have_count(7)
    await expect(page.locator("#patch .plus")).to_contain_text("+hello")
    await expect(page.get_by_role("button", name="Start")).to_be_enabled()


async def test_text_from_a_run_is_never_markup(page: Page, server: StagedServer) -> None:
    """A hostile repository's words are shown as they are, and run nothing."""
    text = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
    server.stage.script(note(text), End(diff=f"+{text}\n".encode()))
    await open_client(page, server)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#patch")).to_contain_text("<b>bold</b>")
    assert text in await messages(page)
    assert await page.locator("#messages img, #messages b, #patch img").count() == 0
    assert await page.title() == "Patchkiln"


async def test_long_messages_come_whole(page: Page, server: StagedServer) -> None:
    """No buffer's edge falls into a line or a character unnoticed."""
    texts = [f"begin {'ü€😀' * size} end" for size in (10_000, 30_000, 1, 60_000)]
    server.stage.script(*(note(text) for text in texts), End())
    await open_client(page, server)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#summary")).to_contain_text("changed")
    shown = await messages(page)
    assert [text for text in shown if text.startswith("begin")] == texts


@pytest.mark.parametrize("key", ["", "key-of-alice"])
async def test_a_broken_connection_is_made_again_where_it_broke(
    page: Page, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """With an EventSource, or with fetch where a key is needed: nothing is lost or doubled."""
    keys = {"alice": key} if key else {}
    async with staged_server(monkeypatch, api_keys=keys) as server:
        await open_client(page, server)
        await page.get_by_label("API key").fill(key)
        run_id = await started_run(page, server)
        before = await messages(page)
        server.stage.engine.drain()
        server.stage.cue(run_id, *(note(f"Message {number}") for number in range(9)), End())
        await expect(page.locator("#summary")).to_contain_text("changed", timeout=20_000)
        shown = await messages(page)
    assert shown[: len(before)] == before
    assert [text for text in shown if text.startswith("Message")] == [
        f"Message {number}" for number in range(9)
    ]
    assert len(shown) == len(set(shown))


async def test_a_reloaded_page_shows_the_same_run_again(page: Page, server: StagedServer) -> None:
    """The run goes on without the page, and is told from its first frame."""
    await open_client(page, server)
    run_id = await started_run(page, server)
    await page.reload()
    await expect(page.locator("#messages")).to_contain_text("Step implementation")
    server.stage.cue(run_id, End())
    await expect(page.locator("#summary")).to_contain_text("changed")
    assert (await messages(page))[0] == "Run created for name"


async def test_a_run_is_cancelled_from_the_page(page: Page, server: StagedServer) -> None:
    """The button asks the server; the run's own end is what is shown."""
    await open_client(page, server)
    await started_run(page, server)
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#summary")).to_contain_text("cancelled")


async def test_a_failure_is_shown_with_what_can_be_done(page: Page, server: StagedServer) -> None:
    """The error's remedy stands beside it."""
    error = ModelError("The model answered nothing.")
    server.stage.script(End(error=error))
    await open_client(page, server)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#messages .error")).to_contain_text(error.remedy)
    await expect(page.locator("#summary")).to_contain_text("failed")


async def test_a_refused_request_is_shown(page: Page, server: StagedServer) -> None:
    """No run exists; the reason is told, and another try can be made."""
    await open_client(page, server, repo="https://10.0.0.1/owner/name")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#messages .error")).to_contain_text("private address")
    await expect(page.get_by_role("button", name="Start")).to_be_enabled()


async def test_a_server_that_is_not_there_is_named(page: Page, server: StagedServer) -> None:
    """The page says so instead of waiting."""
    await open_client(page, server)
    await page.locator("#server").fill("http://127.0.0.1:9")
    await page.get_by_role("button", name="Start").click()
    await expect(page.get_by_role("status")).to_have_text("No server at http://127.0.0.1:9.")


async def test_the_page_is_readable(page: Page, server: StagedServer, tmp_path: Path) -> None:
    """It fits a small screen without scrolling sideways, and its picture can be taken."""
    warning = StatusUpdate(event="a.b", message="Mind this " * 30, type=EventType.WARNING)
    server.stage.script(note("A message"), warning, End(outcome=Outcome.CHANGED))
    await page.set_viewport_size({"width": 360, "height": 740})
    await open_client(page, server)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#summary")).to_contain_text("changed")
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    picture = tmp_path / "page.png"
    await page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 0
