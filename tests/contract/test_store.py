"""What every store promises (`patchkiln.ports.store.Store`), over each of them."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import fields, replace
from pathlib import Path

import pytest

from patchkiln.domain.check import Verdict
from patchkiln.domain.event import EventType, StatusUpdate, StoredEvent
from patchkiln.domain.run import (
    PATCH_MADE,
    REPOSITORY_CLONED,
    RUN_CANCEL_REQUESTED,
    RUN_FAILED,
    RUN_STARTED,
    SANDBOX_CHOSEN,
    STEP_COMPLETED,
    STEP_RESTARTED,
    STEP_STARTED,
    Outcome,
    Run,
    RunRequest,
    RunStatus,
)
from patchkiln.domain.usage import Limits, Usage
from patchkiln.errors import Conflict, InvalidRequest, NotFound, RunTakenOver
from patchkiln.ports.store import IdempotencyKey, Store
from patchkiln.stores.memory import MemoryStore
from patchkiln.stores.postgres import PostgresStore
from patchkiln.stores.sqlite import SqliteStore
from tests.support.runs import CREATED, DONE, REQUEST, said

KEY = IdempotencyKey(caller="anonymous", key="k1", fingerprint="f1")


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    """Lend an empty store of each kind."""
    opened = await open_store(request, tmp_path)
    yield opened
    await opened.close()


async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Open the store that the fixture's parameter names."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return await SqliteStore.open(tmp_path / "data" / "patchkiln.db")
    return await PostgresStore.open(request.getfixturevalue("postgres_url"))


async def created(store: Store, run: Run | None = None) -> Run:
    """Create a run, or the given one."""
    return (await store.create_run(run or Run.new(REQUEST), CREATED))[0]


def names(kind: type[Run | RunRequest]) -> set[str]:
    """Return the names of a class's fields."""
    return {field.name for field in fields(kind)}


def unlike(one: Run | RunRequest, other: Run | RunRequest) -> set[str]:
    """Return the names of the fields in which two differ."""
    return {name for name in names(type(one)) if getattr(one, name) != getattr(other, name)}


async def all_events(store: Store, run_id: str) -> list[StoredEvent]:
    """Return every event of a run."""
    return await store.events(run_id, after=0, limit=10_000)


async def all_runs(store: Store, *, limit: int, status: RunStatus | None = None) -> list[Run]:
    """Return every run, page by page."""
    page = await store.list_runs(limit=limit, status=status)
    found = list(page.runs)
    while page.cursor is not None:
        page = await store.list_runs(limit=limit, status=status, cursor=page.cursor)
        found += page.runs
    return found


async def test_created_run_has_its_first_event(store: Store) -> None:
    """A run comes back from `create_run` and `get_run` as its first event left it."""
    new = Run.new(REQUEST)
    run, fresh = await store.create_run(new, CREATED)
    assert fresh
    assert run == replace(new, last_seq=1, updated_at_ms=run.updated_at_ms)
    assert await store.get_run(new.id) == run
    (event,) = await all_events(store, new.id)
    assert (event.seq, event.last) == (1, False)
    assert json.loads(event.payload)["event"] == "run.created"


@pytest.mark.parametrize("checks", [None, (), ("make test", "true")])
async def test_request_comes_back_as_it_was(store: Store, checks: tuple[str, ...] | None) -> None:
    """Every field of a request survives, and automatic checks are told from none."""
    request = RunRequest(
        repo_url="https://example.org/größe/c.git",
        repository="c",
        prompt="Line one\nline two \x00 \u2028 \U0001f600",
        ref="main",
        model="anthropic:some",
        agent="builtin",
        sandbox="e2b",
        checks=checks,
        network=("pypi.org", "*.example.com:8443"),
        limits=Limits(usd=0.25, tokens=10, turns=3, minutes=1.5),
        clone_depth=0,
        metadata={"ticket": "A-1", "": "empty"},
        caller="ci",
    )
    run = await created(store, Run.new(request))
    assert (await store.get_run(run.id)).request == request
    # A field that is new here must be set above, or nothing shows that it survives.
    assert unlike(request, REQUEST) | {"checks"} == names(RunRequest)


