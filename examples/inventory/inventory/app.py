"""The JSON API as a WSGI application."""

import json
import logging

from inventory import exchange, reports
from inventory.errors import InvalidInput, InventoryError, UnknownItem
from inventory.models import parse_item, parse_movement

MAX_BODY = 1 << 20
log = logging.getLogger(__name__)


class App:
    def __init__(self, store, feed=None, webhook=None):
        self._store = store
        self._feed = feed
        self._webhook = webhook

    def __call__(self, environ, start_response):
        method = environ["REQUEST_METHOD"]
        parts = [part for part in environ.get("PATH_INFO", "/").split("/") if part]
        try:
            status, answer = self._route(method, parts, environ)
        except InventoryError as error:
            status, answer = error.status, {"error": str(error)}
        except Exception:
            log.exception("%s /%s", method, "/".join(parts))
            status, answer = "500 Internal Server Error", {"error": "internal error"}
        return _respond(start_response, status, answer)

    def _route(self, method, parts, environ):
        if parts == ["health"]:
            return self._health()
        if parts == ["export.csv"] and method == "GET":
            return "200 OK", exchange.export(self._store.all())
        if parts == ["import"] and method == "POST":
            return "200 OK", exchange.load(self._store, _body(environ))
        if parts[:1] == ["reports"] and method == "GET":
            return self._report(parts[1:])
        if parts[:1] == ["items"]:
            return self._items(method, parts[1:], environ)
        raise UnknownItem("there is nothing here")

    def _health(self):
        if self._store.healthy():
            return "200 OK", {"status": "ok"}
        return "503 Service Unavailable", {"status": "no database"}

    def _report(self, parts):
        if parts == ["low-stock"]:
            return "200 OK", [item.as_dict() for item in reports.low_stock(self._store)]
        if parts == ["value"] and self._feed is not None:
            return "200 OK", reports.value(self._store, self._feed)
        raise UnknownItem("there is no such report")

    def _items(self, method, parts, environ):
        if not parts and method == "GET":
            return "200 OK", [item.as_dict() for item in self._store.all()]
        if not parts and method == "POST":
            return "201 Created", self._store.add(parse_item(_json(environ))).as_dict()
        if len(parts) == 1 and method == "GET":
            return "200 OK", self._store.get(parts[0]).as_dict()
        if len(parts) == 1 and method == "DELETE":
            self._store.remove(parts[0])
            return "200 OK", {"removed": parts[0]}
        if parts[1:] == ["movements"] and method == "GET":
            return "200 OK", [m.as_dict() for m in self._store.movements(parts[0])]
        if parts[1:] == ["movements"] and method == "POST":
            return "201 Created", self._book(parts[0], _json(environ))
        raise UnknownItem("there is nothing here")

    def _book(self, sku, data):
        before = self._store.get(sku)
        after = self._store.book(parse_movement(sku, data))
        if after.low and not before.low and self._webhook is not None:
            self._webhook.low_stock(after)
        return after.as_dict()


def _body(environ):
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise InvalidInput("the content length must be a number")
    if not 0 <= length <= MAX_BODY:
        raise InvalidInput("the body is too large")
    return environ["wsgi.input"].read(length)


def _json(environ):
    try:
        return json.loads(_body(environ))
    except ValueError:
        raise InvalidInput("the body is no JSON")


def _respond(start_response, status, answer):
    is_text = isinstance(answer, str)
    body = answer.encode() if is_text else json.dumps(answer).encode()
    kind = "text/csv; charset=utf-8" if is_text else "application/json"
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
