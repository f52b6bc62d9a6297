import logging
import unittest
from unittest import mock

from inventory.app import App
from inventory.prices import PriceFeed
from inventory.store import Store

from tests.support import Client, supplier


class ApiTest(unittest.TestCase):
    def setUp(self):
        self.store = Store(":memory:")
        self.addCleanup(self.store.close)
        self.webhook = mock.Mock()
        self.client = Client(App(self.store, webhook=self.webhook))

    def add(self, sku="BOLT-M6", **fields):
        return self.client.call("POST", "/items", {"sku": sku, "name": "Bolt", **fields})

    def book(self, quantity, sku="BOLT-M6"):
        return self.client.call("POST", f"/items/{sku}/movements", {"quantity": quantity})

    def test_health(self):
        self.assertEqual(self.client.call("GET", "/health"), (200, {"status": "ok"}))
        self.store.close()
        self.assertEqual(self.client.call("GET", "/health")[0], 503)

    def test_an_item_comes_and_goes(self):
        status, item = self.add(minimum="5")
        self.assertEqual(status, 201)
        self.assertEqual(self.client.call("GET", "/items/BOLT-M6"), (200, item))
        self.assertEqual(self.client.call("GET", "/items"), (200, [item]))
        self.assertEqual(self.client.call("DELETE", "/items/BOLT-M6")[0], 200)
        self.assertEqual(self.client.call("GET", "/items/BOLT-M6")[0], 404)

    def test_an_item_exists_once(self):
        self.add()
        self.assertEqual(self.add()[0], 409)

    def test_items_that_make_no_sense(self):
        for body in (None, b"{", [], {}, {"sku": "BOLT"}, {"sku": "bolt m6", "name": "x"},
                     {"sku": "BOLT", "name": " "}, {"sku": "BOLT", "name": "x", "minimum": "few"},
                     {"sku": "BOLT", "name": "x", "minimum": -1}):
            with self.subTest(body=body):
                self.assertEqual(self.client.call("POST", "/items", body)[0], 400)

    def test_movements(self):
        self.add()
        self.assertEqual(self.book(250)[1]["stock"], 250)
        self.assertEqual(self.book(-50)[0], 201)
        status, movements = self.client.call("GET", "/items/BOLT-M6/movements")
        self.assertEqual([m["quantity"] for m in movements], [250, -50])

    def test_movements_that_make_no_sense(self):
        self.add()
        for quantity in (0, "many", None, 10_000_000):
            with self.subTest(quantity=quantity):
                self.assertEqual(self.book(quantity)[0], 400)
        self.assertEqual(self.book(-1)[0], 409)
        self.assertEqual(self.book(1, sku="NUT-M6")[0], 404)

    def test_the_webhook_hears_once_when_stock_falls_below_the_minimum(self):
        self.add(minimum=10)
        for quantity in (15, -7, -1):
            self.book(quantity)
        self.assertEqual(self.webhook.low_stock.call_count, 1)
        self.assertEqual(self.webhook.low_stock.call_args.args[0].stock, 8)

    def test_low_stock_report(self):
        self.add("A1", minimum=1)
        self.add("B1", minimum=9)
        self.add("C1")
        status, items = self.client.call("GET", "/reports/low-stock")
        self.assertEqual([item["sku"] for item in items], ["B1", "A1"])

    def test_value_report(self):
        prices = {"/BOLT-M6": (200, b'{"price": "0.25"}'), "/AXLE": (500, b"")}
        with supplier(prices) as (url, _):
            self.client = Client(App(self.store, feed=PriceFeed(url)))
            for sku in ("BOLT-M6", "AXLE", "NUT-M6", "NONE-1"):
                self.add(sku)
            for sku in ("BOLT-M6", "AXLE", "NUT-M6"):
                self.book(10, sku)
            answer = self.client.call("GET", "/reports/value")
        self.assertEqual(answer, (200, {"total": "2.50", "unpriced": ["AXLE", "NUT-M6"]}))

    def test_without_a_feed_there_is_no_value_report(self):
        self.assertEqual(self.client.call("GET", "/reports/value")[0], 404)

    def test_nothing_here(self):
        for path in ("/", "/nothing", "/items/A1/b/c", "/reports/none"):
            self.assertEqual(self.client.call("GET", path)[0], 404)

    def test_a_body_that_is_too_large(self):
        self.assertEqual(self.client.call("POST", "/import", b"x" * (2 << 20))[0], 400)

    def test_a_content_length_that_is_no_number(self):
        statuses = []
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/items", "CONTENT_LENGTH": "long"}
        App(self.store)(environ, lambda status, headers: statuses.append(status))
        self.assertEqual(statuses, ["400 Bad Request"])

    def test_a_fault_of_our_own_is_told_without_details(self):
        self.add()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        with mock.patch.object(self.store, "all", side_effect=RuntimeError("secret")):
            self.assertEqual(self.client.call("GET", "/items"), (500, {"error": "internal error"}))


class ExchangeTest(unittest.TestCase):
    def setUp(self):
        store = Store(":memory:")
        self.addCleanup(store.close)
        self.client = Client(App(store))

    def load(self, text):
        return self.client.call("POST", "/import", text.encode())

    def test_what_is_exported_can_be_imported(self):
        text = 'sku,name,minimum,stock\nAXLE,"Axle, long",0,4\nBOLT-M6,Bolt M6,100,250\n'
        self.assertEqual(self.load(text), (200, {"added": 2, "skipped": []}))
        self.assertEqual(self.client.call("GET", "/export.csv"), (200, text))

    def test_known_items_are_left_alone(self):
        text = "sku,name,minimum,stock\nAXLE,Axle,0,4\n"
        self.load(text)
        self.assertEqual(self.load(text), (200, {"added": 0, "skipped": ["AXLE"]}))

    def test_a_wrong_line_is_named(self):
        status, answer = self.load("sku,name,minimum,stock\nAXLE,Axle,0,4\nBOLT,Bolt,x,1\n")
        self.assertEqual(status, 400)
        self.assertIn("line 3", answer["error"])

    def test_what_is_no_such_csv(self):
        self.assertEqual(self.load("")[0], 400)
        self.assertEqual(self.load("sku,name\n")[0], 400)
        self.assertEqual(self.client.call("POST", "/import", b"\xff\xfe\xff")[0], 400)
