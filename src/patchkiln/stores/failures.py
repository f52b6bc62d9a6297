"""What the failures of a database become: nothing of a statement, a value, a path or a URL."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from patchkiln.errors import StoreError

# SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE = {
    "25006": "it can only be read",
    "28000": "it does not let this user in",
    "28P01": "the user or the password is wrong",
    "3D000": "there is no database of this name",
    "42501": "this user may not do that",
    "53100": "its disk is full",
    "53300": "it has too many connections",
}
# Where no connection came to be, libpq gives its text alone.
_BY_TEXT = {
    "authentication failed": _BY_STATE["28P01"],
    "no pg_hba.conf entry": _BY_STATE["28000"],
    "no password supplied": "it wants a password",
    "role ": "there is no such user",
    "does not exist": _BY_STATE["3D000"],
    "too many clients": _BY_STATE["53300"],
    "starting up": "it is starting up",
    "shutting down": "it is shutting down",
    "resolve host": "its host has no address",
    "refused": "it refuses connections",
    "timeout expired": "it does not answer",
}


class ServerError(StoreError):
    """What a database server did not do. ``state`` is its SQLSTATE, empty where it gave none.

    ``gone`` tells that there is no connection to it, or no more.
    """

    default_remedy = "Look at the database server and at PATCHKILN_DATABASE_URL, then retry."

    def __init__(self, cause: str, *, state: str = "", gone: bool = True) -> None:
        """Take the cause, as the end of a sentence."""
        super().__init__(f"The database failed: {cause}.")
        self.state = state
        self.gone = gone


@contextmanager
def database_errors() -> Generator[None]:
    """Turn what the database raises into `StoreError`."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise StoreError(f"The database failed: {error.orig}.") from error
        # The driver's text holds parts of the URL, and where that is mistyped of the password.
        raise _server_error(error) from None
    except SQLAlchemyError as error:
        raise StoreError("The database could not be used.") from error


def cause_of(text: str) -> str:
    """Return what a text of libpq comes down to."""
    return next((cause for part, cause in _BY_TEXT.items() if part in text), "it cannot be reached")


def _server_error(error: DBAPIError) -> ServerError:
    state = getattr(error.orig, "sqlstate", None)
    if state is None and isinstance(error, OperationalError | InterfaceError):
        return ServerError(cause_of(str(error.orig)))
    kind = type(error.orig).__name__
    cause = _BY_STATE.get(state or "") or f"{kind} ({state})" if state else kind
    return ServerError(cause, state=state or "", gone=error.connection_invalidated)