async def test_run_is_the_projection_of_its_events(store: Store) -> None:
    """Every field that events set is there when the run is read again."""
    run = await created(store)
    await store.append(
        run.id,
        [
            said(RUN_STARTED, step="init", progress=5),
            said(SANDBOX_CHOSEN, sandbox_id="sbx_1"),
            said(REPOSITORY_CLONED, commit="c0ffee"),
            said("agent.turn_ended", usage=Usage(turns=1, cost_usd=None).as_json()),
            said(PATCH_MADE, files_modified=2),
            said(RUN_CANCEL_REQUESTED),
            said(RUN_FAILED, code="x", nested={"list": [1, None, "two"]}),
            DONE,
        ],
    )
    found = await store.get_run(run.id)
    assert found.started_at_ms is not None
    assert found.finished_at_ms is not None
    assert found == replace(
        run,
        status=RunStatus.FINISHED,
        step="complete",
        progress=100,
        last_seq=9,
        updated_at_ms=found.updated_at_ms,
        started_at_ms=found.started_at_ms,
        finished_at_ms=found.finished_at_ms,
        cancel_requested=True,
        sandbox_id="sbx_1",
        commit="c0ffee",
        outcome=Outcome.CHANGED,
        verdict=Verdict.VERIFIED,
        files_modified=3,
        usage=Usage(turns=1, cost_usd=None),
        error={"code": "x", "nested": {"list": [1, None, "two"]}},
    )
    told = {"id", "request", "created_at_ms", "updated_at_ms"}
    elsewhere = {"epoch", "step_seq", "step_attempts", "parent_run_id"}
    assert unlike(found, run) | told | elsewhere == names(Run)


async def test_where_a_run_stands_in_its_steps_is_kept(store: Store) -> None:
    """An unfinished run says where the attempt at its step began, and the number of attempts."""
    parent = await created(store)
    run = await created(store, Run.new(REQUEST, parent_run_id=parent.id))
    await store.append(run.id, [said(STEP_STARTED, step="clone")])
    await store.append(run.id, [said("a.b"), said(STEP_RESTARTED), said("a.b")])
    found = await store.get_run(run.id)
    assert (found.step, found.step_seq, found.step_attempts) == ("clone", 4, 2)
    assert found.parent_run_id == parent.id
    await store.append(run.id, [said(STEP_COMPLETED)])
    found = await store.get_run(run.id)
    assert (found.step_seq, found.step_attempts) == (None, 0)


async def test_a_milestone_is_told_once(store: Store) -> None:
    """An update whose key was used returns the event of then; one call may repeat a key too."""
    run = await created(store)
    first = replace(said("a.b", n=1), key="a")
    (event,) = await store.append(run.id, [first])
    again = await store.append(
        run.id, [replace(first, message="Later"), replace(said("c"), key="c"), first, said("d")]
    )
    assert again[0] == again[2] == event
    assert [each.seq for each in again] == [2, 3, 2, 4]
    assert [each.seq for each in await all_events(store, run.id)] == [1, 2, 3, 4]
    assert (await store.get_run(run.id)).last_seq == 4
    other = await created(store)
    assert [each.seq for each in await store.append(other.id, [first])] == [2]


async def test_a_summary_with_a_key_is_no_conflict_the_second_time(store: Store) -> None:
    """Who was killed after the summary may tell it again; anything new is still refused."""
    run = await created(store)
    done = replace(DONE, key="run.finished")
    (event,) = await store.append(run.id, [done])
    assert await store.append(run.id, [done]) == [event]
    with pytest.raises(Conflict):
        await store.append(run.id, [replace(done, key="another")])
    assert len(await all_events(store, run.id)) == 2


