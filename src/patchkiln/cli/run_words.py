"""How a run's state is told in a few words."""

from patchkiln.cli.frame import number, text
from patchkiln.domain.event import JsonObject

_STYLES = {"changed": "green", "failed": "red", "running": "cyan", "queued": "cyan"}


def ending(run: JsonObject) -> str:
    """Return how a run ended, or how far it is: ``changed, verified``, ``running 54%``."""
    outcome = text(run, "outcome").replace("_", " ")
    if outcome:
        verdict = text(run, "verdict")
        return outcome if verdict in {"", "skipped"} else f"{outcome}, {verdict}"
    status = text(run, "status")
    return f"{status} {number(run, 'progress')}%" if status == "running" else status


def ending_style(run: JsonObject) -> str:
    """Return the colour for it; a regression counts as a failure."""
    if text(run, "verdict") == "regressed":
        return "red"
    return _STYLES.get(text(run, "outcome") or text(run, "status"), "yellow")
