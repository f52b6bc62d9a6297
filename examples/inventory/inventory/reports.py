"""What the stock amounts to."""

from decimal import Decimal

from inventory.errors import PriceFeedError


def low_stock(store):
    """Return the items below their minimum, the emptiest first."""
    items = [item for item in store.all() if item.low]
    return sorted(items, key=lambda item: (item.stock - item.minimum, item.sku))


def value(store, feed):
    """Return the worth of the stock, and the items for which there is no price."""
    total, unpriced = Decimal(0), []
    for item in store.all():
        if item.stock == 0:
            continue
        try:
            price = feed.price(item.sku)
        except PriceFeedError:
            price = None
        if price is None:
            unpriced.append(item.sku)
        else:
            total += price * item.stock
    return {"total": str(total), "unpriced": unpriced}