async def test_milestones_that_come_together_are_told_once(store: Store) -> None:
    """Of twenty appends of one key at once, one is stored and all return it."""
    run = await created(store)
    told = [replace(said("a.b", n=n), key="k") for n in range(20)]
    results = await asyncio.gather(*(store.append(run.id, [update]) for update in told))
    assert {events[0].seq for events in results} == {2}
    assert len(await all_events(store, run.id)) == 2


async def test_who_was_taken_over_changes_nothing_more(store: Store) -> None:
    """A claim shuts out the one before it; whoever names no epoch is not asked."""
    run = await created(store)
    first, second = await store.claim(run.id), await store.claim(run.id)
    assert (first.epoch, second.epoch) == (1, 2)
    assert second == await store.get_run(run.id)
    for refused in (
        store.append(run.id, [said("a.b")], epoch=1),
        store.append(run.id, [said("a.b")], epoch=3),
        store.save_patch(run.id, b"diff", epoch=1),
        store.keep(run.id, "name", b"data", epoch=1),
    ):
        with pytest.raises(RunTakenOver):
            await refused
    assert await store.get_patch(run.id) is None
    assert await store.kept(run.id, "name") is None
    (event,) = await store.append(run.id, [said("a.b")], epoch=2)
    assert event.seq == 2
    await store.append(run.id, [said("a.b")])
    await store.save_patch(run.id, b"diff", epoch=2)
    assert len(await all_events(store, run.id)) == 3


