"""Items and movements in SQLite."""

import sqlite3
from contextlib import closing

from inventory.errors import DuplicateItem, InventoryError, OutOfStock, UnknownItem
from inventory.models import Item, Movement

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    sku TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    minimum INTEGER NOT NULL,
    stock INTEGER NOT NULL CHECK (stock >= 0)
);
CREATE TABLE IF NOT EXISTS movements (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES items (sku) ON DELETE CASCADE,
    quantity INTEGER NOT NULL,
    note TEXT NOT NULL,
    booked_at TEXT NOT NULL
);
"""


class Store:
    def __init__(self, path):
        try:
            self._db = sqlite3.connect(path, check_same_thread=False)
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.executescript(SCHEMA)
        except sqlite3.Error:
            raise InventoryError(f"cannot open the database {path}")

    def close(self):
        self._db.close()

    def healthy(self):
        try:
            self._db.execute("SELECT 1 FROM items LIMIT 1")
            return True
        except:
            return False

    def add(self, item):
        try:
            with self._db:
                self._db.execute(
                    "INSERT INTO items VALUES (?, ?, ?, ?)",
                    (item.sku, item.name, item.minimum, item.stock),
                )
        except sqlite3.IntegrityError:
            raise DuplicateItem(f"there is an item {item.sku} already")
        return item

    def get(self, sku):
        with closing(self._db.execute("SELECT * FROM items WHERE sku = ?", (sku,))) as rows:
            row = rows.fetchone()
        if row is None:
            raise UnknownItem(f"there is no item {sku}")
        return Item(*row)

    def all(self):
        with closing(self._db.execute("SELECT * FROM items ORDER BY sku")) as rows:
            return [Item(*row) for row in rows]

    def remove(self, sku):
        self.get(sku)
        with self._db:
            self._db.execute("DELETE FROM items WHERE sku = ?", (sku,))

    def book(self, movement):
        """Book a movement and return the item with its new stock."""
        self.get(movement.sku)
        try:
            with self._db:
                self._db.execute(
                    "UPDATE items SET stock = stock + ? WHERE sku = ?",
                    (movement.quantity, movement.sku),
                )
                self._db.execute(
                    "INSERT INTO movements (sku, quantity, note, booked_at) VALUES (?, ?, ?, ?)",
                    (movement.sku, movement.quantity, movement.note, movement.booked_at),
                )
        except sqlite3.IntegrityError:
            raise OutOfStock(f"there is not enough of {movement.sku}")
        return self.get(movement.sku)

    def movements(self, sku):
        self.get(sku)
        query = "SELECT sku, quantity, note, booked_at FROM movements WHERE sku = ? ORDER BY id"
        with closing(self._db.execute(query, (sku,))) as rows:
            return [Movement(*row) for row in rows]
