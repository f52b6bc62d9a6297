"""The HTTP edge: one FastAPI application over a run engine."""

from patchkiln.api.app import create_app
from patchkiln.api.config import ApiConfig

__all__ = ["ApiConfig", "create_app"]