async def test_a_claim_comes_between_appends_in_order(store: Store) -> None:
    """What was appended before a claim is there; what comes after it is refused."""
    run = await created(store)
    epoch = (await store.claim(run.id)).epoch
    results = await asyncio.gather(
        store.append(run.id, [said("a.b")], epoch=epoch),
        store.claim(run.id),
        store.append(run.id, [said("a.b")], epoch=epoch),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [list, Run, RunTakenOver]
    found = await store.get_run(run.id)
    assert (found.last_seq, found.epoch) == (2, 2)


async def test_what_a_run_keeps_comes_back(store: Store) -> None:
    """Any bytes, by name; a second takes the first one's place; other names and runs have none."""
    run, other = await created(store), await created(store)
    data = bytes(range(256)) * 1000
    await store.keep(run.id, "one", b"first")
    await store.keep(run.id, "one", data)
    await store.keep(run.id, "two", b"")
    assert await store.kept(run.id, "one") == data
    assert await store.kept(run.id, "two") == b""
    assert await store.kept(run.id, "three") is None
    assert await store.kept(other.id, "one") is None


async def test_appended_events_are_those_that_are_read(store: Store) -> None:
    """`append` returns what `events` returns later, in the order given; the last one is marked."""
    run = await created(store)
    appended = await store.append(run.id, [said("a.b", n=1), said("a.b", n=2)])
    appended += await store.append(run.id, [DONE])
    assert [event.seq for event in appended] == [2, 3, 4]
    assert [event.last for event in appended] == [False, False, True]
    assert await store.events(run.id, after=1, limit=10) == appended


async def test_append_of_nothing_changes_nothing(store: Store) -> None:
    """No update, no event."""
    run = await created(store)
    assert await store.append(run.id, []) == []
    assert await store.get_run(run.id) == run


async def test_fifty_appenders_leave_no_gap(store: Store) -> None:
    """Events appended side by side count 1, 2, 3, each appender's in its own order."""
    run = await created(store)

    async def tell(writer: int) -> None:
        for number in range(6):
            await store.append(run.id, [said("a.b", writer=writer, number=number)])

    await asyncio.gather(*(tell(writer) for writer in range(50)))
    events = await all_events(store, run.id)
    payloads = [json.loads(event.payload) for event in events]
    assert [event.seq for event in events] == list(range(1, 302))
    assert [body["seq"] for body in payloads] == list(range(1, 302))
    for writer in range(50):
        told = [body["data"] for body in payloads if body["data"].get("writer") == writer]
        assert [data["number"] for data in told] == list(range(6))
    assert (await store.get_run(run.id)).last_seq == 301


async def test_updates_of_one_call_stay_together(store: Store) -> None:
    """No other caller's event comes between those of one `append`."""
    run = await created(store)
    await asyncio.gather(*(store.append(run.id, [said("a.b", caller=n)] * 3) for n in range(20)))
    callers = [
        json.loads(e.payload)["data"]["caller"] for e in (await all_events(store, run.id))[1:]
    ]
    assert len(callers) == 60
    assert all(len(set(callers[at : at + 3])) == 1 for at in range(0, 60, 3))


async def test_progress_never_goes_back(store: Store) -> None:
    """Callers that claim less than was reached do not turn progress back."""
    run = await created(store)
    await asyncio.gather(
        *(store.append(run.id, [said("a.b", progress=p)]) for p in (10, 60, 30, 101, 0, 55))
    )
    shown = [json.loads(event.payload)["progress"] for event in await all_events(store, run.id)]
    assert shown == sorted(shown)
    assert shown[-1] == (await store.get_run(run.id)).progress == 100


async def test_clock_that_jumps_back_turns_no_timestamp_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a run timestamps never decrease, and they go on when the clock has caught up."""
    run = await created(store)
    start_ns = time.time_ns()
    for seconds in (10, -3600, -3600, 11):
        monkeypatch.setattr(time, "time_ns", lambda at=seconds: start_ns + at * 10**9)
        await store.append(run.id, [said("a.b")])
    await store.append(run.id, [DONE])
    stamps = [json.loads(event.payload)["timestamp"] for event in await all_events(store, run.id)]
    start_ms = start_ns // 10**6
    assert [stamp - start_ms for stamp in stamps[1:]] == [10_000] * 3 + [11_000] * 2
    assert (await store.get_run(run.id)).finished_at_ms == stamps[-1]


async def test_finished_run_takes_no_more_events(store: Store) -> None:
    """After the summary an append is a `Conflict`, and so is one that goes on past its own."""
    run = await created(store)
    with pytest.raises(Conflict):
        await store.append(run.id, [DONE, said("a.b")])
    assert await store.get_run(run.id) == run
    await store.append(run.id, [said("a.b"), DONE])
    with pytest.raises(Conflict):
        await store.append(run.id, [said("a.b")])
    assert len(await all_events(store, run.id)) == 3


async def test_unknown_run_is_not_found(store: Store) -> None:
    """Whatever is asked of a run that does not exist is `NotFound`."""
    for asked in (
        store.get_run("run_no"),
        store.append("run_no", [said("a.b")]),
        store.events("run_no", after=0, limit=1),
        store.save_patch("run_no", b""),
        store.get_patch("run_no"),
        store.claim("run_no"),
        store.keep("run_no", "name", b""),
        store.kept("run_no", "name"),
        store.delete_run("run_no"),
    ):
        with pytest.raises(NotFound):
            await asked


async def test_failing_call_leaves_those_beside_it_alone(store: Store) -> None:
    """Conflicts, unknown runs and unusable data fail their own caller and nobody else."""
    run, ended = await created(store), await created(store)
    await store.append(ended.id, [DONE])
    results = await asyncio.gather(
        store.append(run.id, [said("a.b", n=1)]),
        store.append(ended.id, [said("a.b")]),
        store.append("run_no", [said("a.b")]),
        store.append(run.id, [StatusUpdate(event="a.b", message="", data={"x": object()})]),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType] - a caller's mistake
        store.append(run.id, [said("a.b"), replace(DONE, summary={"outcome": "great"})]),
        store.delete_run(run.id),
        store.create_run(run, CREATED),
        store.save_patch("run_no", b""),
        store.append(run.id, [said("a.b", n=2)]),
        return_exceptions=True,
    )
    kinds = [type(result) for result in results]
    assert kinds == [
        list,
        Conflict,
        NotFound,
        TypeError,
        ValueError,
        Conflict,
        Conflict,
        NotFound,
        list,
    ]
    told = [json.loads(event.payload)["data"] for event in await all_events(store, run.id)]
    assert told == [{}, {"n": 1}, {"n": 2}]


async def test_cancelled_caller_leaves_a_whole_log(store: Store) -> None:
    """A task that is cancelled while it appends neither breaks the store nor leaves a gap."""
    run = await created(store)
    tasks = [asyncio.create_task(store.append(run.id, [said("a.b")])) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    (event,) = await store.append(run.id, [said("a.b")])
    assert [e.seq for e in await all_events(store, run.id)] == list(range(1, event.seq + 1))


async def test_same_key_returns_the_first_run(store: Store) -> None:
    """A key that was used for the same request leads to that run as it stands now."""
    first, fresh = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    await store.append(first.id, [said("a.b")])
    again, fresh_again = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    assert (fresh, fresh_again) == (True, False)
    assert again == await store.get_run(first.id)
    assert again.last_seq == 2
    assert len(await all_runs(store, limit=10)) == 1


async def test_key_with_another_request_is_a_conflict(store: Store) -> None:
    """The same key with another fingerprint creates nothing."""
    await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    with pytest.raises(Conflict):
        await store.create_run(
            Run.new(REQUEST), CREATED, idempotency=replace(KEY, fingerprint="f2")
        )
    assert len(await all_runs(store, limit=10)) == 1


async def test_a_key_finds_its_run(store: Store) -> None:
    """A key that is new finds none, a used one its run, with another request a `Conflict`."""
    assert await store.find_run(KEY) is None
    run, _ = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    assert await store.find_run(KEY) == run
    with pytest.raises(Conflict):
        await store.find_run(replace(KEY, fingerprint="f2"))
    assert await store.find_run(replace(KEY, caller="other")) is None


async def test_keys_belong_to_their_caller(store: Store) -> None:
    """Two callers may use the same key for runs of their own."""
    one, _ = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    two, fresh = await store.create_run(
        Run.new(REQUEST), CREATED, idempotency=replace(KEY, caller="other", fingerprint="f2")
    )
    assert fresh
    assert one.id != two.id


async def test_key_used_twice_at_once_creates_one_run(store: Store) -> None:
    """Of requests that come together with one key, one creates and all get its run."""
    results = await asyncio.gather(
        *(store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY) for _ in range(10))
    )
    assert [fresh for _, fresh in results].count(True) == 1
    assert len({run.id for run, _ in results}) == 1
    assert len(await all_runs(store, limit=10)) == 1


async def test_id_is_used_once(store: Store) -> None:
    """A second run with the same id is a `Conflict`; the first stays as it is."""
    run = await created(store)
    await store.append(run.id, [said("a.b")])
    with pytest.raises(Conflict):
        await created(store, Run(id=run.id, request=REQUEST, created_at_ms=1))
    assert (await store.get_run(run.id)).last_seq == 2


async def test_events_are_read_page_by_page(store: Store) -> None:
    """Pages of 500 over 1,205 events hold each of them once, in order, and then end."""
    run = await created(store)
    for at in range(0, 1204, 301):
        await store.append(run.id, [said("a.b", n=at + n) for n in range(301)])
    seen: list[int] = []
    sizes: list[int] = []
    while page := await store.events(run.id, after=len(seen), limit=500):
        sizes.append(len(page))
        seen += [event.seq for event in page]
    assert sizes == [500, 500, 205]
    assert seen == list(range(1, 1206))


@pytest.mark.parametrize(("after", "expected"), [(-1, [1, 2]), (1, [2]), (2, []), (10**30, [])])
async def test_events_after_any_number(store: Store, after: int, expected: list[int]) -> None:
    """A number before the first or beyond the last event is no error: clients send any."""
    run = await created(store)
    await store.append(run.id, [said("a.b")])
    assert [e.seq for e in await store.events(run.id, after=after, limit=9)] == expected


async def test_events_of_several_runs_are_read_at_once(store: Store) -> None:
    """Every run that exists has its events above its head, also where there are none."""
    one, two, quiet = [await created(store) for _ in range(3)]
    await store.append(one.id, [said("a.b"), said("a.b")])
    await store.append(two.id, [DONE])
    heads = {one.id: 1, two.id: 0, quiet.id: 1, "run_no": 0}
    found = await store.events_beyond(heads, limit=100)
    assert found == {
        one.id: await store.events(one.id, after=1, limit=9),
        two.id: await store.events(two.id, after=0, limit=9),
        quiet.id: [],
    }
    assert [event.last for event in found[two.id]] == [False, True]
    assert await store.events_beyond({}, limit=100) == {}


async def test_events_of_several_runs_are_bounded(store: Store) -> None:
    """Of what is beyond the limit nothing is missing in between, and every run has its entry."""
    runs = [await created(store) for _ in range(3)]
    for run in runs:
        await store.append(run.id, [said("a.b")] * 4)
    heads = dict.fromkeys((run.id for run in runs), 0)
    rounds = 0
    while found := {name: some for name, some in (await next_page(store, heads)).items() if some}:
        rounds += 1
        for name, some in found.items():
            assert [event.seq for event in some] == list(
                range(heads[name] + 1, heads[name] + 1 + len(some))
            )
            heads[name] = some[-1].seq
    assert set(heads.values()) == {5}
    assert rounds == 3


async def next_page(store: Store, heads: dict[str, int]) -> Mapping[str, list[StoredEvent]]:
    """Return the next six events of the runs, or fewer at the end."""
    found = await store.events_beyond(heads, limit=6)
    assert found.keys() == heads.keys()
    assert sum(map(len, found.values())) <= 6
    return found


async def test_changes_tell_of_every_append(store: Store) -> None:
    """First that all is to be looked at, then that a run has grown; another watch sees it too."""
    run = await created(store)
    async with (
        asyncio.timeout(10),
        aclosing(store.changes()) as first,
        aclosing(store.changes()) as second,
    ):
        for changes in (first, second):
            assert await anext(changes) is None
        for seq in (2, 3):
            await store.append(run.id, [said("a.b")])
            for changes in (first, second):
                await told(changes, run, seq)


async def told(changes: AsyncGenerator[Mapping[str, int] | None], run: Run, seq: int) -> None:
    """Return when a watch has told that a run may have come so far."""
    async for heads in changes:
        if heads is None or heads.get(run.id) == seq:
            return


async def test_runs_are_listed_newest_first(store: Store) -> None:
    """The newest run comes first, and runs of one millisecond keep one order on every page."""
    made = [Run(id=f"run_{n:02}", request=REQUEST, created_at_ms=1000 + n // 3) for n in range(10)]
    for run in (*made[5:], *made[:5]):
        await created(store, run)
    expected = [run.id for run in reversed(made)]
    for limit in (1, 3, 10, 200):
        assert [run.id for run in await all_runs(store, limit=limit)] == expected


async def test_page_says_whether_another_follows(store: Store) -> None:
    """The last page has no cursor, also where it is full."""
    for _ in range(4):
        await created(store)
    first = await store.list_runs(limit=2)
    assert first.cursor is not None
    assert (await store.list_runs(limit=2, cursor=first.cursor)).cursor is None
    assert (await store.list_runs(limit=4)).cursor is None


async def test_new_run_does_not_shift_the_next_page(store: Store) -> None:
    """A run that is created between two pages appears on neither, and hides none."""
    made = [
        await created(store, Run(id=f"r{n}", request=REQUEST, created_at_ms=n))
        for n in (1, 2, 3, 4)
    ]
    first = await store.list_runs(limit=2)
    await created(store, Run(id="r9", request=REQUEST, created_at_ms=9))
    second = await store.list_runs(limit=2, cursor=first.cursor)
    assert [*first.runs, *second.runs] == made[::-1]


async def test_list_is_filtered(store: Store) -> None:
    """Status and repository narrow the list, together and over pages."""
    other = replace(REQUEST, repository="other")
    waiting = [await created(store) for _ in range(3)]
    ended = [await created(store) for _ in range(2)]
    elsewhere = await created(store, Run.new(other))
    for run in (*ended, elsewhere):
        await store.append(run.id, [DONE])

    def ids(runs: list[Run] | tuple[Run, ...]) -> set[str]:
        return {run.id for run in runs}

    assert ids(await all_runs(store, limit=2, status=RunStatus.QUEUED)) == ids(waiting)
    assert ids(await all_runs(store, limit=2, status=RunStatus.FINISHED)) == ids(
        [*ended, elsewhere]
    )
    assert ids((await store.list_runs(repository="other")).runs) == {elsewhere.id}
    found = await store.list_runs(repository="b", status=RunStatus.FINISHED)
    assert ids(found.runs) == ids(ended)
    assert (await store.list_runs(repository="none")).runs == ()
    assert await all_runs(store, limit=2, status=RunStatus.RUNNING) == []


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "äö",
        "MTIz",
        "MT!!!!pydW4",
        "MTIzOg",
        "OnJ1bg",
        "LTE6cg",
        "OTk5OTk5OTk5OTk5OTk5OTk5OTpy",
    ],
)
async def test_text_that_is_no_cursor_is_refused(store: Store, cursor: str) -> None:
    """Text that no page gave is a mistake of the request, named by its field."""
    with pytest.raises(InvalidRequest) as caught:
        await store.list_runs(cursor=cursor)
    assert caught.value.field == "cursor"


@pytest.mark.parametrize("limit", [-1, 0, 201])
async def test_page_has_1_to_200_runs(store: Store, limit: int) -> None:
    """Another size is refused, named by its field."""
    with pytest.raises(InvalidRequest) as caught:
        await store.list_runs(limit=limit)
    assert caught.value.field == "limit"


async def test_unfinished_runs_are_those_without_summary(store: Store) -> None:
    """Queued and running runs are returned, oldest first; finished ones are not."""
    runs = [
        await created(store, Run(id=f"r{n}", request=REQUEST, created_at_ms=n)) for n in (3, 2, 1)
    ]
    await store.append(runs[0].id, [said(RUN_STARTED)])
    await store.append(runs[1].id, [DONE])
    unfinished = await store.unfinished_runs()
    assert [(run.id, run.status.value) for run in unfinished] == [
        ("r1", "queued"),
        ("r3", "running"),
    ]


async def test_patch_is_kept_byte_for_byte(store: Store) -> None:
    """A patch is any bytes; a second takes the first one's place; without one there is None."""
    run = await created(store)
    assert await store.get_patch(run.id) is None
    await store.save_patch(run.id, b"first")
    diff = bytes(range(256)) * 20_000
    await store.save_patch(run.id, diff)
    assert await store.get_patch(run.id) == diff
    await store.save_patch(run.id, b"")
    assert await store.get_patch(run.id) == b""


async def test_unfinished_run_is_not_deleted(store: Store) -> None:
    """Deleting a run without its summary is a `Conflict`, and it stays."""
    run = await created(store)
    with pytest.raises(Conflict):
        await store.delete_run(run.id)
    assert await store.get_run(run.id) == run


async def test_deleted_run_is_forgotten(store: Store) -> None:
    """Run, events, patch and key are gone, another run's are not, and the key is free again."""
    kept = await created(store)
    run, _ = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    for each in (kept, run):
        await store.save_patch(each.id, b"diff")
    await store.append(run.id, [DONE])
    await store.delete_run(run.id)
    for asked in (
        store.get_run(run.id),
        store.events(run.id, after=0, limit=1),
        store.get_patch(run.id),
        store.append(run.id, [said("a.b")]),
        store.delete_run(run.id),
    ):
        with pytest.raises(NotFound):
            await asked
    assert await all_runs(store, limit=10) == [kept]
    assert await store.get_patch(kept.id) == b"diff"
    _, fresh = await store.create_run(
        Run.new(REQUEST), CREATED, idempotency=replace(KEY, fingerprint="f2")
    )
    assert fresh


async def test_deleted_id_starts_empty(store: Store) -> None:
    """A run that is created anew under a deleted one's id has none of its events or patch."""
    run = await created(store)
    await store.save_patch(run.id, b"diff")
    await store.keep(run.id, "name", b"data")
    await store.append(run.id, [replace(said("a.b"), key="k"), DONE])
    await store.delete_run(run.id)
    await created(store, Run(id=run.id, request=REQUEST, created_at_ms=1))
    assert [event.seq for event in await all_events(store, run.id)] == [1]
    assert await store.get_patch(run.id) is None
    assert await store.kept(run.id, "name") is None
    (event,) = await store.append(run.id, [replace(said("a.b"), key="k")])
    assert event.seq == 2


async def test_what_ended_long_ago_is_pruned(store: Store) -> None:
    """Events go in bounded batches, oldest first; summary and row stay, and the patch goes last."""
    run, under_way = await created(store), await created(store)
    for each in (run, under_way):
        await store.append(each.id, [said("a.b")] * 6)
        await store.save_patch(each.id, b"diff")
        await store.keep(each.id, "name", b"data")
    await store.append(run.id, [DONE])
    ended = await store.get_run(run.id)
    assert ended.finished_at_ms is not None
    assert not await store.prune(ended_before_ms=ended.finished_at_ms, limit=4)
    left: list[list[int]] = []
    while await store.prune(ended_before_ms=ended.finished_at_ms + 1, limit=4):
        left.append([event.seq for event in await all_events(store, run.id)])
        assert await store.get_patch(run.id) == (b"diff" if len(left[-1]) > 1 else None)
    assert left == [[5, 6, 7, 8], [8]]
    (summary,) = await store.events(run.id, after=3, limit=10)
    assert summary.last
    assert await store.events(run.id, after=8, limit=10) == []
    assert await store.events_beyond({run.id: 2}, limit=10) == {run.id: [summary]}
    assert await store.get_run(run.id) == ended
    assert len(await all_events(store, under_way.id)) == 7
    assert await store.get_patch(under_way.id) == b"diff"
    assert await store.kept(run.id, "name") is None
    assert await store.kept(under_way.id, "name") == b"data"
    await store.delete_run(run.id)


async def test_run_that_ended_first_is_pruned_first(store: Store) -> None:
    """Run after run, each once."""
    runs = [await created(store) for _ in range(3)]
    for run in (runs[1], runs[0], runs[2]):
        await store.append(run.id, [said("a.b"), DONE])
        await asyncio.sleep(0.002)
    gone: list[str] = []
    while await store.prune(ended_before_ms=10**15, limit=100):
        gone += [
            run.id
            for run in runs
            if run.id not in gone and len(await all_events(store, run.id)) == 1
        ]
    assert gone == [runs[1].id, runs[0].id, runs[2].id]


async def test_check_passes_on_a_sound_store(store: Store) -> None:
    """A store that works says so, as often as it is asked, and keeps what it has."""
    run = await created(store)
    await store.check()
    await store.check()
    assert await store.get_run(run.id) == run


async def test_close_waits_for_what_was_asked_and_may_be_repeated(store: Store) -> None:
    """Appends under way when the store closes are answered; closing again does nothing."""
    run = await created(store)
    appends = [asyncio.create_task(store.append(run.id, [said("a.b")])) for _ in range(30)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert [events[0].seq for events in await asyncio.gather(*appends)] == list(range(2, 32))


async def test_error_event_reads_as_the_contract_says(store: Store) -> None:
    """What is stored is what a client is sent: the frame of an event that was read back."""
    run = await created(store)
    await store.append(
        run.id, [StatusUpdate(event=RUN_FAILED, message="Clone failed", type=EventType.ERROR)]
    )
    (event,) = await store.events(run.id, after=1, limit=1)
    lines = event.frame().decode().split("\n")
    assert lines[0] == "id: 2"
    body = json.loads(lines[1].removeprefix("data: "))
    assert (body["type"], body["message"], body["run_id"]) == ("error", "Clone failed", run.id)
    assert lines[2:] == ["", ""]
