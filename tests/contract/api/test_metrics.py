"""What the server counts, as Prometheus reads it."""

from tests.support.sse import RawStream
from tests.support.stage import End, StagedServer

ENGINE_SLOTS = 4


async def samples(server: StagedServer) -> dict[str, int]:
    """Return every sample by its name and labels."""
    answer = await server.client.get("/metrics")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: int(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_every_metric_is_described(server: StagedServer) -> None:
    """The text format, version 0.0.4: HELP and TYPE before the samples, a newline at the end."""
    answer = await server.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    kinds = [line.split()[2:] for line in answer.text.splitlines() if line.startswith("# TYPE")]
    helped = [line.split()[2] for line in answer.text.splitlines() if line.startswith("# HELP")]
    assert kinds == [
        ["patchkiln_runs_running", "gauge"],
        ["patchkiln_runs_queued", "gauge"],
        ["patchkiln_streams_open", "gauge"],
        ["patchkiln_runs_finished_total", "counter"],
        ["patchkiln_events_total", "counter"],
    ]
    assert helped == [name for name, _ in kinds]
    assert answer.text.endswith("\n")


async def test_runs_are_counted_from_the_queue_to_their_end(server: StagedServer) -> None:
    """One more than there are slots waits; an end is counted by its outcome and verdict."""
    run_ids = [await server.start() for _ in range(ENGINE_SLOTS + 1)]
    async for batch in server.stage.engine.follow(run_ids[-1]):
        if "run.queued" in batch[-1].payload:
            break
    before = await samples(server)
    assert before["patchkiln_runs_running"] == ENGINE_SLOTS
    assert before["patchkiln_runs_queued"] == 1
    for run_id in run_ids:
        server.stage.cue(run_id, End())
        await server.finished(run_id)
    after = await samples(server)
    assert (after["patchkiln_runs_running"], after["patchkiln_runs_queued"]) == (0, 0)
    run = await server.stage.store.get_run(run_ids[0])
    labels = f'{{outcome="changed",verdict="{run.verdict}"}}'
    assert after[f"patchkiln_runs_finished_total{labels}"] == len(run_ids)
    runs = [await server.stage.store.get_run(run_id) for run_id in run_ids]
    assert after["patchkiln_events_total"] == sum(run.last_seq for run in runs)


async def test_open_streams_are_counted(server: StagedServer) -> None:
    """A reader counts while it follows, and no longer than its stream."""
    run_id = await server.start()
    async with RawStream(server.url, f"/runs/{run_id}/events") as stream:
        await stream.chunks(1)
        assert (await samples(server))["patchkiln_streams_open"] == 1
        server.stage.cue(run_id, End())
        await stream.rest()
    assert (await samples(server))["patchkiln_streams_open"] == 0
