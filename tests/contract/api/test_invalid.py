"""Requests that are wrong: 422 in FastAPI's form, before anything is created."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.sse import frames
from tests.support.stage import BODY, StagedServer, staged_server

SSE = {"Accept": "text/event-stream"}
JSON_BODY = {"content-type": "application/json"}
URL = "https://github.com/owner/name"

FAULTY: list[tuple[Mapping[str, Any], list[str | int], str]] = [
    ({}, ["repoUrl"], "missing"),
    ({"repoUrl": URL}, ["prompt"], "missing"),
    ({"repoUrl": URL, "prompt": ""}, ["prompt"], "value_error"),
    ({"repoUrl": URL, "prompt": " \n\t"}, ["prompt"], "value_error"),
    ({"repoUrl": URL, "prompt": "x" * (64 * 1024 + 1)}, ["prompt"], "value_error"),
    ({"repoUrl": URL, "prompt": "\N{SNOWMAN}" * (22 * 1024)}, ["prompt"], "value_error"),
    ({"repoUrl": URL, "prompt": "a\0b"}, ["prompt"], "value_error"),
    ({"repoUrl": URL, "prompt": "a\ud800b"}, ["prompt"], "value_error"),
    ({"repoUrl": URL, "prompt": 7}, ["prompt"], "string_type"),
    ({"repoUrl": URL, "prompt": None}, ["prompt"], "string_type"),
    ({"repoUrl": "no url", "prompt": "x"}, ["repoUrl"], "invalid_request"),
    ({"repoUrl": "", "prompt": "x"}, ["repoUrl"], "invalid_request"),
    ({"repoUrl": "/srv/name", "prompt": "x"}, ["repoUrl"], "invalid_request"),
    ({"repoUrl": "https://github.com", "prompt": "x"}, ["repoUrl"], "invalid_request"),
    ({"repoUrl": f"{URL}/%1b%5b31mred%0aline2", "prompt": "x"}, ["repoUrl"], "invalid_request"),
    ({"repoUrl": "http://github.com/o/n", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "ssh://git@github.com/o/n", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "file:///etc/name", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "https://127.0.0.1/o/n", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "https://10.0.0.1/o/n", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "https://169.254.169.254/o/n", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "https://localhost/o/n", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "https://u:hunter2@github.com/o/n", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({"repoUrl": "--upload-pack=x", "prompt": "x"}, ["repoUrl"], "forbidden_url"),
    ({**BODY, "ref": "--force"}, ["ref"], "invalid_request"),
    ({**BODY, "ref": "a..b"}, ["ref"], "invalid_request"),
    ({**BODY, "model": "gpt"}, ["model"], "string_pattern_mismatch"),
    ({**BODY, "agent": "\ud800"}, ["agent"], "value_error"),
    ({**BODY, "metadata": {"a": "\ud800"}}, ["metadata", "a"], "value_error"),
    ({**BODY, "metadata": {"a\0": "a"}}, ["metadata", "a\0", "[key]"], "value_error"),
    ({**BODY, "agent": "nobody"}, ["agent"], "invalid_request"),
    ({**BODY, "sandbox": "e2b"}, ["sandbox"], "invalid_request"),
    ({**BODY, "checks": "maybe"}, ["checks"], "list_type"),
    ({**BODY, "checks": None}, ["checks"], "list_type"),
    ({**BODY, "checks": ["x"] * 21}, ["checks"], "too_long"),
    ({**BODY, "checks": ["x", ""]}, ["checks", 1], "value_error"),
    ({**BODY, "network": "on"}, ["network"], "list_type"),
    ({**BODY, "limits": {"usd": 0}}, ["limits", "usd"], "greater_than"),
    ({**BODY, "limits": {"usd": float("nan")}}, ["limits", "usd"], "finite_number"),
    ({**BODY, "limits": {"turns": True}}, ["limits", "turns"], "int_type"),
    ({**BODY, "limits": {"minutes": "5"}}, ["limits", "minutes"], "float_type"),
    ({**BODY, "clone": {"depth": -1}}, ["clone", "depth"], "greater_than_equal"),
    ({**BODY, "candidates": 9}, ["candidates"], "less_than_equal"),
    ({**BODY, "metadata": {str(n): "" for n in range(33)}}, ["metadata"], "too_long"),
    ({**BODY, "metadata": {"a": "x" * 1024}}, ["metadata"], "value_error"),
    ({**BODY, "metadata": {"a": 1}}, ["metadata", "a"], "string_type"),
    ({**BODY, "setup": ["make"]}, ["setup"], "not_supported"),
    ({**BODY, "network": ["http://pypi.org"]}, ["network"], "invalid_request"),
    ({**BODY, "network": ["pypi.org"] * 101}, ["network"], "too_long"),
    ({**BODY, "candidates": 2}, ["candidates"], "not_supported"),
    ({**BODY, "requireApproval": True}, ["requireApproval"], "not_supported"),
    ({**BODY, "require_approval": True}, ["requireApproval"], "not_supported"),
    ({**BODY, "deliver": "branch"}, ["deliver"], "not_supported"),
    ({**BODY, "paths": ["src/**"]}, ["paths"], "not_supported"),
    ({**BODY, "clone": {"filter": "blob:none"}}, ["clone", "filter"], "not_supported"),
    ({**BODY, "clone": {"sparse": ["src"]}}, ["clone", "sparse"], "not_supported"),
    ({**BODY, "clone": {"submodules": True}}, ["clone", "submodules"], "not_supported"),
    ({**BODY, "clone": {"lfs": True}}, ["clone", "lfs"], "not_supported"),
]


# One server for the whole module: a refused request leaves nothing behind, which is the point.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncGenerator[StagedServer]:
    """Serve a stage with the usual settings."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with staged_server(monkeypatch) as staged:
            yield staged


