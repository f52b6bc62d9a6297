import os
import tempfile
import unittest
from decimal import Decimal

from inventory.errors import PriceFeedError
from inventory.models import Item
from inventory.notify import Silence, Webhook
from inventory.prices import PriceFeed

from tests.support import supplier

PRICES = {
    "/BOLT-M6": (200, b'{"price": "0.25"}'),
    "/STRANGE": (200, b'{"price": "-1"}'),
    "/EMPTY": (200, b"{}"),
    "/BROKEN": (500, b"oops"),
}


class PriceFeedTest(unittest.TestCase):
    def test_a_price(self):
        with supplier(PRICES) as (url, _):
            self.assertEqual(PriceFeed(url).price("BOLT-M6"), Decimal("0.25"))

    def test_a_price_is_asked_for_once(self):
        with supplier(PRICES) as (url, seen):
            feed = PriceFeed(url)
            feed.price("BOLT-M6")
            feed.price("BOLT-M6")
        self.assertEqual(len(seen), 1)

    def test_what_is_not_sold_has_no_price(self):
        with supplier(PRICES) as (url, _):
            self.assertIsNone(PriceFeed(url).price("NUT-M6"))

    def test_strange_answers(self):
        with supplier(PRICES) as (url, _):
            for sku in ("STRANGE", "EMPTY", "BROKEN"):
                with self.subTest(sku), self.assertRaises(PriceFeedError):
                    PriceFeed(url).price(sku)

    def test_nobody_answers(self):
        with supplier({}) as (url, _):
            pass
        with self.assertRaisesRegex(PriceFeedError, "does not answer"):
            PriceFeed(url).price("BOLT-M6")


class PriceCacheTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "prices.json")

    def test_prices_outlive_the_feed(self):
        with supplier(PRICES) as (url, _):
            PriceFeed(url, self.path).price("BOLT-M6")
        self.assertEqual(PriceFeed(url, self.path).price("BOLT-M6"), Decimal("0.25"))

    def test_a_broken_cache_is_an_empty_one(self):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("{")
        with supplier(PRICES) as (url, _):
            self.assertEqual(PriceFeed(url, self.path).price("BOLT-M6"), Decimal("0.25"))

    def test_a_cache_that_can_not_be_written(self):
        with supplier(PRICES) as (url, _):
            feed = PriceFeed(url, os.path.join(self.path, "below", "a", "file"))
            self.assertEqual(feed.price("BOLT-M6"), Decimal("0.25"))


class WebhookTest(unittest.TestCase):
    item = Item("BOLT-M6", "Bolt M6", minimum=10, stock=3)

    def test_low_stock_is_told(self):
        with supplier({"/hook": (200, b"")}) as (url, seen):
            Webhook(f"{url}/hook").low_stock(self.item)
        ((method, path, body),) = seen
        self.assertEqual((method, path), ("POST", "/hook"))
        self.assertIn(b'"stock": 3', body)

    def test_nobody_has_to_listen(self):
        with supplier({}) as (url, _):
            Webhook(f"{url}/hook").low_stock(self.item)
        Webhook(f"{url}/hook").low_stock(self.item)
        Silence().low_stock(self.item)
