"""Events and their frames, as the contract's section 2 has them."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from patchkiln.domain.event import Event, EventType, JsonValue, StoredEvent

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=4,
)


def event(
    *,
    message: str = "Repository cloned: fastapi",
    data: Mapping[str, JsonValue] | None = None,
    summary: Mapping[str, JsonValue] | None = None,
) -> Event:
    """Return an event of which most is fixed."""
    return Event(
        run_id="run_1",
        seq=17,
        timestamp_ms=1704067205000,
        event="step.completed",
        message=message,
        type=EventType.SUCCESS,
        step="clone",
        progress=50,
        data=data or {},
        summary=summary,
    )


def test_payload_has_the_fields_of_the_contract() -> None:
    """An event's JSON has the contract's names, values and order, and no empty summary."""
    assert event(data={"files": 3}).payload() == (
        '{"type":"success","message":"Repository cloned: fastapi","step":"clone","progress":50,'
        '"timestamp":1704067205000,"run_id":"run_1","seq":17,"event":"step.completed",'
        '"data":{"files":3}}'
    )


def test_types_are_the_five_of_the_contract() -> None:
    """No client ever sees another ``type``."""
    assert [kind.value for kind in EventType] == ["info", "success", "warning", "error", "summary"]


def test_summary_stands_in_the_payload_and_marks_the_last_event() -> None:
    """Only the event with the summary is the last one of its run."""
    ended = event(summary={"outcome": "changed"})
    assert json.loads(ended.payload())["summary"] == {"outcome": "changed"}
    assert StoredEvent.of(ended).last
    assert not StoredEvent.of(event()).last


def test_frame_is_an_id_and_one_data_line() -> None:
    """A frame is what an EventSource and a client that splits on newlines both read."""
    stored = StoredEvent.of(event(message="größer"))
    assert stored.frame() == f"id: 17\ndata: {stored.payload}\n\n".encode()
    assert "größer" in stored.payload


@given(message=TEXT, data=st.dictionaries(TEXT, JSON, max_size=3))
def test_payload_says_what_the_event_says(message: str, data: dict[str, Any]) -> None:
    """Whatever text and data an event carries come out of its JSON unchanged."""
    body = json.loads(event(message=message, data=data).payload())
    assert (body["message"], body["data"]) == (message, data)


@given(message=st.text(), name=st.text())
def test_frame_has_two_lines_whatever_a_step_says(message: str, name: str) -> None:
    """No line break of any kind, and no lone surrogate, can cut or spoil a frame."""
    frame = StoredEvent.of(event(message=message, data={name: message})).frame()
    first, second, *rest = frame.decode().splitlines()
    assert first == "id: 17"
    assert json.loads(second.removeprefix("data: "))["seq"] == 17
    assert rest == [""]


def test_file_name_that_is_no_utf8_is_told_with_a_replacement() -> None:
    """A name with surrogate escapes is stored and sent, with ``?`` for what is no character."""
    payload = event(data={"path": "caf\udce9.py"}).payload()
    assert json.loads(payload)["data"] == {"path": "caf?.py"}
