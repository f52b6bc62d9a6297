"""The writer's transactions on SQLite."""

from collections.abc import Collection

from sqlalchemy import Connection

from patchkiln.stores.ledger import MAX_KEPT_RUNS, Ledger


class SqliteLedger(Ledger):
    """A ledger of a transaction that holds the lock of the whole database.

    Runs are kept from one transaction to the next for as long as nobody else writes to the file.
    """

    def __init__(self, connection: Connection) -> None:
        """Take the writer's only connection."""
        super().__init__(connection)
        self._data_version = 0

    def begin(self, run_ids: Collection[str]) -> None:
        """Forget the kept runs where another connection has written."""
        del run_ids
        version = self._connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        if version != self._data_version or len(self._runs) > MAX_KEPT_RUNS:
            self.forget()
        self._data_version = version

    def touch(self) -> None:
        """Change a byte of the file, as only a database that can be written lets one do.

        The user version is a number that SQLite keeps for the application and that nothing here
        reads.
        """
        version = self._connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        self._connection.exec_driver_sql(f"PRAGMA user_version = {(version + 1) % 2**31}")
