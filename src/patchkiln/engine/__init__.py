"""Runs belong to the server: this is who starts, follows, cancels and ends them."""

from patchkiln.engine.engine import EngineLimits, Readiness, RunEngine

__all__ = ["EngineLimits", "Readiness", "RunEngine"]
