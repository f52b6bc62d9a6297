"""Runs belong to the server: this is who starts, follows, cancels and ends them."""

from patchkiln.engine.engine import EngineLimits, Readiness, RunEngine
from patchkiln.engine.metrics import Metrics

__all__ = ["EngineLimits", "Metrics", "Readiness", "RunEngine"]
