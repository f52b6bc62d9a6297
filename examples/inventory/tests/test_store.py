import unittest

from inventory.errors import DuplicateItem, InventoryError, OutOfStock, UnknownItem
from inventory.models import Item, Movement
from inventory.store import Store


class StoreTest(unittest.TestCase):
    def setUp(self):
        self.store = Store(":memory:")
        self.addCleanup(self.store.close)
        self.store.add(Item("BOLT-M6", "Bolt M6", minimum=10))

    def book(self, quantity):
        return self.store.book(Movement("BOLT-M6", quantity, "", "2024-05-01T10:00:00+00:00"))

    def test_an_item_can_be_read_back(self):
        self.assertEqual(self.store.get("BOLT-M6"), Item("BOLT-M6", "Bolt M6", minimum=10))

    def test_items_are_sorted(self):
        self.store.add(Item("AXLE", "Axle"))
        self.assertEqual([item.sku for item in self.store.all()], ["AXLE", "BOLT-M6"])

    def test_an_item_exists_once(self):
        with self.assertRaises(DuplicateItem):
            self.store.add(Item("BOLT-M6", "Another"))

    def test_an_unknown_item(self):
        for call in (self.store.get, self.store.remove, self.store.movements):
            with self.assertRaises(UnknownItem):
                call("NUT-M6")

    def test_movements_change_the_stock(self):
        self.book(7)
        self.assertEqual(self.book(-3).stock, 4)
        self.assertEqual([m.quantity for m in self.store.movements("BOLT-M6")], [7, -3])

    def test_stock_never_goes_below_zero(self):
        self.book(2)
        with self.assertRaises(OutOfStock):
            self.book(-3)
        self.assertEqual(self.store.get("BOLT-M6").stock, 2)
        self.assertEqual(len(self.store.movements("BOLT-M6")), 1)

    def test_a_removed_item_takes_its_movements_along(self):
        self.book(1)
        self.store.remove("BOLT-M6")
        self.store.add(Item("BOLT-M6", "Bolt M6"))
        self.assertEqual(self.store.movements("BOLT-M6"), [])

    def test_health(self):
        self.assertTrue(self.store.healthy())
        self.store.close()
        self.assertFalse(self.store.healthy())

    def test_a_database_that_can_not_be_opened(self):
        with self.assertRaisesRegex(InventoryError, "cannot open"):
            Store("/nowhere/at/all/stock.db")
