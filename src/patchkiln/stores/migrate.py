"""Brings a database to the tables that this version knows."""

from pathlib import Path

from sqlalchemy import Connection

from patchkiln.errors import SettingsError
from patchkiln.stores.connect import migration_engine
from patchkiln.stores.schema import HEAD


def migrate(path: Path) -> None:
    """Make or migrate the tables, all in one transaction, so that a failure changes nothing.

    The write lock is held from the look to the end: of two processes that start at once, the
    second finds the work done. Raises `SettingsError` for a database of a newer version.
    """
    engine = migration_engine(path)
    try:
        with engine.begin() as connection:
            if _revision(connection) != HEAD:
                _upgrade(connection)
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    known = connection.exec_driver_sql(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    )
    if known.first() is None:
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    revision: str | None = found.scalar_one_or_none()
    return revision


def _upgrade(connection: Connection) -> None:
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
            remedy="Install that version again, or set PATCHKILN_DATA_DIR to another directory.",
        ) from error
