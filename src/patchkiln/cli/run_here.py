"""A run in this process, with the same engine and the same rules that the server has."""

import asyncio
from argparse import Namespace
from contextlib import aclosing
from dataclasses import replace

from pydantic import ValidationError

from patchkiln.api.requests import CodeRequest
from patchkiln.bootstrap.server import api_config
from patchkiln.bootstrap.services import local_runs
from patchkiln.cli.frame import Frame
from patchkiln.cli.interrupts import interruptible
from patchkiln.cli.local_clone import LocalClone
from patchkiln.cli.progress import Progress
from patchkiln.cli.request import body_of
from patchkiln.domain.event import JsonObject
from patchkiln.domain.run import Run, RunRequest
from patchkiln.engine import RunEngine
from patchkiln.errors import InvalidRequest
from patchkiln.logging_config import configure_logging
from patchkiln.settings import Settings, load_settings

CALLER = "terminal"


def run_here(
    arguments: Namespace, clone: LocalClone | None, progress: Progress
) -> tuple[Frame, bytes | None]:
    """Run to the end; return the summary and the patch, None where there is none.

    Raises `InvalidRequest` and `SettingsError` before anything is started, and
    `KeyboardInterrupt` after a second Ctrl-C.
    """
    settings = load_settings()
    # What happens is told by the events; the log is for what the events cannot tell.
    configure_logging("WARNING")
    allow = () if clone is None else (clone.url,)
    request = _request(body_of(arguments, clone), settings, allow)
    try:
        return asyncio.run(_run(request, settings, allow, progress))
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error


async def _run(
    request: RunRequest, settings: Settings, allow: tuple[str, ...], progress: Progress
) -> tuple[Frame, bytes | None]:
    async with local_runs(settings, allow=allow) as engine:
        run, _ = await engine.submit(request)
        last = await _watch(engine, run.id, progress)
        return last, await engine.store.get_patch(run.id)


async def _watch(engine: RunEngine, run_id: str, progress: Progress) -> Frame:
    cancelling: list[asyncio.Task[Run]] = []

    def cancel() -> None:
        progress.note("Cancelling, and keeping what is done so far. Ctrl-C again stops at once.")
        cancelling.append(asyncio.create_task(engine.cancel(run_id)))

    frame = Frame(data={})
    with interruptible(cancel):
        async with aclosing(engine.follow(run_id)) as batches:
            async for batch in batches:
                for event in batch:
                    frame = Frame.parse(event.payload)
                    progress.show(frame)
    return frame


def _request(body: JsonObject, settings: Settings, allow: tuple[str, ...]) -> RunRequest:
    """Hold the options against the API's own rules."""
    config = replace(api_config(settings), git_allow=(*settings.git_allow, *allow))
    try:
        return CodeRequest.model_validate(body).run_request(config, CALLER)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{field}: {first['msg']}.", field=field) from None