async def run_ids(server: StagedServer) -> list[str]:
    """Return the ids of all runs."""
    return [run["id"] for run in (await server.client.get("/runs")).json()["runs"]]


@pytest.mark.parametrize(("body", "loc", "kind"), FAULTY)
async def test_a_wrong_field_is_refused_by_name(
    server: StagedServer, body: Mapping[str, Any], loc: list[str | int], kind: str
) -> None:
    """Both calls answer 422 with `loc`, `msg` and `type`, and nothing of what was sent."""
    before = await run_ids(server)
    for path in ("/code", "/runs"):
        answer = await server.client.post(path, content=json.dumps(body), headers=JSON_BODY)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/json"
        first, *_ = answer.json()["detail"]
        assert first["loc"] == ["body", *loc]
        assert first["type"] == kind
        assert first["msg"]
        assert all(set(fault) == {"loc", "msg", "type"} for fault in answer.json()["detail"])
        assert "hunter2" not in answer.text
    assert await run_ids(server) == before


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"checks": "maybe"}, "Write 'auto', 'off' or a list of commands."),
        ({"network": "on"}, "Write 'off' or a list of hosts, such as [\"pypi.org\"]."),
        ({"prompt": "a\ud800b"}, "must not contain half a surrogate pair"),
        ({"prompt": " "}, "must say what to do"),
        ({"model": "gpt"}, "Write it as provider:name, for example anthropic:claude-sonnet-4-5."),
        ({"repo_url": URL}, "The field is given twice, in two spellings. Leave one out."),
    ],
)
async def test_a_fault_is_one_plain_sentence(
    server: StagedServer, fields: Mapping[str, Any], sentence: str
) -> None:
    """It holds no pattern, no name of a type and no word of the validator's."""
    content = json.dumps({**BODY, **fields})
    answer = await server.client.post("/code", content=content, headers=JSON_BODY)
    (fault,) = answer.json()["detail"]
    assert fault["msg"] == sentence


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://github.com/o/n", "scheme 'http'"),
        ("https://10.0.0.1/o/n", "private address"),
        ("https://169.254.169.254/o/n", "metadata address"),
        ("https://[::1]/o/n", "loopback address"),
        ("https://u:p@github.com/o/n", "Credentials"),
        ("-x", "begin with '-'"),
        ("https://github.com:8443/o/n", "Ports"),
        ("https://git.internal/o/n", "local name"),
    ],
)
async def test_a_forbidden_url_is_told_with_its_rule(
    server: StagedServer, url: str, rule: str
) -> None:
    """The message says which rule forbids it, and what can be done."""
    answer = await server.client.post("/code", json={"repoUrl": url, "prompt": "x"})
    (fault,) = answer.json()["detail"]
    assert rule in fault["msg"]
    assert "PATCHKILN_GIT_ALLOW" in fault["msg"]


