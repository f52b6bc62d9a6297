"""Serves the API."""

import argparse
import logging
import sys
from contextlib import suppress
from dataclasses import replace
from wsgiref.simple_server import make_server

from inventory import config
from inventory.app import App
from inventory.errors import InventoryError
from inventory.notify import Silence, Webhook
from inventory.prices import PriceFeed
from inventory.store import Store


def build(settings):
    """Return the application for these settings."""
    feed = PriceFeed(settings.price_feed, settings.price_cache) if settings.price_feed else None
    webhook = Webhook(settings.webhook) if settings.webhook else Silence()
    return App(Store(settings.database), feed, webhook)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="inventory", description=__doc__)
    parser.add_argument("--config", help="a JSON file with settings")
    parser.add_argument("--database", help="path of the SQLite database")
    parser.add_argument("--port", type=int)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)
    try:
        settings = config.load(options.config)
        given = {name: getattr(options, name) for name in ("database", "port")}
        settings = replace(settings, **{k: v for k, v in given.items() if v is not None})
        app = build(settings)
    except InventoryError as error:
        print(f"inventory: {error}", file=sys.stderr)
        return 2
    with make_server("127.0.0.1", settings.port, app) as server:
        print(f"Serving on http://127.0.0.1:{settings.port}")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
