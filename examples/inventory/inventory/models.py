"""Items and movements, and what makes them valid."""

import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from inventory.errors import InvalidInput

SKU = re.compile(r"[A-Z0-9][A-Z0-9-]{1,31}")
MAX_QUANTITY = 1_000_000


@dataclass(frozen=True)
class Item:
    sku: str
    name: str
    minimum: int = 0
    stock: int = 0

    @property
    def low(self):
        return self.stock < self.minimum

    def as_dict(self):
        return {**asdict(self), "low": self.low}


@dataclass(frozen=True)
class Movement:
    sku: str
    quantity: int
    note: str
    booked_at: str

    def as_dict(self):
        return asdict(self)


def parse_item(data):
    """Return a new item from what a caller sent."""
    try:
        sku, name = data["sku"], data["name"]
    except (KeyError, TypeError):
        raise InvalidInput("an item needs a sku and a name")
    if not isinstance(sku, str) or not SKU.fullmatch(sku):
        raise InvalidInput(f"not a valid sku: {sku!r}")
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput("an item needs a name")
    minimum = parse_quantity(data.get("minimum", 0))
    if minimum < 0:
        raise InvalidInput("the minimum must not be negative")
    return Item(sku=sku, name=name.strip(), minimum=minimum)


def parse_movement(sku, data):
    """Return a movement from what a caller sent; what is taken away is negative."""
    if not isinstance(data, dict) or "quantity" not in data:
        raise InvalidInput("a movement needs a quantity")
    quantity = parse_quantity(data["quantity"])
    if quantity == 0:
        raise InvalidInput("a movement of nothing")
    return Movement(sku=sku, quantity=quantity, note=str(data.get("note", "")), booked_at=now())


def parse_quantity(value):
    try:
        quantity = int(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"not a quantity: {value!r}")
    if abs(quantity) > MAX_QUANTITY:
        raise InvalidInput(f"quantity out of range: {quantity}")
    return quantity


def now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
