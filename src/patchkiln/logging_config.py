"""What the server writes to its log: one line a fact, on stderr."""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Send every logger to stderr at ``level``, one of the standard names."""
    number = logging.getLevelNamesMapping()[level]
    logging.basicConfig(level=number, format=FORMAT, stream=sys.stderr, force=True)
    # Alembic tells each revision and httpx each request: noise beside the server's own facts.
    for chatty in ("alembic", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, number))
