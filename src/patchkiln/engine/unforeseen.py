"""Faults of ours in the log: without the secrets that their text may hold."""

import logging
from traceback import walk_tb

MAX_LOGGED_CALLS = 8

logger = logging.getLogger(__name__)


def log_unforeseen(error: BaseException, where: str) -> None:
    """Log a fault of ours by its kind and place.

    Neither its text nor a stack trace with the server's paths: either may hold a secret.
    """
    calls = [
        f"{frame.f_globals.get('__name__', '?')}:{line}"
        for frame, line in walk_tb(error.__traceback__)
    ]
    trail = " > ".join(calls[-MAX_LOGGED_CALLS:])
    logger.error("unforeseen %s in %s at %s", type(error).__name__, where, trail)
