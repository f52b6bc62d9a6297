"""Reads Server-Sent Events off an open answer (WHATWG HTML, section 9.2)."""

from collections.abc import Iterable, Iterator


def payloads(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the data of each frame; comments and other fields are passed over.

    A frame that the connection cut off is not yielded.
    """
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
