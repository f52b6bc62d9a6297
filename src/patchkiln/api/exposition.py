"""The engine's counts as Prometheus reads them (text exposition format, version 0.0.4)."""

from collections.abc import Mapping

from fastapi.responses import PlainTextResponse

from patchkiln.engine import Metrics


class Exposition(PlainTextResponse):
    """An answer in the text format."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


def exposition(metrics: Metrics) -> str:
    """Return every metric with its ``HELP`` and ``TYPE``; labels need no escapes, being enums."""
    finished = {
        f'{{outcome="{outcome}",verdict="{verdict}"}}': count
        for (outcome, verdict), count in sorted(metrics.finished.items())
    }
    return "".join(
        (
            _metric("runs_running", "gauge", "Runs under way.", {"": len(metrics.running)}),
            _metric("runs_queued", "gauge", "Runs that wait.", {"": len(metrics.queued)}),
            _metric("streams_open", "gauge", "Readers that follow a run.", {"": metrics.streams}),
            _metric("runs_finished_total", "counter", "Runs ended since the start.", finished),
            _metric("events_total", "counter", "Events since the start.", {"": metrics.events}),
        )
    )


def _metric(name: str, kind: str, what: str, samples: Mapping[str, int]) -> str:
    name = f"patchkiln_{name}"
    lines = [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{labels} {value}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"
