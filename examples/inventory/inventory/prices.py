"""The supplier's price feed: ``GET FEED/SKU`` answers ``{"price": "1.25"}``."""

import json
from decimal import Decimal, InvalidOperation
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import urlopen

from inventory.errors import PriceFeedError


class PriceFeed:
    """Asks for prices, and remembers them in a file where one is given."""

    def __init__(self, url, cache_path=None):
        self._url = url.rstrip("/")
        self._cache_path = cache_path
        self._prices = self._load()

    def price(self, sku):
        """Return the price of one piece; None where the supplier does not sell it."""
        if sku not in self._prices:
            self._prices[sku] = self._ask(sku)
            self._save()
        price = self._prices[sku]
        return None if price is None else Decimal(price)

    def _ask(self, sku):
        try:
            with urlopen(f"{self._url}/{quote(sku)}") as response:
                body = response.read()
        except HTTPError as error:
            if error.code == 404:
                return None
            raise PriceFeedError(f"the price feed answered {error.code}")
        except URLError:
            raise PriceFeedError("the price feed does not answer")
        return _parse(sku, body)

    def _load(self):
        if self._cache_path is None:
            return {}
        try:
            with open(self._cache_path, encoding="utf-8") as file:
                return json.load(file)
        except:
            return {}

    def _save(self):
        if self._cache_path is None:
            return
        try:
            with open(self._cache_path, "w", encoding="utf-8") as file:
                json.dump(self._prices, file)
        except OSError:
            pass


def _parse(sku, body):
    try:
        price = Decimal(json.loads(body)["price"])
    except (ValueError, KeyError, TypeError, InvalidOperation):
        raise PriceFeedError(f"the price feed has no price for {sku}")
    if not price.is_finite() or price < 0:
        raise PriceFeedError(f"the price feed has a strange price for {sku}: {price}")
    return str(price)
