"""Events off the wire."""

import json

import pytest

from patchkiln.cli.event_source import payloads
from patchkiln.cli.frame import Frame
from tests.unit.cli import recorded


def test_a_frame_holds_what_the_event_says() -> None:
    """Every field that a person is shown is read, and the text is kept as it came."""
    event = recorded.changed()[-1]
    frame = Frame.parse(json.dumps(event))
    assert (frame.type, frame.seq, frame.step) == ("summary", event["seq"], "complete")
    assert frame.summary is not None
    assert frame.summary["outcome"] == "changed"
    assert json.loads(frame.payload) == event


def test_a_field_of_the_wrong_kind_is_as_good_as_none() -> None:
    """A server that answers nonsense cannot break the client."""
    frame = Frame.parse('{"message": 7, "progress": "x", "data": [], "summary": "no", "seq": null}')
    assert frame == Frame(type="", data={}, payload=frame.payload)


@pytest.mark.parametrize("text", ["[]", "7", "nonsense", ""])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    """Only an object is an event."""
    with pytest.raises(ValueError, match=r".+"):
        Frame.parse(text)


def test_a_stream_is_read_frame_by_frame() -> None:
    """Comments and ids are passed over; a frame that was cut off is not given out."""
    lines = [
        b": ping\n",
        b"\n",
        b"id: 1\r\n",
        b'data: {"seq":1}\r\n',
        b"\r\n",
        b"data:two\n",
        b"data: lines\n",
        b"\n",
        b'data: {"cut',
    ]
    assert list(payloads(lines)) == ['{"seq":1}', "two\nlines"]
