"""Items as CSV: ``sku,name,minimum,stock``."""

import csv
import io

from inventory.errors import DuplicateItem, InvalidInput
from inventory.models import Movement, now, parse_item, parse_quantity

COLUMNS = ("sku", "name", "minimum", "stock")


def export(items):
    """Return the items as CSV with a header."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((item.sku, item.name, item.minimum, item.stock) for item in items)
    return file.getvalue()


def load(store, data):
    """Add the items of a CSV; return how many were added and which were there already."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("the CSV is not UTF-8")
    rows = csv.DictReader(io.StringIO(text))
    if rows.fieldnames is None or not set(COLUMNS) <= set(rows.fieldnames):
        raise InvalidInput(f"the CSV needs the columns {', '.join(COLUMNS)}")
    added, skipped = 0, []
    for number, row in enumerate(rows, 2):
        try:
            item = parse_item(row)
            stock = parse_quantity(row["stock"])
        except InvalidInput as error:
            raise InvalidInput(f"line {number}: {error}")
        try:
            store.add(item)
        except DuplicateItem:
            skipped.append(item.sku)
            continue
        if stock:
            store.book(Movement(item.sku, stock, "import", now()))
        added += 1
    return {"added": added, "skipped": skipped}
