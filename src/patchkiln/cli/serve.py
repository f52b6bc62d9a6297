"""``patchkiln serve``."""

from argparse import Namespace

from patchkiln.bootstrap.server import serve
from patchkiln.settings import load_settings


def execute(_arguments: Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError` with the fix."""
    return serve(load_settings())
