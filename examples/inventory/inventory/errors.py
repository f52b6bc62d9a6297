"""What can go wrong, each with the HTTP status it is answered with."""


class InventoryError(Exception):
    """Anything that the service reports to its caller."""

    status = "500 Internal Server Error"


class ConfigError(InventoryError):
    """The settings can not be used."""


class InvalidInput(InventoryError):
    """The caller sent something that makes no sense."""

    status = "400 Bad Request"


class UnknownItem(InventoryError):
    """There is no item with this SKU."""

    status = "404 Not Found"


class DuplicateItem(InventoryError):
    """An item with this SKU exists already."""

    status = "409 Conflict"


class OutOfStock(InventoryError):
    """More was to be taken than there is."""

    status = "409 Conflict"


class PriceFeedError(InventoryError):
    """The supplier's price feed did not answer, or not as expected."""

    status = "502 Bad Gateway"