async def test_a_url_prefix_that_the_operator_allowed_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the default policy, and no further than the prefix."""
    async with staged_server(monkeypatch, git_allow=("http://127.0.0.1:9000/team",)) as allowing:
        taken, refused = [
            await allowing.client.post("/runs", json={"repoUrl": url, "prompt": "x"})
            for url in ("http://127.0.0.1:9000/team/n.git", "http://127.0.0.1:9000/other/n.git")
        ]
    assert (taken.status_code, refused.status_code) == (201, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"repoUrl": "x"',
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"repoUrl": "\xff"}',
        b"[" * 100_000,
        b'{"clone": {"depth": ' + b"9" * 5000 + b"}}",
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(server: StagedServer, body: bytes) -> None:
    """Whatever the bytes, the answer is a 422 that names the body."""
    answer = await server.client.post("/code", content=body, headers=JSON_BODY)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"
    assert len(answer.content) < 1000


async def test_a_form_is_told_to_be_sent_as_json(server: StagedServer) -> None:
    """What `curl -d` sends by default gets the header that it lacks."""
    answer = await server.client.post("/code", data={"prompt": "x"})
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize(
    ("fields", "loc", "hint"),
    [
        ({"repoURL": "x"}, ["repoURL"], "'repoUrl'"),
        ({"requireAproval": True}, ["requireAproval"], "'requireApproval'"),
        ({"limits": {"dollar": 1, "minuts": 1}}, ["limits", "dollar"], "Leave it out"),
        ({"limits": {"minuts": 1}}, ["limits", "minuts"], "'minutes'"),
        ({"clone": {"dept": 1}}, ["clone", "dept"], "'depth'"),
        ({"\ud800": 1}, [], "string_unicode"),
    ],
)
async def test_an_unknown_field_is_refused_with_the_nearest_name(
    server: StagedServer, fields: Mapping[str, Any], loc: list[str], hint: str
) -> None:
    """A misspelt field is never ignored."""
    content = json.dumps({**BODY, **fields})
    answer = await server.client.post("/code", content=content, headers=JSON_BODY)
    assert answer.status_code == 422
    fault = answer.json()["detail"][0]
    assert fault["loc"] == ["body", *loc]
    assert hint in fault["msg"] + fault["type"]


async def test_the_answer_to_a_body_full_of_faults_is_bounded(server: StagedServer) -> None:
    """Thousands of unknown fields with endless names make no endless answer."""
    body = {f"{number}{'x' * 500}": 1 for number in range(1500)}
    answer = await server.client.post("/code", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) == 20
    assert len(answer.content) < 10_000


async def test_all_that_is_not_served_is_named_at_once(server: StagedServer) -> None:
    """A client need not find it out field by field."""
    answer = await server.client.post(
        "/code", json={**BODY, "deliver": "branch", "candidates": 3, "clone": {"lfs": True}}
    )
    (fault,) = answer.json()["detail"]
    assert "candidates, deliver, clone.lfs" in fault["msg"]


async def test_what_is_not_served_is_taken_at_its_default(server: StagedServer) -> None:
    """A client that spells every field out is not refused for it."""
    body: dict[str, object] = {
        **BODY,
        "setup": [],
        "network": "off",
        "candidates": 1,
        "requireApproval": False,
        "deliver": "patch",
        "paths": [],
        "clone": {"depth": 1, "filter": None, "sparse": [], "submodules": False, "lfs": False},
    }
    assert (await server.client.post("/runs", json=body)).status_code == 201


async def test_the_largest_prompt_is_taken(server: StagedServer) -> None:
    """64 KiB of UTF-8 and not a byte less."""
    answer = await server.client.post("/runs", json={**BODY, "prompt": "x" * 64 * 1024})
    assert answer.status_code == 201


async def test_both_spellings_of_one_field_are_refused(server: StagedServer) -> None:
    """The server does not guess which of the two is meant."""
    answer = await server.client.post("/code", json={**BODY, "repo_url": "https://x.org/a/b"})
    assert answer.status_code == 422


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\u00e9"])
async def test_an_idempotency_key_is_short_and_printable(server: StagedServer, key: str) -> None:
    """Anything else is refused by the header's name."""
    headers = httpx.Headers({"Idempotency-Key": key}, encoding="latin-1")
    answer = await server.client.post("/runs", json=BODY, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    assert "^[" not in answer.text


async def test_a_client_of_streams_gets_the_refusal_as_one_error_frame(
    server: StagedServer,
) -> None:
    """The same status and the same list; no run exists, so no seq, no id and no summary."""
    plain = await server.client.post("/code", json={})
    told = await server.client.post("/code", json={}, headers=SSE)
    assert (plain.status_code, told.status_code) == (422, 422)
    assert told.headers["content-type"].startswith("text/event-stream")
    assert told.text.startswith("data: ")
    assert told.text.endswith("\n\n")
    (frame,) = frames(told.text)
    assert (frame["type"], frame["step"]) == ("error", "validation")
    assert frame["message"] == "repoUrl: Field required"
    assert frame["data"]["detail"] == plain.json()["detail"]
    assert "seq" not in frame
    assert "summary" not in frame


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_one_mebibyte_is_refused(server: StagedServer, *, declared: bool) -> None:
    """413 as a problem, whether the length was declared or the body came in chunks."""
    body = json.dumps({**BODY, "prompt": "x" * (1 << 20)}).encode()

    async def pieces() -> AsyncGenerator[bytes]:
        yield body

    before = await run_ids(server)
    async with httpx.AsyncClient(base_url=server.url) as client:
        content = body if declared else pieces()
        answer = await client.post("/code", content=content, headers=JSON_BODY)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "body_too_large"
    assert "1 MiB" in answer.json()["detail"]
    assert await run_ids(server) == before
