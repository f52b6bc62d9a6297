"""Brings a database to the tables that this version knows."""

from sqlalchemy import Connection, Engine, inspect, text

from patchkiln.errors import SettingsError
from patchkiln.stores.schema import HEAD


def migrate(engine: Engine, *, setting: str) -> None:
    """Make or migrate the tables, all in one transaction, so that a failure changes nothing.

    The engine's transactions hold a lock from their beginning: of two processes that start at
    once, the second finds the work done. Raises `SettingsError` for a database of a newer
    version; ``setting`` is the one that says which database this is.
    """
    try:
        with engine.begin() as connection:
            if _revision(connection) != HEAD:
                _upgrade(connection, setting)
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version"))
    revision: str | None = found.scalar_one_or_none()
    return revision


def _upgrade(connection: Connection, setting: str) -> None:
    # Needed at the first start of a version and never again; it takes longer to import than all
    # else that a start does with the database.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "patchkiln.stores:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise SettingsError(
            "The database was written by a newer version of Patchkiln.",
            remedy=f"Install that version again, or set {setting} to another place.",
        ) from error
