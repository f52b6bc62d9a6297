"""Who may call, and from which pages: API keys and CORS."""

from collections.abc import AsyncGenerator

import httpx
import pytest

from tests.support.sse import frames
from tests.support.stage import BODY, End, StagedServer, staged_server

KEYS = {"alice": "key-of-alice", "bob": "Schl\u00fcssel"}
OPEN = ["/health", "/ready", "/metrics", "/stream-dummy", "/docs", "/openapi.json"]
CLOSED = [
    ("POST", "/code"),
    ("POST", "/runs"),
    ("GET", "/runs"),
    ("GET", "/runs/run_1"),
    ("GET", "/runs/run_1/events"),
    ("GET", "/runs/run_1/patch"),
    ("POST", "/runs/run_1/cancel"),
    ("POST", "/runs/run_1/messages"),
    ("DELETE", "/runs/run_1"),
    ("GET", "/nowhere"),
    ("GET", "/health/"),
    ("GET", "//health"),
]
ORIGIN = "https://app.example"


@pytest.fixture
async def locked(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[StagedServer]:
    """Serve a stage that wants keys."""
    async with staged_server(monkeypatch, api_keys=KEYS) as staged:
        yield staged


def bearer(key: str, scheme: str = "Bearer") -> httpx.Headers:
    """Return the header that carries a key, in UTF-8."""
    return httpx.Headers({"Authorization": f"{scheme} {key}"}, encoding="utf-8")


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_without_a_key_every_other_path_is_closed(
    locked: StagedServer, method: str, path: str
) -> None:
    """401 with a challenge, even for a path that does not exist, and before the body is judged."""
    answer = await locked.client.request(method, locked.url + path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "unauthorized"
    assert "Authorization: Bearer KEY" in answer.json()["remedy"]


@pytest.mark.parametrize("path", OPEN)
async def test_the_server_itself_is_open_to_everyone(locked: StagedServer, path: str) -> None:
    """Probes, the sample and the documentation need no key."""
    assert (await locked.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer key-of-alic",
        "Bearer key-of-alice2",
        "Bearer KEY-OF-ALICE",
        "Basic key-of-alice",
        "key-of-alice",
        "Bearer alice:key-of-alice",
    ],
)
async def test_a_wrong_key_opens_nothing_and_is_not_echoed(
    locked: StagedServer, header: str
) -> None:
    """401, as for no key at all."""
    answer = await locked.client.get("/runs", headers={"Authorization": header})
    assert answer.status_code == 401
    assert "key-of" not in answer.text


async def test_a_key_in_the_url_opens_nothing(locked: StagedServer) -> None:
    """URLs end up in logs."""
    for name in ("key", "api_key", "access_token", "token"):
        answer = await locked.client.get("/runs", params={name: "key-of-alice"})
        assert answer.status_code == 401


@pytest.mark.parametrize("name", list(KEYS))
async def test_a_key_names_the_caller_of_the_run(locked: StagedServer, name: str) -> None:
    """The run belongs to the key's name; the scheme's case does not matter."""
    for scheme in ("Bearer", "bearer"):
        headers = bearer(KEYS[name], scheme)
        answer = await locked.client.post("/runs", json=BODY, headers=headers)
        assert (answer.status_code, answer.json()["caller"]) == (201, name)


async def test_callers_do_not_share_their_idempotency_keys(locked: StagedServer) -> None:
    """The same word of two callers means two runs."""
    ids: set[str] = set()
    for key in KEYS.values():
        headers = bearer(key)
        headers["Idempotency-Key"] = "same"
        ids.add((await locked.client.post("/runs", json=BODY, headers=headers)).json()["id"])
    assert len(ids) == 2


async def test_a_client_of_streams_is_told_of_the_key_in_a_frame(locked: StagedServer) -> None:
    """The same 401, as one error frame."""
    headers = {"Accept": "text/event-stream"}
    answer = await locked.client.post("/code", json=BODY, headers=headers)
    assert answer.status_code == 401
    assert frames(answer.text)[0]["data"]["code"] == "unauthorized"


async def test_any_page_may_call_a_server_for_development(server: StagedServer) -> None:
    """By default every origin is let in, without credentials, and may read our headers."""
    server.stage.script(End())
    answer = await server.client.post("/code", json=BODY, headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    exposed = answer.headers["access-control-expose-headers"].lower().replace(" ", "").split(",")
    assert {"x-run-id", "location", "idempotent-replay"} <= set(exposed)


def preflight(method: str, headers: str, origin: str = ORIGIN) -> dict[str, str]:
    """Return what a browser asks with before it sends a request."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


OURS = "authorization, content-type, idempotency-key, last-event-id"


async def test_the_preflight_of_every_call_passes(locked: StagedServer) -> None:
    """A browser asks first, and without the key; the answer allows our headers."""
    for method, path in (("POST", "/code"), ("GET", "/runs/run_1/events"), ("DELETE", "/runs/x")):
        answer = await locked.client.options(path, headers=preflight(method, f"{OURS}, x-other"))
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "last-event-id" in answer.headers["access-control-allow-headers"].lower()
        assert method in answer.headers["access-control-allow-methods"]


async def test_a_public_page_is_not_let_into_the_private_network(server: StagedServer) -> None:
    """Browsers that ask are told no: open to every origin is not open to the whole internet."""
    headers = {**preflight("POST", OURS), "Access-Control-Request-Private-Network": "true"}
    answer = await server.client.options("/code", headers=headers)
    assert answer.status_code == 400
    assert "access-control-allow-private-network" not in answer.headers


async def test_a_page_can_read_why_it_was_refused(locked: StagedServer) -> None:
    """Errors carry the headers of CORS too."""
    headers = {"Origin": ORIGIN}
    for answer in (
        await locked.client.post("/code", json=BODY, headers=headers),
        await locked.client.get("/nowhere", headers=headers),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_named_origins_alone_may_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """With origins set, another page gets no permission, and the answer varies by origin."""
    async with staged_server(monkeypatch, cors_origins=(ORIGIN,)) as server:
        allowed = await server.client.options("/code", headers=preflight("POST", OURS))
        refused = [
            await server.client.options("/code", headers=preflight("POST", OURS, "https://x.org")),
            await server.client.options("/code", headers=preflight("POST", "x-other")),
            await server.client.options("/code", headers=preflight("PUT", OURS)),
        ]
        mine = await server.client.get("/health", headers={"Origin": ORIGIN})
        other = await server.client.get("/health", headers={"Origin": "https://x.org"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert [answer.status_code for answer in refused] == [400, 400, 400]
    assert mine.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in other.headers
    assert mine.headers["vary"] == other.headers["vary"] == "Origin"
